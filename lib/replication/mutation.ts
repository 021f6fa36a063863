/**
 * What the fields of a record mean, operation by operation. Both nodes execute the same record with the same code
 * (`tree.ts`); so a record says what was *asked of the backing file system*, fully resolved: final owner, mode as passed
 * to the call, the object's id.
 *
 * | op                       | id       | a                        | b                          | c          | names                | payload |
 * | ------------------------ | -------- | ------------------------ | -------------------------- | ---------- | -------------------- | ------- |
 * | create mkdir mknod       | new      | mode + rdev × 2^16       | uid + gid × 2^32           | parent     | name                 |         |
 * | symlink                  | new      |                          | uid + gid × 2^32           | parent     | name, target         |         |
 * | link                     | existing |                          |                            | parent     | name                 |         |
 * | unlink                   | child    | 1: still open            |                            | parent     | name                 |         |
 * | rmdir                    | child    |                          |                            | parent     | name                 |         |
 * | rename                   | moved    | new parent               | {@link RENAME_BITS}        | old parent | old name, new name, displaced id (8 bytes) | |
 * | setattr                  | object   | which fields             |                            |            | {@link SETATTR}      |         |
 * | write                    | object   | offset                   | length                     | 1: drop setuid, setgid |          | data    |
 * | fallocate                | object   | offset                   | length                     | mode       |                      |         |
 * | copy                     | target   | target offset            | length                     | source     | source offset, 8 bytes |       |
 * | setxattr                 | object   | flags                    | 1: drop setgid             |            | name                 | value   |
 * | removexattr              | object   |                          |                            |            | name                 |         |
 * | fsync                    | object   | 1: data only             |                            | 1: no name |                      |         |
 * | release                  | orphan   |                          |                            |            |                      |         |
 * | reserve                  | 0        | ids below this are taken |                            |            |                      |         |
 *
 * Every name ends with NUL. `mtime` of the header is the resulting mtime of the object, or, where names change, of the
 * parent; on the wire `unique` carries the second one: of the new object, or of the other parent. In the log it is
 * the request's id.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { HEADER_BYTES, OFFSET, OP, type RecordFields } from "../journal/record.ts";
import { isName, nulFrom, setU64, u64 } from "./bytes.ts";

/** Bits of `b` of a rename: the flags of `renameat2(2)`, and whether the displaced object is still open. */
export const RENAME_BITS = { flags: 7, displacedOpen: 8 } as const;

/** Bits of `a` of a setattr, those of `fuse_setattr_in.valid` that are passed on. */
export const SETATTR_BITS = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  killSuidgid: 2048,
} as const;

/** Layout of the names region of a setattr. Times are i64 nanoseconds. */
export const SETATTR = { mode: 0, uid: 4, gid: 8, size: 16, atime: 24, mtime: 32, bytes: 40 } as const;

/** Frames of the data stream that are no mutations. */
export const CONTROL = {
  /** A reconciliation begins. Body: {@link ReconcileBegin} as JSON. */
  reconcile: 64,
  /** One object as it is now. Body: see `object_frame.ts`. */
  object: 65,
  /** Hashes of blocks of an object. id, a = offset, b = size of the object; body: hashes. */
  blocks: 66,
  /** Bytes of an object. id, a = offset, b = length; body: the bytes, or nothing: zeros. */
  data: 67,
  /** All that was asked for is sent: the tree is the source's. */
  reconciled: 68,
  /** From here the target is a member. Body: JSON `{epoch}`. */
  member: 69,
  /** Nothing to say, still here. */
  idle: 70,
  /** Replay from the log begins (a = 0), or has caught up with the present (a = 1). */
  replay: 71,
  /** Of a verification, see `verify_frame.ts`. */
  fingerprints: 72,
  verifyBlocks: 73,
  names: 74,
  detail: 75,
  verified: 76,
  /** Of a survey, see `survey_frame.ts`. */
  prints: 77,
  listed: 78,
  /** Frames in one, compressed. a = their length; see `packing.ts`. */
  packed: 79,
  /** Of a verification: what the next frame would say had the primary's disk kept it, see `verify_frame.ts`. */
  expected: 80,
} as const;

/** Kinds of little frames, secondary → primary. */
export const ACK = {
  /** Everything up to the sequence is applied. */
  applied: 1,
  /** The fsync with this sequence is on disk; value: errno. */
  synced: 2,
  /** value: how many bytes of resync frames were worked off since the session began. */
  credit: 3,
  /** Wanted: id = sequence, body: pairs offset, length as f64. */
  want: 4,
  /** Ids that the target does not have, body: f64 each; they must be reconciled too. */
  missing: 5,
  /** Ids that may differ on the target, body: f64 each; value 1: that was all. */
  touched: 6,
  /** The target cannot go on, body: the reason as text. */
  failed: 7,
  /** The reconciliation was worked off, or the member frame taken: value = which control op. */
  done: 8,
  /** value: how many frames of verifications were worked off since the session began. */
  verified: 9,
  /** sequence = an object whose fingerprint differs: what is it on the primary? */
  detail: 10,
  /** sequence = a directory with names that were not said: once more. */
  again: 11,
  /** Body: a difference as JSON, see `verify_frame.ts`. */
  difference: 12,
  /**
   * sequence = an object, value = a block of it, that {@link CONTROL.expected} named. Body: its content; none: it is not what was
   * expected.
   */
  good: 13,
} as const;

/** Kinds of entries of the ask ring. */
export const ASK_KIND = {
  want: 1,
  missing: 2,
  touched: 3,
  credit: 4,
  done: 5,
  verified: 6,
  detail: 7,
  again: 8,
  /** What follows is of the session with this number, see {@link sessionNumber}. */
  session: 9,
  /** The secondary has told all that it touched by itself. */
  touchedAll: 10,
} as const;

/** A session as a number, for the ask ring. */
export function sessionNumber(session: string): number {
  return crc32(session);
}

/** All mutations. */
export const MUTATIONS: readonly number[] = Object.values(OP);

/** The body of {@link CONTROL.reconcile}. */
export interface ReconcileBegin {
  /** Everything is compared, not a set. */
  readonly whole: boolean;
  /** What the target has and the source has not goes to quarantine first. */
  readonly preserve: boolean;
  /** The sequence at which the source stands. */
  readonly sequence: number;
  /** The source's line of history, as JSON. */
  readonly history: unknown;
  /** Ids below are taken. */
  readonly nextId: number;
  /** Everything is compared, but for ids below that were compared before, and have not changed since. */
  readonly from: number;
  /** Ids below `from` that have changed since. */
  readonly changed: readonly number[];
}

const EMPTY = new Uint8Array(0);

/** One mutation, decoded. Reused for every record: nothing is allocated for a write. */
export class Mutation {
  op = 0;
  id = 0;
  a = 0;
  b = 0;
  c = 0;
  uid = 0;
  gid = 0;
  /** First name, with its NUL; for setattr the blob, for copy the source offset. */
  name: Uint8Array = EMPTY;
  /** Second name: new name of a rename, target of a symlink. */
  other: Uint8Array = EMPTY;
  /** Displaced object of a rename, 0 for none. */
  displaced = 0;
  payloadAddress = 0;
  payloadLength = 0;
  /** Resulting mtime of the object, or of the parent where names change. Nanoseconds. */
  time = 0n;
  /** Resulting mtime of the new object, or of the other parent. */
  timeOther = 0n;

  /** Back to nothing, for operation `op` on object `id`. */
  reset(op: number, id: number): this {
    this.op = op;
    this.id = id;
    this.a =
      this.b =
      this.c =
      this.uid =
      this.gid =
      this.displaced =
        0;
    this.name = this.other = EMPTY;
    this.payloadAddress = this.payloadLength = 0;
    this.time = this.timeOther = 0n;
    return this;
  }
}

/** Whether an operation makes a new object. */
export function creates(op: number): boolean {
  return op === OP.create || op === OP.mkdir || op === OP.mknod || op === OP.symlink;
}

/** Whether an operation changes names, so that times belong to parents. */
export function renames(op: number): boolean {
  return op >= OP.create && op <= OP.rename;
}

/** The names region of a mutation, in `into`; answers its length. */
export function packNames(mutation: Mutation, into: Uint8Array, view: DataView): number {
  into.set(mutation.name, 0);
  let at = mutation.name.length;
  into.set(mutation.other, at);
  at += mutation.other.length;
  if (mutation.op === OP.rename) {
    setU64(view, at, mutation.displaced);
    at += 8;
  }
  return at;
}

/** A record that no primary writes: damaged, or forged. */
export class RecordError extends RangeError {
  override readonly name = "RecordError";
}

/** Whether an operation makes no sense without its names region. */
function needsNames(op: number): boolean {
  return renames(op) || op === OP.setattr || op === OP.copy || op === OP.setxattr || op === OP.removexattr;
}

/** Decodes the record at `offset` of `bytes`, which lie at `address`. Throws {@link RecordError} when its names are not of its operation. */
export function decodeMutation(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  address: number,
  into: Mutation,
): void {
  const op = view.getUint8(offset + OFFSET.op);
  into.reset(op, u64(view, offset + OFFSET.id));
  into.a = u64(view, offset + OFFSET.a);
  if (creates(op)) {
    into.uid = view.getUint32(offset + OFFSET.b, true);
    into.gid = view.getUint32(offset + OFFSET.b + 4, true);
  } else into.b = u64(view, offset + OFFSET.b);
  into.c = u64(view, offset + OFFSET.c);
  into.time = view.getBigInt64(offset + OFFSET.mtime, true);
  into.timeOther = view.getBigInt64(offset + OFFSET.unique, true);
  const names = view.getUint16(offset + OFFSET.namesLength, true);
  const start = offset + HEADER_BYTES;
  decodeNames(bytes, view, start, start + names, into);
  into.payloadLength = view.getUint32(offset + OFFSET.payloadLength, true);
  into.payloadAddress = into.payloadLength === 0 ? 0 : address + start + names;
}

function decodeNames(bytes: Uint8Array, view: DataView, start: number, end: number, into: Mutation): void {
  if (start === end) {
    if (needsNames(into.op)) throw new RecordError(`Cannot read a record: operation ${into.op} has no name`);
    return;
  }
  if (into.op === OP.setattr || into.op === OP.copy) {
    into.name = bytes.subarray(start, end);
    if (into.name.length !== (into.op === OP.copy ? 8 : SETATTR.bytes)) {
      throw new RecordError(
        `Cannot read a record: ${into.name.length} bytes of fields do not fit operation ${into.op}`,
      );
    }
    return;
  }
  const last = into.op === OP.rename ? end - 8 : end;
  const first = nulFrom(bytes, start, last) + 1;
  if (first > last) throw new RecordError(`Cannot read a record: a name of operation ${into.op} has no end`);
  into.name = bytes.subarray(start, first);
  if (first < last) into.other = bytes.subarray(first, last);
  if (into.op === OP.rename) into.displaced = u64(view, last);
  // A name that leads elsewhere would let whoever can forge a record write anywhere on this host.
  if (renames(into.op) && !(isName(into.name) && (into.op !== OP.rename || isName(into.other)))) {
    throw new RecordError(`Cannot read a record: a name of operation ${into.op} is no name`);
  }
}

/** The fields of a record that a mutation determines. */
export function fillFields(fields: RecordFields, mutation: Mutation): void {
  fields.id = mutation.id;
  fields.a = mutation.a;
  fields.c = mutation.c;
  // An owner has 32 bits and a group too: together more than a number holds.
  fields.b = mutation.op >= OP.create && mutation.op <= OP.symlink
    ? BigInt(mutation.uid) | BigInt(mutation.gid) << 32n
    : mutation.b;
}
