/**
 * The fsyncs of a primary's applications: each is a record like any other, and its reply waits for the local disk and the
 * peer's, in no order among fsyncs. The ring they wait in outlives the process (`inflight.ts`).
 *
 * @module
 */

import type { Request } from "../fuse/request.ts";
import type { SyncHow } from "../fuse/road.ts";
import { type Journal, OP } from "../journal/mod.ts";
import type { Backing } from "../system/backing.ts";
import { isLocal } from "./border.ts";
import { Mutation } from "./mutation.ts";
import type { Held, Objects } from "./objects.ts";
import { DISK_FLAG, FSYNC, type Shared, WORD } from "./shared.ts";

const EIO = 5;

/** What {@link Fsyncs} needs. */
export interface FsyncsOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly journal: Journal;
  readonly shared: Shared;
  /** Logs and sends a record; answers −errno when the log has no room. */
  readonly note: (mutation: Mutation, unique: number) => number;
  readonly wake: (fd: number) => void;
  readonly pause: () => void;
}

/** Asks the disk thread and the peer, and leaves the reply to whoever hears of both. */
export class Fsyncs {
  readonly #options: FsyncsOptions;
  readonly #shared: Shared;
  readonly #scratch = new Mutation();

  constructor(options: FsyncsOptions) {
    this.#options = options;
    this.#shared = options.shared;
  }

  /** As `Road.sync` says. */
  sync(held: Held, request: Request, root: number, { dataOnly, size, relaxed }: SyncHow): void {
    const { backing, journal, objects, note, wake } = this.#options;
    const shared = this.#shared;
    const io = objects.io(held);
    const copy = io < 0 ? io : backing.dup(io);
    const mutation = this.#scratch.reset(OP.fsync, held.id);
    mutation.a = dataOnly ? 1 : 0;
    mutation.c = held.orphan ? 1 : 0;
    const local = isLocal(held.id);
    const noted = copy < 0 ? copy : local ? 0 : note(mutation, request.unique);
    const slot = shared.pushFsync({
      root,
      uniqueLow: request.uniqueLow,
      uniqueHigh: request.uniqueHigh,
      size,
      id: held.id,
      error: noted < 0 ? Math.max(-noted, EIO) : 0,
      sequence: relaxed || local ? 0 : journal.last,
    });
    if (noted < 0) {
      if (copy >= 0) backing.close(copy);
      wake(shared.memory.wake.acker);
      return;
    }
    this.#order(copy, dataOnly ? DISK_FLAG.dataOnly : 0, slot);
  }

  /**
   * A peer that came back may have executed an fsync and lost the acknowledgement with the connection. Each fsync that
   * still waits is asked for again, under a new sequence.
   */
  repeat(): void {
    const { fsyncs } = this.#shared;
    for (const at of this.#waiting()) {
      if (fsyncs.getInt32(at + FSYNC.answered, true) !== 0) continue;
      // One that waits for nobody else's disk.
      if (fsyncs.getFloat64(at + FSYNC.sequence, true) === 0) continue;
      const mutation = this.#scratch.reset(OP.fsync, fsyncs.getFloat64(at + FSYNC.id, true));
      mutation.c = this.#options.objects.peek(mutation.id)?.orphan === true ? 1 : 0;
      if (this.#options.note(mutation, 0) < 0) return;
      fsyncs.setFloat64(at + FSYNC.sequence, this.#options.journal.last, true);
    }
  }

  /** Those that a former process had in the ring: what its disk thread had not done yet is asked of the disk again. */
  takeUp(): void {
    const { fsyncs } = this.#shared;
    for (const at of this.#waiting()) {
      const done = fsyncs.getInt32(at + FSYNC.answered, true) !== 0 ||
        fsyncs.getInt32(at + FSYNC.local, true) !== 0;
      if (!done) this.#again(at);
    }
  }

  /** Offsets of the ring's entries, the oldest first. */
  *#waiting(): Iterable<number> {
    const shared = this.#shared;
    const tail = shared.get(WORD.fsyncTail);
    for (let index = shared.get(WORD.fsyncHead); index !== tail; index = (index + 1) | 0) {
      yield shared.fsyncSlot(index);
    }
  }

  #again(at: number): void {
    const { backing, objects, wake } = this.#options;
    const shared = this.#shared;
    const held = objects.get(shared.fsyncs.getFloat64(at + FSYNC.id, true));
    const io = held === undefined ? -EIO : objects.io(held);
    const fd = io < 0 ? io : backing.dup(io);
    if (fd < 0) {
      shared.fsyncs.setInt32(at + FSYNC.error, -fd, true);
      Atomics.store(shared.fsyncWords, (at + FSYNC.local) >> 2, 1);
      return wake(shared.memory.wake.acker);
    }
    // Data and attributes: which of them was asked for is not in the ring.
    this.#order(fd, 0, at / FSYNC.bytes);
  }

  /** The disk thread closes the descriptor. */
  #order(fd: number, flags: number, slot: number): void {
    const { journal, pause, wake } = this.#options;
    const entry = { fd, flags, token: journal.last, slot };
    while (!this.#shared.pushDisk(entry)) pause();
    wake(this.#shared.memory.wake.disk);
  }
}
