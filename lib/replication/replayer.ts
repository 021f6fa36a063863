/**
 * Replay from the log: a peer that stands at a known sequence gets what came after, in order.
 *
 * Where the data of a write was kept nowhere (`under_way.ts`), the object's range is sent as it is now. The records that follow bring it to
 * where it belongs: whatever wrote last to a range is replayed last.
 *
 * @module
 */

import { type Cursor, type Journal, OP, RecordView, STATE } from "../journal/mod.ts";
import { emptyFields, type RecordFields } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { decodeMutation, fillFields, Mutation } from "./mutation.ts";
import type { Objects } from "./objects.ts";
import type { Tree } from "./tree.ts";
import type { Wire } from "./wire.ts";

/** The longest range sent for a write whose data was not kept. A longer one cannot have been logged. */
const RANGE_MAX = 1 << 20;

/** What {@link Replayer} needs. */
export interface ReplayerOptions {
  readonly journal: Journal;
  readonly backing: Backing;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly wire: Wire;
  readonly from: number;
  /** What a write wrote that is in no log, if it was kept. */
  readonly dataOf: (sequence: number) => Uint8Array | undefined;
  readonly addressOf: (bytes: Uint8Array) => number;
}

/** Sends the log from a sequence to the present. */
export class Replayer {
  readonly #options: ReplayerOptions;
  readonly #cursor: Cursor;
  readonly #view = new RecordView();
  readonly #mutation = new Mutation();
  readonly #fields: RecordFields = emptyFields();
  readonly #data = new Uint8Array(RANGE_MAX);
  readonly #dataAddress: number;
  readonly progress = { records: 0, bytes: 0 };

  constructor(options: ReplayerOptions) {
    const cursor = options.journal.read(options.from);
    if (cursor === null) {
      throw new RangeError(`Cannot replay from ${options.from}: the log begins at ${options.journal.first}`);
    }
    this.#options = options;
    this.#cursor = cursor;
    this.#dataAddress = options.addressOf(this.#data);
  }

  /** Records not sent yet. */
  get left(): number {
    return Math.max(0, this.#options.journal.last + 1 - this.#cursor.sequence);
  }

  /**
   * Sends about `budget` bytes.
   *
   * @returns `true` when the peer has everything up to the present; `lost` when the log dropped what comes next.
   */
  step(budget: number): boolean | "lost" {
    let sent = 0;
    while (sent < budget) {
      if (!this.#cursor.next(this.#view)) return this.#cursor.lost ? "lost" : true;
      sent += this.#sendRecord() + 256;
    }
    return false;
  }

  close(): void {
    this.#cursor.close();
  }

  #sendRecord(): number {
    const view = this.#view;
    const mutation = this.#mutation;
    const fields = this.#fields;
    const bytes = view.bytes;
    decodeMutation(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, 0, mutation);
    fields.sequence = view.sequence;
    fields.epoch = view.epoch;
    fields.generation = view.generation;
    fields.unique = 0;
    const payload = view.state === STATE.void ? this.#nothing() : this.#payload();
    // Times are those of now: the last record about an object leaves the right one.
    this.#options.tree.measure(mutation);
    fields.op = mutation.op;
    fillFields(fields, mutation);
    mutation.payloadLength = payload?.length ?? 0;
    this.#options.wire.record(fields, mutation, payload);
    this.progress.records++;
    this.progress.bytes += payload?.length ?? 0;
    return payload?.length ?? 0;
  }

  #nothing(): null {
    this.#mutation.reset(OP.reserve, 0);
    return null;
  }

  #payload(): Uint8Array | null {
    const mutation = this.#mutation;
    // A source that has changed since would make another copy of it: what the copy made is sent instead.
    if (mutation.op === OP.copy) this.#asWrite();
    if (this.#view.payloadLength > 0) return this.#view.payload;
    if (mutation.op !== OP.write || mutation.b === 0) return null;
    const kept = this.#options.dataOf(this.#view.sequence);
    if (kept !== undefined) return this.#asKept(kept);
    const held = this.#options.objects.get(mutation.id);
    const fd = held === undefined ? -1 : this.#options.objects.io(held);
    if (fd < 0) return this.#nothing();
    const length = Math.min(mutation.b, RANGE_MAX);
    const got = this.#options.backing.pread(fd, this.#dataAddress, length, mutation.a);
    // Cut off since: the record that did it follows.
    if (got <= 0) return this.#nothing();
    mutation.b = got;
    return this.#data.subarray(0, got);
  }

  #asKept(kept: Uint8Array): Uint8Array | null {
    if (kept.length === 0) return this.#nothing();
    this.#mutation.b = kept.length;
    return kept;
  }

  #asWrite(): void {
    const { id, a, b } = this.#mutation;
    const mutation = this.#mutation.reset(OP.write, id);
    mutation.a = a;
    mutation.b = b;
  }
}
