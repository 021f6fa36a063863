/**
 * The lines of an undo log: what was before it was changed for the first time in a stretch. One line is
 *
 * ```
 * crc32 of the rest, 8 hex digits · JSON · "\n"
 * ```
 *
 * Bytes (names, handles, values of xattrs) are texts of one character for each byte. An object is known by its root and
 * inode number: none that was there when the stretch began is freed before its end, so no number is given twice.
 *
 * @module
 */

import { crc32 } from "node:zlib";

/** `ROOT:INODE`, the root being the first of those on that file system. */
export type Key = string;

/** An object as it was: everything but its content and its names. */
export interface ObjectLine {
  readonly what: "object";
  readonly key: Key;
  /** File handle: how it is found again, wherever it lies. */
  readonly handle: { readonly type: number; readonly bytes: string };
  /** `trusted.binome.id`; 0: it had none. */
  readonly id: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a regular file; 0 else. */
  readonly size: number;
  /** Nanoseconds since 1970, decimal. */
  readonly mtime: string;
  readonly xattrs: readonly (readonly [name: string, value: string])[];
}

/** A name in a directory, and the object it led to. */
export interface NameLine {
  readonly what: "name";
  readonly directory: Key;
  readonly name: string;
  /** Null: there was no such name. */
  readonly leads: Key | null;
}

/** An object that was made in the stretch: nothing of it need be kept. */
export interface MadeLine {
  readonly what: "made";
  readonly key: Key;
}

/** A range of a file, and where its bytes are. */
export interface ContentLine {
  readonly what: "content";
  readonly key: Key;
  readonly offset: number;
  readonly length: number;
  /** A hole; the file of clones, at the same offset; or a place in the log's blocks. */
  readonly from:
    | "hole"
    | "clone"
    | { readonly segment: number; readonly at: number; readonly crc32: number };
}

/** One line of an undo log. */
export type UndoLine = ObjectLine | NameLine | MadeLine | ContentLine;

const HEX = 8;

/** The bytes of a line, its end included. */
export function encodeLine(line: UndoLine): string {
  const json = JSON.stringify(line);
  return `${crc32(json).toString(16).padStart(HEX, "0")}${json}\n`;
}

/** Reads a line without its end; null where it is damaged. */
export function decodeLine(text: string): UndoLine | null {
  const json = text.slice(HEX);
  if (json === "" || text.slice(0, HEX) !== crc32(json).toString(16).padStart(HEX, "0")) return null;
  const line: unknown = JSON.parse(json);
  // The checksum says that it is as it was written, and only this module writes it.
  return isLine(line) ? line : null;
}

function isLine(value: unknown): value is UndoLine {
  if (typeof value !== "object" || value === null || !("what" in value)) return false;
  return ["object", "name", "made", "content"].includes(String(value.what));
}

/** Bytes as a text, one character for each. */
export function textOf(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

/** The reverse of {@link textOf}, with a NUL behind where names need one. */
export function bytesOf(text: string, terminated = false): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length + (terminated ? 1 : 0));
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
