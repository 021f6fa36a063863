/**
 * What was never replicated, on its way from limbo to quarantine: some of it at a time, so that the manifest is synced once
 * for all of them.
 *
 * The order is the point: every line of a batch is on disk before the first of its files leaves its place. Whoever loses
 * power in between finds lines of files that are still in limbo, where the next comparison finds them too; never a file that
 * nothing says anything about.
 *
 * @module
 */

import type { Held } from "./objects.ts";
import type { Quarantine } from "./quarantine.ts";

/** Files that wait at most; each holds two descriptors. */
const BATCH_MAX = 64;

/** A name in limbo, and what it leads to. */
export interface Owned {
  /** A descriptor for it alone. */
  readonly dirfd: number;
  readonly name: Uint8Array<ArrayBuffer>;
  /** With such a descriptor, too. */
  readonly held: Held;
}

/** Files of one directory or many, together. */
export class OwnBatch {
  readonly #quarantine: Quarantine;
  readonly #waiting: Owned[] = [];
  /** Where those that wait go; empty: their lines are not written yet. */
  readonly #places: Uint8Array[] = [];
  /** Folder in quarantine, −1 before anything goes there. */
  #into = -1;

  constructor(quarantine: Quarantine) {
    this.#quarantine = quarantine;
  }

  /** Whether some wait. */
  get waiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Whether those that wait must be worked off before others are added. */
  get full(): boolean {
    return this.#waiting.length >= BATCH_MAX || this.#places.length > 0;
  }

  /** One more. */
  add(owned: Owned): void {
    this.#waiting.push(owned);
  }

  /**
   * Saves one that waits. Answers it, to be removed if its name is still there, and closed; null: more of it has to be saved
   * first.
   *
   * @throws {ApplyError} when it cannot be saved.
   */
  next(): Owned | null {
    if (this.#places.length === 0) this.#announce();
    const [owned, place] = [this.#waiting[0], this.#places[0]];
    if (owned === undefined || place === undefined) return null;
    const { dirfd, name, held } = owned;
    if (!this.#quarantine.move({ dirfd, name }, this.#into, place, held)) return null;
    this.#waiting.shift();
    this.#places.shift();
    return owned;
  }

  /** It is cut short: what waits stays where it is. Answers it, to be closed. */
  close(): { readonly into: number; readonly waiting: readonly Owned[] } {
    const closed = { into: this.#into, waiting: this.#waiting.splice(0) };
    this.#places.length = 0;
    this.#into = -1;
    return closed;
  }

  #announce(): void {
    if (this.#into < 0) this.#into = this.#quarantine.deletedFolder();
    for (const { name, held } of this.#waiting) {
      this.#places.push(this.#quarantine.announce(this.#into, name, held));
    }
    this.#quarantine.settle();
  }
}
