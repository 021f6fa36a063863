/**
 * Writes back to the primary's directory what its disk has lost and the secondary has.
 *
 * It is no mutation: nothing of it is logged or sent, since it makes the directory what log and secondary say it is. The one
 * thread that executes mutations does it, between two of them, and only while the range is still what was found rotten: what
 * an application has written meanwhile wins, also where it wrote just what was there. A power cut in the middle leaves the range rotten or whole; the file's change
 * time tells no more then, so it counts as any difference.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { O } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { sameBytes } from "./bytes.ts";
import { Fingerprinter, isInline } from "./fingerprint.ts";
import { BlockHasher, HASH_BYTES, type Sha256 } from "./hashing.ts";
import { type ObjectState, StateKeeper } from "./object_state.ts";
import { BLOCK_BYTES } from "./object_frame.ts";
import type { Held, Objects } from "./objects.ts";
import type { Rotten } from "./rot.ts";
import { type Seen, WHOLE, type Witness, WITNESS_BYTES } from "./witness.ts";

const EIO = 5;

/** What came of it. `read`: the disk gave it back after all. `left`: both copies are as they were; `why` says what kept us. */
export interface Mended {
  readonly outcome: "repaired" | "read" | "left";
  readonly why: string;
}

/** What {@link Mender} needs. */
export interface MenderOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly witness: Witness;
  /** Whether an application has written there since it was found. */
  readonly writtenSince: (rotten: Rotten) => boolean;
}

/** See the file's head. */
export class Mender {
  readonly #options: MenderOptions;
  readonly #prints: Fingerprinter;
  readonly #states: StateKeeper;
  readonly #hasher: BlockHasher;
  readonly #stat = new Statx();
  readonly #content = new Uint8Array(BLOCK_BYTES);
  readonly #address: number;
  readonly #hash = new Uint8Array(HASH_BYTES);
  readonly #hashAddress: number;

  constructor(options: MenderOptions) {
    this.#options = options;
    this.#prints = new Fingerprinter(options);
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#hasher = new BlockHasher(options.backing, options.sha256, options.addressOf);
    this.#address = options.addressOf(this.#content);
    this.#hashAddress = options.addressOf(this.#hash);
  }

  /** Writes `content` where `rotten` is, and syncs it. */
  mend(rotten: Rotten, content: Uint8Array): Mended {
    // To write it once more would have no end.
    if (rotten.again) return left("what was written back is lost again: the disk does not keep it");
    const held = this.#options.objects.get(rotten.id);
    const state = held === undefined ? -1 : this.#prints.state(held);
    if (held === undefined || typeof state === "number" || state.nlink === 0) {
      return left("it was removed meanwhile");
    }
    if (content.length !== rotten.length || !this.#fits(rotten, state, content)) {
      return left("what the other node sent is not what both had");
    }
    if (rotten.block === WHOLE && !isInline(state)) return left("it was written to meanwhile");
    const now = this.#now(rotten, held, state);
    if (now === "known") {
      return { outcome: "read", why: "the disk gave back what it was given when asked again" };
    }
    const before = this.#see(held);
    if (now === "other" || this.#isWritten(rotten, before)) return left("it was written to meanwhile");
    const failed = this.#write(held, state, rotten.offset, content.length);
    const after = this.#see(held);
    // Where the disk refused, too: the time has changed, and what is known must go on telling that this copy is the bad one.
    if (before?.as === rotten.seen.as && after !== null) this.#options.witness.mended(before, after.ctime);
    if (failed < 0) return left(`it could not be written, errno ${-failed}`);
    return { outcome: "repaired", why: "" };
  }

  #see(held: Held): Seen | null {
    return this.#options.witness.see(this.#options.backing, held, this.#stat, 0);
  }

  /** Whether it is what both nodes had. It lies in {@link #content} then. */
  #fits(rotten: Rotten, state: ObjectState, content: Uint8Array): boolean {
    this.#content.set(content);
    if (rotten.block === WHOLE) {
      if (this.#prints.takeWith(state, content, this.#hashAddress) < 0) return false;
    } else this.#options.sha256(this.#address, content.length, this.#hashAddress);
    return this.#isHash(rotten.hash);
  }

  /** What is there now: what both had, what was found, or something else. */
  #now(rotten: Rotten, held: Held, state: ObjectState): "known" | "rotten" | "other" {
    const { offset, length, actual, seen } = rotten;
    const fd = this.#options.objects.io(held);
    const failed = rotten.block === WHOLE
      ? this.#prints.take(held, state, this.#hashAddress)
      : this.#hasher.hash(fd, offset, offset + length, this.#hashAddress);
    if (failed === -EIO) {
      const now = this.#see(held);
      const untouched = now !== null && now.as === seen.as && now.size === seen.size;
      return actual === null && untouched ? "rotten" : "other";
    }
    if (failed < 0) return "other";
    if (this.#isHash(rotten.hash)) return "known";
    return actual !== null && this.#isHash(actual) ? "rotten" : "other";
  }

  /** Also where what was written is just what was found: zeros where the disk had lost all, for one. */
  #isWritten(rotten: Rotten, now: Seen | null): boolean {
    return now?.ctime !== rotten.seen.ctime && this.#options.writtenSince(rotten);
  }

  /** Synced at once: should the disk refuse, the copy here must not pass for the good one. */
  #write(held: Held, state: ObjectState, offset: number, length: number): number {
    const { backing } = this.#options;
    // A description of its own: an application's fsync is still told of what the disk refuses.
    const fd = backing.reopen(held.path, O.RDWR);
    if (fd < 0) return fd;
    try {
      for (let done = 0; done < length;) {
        const put = backing.pwrite(fd, this.#address + done, length - done, offset + done);
        if (put <= 0) return put === 0 ? -EIO : put;
        done += put;
      }
      // A write takes capabilities away, and tells the time.
      const failed = this.#states.impose(held, state);
      if (failed < 0) return failed;
      const synced = backing.fsync(fd);
      if (synced >= 0) backing.dropCache(fd, offset, length);
      return synced;
    } finally {
      backing.close(fd);
    }
  }

  #isHash(hash: Uint8Array): boolean {
    return sameBytes(hash, this.#hash.subarray(0, WITNESS_BYTES));
  }
}

function left(why: string): Mended {
  return { outcome: "left", why };
}
