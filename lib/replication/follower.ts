/**
 * The secondary's end: takes the primary's records in order, logs each, executes it, acknowledges.
 *
 * Invariant: `journal.last` is the one sequence at which the tree stands, with at most the last record in doubt. A
 * record of an old epoch, or one out of order, ends the session: nothing of it was touched.
 *
 * @module
 */

import { type Journal, KEEP, OFFSET, OP, STATE } from "../journal/mod.ts";
import { emptyFields, type RecordFields } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { u64 } from "./bytes.ts";
import { decodeMutation, Mutation, RecordError } from "./mutation.ts";
import type { Objects } from "./objects.ts";
import { perform } from "./perform.ts";
import { type Activity, touchParts } from "./touch.ts";
import type { Tree } from "./tree.ts";

/** The copies differ, or the disk refuses: the secondary leaves the set, loudly. */
export class ApplyError extends Error {
  override readonly name = "ApplyError";
  /** What the system said, 0 where it said nothing. */
  readonly errno: number;

  constructor(message: string, errno: number) {
    super(message);
    this.errno = errno;
  }
}

/** What a follower knows of its data durably. */
export interface FollowerLedger {
  /** Epoch of the newest generation it has; 0 when it has none. */
  readonly lastEpoch: number;
  readonly lastGeneration: bigint;
  begin(entry: { readonly generation: bigint; readonly epoch: number; readonly first: number }): void;
  reserve(nextId: number): void;
}

/** What {@link Follower} needs. */
export interface FollowerOptions {
  readonly backing: Backing;
  readonly journal: Journal;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly activity: Activity;
  readonly ledger: FollowerLedger;
  /** Executes a record while the copies are being made equal; see `lenient.ts`. */
  readonly lenient: { execute(mutation: Mutation): number };
  /** Hands a descriptor to the disk thread, which acknowledges the sequence when it is synced. */
  readonly syncLater: (fd: number, dataOnly: boolean, sequence: number) => void;
  readonly keepOrphan: (id: number, fd: number) => boolean;
  readonly dropOrphan: (id: number) => void;
}

/** Applies records, one at a time. */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #journal: Journal;
  readonly #mutation = new Mutation();
  readonly #fields: RecordFields = emptyFields();
  /** While the copies are being made equal, records are applied as far as they make sense. */
  lenient = false;
  /** The first record of a session may repeat what was in doubt when the process was killed. */
  repeat = false;
  readonly counters = { records: 0, bytes: 0, fsyncs: 0 };

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#journal = options.journal;
  }

  /**
   * Applies the record at `offset`.
   *
   * @throws {ApplyError} when it cannot: the session must end.
   */
  apply(bytes: Uint8Array, view: DataView, offset: number, address: number): void {
    const fields = this.#read(view, offset);
    this.#check(fields);
    const mutation = this.#mutation;
    this.#decode(bytes, view, offset, address);
    const { ledger } = this.#options;
    if (fields.generation !== ledger.lastGeneration) {
      ledger.begin({ generation: fields.generation as bigint, epoch: fields.epoch, first: fields.sequence });
    }
    touchParts(this.#options.activity, mutation);
    const names = view.getUint16(offset + OFFSET.namesLength, true);
    const start = offset + 96;
    // A copy of the log without payload: it names what was touched, which is all a crash of the other node needs.
    const payload = mutation.op === OP.setxattr && mutation.payloadLength > 0
      ? bytes.subarray(start + names, start + names + mutation.payloadLength)
      : null;
    const position = this.#journal.append(
      fields,
      names === 0 ? null : bytes.subarray(start, start + names),
      payload,
      KEEP.always,
    );
    this.#execute(mutation, fields.sequence);
    this.#journal.settle(position, STATE.applied, mutation.time);
    this.counters.records++;
    this.counters.bytes += mutation.payloadLength;
    this.repeat = false;
  }

  #read(view: DataView, offset: number): RecordFields {
    const fields = this.#fields;
    fields.op = view.getUint8(offset + OFFSET.op);
    fields.sequence = u64(view, offset + OFFSET.sequence);
    fields.epoch = u64(view, offset + OFFSET.epoch);
    fields.generation = view.getBigUint64(offset + OFFSET.generation, true);
    fields.unique = 0;
    fields.id = u64(view, offset + OFFSET.id);
    fields.a = u64(view, offset + OFFSET.a);
    fields.b = view.getBigUint64(offset + OFFSET.b, true);
    fields.c = u64(view, offset + OFFSET.c);
    return fields;
  }

  #decode(bytes: Uint8Array, view: DataView, offset: number, address: number): void {
    try {
      decodeMutation(bytes, view, offset, address, this.#mutation);
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      throw new ApplyError(`Cannot apply record ${this.#fields.sequence}: ${error.message}`, 0);
    }
  }

  #check(fields: RecordFields): void {
    const { ledger } = this.#options;
    // Old epochs are refused where they come from: a node that accepts a newer one cuts the session with the old primary.
    // Within a session records of earlier epochs are history being replayed; what must hold is that they never go back.
    if (fields.epoch < ledger.lastEpoch) {
      throw new ApplyError(
        `Cannot apply record ${fields.sequence}: its epoch ${fields.epoch} is older than ${ledger.lastEpoch} of what this node has`,
        0,
      );
    }
    if (fields.sequence !== this.#journal.last + 1) {
      throw new ApplyError(
        `Cannot apply record ${fields.sequence}: ${
          this.#journal.last + 1
        } was expected; the copies must be compared`,
        0,
      );
    }
  }

  #execute(mutation: Mutation, sequence: number): void {
    switch (mutation.op) {
      case OP.reserve:
        if (mutation.a > 0) this.#options.ledger.reserve(mutation.a);
        return;
      case OP.fsync:
        return this.#fsync(mutation, sequence);
      case OP.release:
        this.#options.tree.execute(mutation);
        return this.#options.dropOrphan(mutation.id);
    }
    if (this.lenient || this.repeat) {
      const result = this.#options.lenient.execute(mutation);
      if (result < 0) throw failure(mutation, sequence, result);
      return;
    }
    if (mutation.op === OP.unlink && mutation.a === 1) this.#keep(mutation.id);
    if (mutation.op === OP.rename && (mutation.b & 8) !== 0) this.#keep(mutation.displaced);
    const result = this.#perform(mutation);
    const imposed = result < 0 ? result : this.#options.tree.impose(mutation);
    if (imposed < 0) throw failure(mutation, sequence, imposed);
  }

  /** Executes; a copy, too, must come out as it did on the primary. */
  #perform(mutation: Mutation): number {
    const result = perform(this.#options.tree, mutation);
    return mutation.op === OP.copy && result >= 0 && result !== mutation.b ? -5 : result;
  }

  #keep(id: number): void {
    const { objects, keepOrphan } = this.#options;
    const held = objects.get(id);
    const fd = held === undefined ? -1 : objects.io(held);
    if (held !== undefined && fd >= 0) keepOrphan(id, fd);
  }

  #fsync(mutation: Mutation, sequence: number): void {
    const { objects, backing } = this.#options;
    const held = objects.get(mutation.id);
    const io = held === undefined ? -116 : objects.io(held);
    const fd = io < 0 ? io : backing.dup(io);
    // What has no name any more may be gone here; there is nothing to sync then, but an answer is waited for.
    if (fd < 0 && !this.lenient && mutation.c !== 1) throw failure(mutation, sequence, fd);
    this.counters.fsyncs++;
    this.#options.syncLater(fd, mutation.a === 1, sequence);
  }
}

function failure(mutation: Mutation, sequence: number, result: number): ApplyError {
  return new ApplyError(
    `Cannot apply record ${sequence} (operation ${mutation.op}, object ${mutation.id}): errno ${-result}`,
    -result,
  );
}
