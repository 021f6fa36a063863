/**
 * The body of a `CONTROL.object` frame: one object, or a part of it, as it is at that place in the stream.
 *
 * An object comes as one frame, or as several with records between them: the first has {@link PART.begin}, the last
 * {@link PART.end}. Each is true where it stands; the records between apply to what it said. Field `a` of the header holds
 * the parts; little-endian.
 *
 * | offset | size | field   | meaning                                                      |
 * | -----: | ---: | ------- | ------------------------------------------------------------ |
 * |      0 |    4 | mode    | type and permissions                                         |
 * |      4 |    4 | uid     |                                                              |
 * |      8 |    4 | gid     |                                                              |
 * |     12 |    4 | rdev    | of a device                                                  |
 * |     16 |    4 | nlink   | 0: without a name, open                                      |
 * |     20 |    4 | root    | which of the module's directories                            |
 * |     24 |    8 | size    | bytes of a regular file                                      |
 * |     32 |    8 | mtime   | i64 nanoseconds                                              |
 * |     40 |    4 | target  | bytes of the target of a symbolic link                       |
 * |     44 |    4 | xattrs  | bytes: name length u16 · value length u32 · name · value     |
 * |     48 |    4 | entries | bytes: id u64 · type u8 · name length u16 · extra length u16 · name · extra |
 * |     52 |    4 | content | bytes of a small file                                        |
 * |     56 |      |         | target, xattrs, entries, content                             |
 *
 * Names end with NUL. `type` is `mode >> 12`; `extra` is what never changes of an object and is needed to make it: the
 * target of a symbolic link, or `rdev` as u32.
 *
 * @module
 */

import { OFFSET } from "../journal/record.ts";
import { isName, setU64, u64 } from "./bytes.ts";
import { FRAME_HEADER } from "./frame.ts";
import { CONTROL } from "./mutation.ts";
import type { ObjectState, Xattr } from "./object_state.ts";
import { StreamError } from "./stream.ts";

/** What a frame says of its object, as bits of `a`. */
export const PART = { gone: 1, begin: 2, entries: 4, content: 8, end: 16 } as const;

/** Bytes compared as one: a hash in a `CONTROL.blocks` frame stands for so many. */
export const BLOCK_BYTES: number = 128 * 1024;

const AT = {
  mode: 0,
  uid: 4,
  gid: 8,
  rdev: 12,
  nlink: 16,
  root: 20,
  size: 24,
  mtime: 32,
  target: 40,
  xattrs: 44,
  entries: 48,
  content: 52,
} as const;
const FIXED_BYTES = 56;
const ENTRY_BYTES = 13;
const XATTR_BYTES = 6;
/** What a frame costs by itself: some tens of system calls. */
const FRAME_COST = 32_768;

/** A name in a directory. */
export interface Entry {
  readonly id: number;
  /** Type bits of its mode, `S_IF`. */
  readonly type: number;
  /** Ends with NUL. */
  readonly name: Uint8Array;
  readonly extra: Uint8Array;
}

/** A decoded frame. `content` is a view of the frame, everything else is copied. */
export interface ObjectFrame {
  /** Bits of {@link PART}. */
  readonly parts: number;
  readonly state: ObjectState;
  readonly entries: readonly Entry[];
  readonly content: Uint8Array;
}

/**
 * Writes the body of an object frame without content; answers its length. Content may follow, see {@link setContent}.
 *
 * @throws {StreamError} when the object's xattrs do not fit into a frame.
 */
export function encodeObject(
  body: Uint8Array,
  view: DataView,
  state: ObjectState,
  entries: readonly Entry[],
): number {
  view.setUint32(AT.mode, state.mode, true);
  view.setUint32(AT.uid, state.uid, true);
  view.setUint32(AT.gid, state.gid, true);
  view.setUint32(AT.rdev, state.rdev, true);
  view.setUint32(AT.nlink, state.nlink, true);
  view.setUint32(AT.root, state.root, true);
  setU64(view, AT.size, state.size);
  view.setBigInt64(AT.mtime, state.mtime, true);
  view.setUint32(AT.target, state.target.length, true);
  view.setUint32(AT.content, 0, true);
  body.set(state.target, FIXED_BYTES);
  let at = FIXED_BYTES + state.target.length;
  const xattrs = at;
  for (const { name, value } of state.xattrs) {
    if (at + XATTR_BYTES + name.length + value.length > body.length / 2) {
      throw new StreamError(
        "protocol",
        `Cannot send object ${state.id}: its extended attributes take more than ${
          body.length / 2
        } bytes; remove some`,
      );
    }
    view.setUint16(at, name.length, true);
    view.setUint32(at + 2, value.length, true);
    body.set(name, at + XATTR_BYTES);
    body.set(value, at + XATTR_BYTES + name.length);
    at += XATTR_BYTES + name.length + value.length;
  }
  view.setUint32(AT.xattrs, at - xattrs, true);
  const first = at;
  for (const { id, type, name, extra } of entries) {
    setU64(view, at, id);
    view.setUint8(at + 8, type >>> 12);
    view.setUint16(at + 9, name.length, true);
    view.setUint16(at + 11, extra.length, true);
    body.set(name, at + ENTRY_BYTES);
    body.set(extra, at + ENTRY_BYTES + name.length);
    at += ENTRY_BYTES + name.length + extra.length;
  }
  view.setUint32(AT.entries, at - first, true);
  return at;
}

/** Says that `length` bytes of content follow what {@link encodeObject} wrote. */
export function setContent(view: DataView, length: number): void {
  view.setUint32(AT.content, length, true);
}

/**
 * Reads the object frame at `offset`.
 *
 * @throws {StreamError} when its parts do not fit together: the channel must be closed.
 */
export function decodeObject(bytes: Uint8Array, view: DataView, offset: number, length: number): ObjectFrame {
  const at = offset + FRAME_HEADER;
  const end = offset + length;
  if (at + FIXED_BYTES > end) throw bad("it is too short");
  const target = at + FIXED_BYTES;
  const xattrs = target + view.getUint32(at + AT.target, true);
  const entries = xattrs + view.getUint32(at + AT.xattrs, true);
  const content = entries + view.getUint32(at + AT.entries, true);
  if (content + view.getUint32(at + AT.content, true) !== end) {
    throw bad("its parts do not make up its length");
  }
  return {
    parts: u64(view, offset + OFFSET.a),
    state: {
      id: u64(view, offset + OFFSET.id),
      root: view.getUint32(at + AT.root, true),
      mode: view.getUint32(at + AT.mode, true),
      uid: view.getUint32(at + AT.uid, true),
      gid: view.getUint32(at + AT.gid, true),
      rdev: view.getUint32(at + AT.rdev, true),
      nlink: view.getUint32(at + AT.nlink, true),
      size: u64(view, at + AT.size),
      mtime: view.getBigInt64(at + AT.mtime, true),
      target: bytes.slice(target, xattrs),
      xattrs: decodeXattrs(bytes, view, xattrs, entries),
    },
    entries: decodeEntries(bytes, view, entries, content),
    content: bytes.subarray(content, end),
  };
}

function decodeXattrs(bytes: Uint8Array, view: DataView, start: number, end: number): Xattr[] {
  const found: Xattr[] = [];
  for (let at = start; at < end;) {
    if (at + XATTR_BYTES > end) throw bad("an extended attribute is cut off");
    const name = at + XATTR_BYTES;
    const value = name + view.getUint16(at, true);
    const next = value + view.getUint32(at + 2, true);
    if (next > end || bytes[value - 1] !== 0) throw bad("an extended attribute is cut off");
    found.push({ name: bytes.slice(name, value), value: bytes.slice(value, next) });
    at = next;
  }
  return found;
}

function decodeEntries(bytes: Uint8Array, view: DataView, start: number, end: number): Entry[] {
  const found: Entry[] = [];
  for (let at = start; at < end;) {
    if (at + ENTRY_BYTES > end) throw bad("an entry is cut off");
    const name = at + ENTRY_BYTES;
    const extra = name + view.getUint16(at + 9, true);
    const next = extra + view.getUint16(at + 11, true);
    if (next > end || !isName(bytes.subarray(name, extra))) throw bad("an entry has no proper name");
    found.push({
      id: u64(view, at),
      type: view.getUint8(at + 8) << 12,
      name: bytes.slice(name, extra),
      extra: bytes.slice(extra, next),
    });
    at = next;
  }
  return found;
}

function bad(reason: string): StreamError {
  return new StreamError("protocol", `Cannot read the frame of an object: ${reason}; the channel is closed`);
}

/**
 * What a frame costs the target, in bytes as if they were written: how credit is counted, alike on both sides. Frames
 * are small, but hashing and looking names up take time, for which live records wait behind them.
 *
 * @param body the view in which the frame's body starts at `at`.
 * @param length of the body.
 * @param covered field `c` of the header.
 */
export function costOf(
  op: number,
  frame: { readonly body: DataView; readonly at: number; readonly length: number; readonly covered: number },
): number {
  const { body, at, length, covered } = frame;
  if (op === CONTROL.object && length >= FIXED_BYTES) {
    return length + FRAME_COST + 16 * body.getUint32(at + AT.entries, true);
  }
  if (op === CONTROL.prints || op === CONTROL.listed) return length + covered;
  return length + (op === CONTROL.blocks && length > 0 ? covered : FRAME_COST);
}
