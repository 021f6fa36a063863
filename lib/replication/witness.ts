/**
 * What a verification found equal on both nodes: for each file the state it was in on this node's disk, and the hash of its content
 * then. Whatever writes to a file gives it another change time; what merely rots does not. So where the state is the same and
 * the hash is not, it is this node's disk that changed the content.
 *
 * A pass goes through the objects by id, and so does the file: it is read and written from front to back, beside the pass.
 * `kept` is what the last whole pass left, `growing` what the one that goes on makes; at its end one takes the place of the
 * other. Nothing is synced: each chunk has a checksum, and what a power cut tore is dropped, to be made again by the next
 * pass. Only a hash that is here by mistake could do harm, none that is missing.
 *
 * A file is a row of chunks, little-endian. The first one's payload is the {@link WitnessOptions.identity}, that of the others are records.
 *
 * | offset | size | field of a chunk                           | | offset | size | field of a record                       |
 * | -----: | ---: | ------------------------------------------ | | -----: | ---: | --------------------------------------- |
 * |      0 |    4 | magic `WIT1`                               | |      0 |    8 | id                                      |
 * |      4 |    4 | crc32 of all that follows                  | |      8 |    8 | change time, i64 nanoseconds since 1970 |
 * |      8 |    4 | length of the payload                      | |     16 |    8 | size                                    |
 * |     12 |    4 | kind: 0 identity, 1 records                | |     24 |    4 | block, or {@link WHOLE}                 |
 * |     16 |    8 | id of its last record                      | |     28 |    4 | number of hashes                        |
 * |     24 |      | payload                                    | |     32 |      | hashes of 32 bytes                      |
 *
 * @module
 */

import { crc32 } from "node:zlib";
import type { Backing } from "../system/backing.ts";
import type { Statx } from "../system/statx.ts";
import { setU64, u64 } from "./bytes.ts";
import type { Held } from "./objects.ts";

/** In the place of a block's number: the print of a small file, content and attributes. */
export const WHOLE = 0xffff_ffff;
/** Bytes of a hash that are kept. */
export const WITNESS_BYTES = 32;

const MAGIC = 0x31544957; // "WIT1"
const CHUNK = { magic: 0, crc32: 4, length: 8, kind: 12, last: 16, sizeof: 24 } as const;
const RECORD = { id: 0, ctime: 8, size: 16, block: 24, count: 28, sizeof: 32 } as const;
const KIND = { identity: 0, records: 1 } as const;
const PAYLOAD_MAX = 64 * 1024;
/** Hashes in one record. */
const RUN_MAX = 64;
/** Change times tick coarsely: what was changed so shortly ago might change again within the same tick. */
const QUIET_NS = 1_000_000_000n;
/** Files written back of which it is remembered. A disk that has lost more is to be replaced. */
const MENDED_MAX = 10_000;

/** The two files. Methods throw when the disk refuses. */
export interface WitnessFiles {
  /** The bytes from `at` on, at most `length` of them; none where there are none. */
  read(which: "kept" | "growing", at: number, length: number): Uint8Array<ArrayBuffer>;
  /** Makes the growing file so long, or makes it. */
  cut(length: number): void;
  /** Adds to the end of the growing file. */
  append(bytes: Uint8Array): void;
  /** The growing file takes the place of the other. */
  publish(): void;
  close(): void;
}

/** What {@link Witness} needs. */
export interface WitnessOptions {
  readonly files: WitnessFiles;
  /** What the copy is now, as text. */
  readonly identity: () => string;
  /** Whether what was noted under that identity is of this copy. */
  readonly isOurs: (identity: string) => boolean;
  readonly log: (message: string) => void;
}

/** A file as it was just before its content was read. */
export interface Seen {
  readonly id: number;
  readonly ctime: bigint;
  /** The change time it had before this node wrote back what its disk had lost; else {@link ctime}. */
  readonly as: bigint;
  readonly size: number;
  /** Whether nobody changed it for a while: only then its change time stands for its content. */
  readonly quiet: boolean;
}

/** See the file's head. Never throws: without it copies are compared as if nothing was known. */
export class Witness {
  readonly #options: WitnessOptions;
  #kept: Cursor;
  /** What {@link known} was asked for last. */
  readonly #asked = { id: 0, block: 0 };
  /** For {@link recall}; null: it has not been asked since the file was replaced. */
  #recalled: { readonly cursor: Cursor; id: number; block: number } | null = null;
  readonly #chunk = new Uint8Array(CHUNK.sizeof + PAYLOAD_MAX);
  readonly #view = new DataView(this.#chunk.buffer);
  /** Of the payload gathered. */
  #length = 0;
  #lastId = 0;
  #lastBlock = -1;
  /** Where the hashes of the record that grows are counted; 0: none does. */
  #record = 0;
  /** The growing file's length; −1: this pass makes none. */
  #size = -1;
  /** Files that were written back by this process, what change time that gave them, and as which they still count. */
  readonly #mended = new Map<number, { readonly ctime: bigint; readonly as: bigint }>();

  constructor(options: WitnessOptions) {
    this.#options = options;
    this.#kept = new Cursor(options, "kept");
  }

  /** Looks at a file; called before its content is read. Null: it is not there. */
  see(backing: Backing, held: Held, stat: Statx, wallMs: number): Seen | null {
    const { id } = held;
    if (backing.statx(held.path, stat) < 0) return null;
    const { ctime, size } = stat;
    const mended = this.#mended.get(id);
    if (mended !== undefined && mended.ctime !== ctime) this.#mended.delete(id);
    const quiet = BigInt(Math.floor(wallMs)) * 1_000_000n - ctime >= QUIET_NS;
    return { id, ctime, as: mended?.ctime === ctime ? mended.as : ctime, size, quiet };
  }

  /** What was lost of a file was written back, as far as the disk took it, and nothing else: what is known of its other blocks stays so. */
  mended({ id, as }: Seen, ctime: bigint): void {
    if (this.#mended.size < MENDED_MAX) this.#mended.set(id, { ctime, as });
  }

  /** A pass begins at this id, or goes on there. */
  seek(id: number): void {
    this.#guard("look for where to go on", () => {
      this.#flush();
      this.#kept = new Cursor(this.#options, "kept");
      this.#asked.id = this.#asked.block = 0;
      this.#lastId = this.#length = this.#record = 0;
      this.#lastBlock = -1;
      this.#size = id <= 1 ? 0 : this.#cutAt(id);
      if (this.#size === 0) this.#begin();
    });
  }

  /**
   * The hash that a block had when both nodes were equal, or null: not known, or the file was changed since. In the order of ids
   * and blocks it is quick.
   */
  known(seen: Seen, block: number): Uint8Array | null {
    const asked = this.#asked;
    // What is looked at once more lies behind: its cursor goes forward only.
    if (seen.id < asked.id || seen.id === asked.id && block < asked.block) return this.recall(seen, block);
    asked.id = seen.id;
    asked.block = block;
    return this.#guard("read", () => this.#kept.find(seen, block)) ?? null;
  }

  /** As {@link known}, beside a pass. In the order of ids and blocks it is quick. */
  recall(seen: Seen, block: number): Uint8Array | null {
    return this.#guard("read", () => {
      let place = this.#recalled;
      if (place === null || seen.id < place.id || seen.id === place.id && block < place.block) {
        place = this.#recalled = { cursor: new Cursor(this.#options, "kept"), id: 0, block: 0 };
      }
      place.id = seen.id;
      place.block = block;
      return place.cursor.find(seen, block);
    }) ?? null;
  }

  /** Keeps the hash of a block that is equal on both nodes. What is not behind the last one is left out. */
  keep(seen: Seen, block: number, hash: Uint8Array): void {
    const { id } = seen;
    if (this.#size < 0 || timeOf(seen) === null || id < this.#lastId) return;
    if (id === this.#lastId && block <= this.#lastBlock) return;
    this.#guard("write", () => {
      if (!this.#continues(seen, block)) this.#open(seen, block);
      const view = this.#view;
      this.#chunk.set(hash.subarray(0, WITNESS_BYTES), CHUNK.sizeof + this.#length);
      this.#length += WITNESS_BYTES;
      const count = this.#record + RECORD.count;
      view.setUint32(count, view.getUint32(count, true) + 1, true);
      this.#lastId = id;
      this.#lastBlock = block;
    });
  }

  /** Writes what is gathered: the session is over. */
  flush(): void {
    this.#guard("write", () => this.#flush());
  }

  /** The pass came to its end: from here on what it noted counts. */
  finish(): void {
    if (this.#size < 0) return;
    this.#guard("write", () => {
      this.#flush();
      this.#options.files.publish();
    });
    this.#recalled = null;
    this.#size = -1;
    this.#kept = new Cursor(this.#options, "kept");
  }

  close(): void {
    this.flush();
    this.#options.files.close();
  }

  #begin(): void {
    const { files, identity } = this.#options;
    files.cut(0);
    const text = new TextEncoder().encode(identity());
    this.#chunk.set(text, CHUNK.sizeof);
    this.#length = text.length;
    this.#write(KIND.identity);
  }

  /** Drops what the growing file says of `id` and later ones. Answers its length then; 0: nothing of it is of use. */
  #cutAt(id: number): number {
    const { files } = this.#options;
    const growing = new Cursor(this.#options, "growing");
    const place = growing.skip(id);
    if (place === 0) return 0;
    const records = growing.recordsBelow(id);
    files.cut(place);
    this.#chunk.set(records, CHUNK.sizeof);
    this.#length = records.length;
    if (records.length > 0) this.#lastId = id - 1;
    return place;
  }

  #continues(seen: Seen, block: number): boolean {
    const [at, view] = [this.#record, this.#view];
    return at > 0 && seen.id === this.#lastId && block === this.#lastBlock + 1 &&
      view.getBigInt64(at + RECORD.ctime, true) === timeOf(seen) &&
      u64(view, at + RECORD.size) === seen.size &&
      view.getUint32(at + RECORD.count, true) < RUN_MAX && this.#length + WITNESS_BYTES <= PAYLOAD_MAX;
  }

  #open(seen: Seen, block: number): void {
    if (this.#length + RECORD.sizeof + WITNESS_BYTES > PAYLOAD_MAX) this.#flush();
    const [at, view] = [CHUNK.sizeof + this.#length, this.#view];
    setU64(view, at + RECORD.id, seen.id);
    view.setBigInt64(at + RECORD.ctime, timeOf(seen) ?? 0n, true);
    setU64(view, at + RECORD.size, seen.size);
    view.setUint32(at + RECORD.block, block, true);
    view.setUint32(at + RECORD.count, 0, true);
    this.#record = at;
    this.#length += RECORD.sizeof;
  }

  #flush(): void {
    this.#record = 0;
    if (this.#size >= 0 && this.#length > 0) this.#write(KIND.records);
  }

  #write(kind: number): void {
    const view = this.#view;
    const bytes = this.#chunk.subarray(0, CHUNK.sizeof + this.#length);
    view.setUint32(CHUNK.magic, MAGIC, true);
    view.setUint32(CHUNK.length, this.#length, true);
    view.setUint32(CHUNK.kind, kind, true);
    setU64(view, CHUNK.last, this.#lastId);
    view.setUint32(CHUNK.crc32, crc32(bytes.subarray(CHUNK.length)), true);
    this.#options.files.append(bytes);
    this.#size += bytes.length;
    this.#length = 0;
  }

  /** A disk that refuses costs what this pass would have noted, and nothing else. */
  #guard<T>(what: string, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#size = -1;
      this.#length = this.#record = 0;
      const why = error instanceof Error ? error.message : String(error);
      this.#options.log(`Cannot ${what} the witness of the copy, which this pass goes without: ${why}`);
      return undefined;
    }
  }
}

/** Goes through a file from its front. */
class Cursor {
  readonly #options: WitnessOptions;
  readonly #which: "kept" | "growing";
  /** Where the next chunk begins; −1: there is none. */
  #next = 0;
  #payload: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #view = new DataView(this.#payload.buffer);
  /** The record looked at. */
  #at = 0;

  constructor(options: WitnessOptions, which: "kept" | "growing") {
    this.#options = options;
    this.#which = which;
  }

  find({ id, ctime, as, size }: Seen, block: number): Uint8Array | null {
    if (!this.#forward(id, block)) return null;
    const [at, view] = [this.#at, this.#view];
    const first = view.getUint32(at + RECORD.block, true);
    if (u64(view, at + RECORD.id) !== id || block < first) return null;
    const noted = view.getBigInt64(at + RECORD.ctime, true);
    if (noted !== ctime && noted !== as || u64(view, at + RECORD.size) !== size) return null;
    const hash = at + RECORD.sizeof + (block - first) * WITNESS_BYTES;
    return this.#payload.subarray(hash, hash + WITNESS_BYTES);
  }

  /** Goes to the chunk that has the first record of `id` or a later one. Answers where it begins; 0: the file is of no use. */
  skip(id: number): number {
    if (!this.#open()) return 0;
    let place = this.#next;
    while (this.#next >= 0) {
      place = this.#next;
      const last = this.#chunk(id);
      if (last === null || last >= id) break;
    }
    return place;
  }

  /** Of the chunk gone to, the records of lower ids. */
  recordsBelow(id: number): Uint8Array {
    let at = 0;
    while (at < this.#payload.length && u64(this.#view, at + RECORD.id) < id) at += this.#lengthAt(at);
    return this.#payload.subarray(0, at);
  }

  /** To the first record that is not before a block; false: there is none. */
  #forward(id: number, block: number): boolean {
    if (this.#next === 0 && !this.#open()) return false;
    for (;;) {
      for (; this.#at < this.#payload.length; this.#at += this.#lengthAt(this.#at)) {
        const of = u64(this.#view, this.#at + RECORD.id);
        const first = this.#view.getUint32(this.#at + RECORD.block, true);
        const end = first + this.#view.getUint32(this.#at + RECORD.count, true);
        if (of > id || of === id && end > block) return true;
      }
      if (this.#next < 0) return false;
      this.#chunk(id);
    }
  }

  #lengthAt(at: number): number {
    return RECORD.sizeof + this.#view.getUint32(at + RECORD.count, true) * WITNESS_BYTES;
  }

  /** Whether the file is there, and of this copy. */
  #open(): boolean {
    const { isOurs, log } = this.#options;
    const bytes = this.#read(0);
    this.#next = -1;
    if (bytes === null) return false;
    if (kindOf(bytes) !== KIND.identity || !isOurs(new TextDecoder().decode(bytes.subarray(CHUNK.sizeof)))) {
      log(
        "The witness of the copy is of another one: it is left out, and made anew by the next verification",
      );
      return false;
    }
    this.#next = bytes.length;
    return true;
  }

  /** The next chunk, unless all its records are below `id`. Answers its last id, or null: there is none. */
  #chunk(id: number): number | null {
    const head = this.#options.files.read(this.#which, this.#next, CHUNK.sizeof);
    this.#payload = new Uint8Array(0);
    this.#at = 0;
    if (isRecords(head) && lastOf(head) < id) {
      this.#next += CHUNK.sizeof + lengthOf(head);
      return lastOf(head);
    }
    const bytes = this.#read(this.#next);
    if (bytes === null || !this.#isWhole(bytes)) {
      this.#next = -1;
      return null;
    }
    this.#next += bytes.length;
    this.#payload = bytes.subarray(CHUNK.sizeof);
    this.#view = new DataView(bytes.buffer, CHUNK.sizeof);
    return lastOf(bytes);
  }

  /** The chunk at a place; null at the end, or where it is torn: what follows it is not believed either. */
  #read(at: number): Uint8Array<ArrayBuffer> | null {
    const { files, log } = this.#options;
    const head = files.read(this.#which, at, CHUNK.sizeof);
    if (head.length === 0) return null;
    const length = head.length === CHUNK.sizeof ? lengthOf(head) : Infinity;
    const bytes = length > PAYLOAD_MAX ? head : files.read(this.#which, at, CHUNK.sizeof + length);
    const view = new DataView(bytes.buffer);
    if (
      bytes.length === CHUNK.sizeof + length && view.getUint32(CHUNK.magic, true) === MAGIC &&
      view.getUint32(CHUNK.crc32, true) === crc32(bytes.subarray(CHUNK.length))
    ) return bytes;
    log(`The witness of the copy is torn at ${at}: what follows is left out until the next verification`);
    return null;
  }

  /** What a checksum cannot tell: whether the records are as long as the chunk. */
  #isWhole(bytes: Uint8Array<ArrayBuffer>): boolean {
    const view = new DataView(bytes.buffer);
    let at: number = CHUNK.sizeof;
    while (at + RECORD.sizeof <= bytes.length) {
      at += RECORD.sizeof + view.getUint32(at + RECORD.count, true) * WITNESS_BYTES;
    }
    return isRecords(bytes) && at === bytes.length;
  }
}

/** The change time that stands for the content of a file; null: none does. */
function timeOf({ ctime, as, quiet }: Seen): bigint | null {
  return quiet ? ctime : as === ctime ? null : as;
}

/** Whether these bytes begin like a chunk of records. */
function isRecords(bytes: Uint8Array<ArrayBuffer>): boolean {
  if (bytes.length < CHUNK.sizeof || lengthOf(bytes) > PAYLOAD_MAX) return false;
  return new DataView(bytes.buffer).getUint32(CHUNK.magic, true) === MAGIC && kindOf(bytes) === KIND.records;
}

function kindOf(chunk: Uint8Array<ArrayBuffer>): number {
  return new DataView(chunk.buffer).getUint32(CHUNK.kind, true);
}

function lengthOf(chunk: Uint8Array<ArrayBuffer>): number {
  return new DataView(chunk.buffer).getUint32(CHUNK.length, true);
}

function lastOf(chunk: Uint8Array<ArrayBuffer>): number {
  return u64(new DataView(chunk.buffer), CHUNK.last);
}
