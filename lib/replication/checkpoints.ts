/**
 * Checkpoints: every 10 s what was touched since the last one is brought to disk, so that a power cut leaves little to
 * compare. A few objects at a time and spread, so that an application's own fsync never waits behind many.
 *
 * Invariant: nothing cools that was not synced, whoever touched it: also what a process that is no more had touched, and what
 * has no sync of its own (a symbolic link, a device, a FIFO), which is synced with its file system.
 *
 * @module
 */

import type { Copy } from "./copy.ts";

/** After the end of one, until the next. */
const EVERY_NS = 10e9;
/** Objects that wait for the disk at a time. */
const WAITING = 4;
/**
 * Between two objects: each is a commit of the file system's journal, for which an application's next create waits. Ten
 * thousand new files took 2.5 ms each while they were synced back to back.
 */
const PACE_NS = 4e6;
/** Past this a checkpoint of very many objects is not spread. */
const SPREAD_NS = 60e9;
/** Objects looked at in one step: those that are gone need no sync. */
const LOOKS = 64;

/** What is asked of the disk thread, which closes the descriptor; `last`: it says when it is done. */
export interface SyncOrder {
  /** −1: nothing but the end. */
  readonly fd: number;
  /** `file`: `fsync(2)`. `file-system`: `syncfs(2)`, of all that is on it. */
  readonly what: "file" | "file-system";
  /** Of the checkpoint. */
  readonly sequence: number;
  readonly last: boolean;
}

/** What {@link Checkpoints} needs. */
export interface CheckpointWorld {
  readonly copy: Pick<Copy, "dirtyCount" | "takeDirty" | "checkpointed" | "checkpointFailed" | "history">;
  readonly order: (order: SyncOrder) => void;
  /** How many orders the disk thread has not taken. */
  readonly waiting: () => number;
  /** Nanoseconds of a clock that only goes forward. */
  readonly now: () => number;
}

/** The objects of a role, see {@link Objects.syncDescriptor}. */
export interface Synced {
  syncDescriptor(id: number): number | null;
}

interface Checkpoint {
  readonly dirty: ReadonlySet<number>;
  readonly left: Iterator<number>;
  readonly sequence: number;
  readonly paceNs: number;
  /** When the next object may be synced. */
  nextAt: number;
  /** The file systems are synced as a whole: from which directory on; 0: they are not. */
  wide: number;
  /** The disk thread has all of them. */
  pushed: boolean;
}

/** The checkpoints of a process. */
export class Checkpoints {
  readonly #world: CheckpointWorld;
  #current: Checkpoint | null = null;
  #endedAt: number;

  constructor(world: CheckpointWorld) {
    this.#world = world;
    this.#endedAt = world.now();
  }

  /** There is more of one to be ordered. */
  get busy(): boolean {
    return this.#current?.pushed === false;
  }

  /** Begins one when it is time, or goes on with one. */
  step(objects: Synced): void {
    this.#current ??= this.#begin();
    const checkpoint = this.#current;
    if (checkpoint === null) return;
    for (let i = 0; i < LOOKS && !checkpoint.pushed; i++) {
      const now = this.#world.now();
      if (now < checkpoint.nextAt || this.#world.waiting() >= WAITING) return;
      if (this.#orderNext(checkpoint, objects)) checkpoint.nextAt = now + checkpoint.paceNs;
    }
  }

  /** The disk thread is done with the checkpoint of that sequence. `errno`: 0, or what a sync was refused with. `asOf`: see {@link Copy.checkpointed}. */
  done(sequence: number, errno: number, asOf: number): void {
    const checkpoint = this.#current;
    if (checkpoint === null || checkpoint.sequence !== sequence) return;
    this.#current = null;
    this.#endedAt = this.#world.now();
    const { copy } = this.#world;
    if (errno !== 0 || !copy.checkpointed(sequence, asOf)) copy.checkpointFailed(checkpoint.dirty);
  }

  #begin(): Checkpoint | null {
    const { copy, now } = this.#world;
    if (copy.dirtyCount === 0 || now() - this.#endedAt < EVERY_NS) return null;
    const sequence = copy.history.last;
    const { ids, unknown } = copy.takeDirty();
    return {
      dirty: ids,
      left: ids.values(),
      sequence,
      paceNs: Math.min(PACE_NS, SPREAD_NS / ids.size),
      nextAt: 0,
      wide: unknown ? 1 : 0,
      pushed: false,
    };
  }

  /** Answers whether there was something to sync. */
  #orderNext(checkpoint: Checkpoint, objects: Synced): boolean {
    const { order } = this.#world;
    const { sequence } = checkpoint;
    const next = checkpoint.left.next();
    if (next.done !== true) {
      const fd = objects.syncDescriptor(next.value);
      if (fd === null) return false;
      if (fd < 0) checkpoint.wide ||= 1;
      else order({ fd, what: "file", sequence, last: false });
      return fd >= 0;
    }
    // Last: by then there is little left to write.
    const root = checkpoint.wide === 0 ? null : objects.syncDescriptor(checkpoint.wide);
    checkpoint.pushed = root === null;
    checkpoint.wide++;
    // A directory that cannot be opened cannot be synced: the order, and so the checkpoint, fails.
    order({ fd: root ?? -1, what: root === null ? "file" : "file-system", sequence, last: root === null });
    return true;
  }
}
