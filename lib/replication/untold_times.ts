/**
 * Objects that were written to and whose resulting mtime the secondary has not been told.
 *
 * To read the mtime after each write and to set it on the other node costs two system calls and, worse, an inode to be
 * journalled per write on both nodes: the kernel gives a time of its own to each write whose mtime was looked at since
 * the last one. So a write is sent without, and the time follows in a record of its own before anyone is shown it: a look
 * at the attributes, and in any case soon. Not for an fsync: a time told for each would make each a commit of the journal
 * on both nodes, where a local file system has none. Until it is told, the other node has the time of its own write.
 *
 * Where the kernel keeps the times (`WRITEBACK_CACHE`) it tells one before each fsync and close, which would cost the same. One that
 * is a moment old differs from what the write gave the file by no more than that: it is kept here, and set on both nodes when the
 * time is told. A process that is killed until then loses that moment.
 *
 * @module
 */

import { eachOfLast, type Journal, OP, STATE } from "../journal/mod.ts";

/** Times are told at the latest when so many objects wait for it. */
const OBJECTS_MAX = 1024;
/** Or so many writes: a later process, which finds the rest in the log, need not look back further. */
const WRITES_MAX = 4096;

/** Whose times are still to be told. */
export class UntoldTimes {
  readonly #ids = new Set<number>();
  /** What to set first: by id, nanoseconds since 1970. None but of those whose time is untold. */
  readonly #deferred = new Map<number, bigint>();
  #latest = 0;
  #writes = 0;

  /** How many objects wait. */
  get size(): number {
    return this.#ids.size;
  }

  /** Whether the object's time is to be told. */
  has(id: number): boolean {
    return this.#ids.has(id);
  }

  /** All must be told before the next write. */
  get full(): boolean {
    return this.#writes >= WRITES_MAX || this.#ids.size >= OBJECTS_MAX;
  }

  /** An object was written to. */
  add(id: number): void {
    this.#writes++;
    if (this.#deferred.size > 0) this.#deferred.delete(id);
    if (id === this.#latest) return;
    this.#latest = id;
    this.#ids.add(id);
  }

  /** Whether the object's time is to be told; it counts as told from here. */
  take(id: number): boolean {
    if (id === this.#latest) this.#latest = 0;
    return this.#ids.delete(id);
  }

  /** The object's time is to be this one; it must wait to be told. False: it does not. */
  defer(id: number, time: bigint): boolean {
    if (!this.#ids.has(id)) return false;
    this.#deferred.set(id, time);
    return true;
  }

  /** The time to set, if one was deferred; it counts as set from here. */
  takeDeferred(id: number): bigint | undefined {
    const time = this.#deferred.get(id);
    this.#deferred.delete(id);
    return time;
  }

  /** All that wait, in no order that means anything. */
  ids(): number[] {
    return [...this.#ids];
  }

  /** What could be told was told: writes are counted anew. */
  settle(): void {
    this.#writes = 0;
  }
}

/**
 * What the end of the log says was written and not told: by a process that was killed, or a primary that was lost. Bounded
 * by the rules above, which that one kept too.
 */
export function untoldIn(journal: Journal): Set<number> {
  const ids = new Set<number>();
  // Each object told is a record as well.
  eachOfLast(journal, WRITES_MAX + 2 * OBJECTS_MAX, (record) => {
    if (record.state === STATE.void || record.op < OP.setattr || record.op > OP.copy) return;
    if (record.mtimeNs === 0n) ids.add(record.id);
    else ids.delete(record.id);
  });
  return ids;
}
