/**
 * The op log of one module: every mutation, in order, intention first.
 *
 * Invariants: segments' indexes and records' sequences are without gaps; `first ≤ last + 1`; the last segment is the
 * one written to. Nothing here waits for the disk but {@link Journal.sync}, {@link Journal.cutAfter} and
 * {@link Journal.reset}: what the log says after a power cut is only trusted as far as the last checkpoint.
 *
 * @module
 */

import { assert } from "@std/assert";
import { crc32 as zlibCrc32 } from "node:zlib";
import { Cursor } from "./cursor.ts";
import {
  CONTROL_FIRST,
  encodeHeader,
  FLAG,
  getU64,
  HEADER_BYTES,
  NAMES_MAX,
  OFFSET,
  padded,
  RECORD_MAX,
  type RecordFields,
  type RecordState,
  RecordView,
  STATE,
} from "./record.ts";
import { recover, type Recovery } from "./recovery.ts";
import { type Identity, Segment, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { type Checksum, DiskFullError, type Storage } from "./storage.ts";
import { RECENT, UniqueIndex } from "./unique_index.ts";

/** What a segment measures when nothing else is said. */
export const SEGMENT_BYTES = 16 * 1024 * 1024;

/** How many segments are kept when nothing else is said: 1 GiB, about seven million records without payload. */
export const SEGMENTS_MAX = 64;

/** Positions of two segments are this far apart: no segment is longer. */
const STRIDE = 2 ** 28;

/** Records older than {@link RECENT} and still not settled: fsyncs on a hanging disk. Beyond, the oldest is forgotten. */
const LATE_MAX = 65_536;

/** Dropped segments whose files wait for the next sync. Past it they go at once, each at the price of a sync. */
const DOOMED_MAX = 4;

/** What to do with a payload. `budget`: keep it while the payload budget lasts. */
export const KEEP = { no: 0, budget: 1, always: 2 } as const;

/** A value of {@link KEEP}. */
export type Keep = typeof KEEP[keyof typeof KEEP];

/** How to open a log. */
export interface JournalOptions {
  /** Where the files are. */
  readonly storage: Storage;
  /** Whose log it is; another's is refused. */
  readonly identity: Identity;
  /** Bytes of each new segment, a multiple of 4096. */
  readonly segmentBytes?: number;
  /** Past it the oldest segment is dropped and {@link Journal.first} moves. At least 2. */
  readonly segmentsMax?: number;
  /** Bytes of payload kept in all, unless {@link KEEP} says `always`. By default half of the log. */
  readonly payloadBudget?: number;
  /** Sequence of the first record when there is no log. */
  readonly first?: number;
  /**
   * `all` after a power cut: every record is read and checked. `tail` when the same boot still runs (the process was
   * killed or ended): only the newest segments are, since no page can be missing.
   */
  readonly scan: "all" | "tail";
  /** CRC-32; by default zlib's. */
  readonly crc32?: Checksum;
}

/** What a log keeps. Sequences and bytes. */
export interface Retention {
  /** Oldest sequence; `last + 1` when there is none. */
  readonly first: number;
  /** Newest sequence. */
  readonly last: number;
  /** Files in use. */
  readonly segments: number;
  /** Of those files. */
  readonly bytes: number;
  /** Payload in them. */
  readonly payloadBytes: number;
  /** Payload there may be. */
  readonly payloadBudget: number;
}

/** The op log. One writer; synchronous. */
export class Journal {
  /** What opening found. */
  readonly recovery: Recovery;
  /** Bytes of payload kept in all, unless {@link KEEP} says `always`. May be changed at any time. */
  payloadBudget: number;

  readonly #storage: Storage;
  readonly #identity: Identity;
  readonly #crc32: Checksum;
  readonly #segmentBytes: number;
  readonly #segmentsMax: number;
  /** Oldest first; never empty. */
  readonly #segments: Segment[];
  #active: Segment;
  #spare: Segment | null = null;
  /** Where in the active segment the next one is prepared. */
  #prepareAt: number;
  /** Index that position 0 belongs to. */
  readonly #base: number;
  #payloadBytes: number;
  /** Files were created or removed since the last sync. */
  #namesDirty = true;
  /** Files of dropped segments, oldest first: removed at the next sync. */
  readonly #doomed: string[] = [];
  #cuts = 0;
  readonly #index = new UniqueIndex();
  readonly #late = new Map<number, number>();
  readonly #shape = { flags: 0, namesLength: 0, payloadLength: 0 };
  /** A header and its names are put together here: the checksum of what lies in one piece takes one call. */
  readonly #scratch = new Uint8Array(HEADER_BYTES + NAMES_MAX);
  readonly #scratchView = new DataView(this.#scratch.buffer);
  /** `#scratch` from its first checked byte on, by length of the names: made once each. */
  readonly #checked: Uint8Array<ArrayBuffer>[] = [];
  /** `#scratch` up to the end of the names, by their length. */
  readonly #heads: Uint8Array<ArrayBuffer>[] = [];
  readonly #probe = new RecordView();

  private constructor(options: JournalOptions) {
    this.#storage = options.storage;
    this.#identity = options.identity;
    this.#crc32 = options.crc32 ?? zlibCrc32;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#segmentsMax = options.segmentsMax ?? SEGMENTS_MAX;
    checkSizes(this.#segmentBytes, this.#segmentsMax);
    this.payloadBudget = options.payloadBudget ?? this.#segmentBytes * this.#segmentsMax / 2;
    const found = recover({
      storage: this.#storage,
      identity: this.#identity,
      crc32: this.#crc32,
      all: options.scan === "all",
      recent: RECENT,
      segmentMax: STRIDE,
    });
    this.recovery = found.recovery;
    this.#segments = found.segments;
    const last = found.segments.at(-1);
    this.#active = last ?? this.#begin(found.nextIndex, options.first ?? 1);
    this.#base = this.#oldest().index;
    this.#prepareAt = this.#active.bytes.length / 2;
    this.#payloadBytes = this.#segments.reduce((sum, segment) => sum + segment.payloadBytes, 0);
    this.#index.evicted = (unique, position) => this.#keepLate(unique, position);
    this.#remember(found.scannedFrom);
  }

  /**
   * Opens the log, or creates it. A torn tail is cut at the first record that is not whole, durably;
   * {@link recovery} says what was lost.
   *
   * @throws when the log belongs to another module, has another format, or the disk refuses.
   */
  static open(options: JournalOptions): Journal {
    return new Journal(options);
  }

  /** Sequence of the oldest record kept. A peer that stands before `first - 1` cannot be replayed to. */
  get first(): number {
    return this.#oldest().first;
  }

  /** Sequence of the newest record; `first - 1` when there is none. */
  get last(): number {
    return this.#active.last;
  }

  /** Bytes of payload in the log. */
  get payloadBytes(): number {
    return this.#payloadBytes;
  }

  /** Segments in use. */
  get segmentCount(): number {
    return this.#segments.length;
  }

  /** What is kept, for `status`: `bytes` of the files in use, sequences, and payload against its budget. */
  get retention(): Retention {
    const { first, last, segmentCount: segments, payloadBytes, payloadBudget } = this;
    const bytes = this.#segments.reduce((sum, segment) => sum + segment.bytes.length, 0);
    return { first, last, segments, bytes, payloadBytes, payloadBudget };
  }

  /** Grows with each {@link cutAfter} and {@link reset}: a cursor from before is worth nothing. */
  get cuts(): number {
    return this.#cuts;
  }

  /**
   * Adds a record as an intention. In memory of the kernel when this returns: a killed process leaves it whole.
   *
   * @param fields `sequence` must be {@link last} + 1.
   * @param names bytes of the names, laid out as the operation wants; `null` for none.
   * @param payload what the operation carries; `null` for nothing.
   * @param keep whether the payload is logged; if not, the record is hollow.
   * @returns the record's position, good for {@link settle} and {@link at} while this journal is open.
   * @throws {DiskFullError} when no room is left for another segment. Nothing was added.
   */
  append(fields: RecordFields, names: Uint8Array | null, payload: Uint8Array | null, keep: Keep): number {
    assert(fields.sequence === this.#active.last + 1, "A record was appended out of sequence");
    assert(fields.op > 0 && fields.op < CONTROL_FIRST, "A control frame was logged");
    const shape = this.#shape;
    shape.namesLength = names === null ? 0 : names.length;
    const kept = payload !== null && this.#keeps(shape.namesLength, payload.length, keep);
    shape.payloadLength = kept ? payload.length : 0;
    shape.flags = kept ? FLAG.payload : payload === null ? 0 : FLAG.hollow;
    const length = encodeHeader(this.#scratchView, 0, fields, shape);
    const segment = this.#room(padded(length), fields.sequence);

    if (names !== null) this.#scratch.set(names, HEADER_BYTES);
    let crc = this.#crc32(this.#checkedOf(shape.namesLength));
    const at = segment.used;
    if (kept) {
      crc = this.#crc32(payload, crc);
      segment.bytes.set(payload, at + HEADER_BYTES + shape.namesLength);
      this.#payloadBytes += payload.length;
      segment.payloadBytes += payload.length;
    }
    this.#scratchView.setUint32(OFFSET.crc32, crc, true);
    segment.bytes.set(this.#headOf(shape.namesLength), at);
    segment.used = at + padded(length);
    segment.last = fields.sequence;
    segment.dirty = true;
    const position = (segment.index - this.#base) * STRIDE + at;
    this.#index.add(fields.unique, position);
    return position;
  }

  /**
   * Writes down how an intention ended, in place.
   *
   * @param mtimeNs the modification time that resulted, nanoseconds.
   * @returns false when the record was dropped from the log meanwhile.
   */
  settle(position: number, state: RecordState, mtimeNs: bigint): boolean {
    const segment = this.#segmentAt(position);
    if (segment === undefined) return false;
    const at = position % STRIDE;
    // The state last: a process killed in between must not have said `applied` with a time that is not true.
    segment.view.setBigInt64(at + OFFSET.mtime, mtimeNs, true);
    segment.bytes[at + OFFSET.state] = state;
    segment.dirty = true;
    if (this.#late.size > 0) this.#late.delete(getU64(segment.view, at + OFFSET.unique));
    return true;
  }

  /** Points the view at a record. Answers `undefined` when it was dropped. Good until the log is written to. */
  at(position: number, view: RecordView): RecordView | undefined {
    const segment = this.#segmentAt(position);
    return segment === undefined ? undefined : view.point(segment.bytes, segment.view, position % STRIDE);
  }

  /** Position of the record with that sequence, or `undefined` when the log does not hold it. */
  positionOf(sequence: number): number | undefined {
    const segment = this.segmentOf(sequence);
    if (segment === undefined || sequence > segment.last) return undefined;
    return (segment.index - this.#base) * STRIDE + segment.find(sequence);
  }

  /**
   * The newest record made for a FUSE request, among the last {@link RECENT} and those older that are not settled.
   *
   * @param after only records with a higher sequence: a new FUSE connection counts its requests from the start again,
   * so what was logged for an earlier connection must not answer for it.
   */
  findUnique(unique: number, after = 0): number | undefined {
    const position = this.#index.find(unique) ?? this.#late.get(unique);
    if (position === undefined) return undefined;
    const record = this.at(position, this.#probe);
    return record !== undefined && record.sequence > after ? position : undefined;
  }

  /**
   * Reads from a sequence on, while appends go on. Close the cursor.
   *
   * @returns `null` when the log no longer holds that sequence, or does not yet hold the one before.
   */
  read(sequence: number): Cursor | null {
    return this.segmentOf(sequence) === undefined ? null : new Cursor(this, sequence);
  }

  /** The segment that holds the sequence, or, for `last + 1`, will. For the cursor. */
  segmentOf(sequence: number): Segment | undefined {
    if (sequence > this.last + 1) return undefined;
    for (let i = this.#segments.length - 1; i >= 0; i--) {
      const segment = this.#segments[i];
      if (segment !== undefined && sequence >= segment.first) return segment;
    }
    return undefined;
  }

  /**
   * Gives back whole segments that nobody needs: those with no record after `upto`. The segments of the last
   * {@link RECENT} records stay, for requests the kernel may send again.
   */
  trim(upto: number): void {
    const limit = Math.min(upto, this.last - RECENT);
    while (this.#segments.length > 1 && this.#oldest().last <= limit) this.#dropOldest();
  }

  /**
   * Prepares the next segment. Called in idle moments, appends never pay for it; without, the first append past the
   * middle of a segment does.
   */
  prepare(): void {
    if (this.#spare !== null) return;
    const index = this.#active.index + 1;
    try {
      this.#spare = this.#create(index);
    } catch (error) {
      // History makes room for what comes: a peer that needs it is reconciled instead of replayed.
      if (!(error instanceof DiskFullError) || this.#segments.length < 2) throw error;
      this.#dropOldest();
      this.#removeDoomed();
      this.#spare = this.#create(index);
    }
  }

  /** Returns when everything appended and settled so far survives a power cut. For checkpoints. */
  sync(): void {
    for (const segment of this.#segments) segment.sync();
    this.#removeDoomed();
    if (!this.#namesDirty) return;
    this.#storage.syncDirectory();
    this.#namesDirty = false;
  }

  /** Takes back all records after a sequence, durably: a tail that was never acknowledged and is in quarantine. */
  cutAfter(sequence: number): void {
    assert(sequence >= this.first - 1, "The log was cut before its start");
    if (sequence >= this.last) return;
    this.#cuts++;
    this.#discardSpare();
    while (this.#segments.length > 1 && this.#active.first > sequence) this.#dropNewest();
    const segment = this.#active;
    if (sequence < segment.last) {
      segment.used = segment.find(sequence + 1);
      segment.last = sequence;
      this.#payloadBytes -= segment.payloadBytes;
      segment.payloadBytes = payloadOf(segment);
      this.#payloadBytes += segment.payloadBytes;
    }
    segment.unseal();
    segment.clearRest();
    this.#forgetRequests();
    this.#prepareAt = segment.bytes.length / 2;
    this.sync();
  }

  /**
   * Empties the log, durably; the next record has sequence `first`. For a copy that took over another's history. First
   * note on disk that the copy is inconsistent: when the power goes in between, part of the old log is still there.
   */
  reset(first: number): void {
    this.#cuts++;
    const index = this.#active.index + 1;
    this.#discardSpare();
    // Made before the old ones go, so that a full disk leaves the log as it was.
    const fresh = this.#create(index);
    while (this.#segments.length > 0) this.#dropOldest();
    this.#removeDoomed();
    this.#use(fresh, first);
    this.#forgetRequests();
    this.sync();
  }

  /** Ends all mappings. Does not sync; cursors must be closed before. */
  close(): void {
    this.#discardSpare();
    for (const segment of this.#segments) segment.close();
    this.#probe.clear();
  }

  #keeps(names: number, payload: number, keep: Keep): boolean {
    if (keep === KEEP.always) return true;
    if (keep === KEEP.no || this.#payloadBytes + payload > this.payloadBudget) return false;
    return HEADER_BYTES + names + payload <= Math.min(RECORD_MAX, this.#segmentBytes - SEGMENT_HEADER_BYTES);
  }

  /** A segment with that much room at its end. */
  #room(bytes: number, sequence: number): Segment {
    const segment = this.#active;
    const end = segment.used + bytes;
    if (end <= segment.bytes.length) {
      if (end > this.#prepareAt) this.#prepareAhead(end);
      return segment;
    }
    assert(bytes <= this.#segmentBytes - SEGMENT_HEADER_BYTES, "A record is longer than a segment");
    this.prepare();
    const next = this.#spare;
    if (next === null) throw new Error("No segment was prepared");
    this.#spare = null;
    segment.seal(this.#crc32);
    this.#use(next, sequence);
    while (this.#segments.length > this.#segmentsMax) this.#dropOldest();
    return next;
  }

  #prepareAhead(end: number): void {
    this.#prepareAt = Number.POSITIVE_INFINITY;
    try {
      this.prepare();
    } catch (error) {
      if (!(error instanceof DiskFullError)) throw error;
      // There is still room for a while and someone may make more; the append that finds none reports it.
      this.#prepareAt = end + this.#segmentBytes / 16;
    }
  }

  #begin(index: number, first: number): Segment {
    const segment = this.#create(index);
    this.#use(segment, first);
    return segment;
  }

  #create(index: number): Segment {
    const segment = Segment.map(this.#storage, index, this.#segmentBytes);
    this.#namesDirty = true;
    return segment;
  }

  #use(segment: Segment, first: number): void {
    segment.start(first, this.#identity, this.#crc32);
    this.#segments.push(segment);
    this.#active = segment;
    this.#prepareAt = segment.bytes.length / 2;
  }

  #oldest(): Segment {
    const segment = this.#segments[0];
    if (segment === undefined) throw new Error("The log has no segment");
    return segment;
  }

  #dropOldest(): void {
    const segment = this.#segments.shift();
    if (segment === undefined) return;
    this.#doomed.push(segmentName(segment.index));
    this.#release(segment);
    if (this.#doomed.length > DOOMED_MAX) this.#removeDoomed();
  }

  /**
   * One by one, the oldest first: were a later one gone after a power cut and an earlier one not, the log would seem to
   * end in between.
   */
  #removeDoomed(): void {
    for (let name = this.#doomed[0]; name !== undefined; name = this.#doomed[0]) {
      this.#storage.remove(name);
      this.#storage.syncDirectory();
      this.#doomed.shift();
    }
  }

  #dropNewest(): void {
    const segment = this.#active;
    const before = this.#segments.at(-2);
    if (before === undefined) throw new Error("The log has no segment");
    // One by one as well: what follows must go before what it follows.
    this.#storage.remove(segmentName(segment.index));
    this.#storage.syncDirectory();
    this.#segments.pop();
    this.#active = before;
    this.#release(segment);
  }

  #release(segment: Segment): void {
    this.#payloadBytes -= segment.payloadBytes;
    segment.dropped = true;
    // What the probe last looked at may be this memory.
    this.#probe.clear();
    if (segment.pins === 0) segment.close();
  }

  #discardSpare(): void {
    const spare = this.#spare;
    if (spare === null) return;
    this.#spare = null;
    spare.close();
    this.#storage.remove(segmentName(spare.index));
    this.#namesDirty = true;
  }

  #segmentAt(position: number): Segment | undefined {
    const index = Math.floor(position / STRIDE) + this.#base;
    const active = this.#active;
    if (index === active.index) return position % STRIDE < active.used ? active : undefined;
    return this.#segments[index - this.#oldest().index];
  }

  #keepLate(unique: number, position: number): void {
    const record = this.at(position, this.#probe);
    if (record === undefined || record.state !== STATE.intention || record.unique !== unique) return;
    if (this.#late.size >= LATE_MAX) {
      for (const oldest of this.#late.keys()) {
        this.#late.delete(oldest);
        break;
      }
    }
    this.#late.set(unique, position);
  }

  #forgetRequests(): void {
    this.#index.clear();
    this.#late.clear();
  }

  /** Fills the index of requests, and the list of intentions, from the segments that were read. */
  #remember(from: number): void {
    const recent = this.last - RECENT;
    for (const segment of this.#segments) {
      if (segment.index < from) continue;
      const { view } = segment;
      const start = (segment.index - this.#base) * STRIDE;
      let sequence = segment.first;
      for (let at = SEGMENT_HEADER_BYTES; at < segment.used; sequence++) {
        if (view.getUint8(at + OFFSET.state) === STATE.intention) this.recovery.unsettled.push(start + at);
        if (sequence > recent) this.#index.add(getU64(view, at + OFFSET.unique), start + at);
        at += padded(view.getUint32(at + OFFSET.length, true));
      }
    }
  }

  #checkedOf(names: number): Uint8Array<ArrayBuffer> {
    return this.#checked[names] ??= this.#scratch.subarray(OFFSET.length, HEADER_BYTES + names);
  }

  #headOf(names: number): Uint8Array<ArrayBuffer> {
    return this.#heads[names] ??= this.#scratch.subarray(0, HEADER_BYTES + names);
  }
}

function payloadOf(segment: Segment): number {
  let sum = 0;
  let at = SEGMENT_HEADER_BYTES;
  while (at < segment.used) {
    sum += segment.view.getUint32(at + OFFSET.payloadLength, true);
    at += padded(segment.view.getUint32(at + OFFSET.length, true));
  }
  return sum;
}

function checkSizes(segmentBytes: number, segmentsMax: number): void {
  const least = SEGMENT_HEADER_BYTES * 2;
  if (segmentBytes % 4096 !== 0 || segmentBytes < least || segmentBytes > STRIDE) {
    throw new RangeError(
      `Cannot open the log: a segment of ${segmentBytes} bytes is not a multiple of 4096 between ${least} and ${STRIDE}`,
    );
  }
  if (!Number.isInteger(segmentsMax) || segmentsMax < 2) {
    throw new RangeError(`Cannot open the log: it needs at least 2 segments, not ${segmentsMax}`);
  }
}
