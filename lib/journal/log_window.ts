/**
 * A segment's file read piece by piece, for those who must not map it: a log may be larger than memory, and a file that
 * shrinks under a mapping kills the process.
 *
 * @module
 */

import {
  checkRecord,
  frameRecord,
  HEADER_BYTES,
  RECORD_MAGIC,
  RECORD_MAX,
  type RecordFault,
} from "./record.ts";
import type { Checksum } from "./storage.ts";

/** A file opened for reading only. Errors of the disk are thrown. */
export interface LogFile {
  /** Bytes in it when it was opened. */
  readonly size: number;
  /** Fills `into` from `at` on; answers how many bytes there were. */
  read(at: number, into: Uint8Array): number;
  /** Ends the reading. */
  close(): void;
}

/** What is held in memory of one file: two of the longest records. */
const WINDOW_BYTES = 2 * RECORD_MAX;

/** Bytes of a file around one place, and the records there. */
export class LogWindow {
  /** What was read last; a record that {@link check} found whole lies at {@link index}. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory. */
  readonly view: DataView;
  readonly #file: LogFile;
  readonly #crc32: Checksum;
  #start = 0;
  #filled = 0;

  constructor(file: LogFile, crc32: Checksum) {
    this.#file = file;
    this.#crc32 = crc32;
    this.bytes = new Uint8Array(Math.min(file.size, WINDOW_BYTES));
    this.view = new DataView(this.bytes.buffer);
  }

  /** Where in {@link bytes} a place of the file is. */
  index(at: number): number {
    return at - this.#start;
  }

  /** Forgets what was read: a process may have written there since. */
  forget(): void {
    this.#filled = 0;
  }

  /** Looks whether a whole record starts there. Answers as `checkRecord`. */
  check(at: number): number | RecordFault {
    this.#hold(at, HEADER_BYTES);
    const framed = frameRecord(this.view, this.index(at), this.#end(at));
    if (typeof framed === "number") {
      return checkRecord(this.bytes, this.index(at), this.#end(at), this.#crc32);
    }
    if (framed !== "short" || this.#file.size - at < HEADER_BYTES) return framed;
    // The header is good, its end is not in the window.
    this.#hold(at, RECORD_MAX);
    return checkRecord(this.bytes, this.index(at), this.#end(at), this.#crc32);
  }

  /** Whether only zeros follow. */
  zeroFrom(at: number): boolean {
    for (let from = at; from < this.#file.size; from += this.bytes.length) {
      this.#hold(from, this.bytes.length);
      for (let i = this.index(from); i < this.#filled; i++) if (this.bytes[i] !== 0) return false;
    }
    return true;
  }

  /** Where the next whole record starts, from `at` (a multiple of 8) on, that `fits`; `null` when there is none. */
  search(at: number, fits: (index: number) => boolean): number | null {
    for (let from = at; from + HEADER_BYTES <= this.#file.size; from += 8) {
      this.#hold(from, HEADER_BYTES);
      if (this.view.getUint32(this.index(from), true) !== RECORD_MAGIC) continue;
      if (typeof this.check(from) === "number" && fits(this.index(from))) return from;
    }
    return null;
  }

  /** Reads, unless the window holds that many bytes from there on, or all there are. */
  #hold(at: number, length: number): void {
    const wanted = Math.min(at + length, this.#file.size);
    if (at >= this.#start && wanted <= this.#start + this.#filled) return;
    this.#start = at;
    this.#filled = this.#file.read(at, this.bytes);
  }

  /** The end of what may be read from {@link bytes}. */
  #end(at: number): number {
    return Math.max(this.#filled, this.index(at));
  }
}
