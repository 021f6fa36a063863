/**
 * Who has a file open for writing: with the kernel's write-back cache, such a file may have content that we do not know of.
 *
 * When the last writer closes, the kernel has written everything out before (`fuse_flush`, `fuse_vma_close`).
 *
 * @module
 */

import type { Held } from "../replication/objects.ts";
import { O } from "../system/linux.ts";

/** Opens for writing, by object. */
export class Writers {
  readonly #counts = new Map<number, number>();

  /** The kernel has the object open with these flags. */
  opened(id: number, flags: number): void {
    if ((flags & O.ACCMODE) !== O.RDONLY) this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /** It has closed one open with these flags. */
  released(id: number, flags: number): void {
    const count = this.#counts.get(id);
    if (count === undefined || (flags & O.ACCMODE) === O.RDONLY) return;
    if (count > 1) this.#counts.set(id, count - 1);
    else this.#counts.delete(id);
  }

  /** Whether someone may have it open for writing; what a former process gave away is not known. */
  has(held: Held): boolean {
    return held.opens === Infinity || this.#counts.has(held.id);
  }
}
