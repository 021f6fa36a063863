/**
 * A record in words, for people who read a log. What the fields mean is in `mutation.ts`.
 *
 * @module
 */

import { OP, type RecordView, STATE } from "../journal/record.ts";
import { u64 } from "./bytes.ts";
import { creates, decodeMutation, Mutation, RENAME_BITS, SETATTR, SETATTR_BITS } from "./mutation.ts";

export { RecordError } from "./mutation.ts";

/** Operations by number. */
const OP_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(OP).map(([name, op]) => [op, name]));

/** States by number. */
const STATE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(STATE).map(([name, state]) => [state, name]),
);

/** A mutation as words and numbers; what its operation does not have is left out. */
export interface RecordWords {
  readonly op: string;
  readonly state: string;
  readonly id: number;
  /** Unprintable bytes as `\xNN`: see {@link escaped}. */
  readonly name?: string;
  /** New name of a rename, target of a symbolic link. */
  readonly other?: string;
  /** Directory of the name. */
  readonly parent?: number;
  /** Directory of the new name of a rename. */
  readonly newParent?: number;
  /** Object that a rename took the name from. */
  readonly displaced?: number;
  readonly offset?: number;
  readonly length?: number;
  /** Object a copy reads from, and where. */
  readonly source?: number;
  readonly sourceOffset?: number;
  /** Octal. */
  readonly mode?: string;
  readonly rdev?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  /** Of the system call: `renameat2(2)`, `fallocate(2)`, `setxattr(2)`. */
  readonly flags?: number;
  readonly atime?: string;
  readonly setMtime?: string;
  /** Ids below are taken. */
  readonly below?: number;
  /** Particulars without a value. */
  readonly notes: readonly string[];
}

/** Names an operation. */
export function opName(op: number): string {
  return OP_NAMES.get(op) ?? `operation ${op}`;
}

/**
 * What a record says.
 *
 * @throws {RecordError} when its names do not fit its operation, though its checksum is right.
 */
export function recordWords(record: RecordView, mutation: Mutation = new Mutation()): RecordWords {
  const view = new DataView(record.buffer.buffer, record.buffer.byteOffset, record.buffer.byteLength);
  decodeMutation(record.buffer, view, record.offset, 0, mutation);
  const state = STATE_NAMES.get(record.state) ?? `state ${record.state}`;
  const common = { op: opName(record.op), state, id: mutation.id };
  return { ...common, ...particulars(mutation), notes: notesOf(record, mutation) };
}

type Particulars = Omit<RecordWords, "op" | "state" | "id" | "notes">;

function particulars(mutation: Mutation): Particulars {
  const { op, a, b, c } = mutation;
  if (creates(op)) return createdWords(mutation);
  switch (op) {
    case OP.link:
    case OP.unlink:
    case OP.rmdir:
      return { name: escaped(mutation.name), parent: c };
    case OP.rename:
      return {
        name: escaped(mutation.name),
        parent: c,
        other: escaped(mutation.other),
        newParent: a,
        ...(mutation.displaced === 0 ? {} : { displaced: mutation.displaced }),
        ...((b & RENAME_BITS.flags) === 0 ? {} : { flags: b & RENAME_BITS.flags }),
      };
    case OP.setattr:
      return attributeWords(a, mutation.name);
    case OP.write:
      return { offset: a, length: b };
    case OP.fallocate:
      return { offset: a, length: b, flags: c };
    case OP.copy:
      return { offset: a, length: b, source: c, sourceOffset: u64(viewOf(mutation.name), 0) };
    case OP.setxattr:
      return {
        name: escaped(mutation.name),
        length: mutation.payloadLength,
        ...(a === 0 ? {} : { flags: a }),
      };
    case OP.removexattr:
      return { name: escaped(mutation.name) };
    case OP.reserve:
      return { below: a };
    default:
      return {};
  }
}

function createdWords({ op, a, c, uid, gid, name, other }: Mutation): Particulars {
  return {
    ...(name.length > 0 ? { name: escaped(name) } : {}),
    ...(c === 0 ? {} : { parent: c }),
    ...(op === OP.symlink ? { other: escaped(other) } : { mode: octal(a % 0x10000) }),
    ...(op === OP.mknod && a >= 0x10000 ? { rdev: Math.floor(a / 0x10000) } : {}),
    uid,
    gid,
  };
}

function attributeWords(valid: number, fields: Uint8Array): Particulars {
  if (fields.length < SETATTR.bytes) return {};
  const view = viewOf(fields);
  return {
    ...(valid & SETATTR_BITS.mode ? { mode: octal(view.getUint32(SETATTR.mode, true)) } : {}),
    ...(valid & SETATTR_BITS.uid ? { uid: view.getUint32(SETATTR.uid, true) } : {}),
    ...(valid & SETATTR_BITS.gid ? { gid: view.getUint32(SETATTR.gid, true) } : {}),
    ...(valid & SETATTR_BITS.size ? { size: u64(view, SETATTR.size) } : {}),
    ...(valid & SETATTR_BITS.atime ? { atime: timeText(view.getBigInt64(SETATTR.atime, true)) } : {}),
    ...(valid & SETATTR_BITS.mtime ? { setMtime: timeText(view.getBigInt64(SETATTR.mtime, true)) } : {}),
  };
}

function notesOf(record: RecordView, { op, a, b, c }: Mutation): string[] {
  const notes: string[] = [];
  if (record.hollow) notes.push("hollow");
  if (op === OP.unlink && a === 1) notes.push("still open");
  if (op === OP.rename && (b & RENAME_BITS.displacedOpen) !== 0) notes.push("displaced still open");
  if (op === OP.write && c === 1) notes.push("drops setuid and setgid");
  if (op === OP.setxattr && b === 1) notes.push("drops setgid");
  if (op === OP.setattr && (a & SETATTR_BITS.killSuidgid) !== 0) notes.push("drops setuid and setgid");
  if (op === OP.fsync && a === 1) notes.push("data only");
  if (op === OP.fsync && c === 1) notes.push("no name");
  return notes;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * A name so that it can be read and its bytes told: UTF-8 as it is, and as `\xNN` every byte that is not UTF-8, of a
 * character that cannot be seen or changes the line's direction, of a backslash or a quote. Without its NUL.
 */
export function escaped(name: Uint8Array): string {
  const end = name.indexOf(0) === name.length - 1 ? name.length - 1 : name.length;
  let text = "";
  for (let at = 0; at < end;) {
    const length = characterAt(name, at, end);
    const bytes = name.subarray(at, at + Math.max(length, 1));
    text += length > 0 ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes) : hexOf(bytes);
    at += bytes.length;
  }
  return text;
}

/** Bytes of the character that starts there; 0 when it must be escaped, or is none. */
function characterAt(bytes: Uint8Array, at: number, end: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return first < 0x20 || first === 0x7f || first === QUOTE || first === BACKSLASH ? 0 : 1;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (at + length > end) return 0;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      bytes.subarray(at, at + length),
    );
    return /^[^\p{C}\p{Zl}\p{Zp}]$/u.test(text) ? length : 0;
  } catch (error) {
    if (error instanceof TypeError) return 0;
    throw error;
  }
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const SECOND_NS = 1_000_000_000n;

/** The farthest a `Date` reaches, in seconds either way. */
const DATE_MAX = 8_640_000_000_000n;

/** `2026-01-31T12:00:00.123456789Z`, to the nanosecond. */
export function timeText(nanoseconds: bigint): string {
  const part = ((nanoseconds % SECOND_NS) + SECOND_NS) % SECOND_NS;
  const seconds = (nanoseconds - part) / SECOND_NS;
  if (seconds > DATE_MAX || seconds < -DATE_MAX) return `${nanoseconds} ns`;
  const whole = new Date(Number(seconds) * 1000).toISOString();
  return `${whole.slice(0, -5)}.${String(part).padStart(9, "0")}Z`;
}

/** `write 513 offset 0 length 4096 (hollow)`: one line, for people. */
export function recordLine(words: RecordWords): string {
  const { op, id, name, other, parent, newParent, displaced } = words;
  const parts: string[] = [op];
  if (op !== "reserve") parts.push(String(id));
  if (name !== undefined) parts.push(`"${name}"`);
  if (parent !== undefined) parts.push(`in ${parent}`);
  if (op === "rename") parts.push(`to "${other ?? ""}" in ${newParent ?? 0}`);
  else if (other !== undefined) parts.push(`-> "${other}"`);
  if (displaced !== undefined) parts.push(`over ${displaced}`);
  for (const key of VALUES) {
    const value = words[key];
    if (value !== undefined) parts.push(`${VALUE_WORDS[key]} ${value}`);
  }
  if (words.notes.length > 0) parts.push(`(${words.notes.join(", ")})`);
  return parts.join(" ");
}

/** What follows a name, and its word. */
const VALUE_WORDS = {
  offset: "offset",
  length: "length",
  source: "from",
  sourceOffset: "source offset",
  mode: "mode",
  rdev: "rdev",
  uid: "uid",
  gid: "gid",
  size: "size",
  flags: "flags",
  atime: "atime",
  setMtime: "mtime",
  below: "ids below",
} as const;

const VALUES = Object.keys(VALUE_WORDS) as (keyof typeof VALUE_WORDS)[];
