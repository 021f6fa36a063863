/**
 * The record: one mutation, the same bytes on disk and on the wire. All numbers little-endian.
 *
 * | offset | size | field          | meaning                                                                    |
 * | -----: | ---: | -------------- | -------------------------------------------------------------------------- |
 * |      0 |    4 | magic          | `BRC1`                                                                     |
 * |      4 |    4 | crc32          | of bytes 16 … length, the state byte taken as 0                            |
 * |      8 |    8 | mtime          | i64 nanoseconds, a result: written when settled, outside the checksum      |
 * |     16 |    4 | length         | header + names + payload, unpadded                                         |
 * |     20 |    1 | op             | {@link OP}; 64 and above are control frames, never logged                  |
 * |     21 |    1 | flags          | {@link FLAG}                                                               |
 * |     22 |    2 | names length   | bytes of all names, behind the header                                      |
 * |     24 |    8 | sequence       | place in the module's one order, from 1                                    |
 * |     32 |    8 | epoch          | membership under which it was accepted                                     |
 * |     40 |    8 | generation     | random identity of the line of history                                     |
 * |     48 |    8 | unique         | FUSE request id on the primary; 0: no request                              |
 * |     56 |    8 | id             | the object                                                                 |
 * |     64 |    8 | a              | by operation                                                               |
 * |     72 |    8 | b              | by operation                                                               |
 * |     80 |    8 | c              | by operation                                                               |
 * |     88 |    4 | payload length | bytes of payload *in this record*, behind the names; 0 when hollow         |
 * |     92 |    1 | state          | {@link STATE}, outside the checksum: changes after the record was written  |
 * |     93 |    1 | reserved       | 0                                                                          |
 * |     94 |    2 | reserved       | 0                                                                          |
 *
 * On disk, records start at multiples of 8; the padding is not part of the length.
 *
 * @module
 */

import { assert } from "@std/assert";
import type { Checksum } from "./storage.ts";

/** Bytes of a record's header. */
export const HEADER_BYTES = 96;

/** The longest record, in bytes. A FUSE write is at most 1 MiB; this leaves room and bounds what damage can claim. */
export const RECORD_MAX = 4 * 1024 * 1024;

/** The most bytes of names a record can hold. */
export const NAMES_MAX = 0xffff;

/** `BRC1` read as a little-endian u32. */
export const RECORD_MAGIC = 0x31435242;

/** Where each field of the header stands. */
export const OFFSET = {
  magic: 0,
  crc32: 4,
  mtime: 8,
  length: 16,
  op: 20,
  flags: 21,
  namesLength: 22,
  sequence: 24,
  epoch: 32,
  generation: 40,
  unique: 48,
  id: 56,
  a: 64,
  b: 72,
  c: 80,
  payloadLength: 88,
  state: 92,
  reserved8: 93,
  reserved16: 94,
} as const;

/** The first byte the checksum covers. */
export const CHECKED_FROM: number = OFFSET.length;

/** The mutations. Numbers are part of the format. */
export const OP = {
  create: 1,
  mkdir: 2,
  mknod: 3,
  symlink: 4,
  link: 5,
  unlink: 6,
  rmdir: 7,
  rename: 8,
  setattr: 9,
  write: 10,
  fallocate: 11,
  copy: 12,
  setxattr: 13,
  removexattr: 14,
  fsync: 15,
  release: 16,
  tmpfile: 17,
  reserve: 18,
} as const;

/** A mutation's number. */
export type Op = typeof OP[keyof typeof OP];

/** The last mutation. */
const OP_LAST = OP.reserve;

/** From here on an op is a control frame: it travels, it is never logged. */
export const CONTROL_FIRST = 64;

/** `payload`: its bytes follow the names. `hollow`: it had some, which were not kept; the range is in a, b, c. */
export const FLAG = { payload: 1, hollow: 2 } as const;

/** `intention`: in the log, perhaps not on the directory. `applied`: done, `mtime` is true. `void`: it failed, or never was. */
export const STATE = { intention: 0, applied: 1, void: 2 } as const;

/** How far a record got. */
export type RecordState = typeof STATE[keyof typeof STATE];

/**
 * What a writer gives. Keep one object and change it: nothing is allocated per record then. Numbers must be integers
 * from 0 to 2^53 − 1; a `bigint` from 0 to 2^64 − 1.
 */
export interface RecordFields {
  /** {@link OP}. */
  op: number;
  /** Place in the order. */
  sequence: number;
  /** Membership. */
  epoch: number;
  /** Line of history. */
  generation: bigint;
  /** Without the kernel's flag bits: those are above 2^53. */
  unique: number;
  /** The object. */
  id: number | bigint;
  /** By operation. */
  a: number | bigint;
  /** By operation. */
  b: number | bigint;
  /** By operation. */
  c: number | bigint;
}

/** Fields to be filled in, again and again. */
export function emptyFields(): RecordFields {
  return { op: 0, sequence: 0, epoch: 0, generation: 0n, unique: 0, id: 0, a: 0, b: 0, c: 0 };
}

/** What {@link encodeHeader} needs besides. */
export interface RecordShape {
  /** {@link FLAG} bits. */
  flags: number;
  /** Bytes of names that follow. */
  namesLength: number;
  /** Bytes of payload that follow in this record. */
  payloadLength: number;
}

const TWO_32 = 0x1_0000_0000;

/** Writes an unsigned 64-bit value. A number costs no allocation; a bigint that lives long neither. */
export function setU64(view: DataView, offset: number, value: number | bigint): void {
  if (typeof value === "bigint") {
    view.setBigUint64(offset, value, true);
    return;
  }
  assert(value >= 0 && value <= Number.MAX_SAFE_INTEGER, "A 64-bit field is negative or past 2^53");
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, (value / TWO_32) >>> 0, true);
}

/** Reads an unsigned 64-bit value that must be below 2^53. */
export function getU64(view: DataView, offset: number): number {
  const value = peekU64(view, offset);
  assert(value <= Number.MAX_SAFE_INTEGER, "A 64-bit field is past 2^53: read it as bigint");
  return value;
}

/** Reads an unsigned 64-bit value to compare it: past 2^53 the answer is near, not exact. */
export function peekU64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_32;
}

/** A record's length rounded up to where the next one starts on disk. */
export function padded(length: number): number {
  return (length + 7) & ~7;
}

/**
 * Writes the 96 bytes of a header, state `intention`, mtime 0, checksum 0: fill in the checksum with
 * {@link sealRecord} once names and payload stand behind it, or compute it in pieces and write it at
 * `OFFSET.crc32`.
 *
 * @returns the record's length.
 */
export function encodeHeader(
  view: DataView,
  offset: number,
  fields: RecordFields,
  shape: RecordShape,
): number {
  const length = HEADER_BYTES + shape.namesLength + shape.payloadLength;
  assert(shape.namesLength <= NAMES_MAX && length <= RECORD_MAX, "A record is too long");
  view.setUint32(offset + OFFSET.magic, RECORD_MAGIC, true);
  view.setUint32(offset + OFFSET.crc32, 0, true);
  view.setUint32(offset + OFFSET.mtime, 0, true);
  view.setUint32(offset + OFFSET.mtime + 4, 0, true);
  view.setUint32(offset + OFFSET.length, length, true);
  view.setUint8(offset + OFFSET.op, fields.op);
  view.setUint8(offset + OFFSET.flags, shape.flags);
  view.setUint16(offset + OFFSET.namesLength, shape.namesLength, true);
  setU64(view, offset + OFFSET.sequence, fields.sequence);
  setU64(view, offset + OFFSET.epoch, fields.epoch);
  setU64(view, offset + OFFSET.generation, fields.generation);
  setU64(view, offset + OFFSET.unique, fields.unique);
  setU64(view, offset + OFFSET.id, fields.id);
  setU64(view, offset + OFFSET.a, fields.a);
  setU64(view, offset + OFFSET.b, fields.b);
  setU64(view, offset + OFFSET.c, fields.c);
  view.setUint32(offset + OFFSET.payloadLength, shape.payloadLength, true);
  view.setUint32(offset + OFFSET.state, 0, true);
  return length;
}

/** Computes the checksum of a record that is whole, names and payload included, and writes it into the header. */
export function sealRecord(bytes: Uint8Array, offset: number, crc32: Checksum): void {
  const value = checksumOf(bytes, offset, readU32(bytes, offset + OFFSET.length), crc32);
  for (let i = 0; i < 4; i++) bytes[offset + OFFSET.crc32 + i] = value >>> (8 * i);
}

/** Why bytes are not a record. `short`: not before more bytes come. */
export type RecordFault =
  | "short"
  | "magic"
  | "length"
  | "checksum"
  | "op"
  | "flags"
  | "state"
  | "reserved";

/**
 * Looks whether a whole, undamaged record starts at `offset`: checksum first, meaning after.
 *
 * @param limit the end of what may be read.
 * @returns its length, unpadded, or what is wrong.
 */
export function checkRecord(
  bytes: Uint8Array,
  offset: number,
  limit: number,
  crc32: Checksum,
): number | RecordFault {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = frameRecord(view, offset, limit);
  if (typeof length === "string") return length;
  if (checksumOf(bytes, offset, length, crc32) !== readU32(bytes, offset + OFFSET.crc32)) return "checksum";
  return meaningFault(bytes, offset) ?? length;
}

/** Looks only whether a record seems to start at `offset` and ends before `limit`. Answers as {@link checkRecord}. */
export function frameRecord(
  view: DataView,
  offset: number,
  limit: number,
): number | "short" | "magic" | "length" {
  if (limit - offset < HEADER_BYTES) return "short";
  if (view.getUint32(offset, true) !== RECORD_MAGIC) return "magic";
  const length = view.getUint32(offset + OFFSET.length, true);
  const names = view.getUint16(offset + OFFSET.namesLength, true);
  const payload = view.getUint32(offset + OFFSET.payloadLength, true);
  if (length > RECORD_MAX || length !== HEADER_BYTES + names + payload) return "length";
  return limit - offset < length ? "short" : length;
}

function meaningFault(bytes: Uint8Array, offset: number): RecordFault | null {
  const payload = readU32(bytes, offset + OFFSET.payloadLength);
  const op = byteAt(bytes, offset + OFFSET.op);
  if (op === 0 || (op > OP_LAST && op < CONTROL_FIRST)) return "op";
  const flags = byteAt(bytes, offset + OFFSET.flags);
  if (flags > FLAG.hollow || (payload > 0 && flags !== FLAG.payload)) return "flags";
  if (byteAt(bytes, offset + OFFSET.state) > STATE.void) return "state";
  for (let i = OFFSET.reserved8; i < HEADER_BYTES; i++) {
    if (bytes[offset + i] !== 0) return "reserved";
  }
  return null;
}

const ZERO = new Uint8Array(1);

function checksumOf(bytes: Uint8Array, offset: number, length: number, crc32: Checksum): number {
  const state = offset + OFFSET.state;
  if (bytes[state] === STATE.intention) return crc32(bytes.subarray(offset + CHECKED_FROM, offset + length));
  // Never zero the byte for a moment instead: a process killed just then would forget that it had applied the record.
  const before = crc32(bytes.subarray(offset + CHECKED_FROM, state));
  return crc32(bytes.subarray(state + 1, offset + length), crc32(ZERO, before));
}

function byteAt(bytes: Uint8Array, offset: number): number {
  return bytes[offset] ?? 0;
}

function readU32(bytes: Uint8Array, offset: number): number {
  return (byteAt(bytes, offset) | byteAt(bytes, offset + 1) << 8 | byteAt(bytes, offset + 2) << 16 |
    byteAt(bytes, offset + 3) << 24) >>> 0;
}

const NOTHING = new Uint8Array(0);

/**
 * Reads a record in place. Point it at one record after another; it allocates only where a getter answers a `bigint`
 * or a slice. What it shows is memory of the log: use it before the cursor moves on or the log is written to.
 */
export class RecordView {
  #bytes: Uint8Array<ArrayBufferLike> = NOTHING;
  #view: DataView<ArrayBufferLike> = new DataView(NOTHING.buffer);
  #offset = 0;

  /** Points at the record that starts at `offset`. `view` and `bytes` show the same memory. */
  point(bytes: Uint8Array, view: DataView, offset: number): this {
    this.#bytes = bytes;
    this.#view = view;
    this.#offset = offset;
    return this;
  }

  /** Lets go of the memory: a getter throws a `RangeError` from here on. */
  clear(): void {
    this.#bytes = NOTHING;
    this.#view = new DataView(NOTHING.buffer);
    this.#offset = 0;
  }

  /** Header, names and payload, in bytes. */
  get length(): number {
    return this.#view.getUint32(this.#offset + OFFSET.length, true);
  }
  /** {@link OP}, or a control frame. */
  get op(): number {
    return this.#view.getUint8(this.#offset + OFFSET.op);
  }
  /** {@link FLAG} bits. */
  get flags(): number {
    return this.#view.getUint8(this.#offset + OFFSET.flags);
  }
  /** The payload is missing though the operation had one. */
  get hollow(): boolean {
    return (this.flags & FLAG.hollow) !== 0;
  }
  /** {@link STATE}. */
  get state(): number {
    return this.#view.getUint8(this.#offset + OFFSET.state);
  }
  /** Place in the order. */
  get sequence(): number {
    return getU64(this.#view, this.#offset + OFFSET.sequence);
  }
  /** Membership. */
  get epoch(): number {
    return getU64(this.#view, this.#offset + OFFSET.epoch);
  }
  /** Line of history. */
  get generation(): bigint {
    return this.#view.getBigUint64(this.#offset + OFFSET.generation, true);
  }
  /** FUSE request id. */
  get unique(): number {
    return getU64(this.#view, this.#offset + OFFSET.unique);
  }
  /** The object. */
  get id(): number {
    return getU64(this.#view, this.#offset + OFFSET.id);
  }
  /** By operation; below 2^53. */
  get a(): number {
    return getU64(this.#view, this.#offset + OFFSET.a);
  }
  /** By operation; below 2^53. */
  get b(): number {
    return getU64(this.#view, this.#offset + OFFSET.b);
  }
  /** By operation; below 2^53. */
  get c(): number {
    return getU64(this.#view, this.#offset + OFFSET.c);
  }
  /** {@link a} with all 64 bits. */
  get aBig(): bigint {
    return this.#view.getBigUint64(this.#offset + OFFSET.a, true);
  }
  /** {@link b} with all 64 bits. */
  get bBig(): bigint {
    return this.#view.getBigUint64(this.#offset + OFFSET.b, true);
  }
  /** {@link c} with all 64 bits. */
  get cBig(): bigint {
    return this.#view.getBigUint64(this.#offset + OFFSET.c, true);
  }
  /** Resulting modification time in nanoseconds; true once {@link state} is `applied`. */
  get mtimeNs(): bigint {
    return this.#view.getBigInt64(this.#offset + OFFSET.mtime, true);
  }
  /** Bytes of all names. */
  get namesLength(): number {
    return this.#view.getUint16(this.#offset + OFFSET.namesLength, true);
  }
  /** Bytes of payload in this record. */
  get payloadLength(): number {
    return this.#view.getUint32(this.#offset + OFFSET.payloadLength, true);
  }
  /** The names, in place. */
  get names(): Uint8Array {
    const start = this.#offset + HEADER_BYTES;
    return this.#bytes.subarray(start, start + this.namesLength);
  }
  /** The payload, in place; empty when hollow. */
  get payload(): Uint8Array {
    const start = this.#offset + HEADER_BYTES + this.namesLength;
    return this.#bytes.subarray(start, start + this.payloadLength);
  }
  /** The whole record, in place and unpadded: what goes on the wire. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(this.#offset, this.#offset + this.length);
  }
  /** The memory it looks at. */
  get buffer(): Uint8Array {
    return this.#bytes;
  }
  /** Where in {@link buffer} the record starts. */
  get offset(): number {
    return this.#offset;
  }
}
