/**
 * One segment: a file of fixed size, mapped, whose first page is a header and the rest records.
 *
 * Layout of the page: `segment_page.ts`; of a record: `record.ts`. Records start at multiples of 8, the first at 4096.
 * A file of zeros was prepared ahead and never used.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  checkRecord,
  frameRecord,
  getU64,
  OFFSET,
  padded,
  peekU64,
  type RecordFault,
  setU64,
} from "./record.ts";
import {
  AT,
  getText,
  IDENTITY_MAX,
  SEALED_MAGIC,
  SEGMENT_HEADER_BYTES,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
} from "./segment_page.ts";
import type { Checksum, Mapping, Storage } from "./storage.ts";

export { IDENTITY_MAX, SEGMENT_HEADER_BYTES };

/** Whose log it is. */
export interface Identity {
  /** Cluster id, at most 96 bytes of UTF-8. */
  readonly cluster: string;
  /** Module name, at most 96 bytes of UTF-8. */
  readonly module: string;
}

/** Why a segment's first page cannot be used. `unused`: prepared, never written. */
export type SegmentFault = "unused" | "damaged";

/** What a scan found behind the last good record. */
export interface ScanResult {
  /** Why the walk ended. */
  readonly fault: RecordFault | "sequence" | "end";
  /** Bytes from the last good record to the last byte that is not zero; 0 when the log simply ends. */
  readonly leftover: number;
}

/** The name of a segment's file. */
export function segmentName(index: number): string {
  return `log-${String(index).padStart(16, "0")}.seg`;
}

/** The index in a segment's file name, or `null` for any other name. */
export function segmentIndex(name: string): number | null {
  const found = /^log-(\d{16})\.seg$/.exec(name);
  return found === null ? null : Number(found[1]);
}

/** A mapped segment. Fields are plain: the journal reads them for every record. */
export class Segment {
  /** The number in the file's name. */
  readonly index: number;
  /** The whole file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory. */
  readonly view: DataView;
  /** Sequence of the first record, also when there is none yet. */
  first = 0;
  /** Sequence of the last record; `first - 1` when there is none. */
  last = 0;
  /** Where the next record goes. */
  used: number = SEGMENT_HEADER_BYTES;
  /** Bytes of payload it holds. */
  payloadBytes = 0;
  /** Cursors that look at it: not unmapped before they leave. */
  pins = 0;
  /** Stored to since the last sync. */
  dirty = false;
  /** Removed from the log; unmapped when the last cursor leaves. */
  dropped = false;
  readonly #mapping: Mapping;

  /** Use {@link Segment.map}. */
  constructor(index: number, mapping: Mapping) {
    this.index = index;
    this.#mapping = mapping;
    this.bytes = mapping.bytes;
    this.view = new DataView(mapping.bytes.buffer, mapping.bytes.byteOffset, mapping.bytes.byteLength);
  }

  /** Creates the file, or opens it, all of its blocks allocated. */
  static map(storage: Storage, index: number, bytes: number): Segment {
    return new Segment(index, storage.map(segmentName(index), bytes));
  }

  /** Writes the first page of a segment that comes into use. */
  start(first: number, identity: Identity, crc32: Checksum): void {
    const { bytes, view } = this;
    bytes.fill(0, 0, SEGMENT_HEADER_BYTES);
    view.setUint32(AT.version, SEGMENT_VERSION, true);
    view.setUint32(AT.bytes, bytes.length, true);
    setU64(view, AT.index, this.index);
    setU64(view, AT.first, first);
    putText(bytes, AT.cluster, identity.cluster);
    putText(bytes, AT.module, identity.module);
    view.setUint32(AT.crc32, crc32(bytes.subarray(AT.version, AT.headEnd)), true);
    view.setUint32(AT.magic, SEGMENT_MAGIC, true);
    this.first = first;
    this.last = first - 1;
    this.used = SEGMENT_HEADER_BYTES;
    this.payloadBytes = 0;
    this.dirty = true;
  }

  /** Writes down where its records end, so that a later start need not read them all. */
  seal(crc32: Checksum): void {
    const { bytes, view } = this;
    setU64(view, AT.last, this.last);
    setU64(view, AT.used, this.used);
    setU64(view, AT.payloadBytes, this.payloadBytes);
    view.setUint32(AT.sealedCrc32, crc32(bytes.subarray(AT.last, AT.sealedEnd)), true);
    view.setUint32(AT.sealedMagic, SEALED_MAGIC, true);
    this.dirty = true;
  }

  /**
   * Reads the first page.
   *
   * @throws when the segment belongs to another log or another version of the program.
   */
  readHead(identity: Identity, crc32: Checksum): SegmentFault | null {
    const { bytes, view } = this;
    if (view.getUint32(AT.magic, true) !== SEGMENT_MAGIC) {
      return this.#end() === 0 ? "unused" : "damaged";
    }
    if (view.getUint32(AT.crc32, true) !== crc32(bytes.subarray(AT.version, AT.headEnd))) return "damaged";
    const version = view.getUint32(AT.version, true);
    if (version !== SEGMENT_VERSION) {
      throw new Error(
        `Cannot open the log: ${
          segmentName(this.index)
        } has format ${version}, this program knows ${SEGMENT_VERSION}`,
      );
    }
    this.#claim(identity);
    if (view.getUint32(AT.bytes, true) !== bytes.length || getU64(view, AT.index) !== this.index) {
      return "damaged";
    }
    this.first = getU64(view, AT.first);
    this.last = this.first - 1;
    return null;
  }

  #claim(identity: Identity): void {
    const cluster = getText(this.bytes, AT.cluster);
    const module = getText(this.bytes, AT.module);
    if (cluster === identity.cluster && module === identity.module) return;
    throw new Error(
      `Cannot open the log: ${
        segmentName(this.index)
      } belongs to module "${module}" of cluster "${cluster}", ` +
        `not to "${identity.module}" of "${identity.cluster}"; move the log folder away if that data is not needed`,
    );
  }

  /** Takes over what {@link seal} wrote, when it is whole. */
  readSeal(crc32: Checksum): boolean {
    const { bytes, view } = this;
    if (view.getUint32(AT.sealedMagic, true) !== SEALED_MAGIC) return false;
    if (view.getUint32(AT.sealedCrc32, true) !== crc32(bytes.subarray(AT.last, AT.sealedEnd))) return false;
    this.last = getU64(view, AT.last);
    this.used = getU64(view, AT.used);
    this.payloadBytes = getU64(view, AT.payloadBytes);
    return true;
  }

  /** Takes the seal off: records will be added or cut. */
  unseal(): void {
    if (this.view.getUint32(AT.sealedMagic, true) === 0) return;
    this.bytes.fill(0, AT.sealedMagic, AT.sealedEnd);
    this.dirty = true;
  }

  /**
   * Walks the records from the start, as far as they are whole and in sequence, and finds where the log ends.
   *
   * @param check `each` record's checksum; or only the `last` one's, when no page can be missing: a killed process
   * leaves at most its last record torn.
   */
  scan(crc32: Checksum, check: "each" | "last"): ScanResult {
    const { bytes, view } = this;
    let at: number = SEGMENT_HEADER_BYTES;
    let previous = at;
    let next = this.first;
    let fault: ScanResult["fault"] = "end";
    this.payloadBytes = 0;
    while (at < bytes.length) {
      const length = check === "each"
        ? checkRecord(bytes, at, bytes.length, crc32)
        : frameRecord(view, at, bytes.length);
      if (typeof length === "string") {
        fault = length;
        break;
      }
      if (peekU64(view, at + OFFSET.sequence) !== next) {
        fault = "sequence";
        break;
      }
      this.payloadBytes += view.getUint32(at + OFFSET.payloadLength, true);
      previous = at;
      at += padded(length);
      next++;
    }
    this.used = at;
    this.last = next - 1;
    if (check === "last" && this.last >= this.first) {
      const length = checkRecord(bytes, previous, at, crc32);
      if (typeof length === "string") {
        fault = length;
        this.used = previous;
        this.last--;
        this.payloadBytes -= view.getUint32(previous + OFFSET.payloadLength, true);
      }
    }
    const leftover = this.#end() - this.used;
    return leftover > 0 ? { fault, leftover } : { fault: "end", leftover: 0 };
  }

  /**
   * Zeros everything behind `used`. A whole record left there could become part of the log again, as soon as new ones
   * end exactly where it begins.
   */
  clearRest(): void {
    this.bytes.fill(0, this.used, Math.max(this.used, this.#end()));
    this.dirty = true;
  }

  /** The end of the last byte that is not zero. */
  #end(): number {
    const words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length / 4);
    let i = words.length;
    while (i > 0 && words[i - 1] === 0) i--;
    return i * 4;
  }

  /** Offset of the record with that sequence, which must be in this segment. */
  find(sequence: number): number {
    assert(sequence >= this.first && sequence <= this.last, "A record was looked for in the wrong segment");
    let at: number = SEGMENT_HEADER_BYTES;
    for (let i = this.first; i < sequence; i++) at += padded(this.view.getUint32(at + OFFSET.length, true));
    return at;
  }

  /** Returns when all of it survives a power cut. */
  sync(): void {
    if (!this.dirty) return;
    this.#mapping.sync();
    this.dirty = false;
  }

  /** Ends the mapping. */
  close(): void {
    assert(this.pins === 0, "A segment was closed under a cursor");
    this.#mapping.close();
  }
}

function putText(bytes: Uint8Array, at: number, text: string): void {
  const encoded = new TextEncoder().encode(text);
  if (encoded.length > IDENTITY_MAX) {
    throw new Error(`Cannot open the log: the name "${text}" is longer than ${IDENTITY_MAX} bytes`);
  }
  bytes.set(encoded, at);
}
