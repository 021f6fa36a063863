/**
 * What the primary's disk has lost, as a verification finds it: what is there now beside what the {@link Witness} says both
 * nodes had. Each find waits here until the secondary has said what it has.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Statx } from "../system/statx.ts";
import { sameBytes } from "./bytes.ts";
import type { Held } from "./objects.ts";
import type { Expected } from "./verify_frame.ts";
import { type Seen, type Witness, WITNESS_BYTES } from "./witness.ts";

/** Finds that wait at a time: the secondary sends a block for each. */
const ROTTEN_MAX = 64;

/** Where content lies. */
export interface Place {
  /** The object. */
  readonly id: number;
  /** Of the file. */
  readonly offset: number;
  readonly length: number;
}

/** A block of a file. */
export interface BlockPlace extends Omit<Place, "id"> {
  /** Its number, or `WHOLE` small file. */
  readonly block: number;
  /** It is looked at once more, after it was written back. */
  readonly again: boolean;
}

/** A block that this node's disk did not keep. */
export interface Rotten extends Expected, BlockPlace {
  readonly seen: Seen;
  /** The hash of what is there now; null: it cannot be read. */
  readonly actual: Uint8Array | null;
  /** Of the last record when it was found. */
  readonly sequence: number;
}

/** What {@link Rot} needs. */
export interface RotOptions {
  readonly backing: Backing;
  /** What both nodes had; null: the secondary would not understand. */
  readonly witness: Witness | null;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** Of the last record. */
  readonly sequence: () => number;
}

/** See the file's head. */
export class Rot {
  readonly #options: RotOptions;
  readonly #stat = new Statx();
  /** By {@link keyOf}. */
  readonly #found = new Map<string, Rotten>();

  constructor(options: RotOptions) {
    this.#options = options;
  }

  /** What waits for the secondary. */
  get found(): readonly Rotten[] {
    return [...this.#found.values()];
  }

  /** Nothing waits. */
  get none(): boolean {
    return this.#found.size === 0;
  }

  /** No more may wait. */
  get full(): boolean {
    return this.#found.size >= ROTTEN_MAX;
  }

  /** Looks at a file; called before its content is read. Null: its content is not judged. */
  see(held: Held): Seen | null {
    const { backing, wall, witness } = this.#options;
    return witness?.see(backing, held, this.#stat, wall()) ?? null;
  }

  /**
   * Has memory let go of what is read next: rot is on the disk. What is not written yet stays, and applications have what they
   * read in the memory of the mount.
   */
  letGo(fd: number, offset: number, length: number): void {
    if (this.#options.witness !== null) this.#options.backing.dropCache(fd, offset, length);
  }

  /**
   * Whether the disk kept what it was given. What it did is noted, and so is still what it did not.
   *
   * @param print the hash of what is there; zeros where it cannot be read.
   * @returns null: it did, or nothing is known. `unreadable`: it cannot be read, and nothing is known.
   */
  judge(
    seen: Seen | null,
    place: BlockPlace,
    print: Uint8Array,
    readable: boolean,
  ): Rotten | "unreadable" | null {
    const { witness } = this.#options;
    const known = seen === null ? null : witness?.known(seen, place.block)?.slice() ?? null;
    if (!readable) print.fill(0);
    if (!readable && known === null) return "unreadable";
    if (seen === null) return null;
    const actual = print.slice(0, WITNESS_BYTES);
    witness?.keep(seen, place.block, known ?? actual);
    if (known === null || readable && sameBytes(known, actual)) return null;
    const found = { id: seen.id, seen, ...place, hash: known, actual: readable ? actual : null };
    return { ...found, sequence: this.#options.sequence() };
  }

  /** The secondary is asked. */
  ask(rotten: readonly Rotten[]): void {
    for (const found of rotten) this.#found.set(keyOf(found.id, found.block), found);
  }

  /** It has answered. Undefined: it was not asked. */
  settle(id: number, block: number): Rotten | undefined {
    const found = this.#found.get(keyOf(id, block));
    this.#found.delete(keyOf(id, block));
    return found;
  }
}

function keyOf(id: number, block: number): string {
  return `${id}:${block}`;
}
