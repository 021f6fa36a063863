/**
 * What a peer may lack when its line is lost.
 *
 * While a peer listens the log holds no data, so what was under way at that moment is in no log. A replay would send what those
 * ranges hold by then, perhaps hours later, and until its end the peer's copy would be a mixture: of no use, should this node be lost
 * just then. But what was written a moment ago still lies in the directory. So before anything else is changed it is taken from
 * there, and kept until a peer has everything again.
 *
 * Invariant: what is kept for a sequence is what its range held when the line was lost: what that write wrote or, where another one
 * that was under way as well went over it, what that one wrote. Nobody has been told of either, and no fsync behind one of them
 * has returned: so it is one of the states that a disk may have after a power cut, which keeps no order among writes between two
 * syncs. Names and attributes keep theirs.
 *
 * @module
 */

import { type Journal, RecordView, STATE } from "../journal/mod.ts";
import type { Backing } from "../system/backing.ts";
import { lacksData } from "./copy.ts";
import type { Objects } from "./objects.ts";

/** A line carries no more at a time: what waits for replies, and what may be behind. */
const RECORDS_MAX = 16_384;
/** What a sender keeps for a slow line, and as much again. */
const BYTES_MAX = 128 << 20;
/** The longest range of a record. */
const RANGE_MAX = 1 << 20;

const ESTALE = 116;

/** What {@link UnderWay} needs. */
export interface UnderWayOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly journal: Journal;
  readonly addressOf: (bytes: Uint8Array<ArrayBuffer>) => number;
}

/** See the file's head. */
export class UnderWay {
  readonly #options: UnderWayOptions;
  /** By sequence. */
  readonly #data = new Map<number, Uint8Array<ArrayBuffer>>();
  #bytes = 0;

  constructor(options: UnderWayOptions) {
    this.#options = options;
  }

  /** Whether the data of a write was kept. */
  has(sequence: number): boolean {
    return this.#data.has(sequence);
  }

  /** What the range of a write is to hold; shorter, or empty, where it was cut off since. Undefined: nothing was kept. */
  dataOf(sequence: number): Uint8Array | undefined {
    return this.#data.get(sequence);
  }

  /** The line is lost, and nothing was changed since. `from`: the first record that the peer has not acknowledged. */
  take(from: number): void {
    const { journal } = this.#options;
    const cursor = journal.read(Math.max(from, journal.first, journal.last + 1 - RECORDS_MAX));
    if (cursor === null) return;
    const view = new RecordView();
    using _ = cursor;
    while (cursor.next(view)) {
      // What an earlier line left is as it was then.
      if (!lacksData(view) || view.state !== STATE.applied || this.has(view.sequence)) continue;
      if (!this.#keep(view.sequence, view.id, view.a, Math.min(view.b, RANGE_MAX))) return;
    }
  }

  /** A peer has everything. */
  clear(): void {
    this.#data.clear();
    this.#bytes = 0;
  }

  /** False: there is no room for more. What cannot be read now is read when its turn comes. */
  #keep(sequence: number, id: number, offset: number, length: number): boolean {
    const { backing, objects, addressOf } = this.#options;
    if (this.#bytes + length > BYTES_MAX) return false;
    const held = objects.get(id);
    const fd = held === undefined ? -ESTALE : objects.io(held);
    const bytes = new Uint8Array(fd < 0 ? 0 : length);
    const address = addressOf(bytes);
    let done = 0;
    while (done < bytes.length) {
      const got = backing.pread(fd, address + done, length - done, offset + done);
      if (got < 0) return true;
      if (got === 0) break;
      done += got;
    }
    if (fd >= 0 || fd === -ESTALE) this.#data.set(sequence, bytes.subarray(0, done));
    this.#bytes += done;
    return true;
  }
}
