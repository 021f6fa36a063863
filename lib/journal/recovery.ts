/**
 * Opening what a former process left: which segments are the log, where it ends, and what had to be cut.
 *
 * | found                                              | meaning                         | done                        |
 * | -------------------------------------------------- | ------------------------------- | --------------------------- |
 * | only zeros, at the end                             | prepared ahead, never used      | it goes                     |
 * | indexes with a gap                                 | a file's name was lost          | what is after the gap goes  |
 * | first page damaged, or not the expected sequence   | pages lost in a power cut       | it and all after it go      |
 * | a record not whole, or out of sequence             | torn tail, or pages lost        | cut there, all after it go  |
 * | zeros after the last record                        | the end                         | kept                        |
 *
 * @module
 */

import type { RecordFault } from "./record.ts";
import {
  type Identity,
  Segment,
  SEGMENT_HEADER_BYTES,
  type SegmentFault,
  segmentIndex,
  segmentName,
} from "./segment.ts";
import type { Checksum, Storage } from "./storage.ts";

/** What was lost of the log's end. */
export interface Cut {
  /** The file in which the log now ends, or could not be read. */
  readonly segment: string;
  /** Why it ends there. */
  readonly reason: RecordFault | "sequence" | "segment lost";
  /** Bytes that looked like more log, in that file. */
  readonly bytes: number;
  /** Later files removed. */
  readonly segments: number;
}

/** What opening found. */
export interface Recovery {
  /** What was cut from the end; `null` when the log simply ends. */
  readonly cut: Cut | null;
  /** Positions of the records read that are still intentions, in order. The caller settles each. */
  readonly unsettled: number[];
}

/** What {@link recover} needs. */
export interface RecoveryOptions {
  readonly storage: Storage;
  readonly identity: Identity;
  readonly crc32: Checksum;
  /** Check every record, not only the newest segments'. */
  readonly all: boolean;
  /** How many of the newest records are read in any case. */
  readonly recent: number;
  /** A longer file is no segment. */
  readonly segmentMax: number;
}

/** The log as it was left. */
export interface Recovered {
  readonly segments: Segment[];
  /** Index for the next segment when there is none. */
  readonly nextIndex: number;
  /** Index of the first segment whose records were read. */
  readonly scannedFrom: number;
  readonly recovery: Recovery;
}

/** Finds the log and makes its end clean, durably. */
export function recover(options: RecoveryOptions): Recovered {
  const { storage } = options;
  const indexes = storage.list().map(segmentIndex).filter((index) => index !== null);
  const nextIndex = (indexes.at(-1) ?? -1) + 1;
  const used = withoutSpares(options, indexes);
  const run = firstRun(used);
  const { segments, fault } = openHeads(options, run);
  const scannedFrom = firstToScan(options, segments);
  const end = walk(options, segments, scannedFrom);
  const kept = segments.slice(0, end.kept);
  for (const segment of segments.slice(end.kept)) segment.close();
  const last = kept.at(-1);
  const removed = indexes.filter((index) => last === undefined || index > last.index);
  const stop = end.stop ?? fault ?? (run.length < used.length ? LOST : null);
  // From the end, each one durably: what came back after a power cut without what was before it would be a false log.
  for (const index of removed.reverse()) {
    storage.remove(segmentName(index));
    storage.syncDirectory();
  }
  last?.unseal();
  if (stop !== null && last !== undefined) {
    // Before anything is added: whole records that are left behind the cut could follow new ones after a power cut.
    last.clearRest();
    last.sync();
  }
  return {
    segments: kept,
    nextIndex,
    scannedFrom: segments[scannedFrom]?.index ?? nextIndex,
    recovery: {
      cut: stop && {
        ...stop,
        segment: last === undefined ? "the log" : segmentName(last.index),
        segments: used.length - kept.length,
      },
      unsettled: [],
    },
  };
}

/** What stopped the walk, in the segment it stopped in. */
interface Stop {
  readonly reason: Cut["reason"];
  readonly bytes: number;
}

const LOST: Stop = { reason: "segment lost", bytes: 0 };

/** The indexes without those at the end that were only prepared: they say nothing about where the log is. */
function withoutSpares(options: RecoveryOptions, indexes: readonly number[]): readonly number[] {
  let end = indexes.length;
  while (end > 0 && isSpare(options, indexes[end - 1] ?? 0)) end--;
  return indexes.slice(0, end);
}

function isSpare(options: RecoveryOptions, index: number): boolean {
  const size = options.storage.size(segmentName(index)) ?? 0;
  // A file that was created but not yet given its length.
  if (size === 0) return true;
  if (!couldBe(options, size)) return false;
  const segment = Segment.map(options.storage, index, size);
  const fault = readHead(options, segment);
  segment.close();
  return fault === "unused";
}

function couldBe(options: RecoveryOptions, size: number): boolean {
  return size > SEGMENT_HEADER_BYTES && size % 4096 === 0 && size <= options.segmentMax;
}

/** The indexes up to the first gap. */
function firstRun(indexes: readonly number[]): number[] {
  const first = indexes[0] ?? 0;
  return indexes.filter((index, i) => index === first + i);
}

/** Maps segments as long as their first pages are good. */
function openHeads(
  options: RecoveryOptions,
  run: readonly number[],
): { segments: Segment[]; fault: Stop | null } {
  const segments: Segment[] = [];
  for (const index of run) {
    const size = options.storage.size(segmentName(index)) ?? 0;
    if (!couldBe(options, size)) return { segments, fault: LOST };
    const segment = Segment.map(options.storage, index, size);
    const fault = readHead(options, segment);
    if (fault !== null) {
      segment.close();
      return { segments, fault: LOST };
    }
    segment.dirty = true;
    segments.push(segment);
  }
  return { segments, fault: null };
}

function readHead(options: RecoveryOptions, segment: Segment): SegmentFault | null {
  try {
    return segment.readHead(options.identity, options.crc32);
  } catch (error) {
    segment.close();
    throw error;
  }
}

/** Which segments hold the newest records: the first of them, as a place in the list. */
function firstToScan(options: RecoveryOptions, segments: readonly Segment[]): number {
  if (options.all) return 0;
  const newest = segments.at(-1)?.first ?? 0;
  let from = Math.max(segments.length - 1, 0);
  while (from > 0 && newest - (segments[from]?.first ?? 0) < options.recent) from--;
  return from;
}

/** Follows the records through the segments. Answers how many segments are log, and why it stopped early. */
function walk(
  options: RecoveryOptions,
  segments: readonly Segment[],
  scanFrom: number,
): { kept: number; stop: Stop | null } {
  let expected = segments[0]?.first ?? 0;
  for (const [i, segment] of segments.entries()) {
    if (segment.first !== expected) return { kept: i, stop: { reason: "sequence", bytes: 0 } };
    const trusted = i < scanFrom && segment.readSeal(options.crc32);
    if (!trusted) {
      const { fault, leftover } = segment.scan(options.crc32, options.all ? "each" : "last");
      if (fault !== "end") return { kept: i + 1, stop: { reason: fault, bytes: leftover } };
    }
    expected = segment.last + 1;
  }
  return { kept: segments.length, stop: null };
}
