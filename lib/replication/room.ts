/**
 * How full an application may make the disk.
 *
 * We write as root, so the blocks a file system keeps for root would be given to any application, and then to nobody: not
 * to the log, not to the record that says who serves, not to the `unlink` that would help. So an application that fills
 * the disk is told ENOSPC while a little is left, as it would be without us.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { Statfs } from "../system/statx.ts";
import type { Mutation } from "./mutation.ts";

/** Left over in any case, unless that is more than a twentieth of the disk. */
const MARGIN_BYTES = 32 << 20;
/** Measured anew at the latest after so many bytes: others fill the disk too. */
const STRIDE_BYTES = 16 << 20;

/** A block for a name, a directory or attributes. */
const BLOCK_BYTES = 4096;
/** `FALLOC_FL_PUNCH_HOLE`: gives room back. */
const PUNCH_HOLE = 2;

/** The room in one directory's file system, measured from time to time. */
export class Room {
  readonly #backing: Pick<Backing, "fstatfs">;
  readonly #fd: number;
  readonly #statfs = new Statfs();
  #left = 0;

  /** @param fd any descriptor on the file system. */
  constructor(backing: Pick<Backing, "fstatfs">, fd: number) {
    this.#backing = backing;
    this.#fd = fd;
  }

  /** Takes room for so many bytes; false when there is none. */
  take(bytes: number): boolean {
    if (bytes > this.#left) this.#left = Math.min(this.#measure(), STRIDE_BYTES + bytes);
    if (bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  #measure(): number {
    // A file system that does not tell decides by itself.
    if (this.#backing.fstatfs(this.#fd, this.#statfs) < 0) return Number.POSITIVE_INFINITY;
    const { bavail, bfree, blocks, frsize } = this.#statfs;
    const margin = Math.min(MARGIN_BYTES, blocks * frsize / 20);
    return Math.max(0, Math.min(bavail * frsize, bfree * frsize - margin));
  }
}

/** How much of the disk a mutation may need, bytes. What frees or moves needs nothing, so that a full disk can be cleared. */
export function spaceFor(mutation: Mutation): number {
  switch (mutation.op) {
    case OP.write:
      return mutation.payloadLength;
    case OP.copy:
      return mutation.b;
    case OP.fallocate:
      return mutation.c & PUNCH_HOLE ? 0 : mutation.b;
    case OP.create:
    case OP.mkdir:
    case OP.mknod:
    case OP.symlink:
    case OP.link:
    case OP.setxattr:
      return BLOCK_BYTES + mutation.payloadLength;
    default:
      return 0;
  }
}
