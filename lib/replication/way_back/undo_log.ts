/**
 * The undo log: lines ({@link "./undo_record.ts"}) and the blocks that were copied for them, gathered in memory and
 * written together.
 *
 * ```
 * lines-000000 …     what was
 * blocks-000000 …    bytes of files, as the lines say
 * ```
 *
 * Blocks reach the disk before the lines that name them, so a line that can be read has its bytes. A torn end is what
 * no overwrite had relied upon yet: it is cut.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import type { Storage } from "../../journal/storage.ts";
import { type ContentLine, decodeLine, encodeLine, type Key, type UndoLine } from "./undo_record.ts";

/** A file of the log is not added to past this. Reading needs one of them in memory. */
const SEGMENT_BYTES = 16 << 20;
/** Blocks gathered in memory at most. */
const GATHERED_MAX = 4 << 20;
/** Lines gathered in memory at most, characters. */
const TEXT_MAX = 4 << 20;

const LINES = "lines";
const BLOCKS = "blocks";

/** An undo log on a storage of its own. */
export class UndoLog {
  readonly #storage: Storage;
  #text: string[] = [];
  #textLength = 0;
  #blocks: Uint8Array[] = [];
  #blocksLength = 0;
  #lineSegment = 0;
  #lineSize = 0;
  #blockSegment = 0;
  /** Of the current segment, with what is gathered. */
  #blockSize = 0;
  #bytes = 0;
  #loaded: { readonly segment: number; readonly bytes: Uint8Array } | null = null;

  constructor(storage: Storage) {
    this.#storage = storage;
    for (const name of storage.list()) {
      const size = storage.size(name) ?? 0;
      const [kind, number] = [name.slice(0, name.indexOf("-")), Number(name.slice(name.indexOf("-") + 1))];
      if (kind !== LINES && kind !== BLOCKS) continue;
      this.#bytes += size;
      // What follows a torn end would never be read: a process begins files of its own.
      if (kind === LINES) this.#lineSegment = Math.max(this.#lineSegment, number + 1);
      else this.#blockSegment = Math.max(this.#blockSegment, number + 1);
    }
  }

  /** Bytes it takes, gathered ones included. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Nothing waits to be written. */
  get settled(): boolean {
    return this.#textLength === 0;
  }

  /** So much is gathered that it should be written. */
  get full(): boolean {
    return this.#blocksLength >= GATHERED_MAX || this.#textLength >= TEXT_MAX;
  }

  /** Adds a line; durable after {@link flush}. */
  add(line: UndoLine): void {
    const text = encodeLine(line);
    this.#text.push(text);
    this.#textLength += text.length;
    this.#bytes += text.length;
  }

  /** Adds bytes of a file, which are copied. */
  addBlock(key: Key, offset: number, bytes: Uint8Array): void {
    if (this.#blockSize >= SEGMENT_BYTES) {
      this.#flushBlocks();
      this.#blockSegment++;
      this.#blockSize = 0;
    }
    const from = { segment: this.#blockSegment, at: this.#blockSize, crc32: crc32(bytes) };
    this.#blocks.push(bytes.slice());
    this.#blocksLength += bytes.length;
    this.#blockSize += bytes.length;
    this.#bytes += bytes.length;
    this.add({ what: "content", key, offset, length: bytes.length, from });
  }

  /**
   * Everything added survives a power cut when it returns.
   *
   * @throws {DiskFullError} when there is no room: nothing that was added since the last time may be relied upon.
   */
  flush(): void {
    if (this.settled) return;
    this.#flushBlocks();
    const bytes = new TextEncoder().encode(this.#text.join(""));
    if (this.#lineSize >= SEGMENT_BYTES) {
      this.#lineSegment++;
      this.#lineSize = 0;
    }
    this.#storage.append(nameOf(LINES, this.#lineSegment), bytes);
    this.#lineSize += bytes.length;
    this.#text = [];
    this.#textLength = 0;
  }

  /** Every line on disk, oldest first, up to where a power cut tore it. */
  *lines(): Generator<UndoLine> {
    for (const name of this.#storage.list()) {
      if (!name.startsWith(`${LINES}-`)) continue;
      const bytes = this.#storage.readAll(name) ?? new Uint8Array(0);
      for (let at = 0; at < bytes.length;) {
        const end = bytes.indexOf(0x0a, at);
        const line = end < 0 ? null : decodeLine(new TextDecoder().decode(bytes.subarray(at, end)));
        if (line === null) break;
        yield line;
        at = end + 1;
      }
    }
  }

  /**
   * The bytes of a line that has them in the log.
   *
   * @throws when they are not what was written.
   */
  block(line: ContentLine): Uint8Array {
    if (typeof line.from === "string") throw new TypeError("Cannot read a block: the line has none");
    const { segment, at, crc32: stated } = line.from;
    if (this.#loaded?.segment !== segment) {
      const bytes = this.#storage.readAll(nameOf(BLOCKS, segment));
      this.#loaded = { segment, bytes: bytes ?? new Uint8Array(0) };
    }
    const bytes = this.#loaded.bytes.subarray(at, at + line.length);
    if (bytes.length === line.length && crc32(bytes) === stated) return bytes;
    throw new Error(`Cannot read the undo log: block ${at} of ${nameOf(BLOCKS, segment)} is damaged`);
  }

  /** Removes all of it. */
  clear(): void {
    for (const name of this.#storage.list()) {
      if (name.startsWith(`${LINES}-`) || name.startsWith(`${BLOCKS}-`)) this.#storage.remove(name);
    }
    this.#storage.syncDirectory();
    this.#text = [];
    this.#blocks = [];
    this.#textLength = this.#blocksLength = this.#bytes = 0;
    this.#lineSegment =
      this.#lineSize =
      this.#blockSegment =
      this.#blockSize =
        0;
    this.#loaded = null;
  }

  #flushBlocks(): void {
    if (this.#blocksLength === 0) return;
    const bytes = new Uint8Array(this.#blocksLength);
    let at = 0;
    for (const block of this.#blocks) {
      bytes.set(block, at);
      at += block.length;
    }
    this.#storage.append(nameOf(BLOCKS, this.#blockSegment), bytes);
    this.#blocks = [];
    this.#blocksLength = 0;
  }
}

function nameOf(kind: string, segment: number): string {
  return `${kind}-${String(segment).padStart(6, "0")}`;
}
