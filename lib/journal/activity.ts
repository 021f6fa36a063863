/**
 * Which objects may differ from what is surely on disk: on disk itself, before the first of them is changed. After a
 * power cut of both nodes it names what must be compared.
 *
 * The file `activity` is a list of entries, 32 bytes each, little-endian. It is added to, and replaced whole.
 *
 * | offset | size | field    | meaning                                                                |
 * | -----: | ---: | -------- | ---------------------------------------------------------------------- |
 * |      0 |    4 | magic    | `BAC1`                                                                 |
 * |      4 |    4 | crc32    | of bytes 8 … 32                                                        |
 * |      8 |    1 | kind     | 1 blocks, 2 range, 3 whole object, 4 all objects whole, 5 start of file |
 * |      9 |    7 | reserved | 0                                                                      |
 * |     16 |    8 | subject  | 1: first block; 2 and 3: object id; else 0                             |
 * |     24 |    8 | value    | 1: count of blocks; 2: number of the range; 5: 1 when incomplete; else 0 |
 *
 * A block is 256 neighbouring ids and stands for attributes, entries and the first 16 MiB of each object. A range is
 * 16 MiB of one object, from number 1 on.
 *
 * @module
 */

import { assert } from "@std/assert";
import { crc32 as zlibCrc32 } from "node:zlib";
import { BlockSet } from "./block_set.ts";
import { RangeSet } from "./range_set.ts";
import { getU64, setU64 } from "./record.ts";
import type { Checksum, Storage } from "./storage.ts";

/** The file's name in the log folder. */
export const ACTIVITY_NAME = "activity";

/** Object ids in a block. */
export const BLOCK_IDS = 256;

/** Bytes of an object in a range. */
export const RANGE_BYTES = 16 * 1024 * 1024;

/** Blocks made active ahead of the next id: creates of 16,384 objects between two syncs. */
export const AHEAD_BLOCKS = 64;

const ENTRY_BYTES = 32;
const MAGIC = 0x31434142;
const KIND = { blocks: 1, range: 2, whole: 3, allWhole: 4, start: 5 } as const;
const AT = { magic: 0, crc32: 4, kind: 8, reserved: 9, subject: 16, value: 24 } as const;

/** The most entries one append adds: the most a crash can tear. */
const BATCH_MAX = 8;

/** Past this many entries the file is written anew. */
const ENTRIES_MAX = 65_536;

/** After so many cold blocks between two checkpoints, the next ones are made active in twice as large a piece. */
const MISSES_PER_DOUBLING = 8;

/** The largest piece: 16,384 ids. A walk over a million objects then costs about a hundred syncs. */
const SPAN_MAX = 64;

/**
 * What opening found. `fresh`: the copy is only being made. `incomplete`: the file is missing or damaged, or was so
 * when it was opened before and nothing has proved the rest since. It does not tell what to compare then, and
 * everything must be.
 */
export type ActivityFound = "whole" | "fresh" | "incomplete";

/** How to open the set. */
export interface ActivityOptions {
  /** Where the file is. */
  readonly storage: Storage;
  /** There is no copy yet, so that a missing file is right. */
  readonly fresh: boolean;
  /** CRC-32; by default zlib's. */
  readonly crc32?: Checksum;
}

interface Entry {
  readonly kind: number;
  readonly subject: number;
  readonly value: number;
}

/** The activity set of one module. One writer. */
export class ActivitySet {
  /** What opening found. */
  readonly found: ActivityFound;
  readonly #storage: Storage;
  readonly #crc32: Checksum;
  #blocks = new BlockSet();
  #ranges = new RangeSet();
  /** Entries in the file. */
  #entries = 0;
  /** Cold blocks met since the last {@link cool}. */
  #misses = 0;
  /** Blocks of ids not handed out yet, active all the same. */
  #headFirst = 0;
  #headEnd = 0;
  #checkpoint = false;
  #incomplete = false;

  /** Opens the set as the last run left it. */
  constructor(options: ActivityOptions) {
    this.#storage = options.storage;
    this.#crc32 = options.crc32 ?? zlibCrc32;
    this.found = this.#load(options.fresh);
  }

  /**
   * Called before an object is changed; when it returns, its part is active on disk.
   *
   * @param offset where its content is changed, bytes; leave out for attributes and entries.
   * @returns true when nothing had to be written for it.
   * @throws {DiskFullError} when it cannot be written: the change must not be made.
   */
  touch(id: number, offset = 0, length = 0): boolean {
    const block = Math.floor(id / BLOCK_IDS);
    const cold = this.#blocks.touch(block) === "cold";
    if (offset + length <= RANGE_BYTES) {
      if (!cold) return true;
      this.#addBlocks(block);
      return false;
    }
    const first = Math.max(1, Math.floor(offset / RANGE_BYTES));
    const last = Math.floor((offset + length - 1) / RANGE_BYTES);
    if (!cold && this.#ranges.touch(id, first, last)) return true;
    if (cold) this.#addBlocks(block);
    this.#addRanges(id, first, last);
    return false;
  }

  /**
   * Makes the blocks of ids to come active, so that creates need not wait. Call it when idle, after ids were handed out.
   *
   * @returns true when nothing had to be written.
   */
  reserve(nextId: number, blocks: number = AHEAD_BLOCKS): boolean {
    const first = Math.floor(nextId / BLOCK_IDS);
    this.#headFirst = first;
    if (this.#headEnd - first >= blocks / 2) return true;
    const from = Math.max(first, this.#headEnd);
    const end = first + blocks;
    this.#append([{ kind: KIND.blocks, subject: from, value: end - from }]);
    this.#blocks.add(from, end - from);
    this.#headEnd = end;
    return false;
  }

  /**
   * A checkpoint begins: what is touched from now on stays active when it ends. Afterwards sync the directory beneath,
   * then call {@link cool}; leave that out when the sync fails.
   */
  beginCheckpoint(): void {
    this.#blocks.clearRecent();
    this.#ranges.clearRecent();
    this.#checkpoint = true;
  }

  /**
   * Everything touched before {@link beginCheckpoint} is on disk: only what was touched since stays active. Replaces the
   * file; call it at most every few seconds. After a power cut, not before the copies were compared: what this set
   * names is on disk, but it may differ from the peer's.
   */
  cool(): void {
    assert(this.#checkpoint, "Activity was cooled without a checkpoint");
    const blocks = this.#blocks.recentOnly();
    blocks.add(this.#headFirst, Math.max(0, this.#headEnd - this.#headFirst));
    const ranges = this.#ranges.recentOnly();
    this.#replace(blocks, ranges, false);
    this.#checkpoint = false;
    this.#misses = 0;
  }

  /** Whether an object's block is active. */
  has(id: number): boolean {
    return this.#blocks.has(Math.floor(id / BLOCK_IDS));
  }

  /** Calls with each run of active ids, ascending: also of ids that no object has. */
  forEachIds(visit: (first: number, count: number) => void): void {
    this.#blocks.forEachRun((first, count) => visit(first * BLOCK_IDS, count * BLOCK_IDS));
  }

  /** The active ranges of an object beyond its first 16 MiB, ascending; `all` when its whole content is. */
  rangesOf(id: number): readonly number[] | "all" {
    return this.#ranges.of(id);
  }

  #addBlocks(block: number): void {
    const doublings = Math.floor(this.#misses / MISSES_PER_DOUBLING);
    const span = Math.min(2 ** doublings, SPAN_MAX);
    const first = block - block % span;
    const end = Math.max(block + 1, Math.min(first + span, this.#headEnd));
    this.#append([{ kind: KIND.blocks, subject: first, value: end - first }]);
    this.#misses++;
    this.#blocks.add(first, end - first);
    this.#blocks.touch(block);
  }

  #addRanges(id: number, first: number, last: number): void {
    const plan = this.#ranges.plan(id, first, last);
    if (plan.kind === "allWhole") {
      this.#append([{ kind: KIND.allWhole, subject: 0, value: 0 }]);
    } else if (plan.kind === "whole") {
      this.#append([{ kind: KIND.whole, subject: id, value: 0 }]);
    } else {
      for (let i = 0; i < plan.ranges.length; i += BATCH_MAX) {
        this.#append(
          plan.ranges.slice(i, i + BATCH_MAX).map((value) => ({ kind: KIND.range, subject: id, value })),
        );
      }
    }
    this.#ranges.add(id, plan);
    this.#ranges.touch(id, first, last);
  }

  #append(entries: readonly Entry[]): void {
    assert(entries.length <= BATCH_MAX, "Too many entries in one append");
    if (this.#entries >= ENTRIES_MAX) this.#replace(this.#blocks, this.#ranges, this.#incomplete);
    this.#storage.append(ACTIVITY_NAME, encode(entries, this.#crc32));
    this.#entries += entries.length;
  }

  /** Writes the file anew. The sets in memory change only once that is done. */
  #replace(blocks: BlockSet, ranges: RangeSet, incomplete: boolean): void {
    const entries: Entry[] = [{ kind: KIND.start, subject: 0, value: incomplete ? 1 : 0 }];
    blocks.forEachRun((first, count) => entries.push({ kind: KIND.blocks, subject: first, value: count }));
    ranges.forEach((id, found) => {
      if (found === "all") entries.push({ kind: KIND.whole, subject: id, value: 0 });
      else for (const value of found) entries.push({ kind: KIND.range, subject: id, value });
    });
    if (ranges.allWhole) entries.push({ kind: KIND.allWhole, subject: 0, value: 0 });
    this.#storage.writeAtomic(ACTIVITY_NAME, encode(entries, this.#crc32));
    this.#blocks = blocks;
    this.#ranges = ranges;
    this.#entries = entries.length;
    this.#incomplete = incomplete;
  }

  #load(fresh: boolean): ActivityFound {
    const bytes = this.#storage.readAll(ACTIVITY_NAME);
    const { entries, end } = decode(bytes ?? new Uint8Array(0), this.#crc32);
    for (const entry of entries) this.#take(entry);
    this.#entries = entries.length;
    const start = entries[0];
    const complete = bytes === null
      ? fresh
      : start?.kind === KIND.start && start.value === 0 && !goodAfter(bytes, end, this.#crc32);
    // A torn tail is cut: nobody went on, its touch had not returned. What is incomplete says so from now on, or the
    // next start would find a file that looks whole.
    const torn = bytes === null || end < bytes.length;
    this.#incomplete = !complete;
    if (torn || (!complete && start?.value !== 1)) this.#replace(this.#blocks, this.#ranges, !complete);
    if (!complete) return "incomplete";
    return bytes === null ? "fresh" : "whole";
  }

  #take({ kind, subject, value }: Entry): void {
    if (kind === KIND.blocks) this.#blocks.add(subject, value);
    if (kind === KIND.range) this.#ranges.add(subject, { kind: "ranges", ranges: [value] });
    if (kind === KIND.whole) this.#ranges.add(subject, { kind: "whole" });
    if (kind === KIND.allWhole) this.#ranges.add(subject, { kind: "allWhole" });
  }
}

function encode(entries: readonly Entry[], crc32: Checksum): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(entries.length * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, { kind, subject, value }] of entries.entries()) {
    const at = i * ENTRY_BYTES;
    view.setUint32(at + AT.magic, MAGIC, true);
    view.setUint8(at + AT.kind, kind);
    setU64(view, at + AT.subject, subject);
    setU64(view, at + AT.value, value);
    view.setUint32(at + AT.crc32, crc32(bytes.subarray(at + AT.kind, at + ENTRY_BYTES)), true);
  }
  return bytes;
}

/** Reads entries up to the first that is not whole. */
function decode(bytes: Uint8Array<ArrayBuffer>, crc32: Checksum): { entries: Entry[]; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: Entry[] = [];
  let at = 0;
  while (isWhole(bytes, view, at, crc32)) {
    entries.push({
      kind: view.getUint8(at + AT.kind),
      subject: getU64(view, at + AT.subject),
      value: getU64(view, at + AT.value),
    });
    at += ENTRY_BYTES;
  }
  return { entries, end: at };
}

function isWhole(bytes: Uint8Array, view: DataView, at: number, crc32: Checksum): boolean {
  if (at + ENTRY_BYTES > bytes.length || view.getUint32(at + AT.magic, true) !== MAGIC) return false;
  return view.getUint32(at + AT.crc32, true) === crc32(bytes.subarray(at + AT.kind, at + ENTRY_BYTES));
}

/** A torn tail is one append long. A whole entry further on means that something in the middle is lost. */
function goodAfter(bytes: Uint8Array<ArrayBuffer>, end: number, crc32: Checksum): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = end + BATCH_MAX * ENTRY_BYTES; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    if (isWhole(bytes, view, at, crc32)) return true;
  }
  return false;
}
