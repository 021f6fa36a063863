/**
 * Opening what a former process left: which segments are the log, where it ends, and what had to be cut.
 *
 * | found                                              | meaning                         | done                        |
 * | -------------------------------------------------- | ------------------------------- | --------------------------- |
 * | indexes with a gap                                 | a removal half survived         | what is before the gap goes |
 * | only zeros                                         | prepared ahead, never used      | it and all after it go      |
 * | first page damaged, or not the expected sequence   | pages lost in a power cut       | it and all after it go      |
 * | a record not whole, or out of sequence             | torn tail, or pages lost        | cut there, all after it go  |
 * | zeros after the last record                        | the end                         | kept                        |
 *
 * @module
 */

import type { RecordFault } from "./record.ts";
import { type Identity, Segment, segmentIndex, segmentName } from "./segment.ts";
import type { Checksum, Storage } from "./storage.ts";

/** What was lost of the log's end. */
export interface Cut {
  /** The file in which the log now ends, or could not be read. */
  readonly segment: string;
  /** Why it ends there. */
  readonly reason: RecordFault | "sequence" | "segment lost" | "segment damaged";
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
  const run = lastRun(indexes);
  for (const index of indexes) {
    if (!run.includes(index)) storage.remove(segmentName(index));
  }
  const { segments, fault } = openHeads(options, run);
  const scannedFrom = firstToScan(options, segments);
  const end = walk(options, segments, scannedFrom);
  const kept = segments.slice(0, end.kept);
  for (const segment of segments.slice(end.kept)) segment.close();
  const last = kept.at(-1);
  const removed = run.filter((index) => last === undefined || index > last.index);
  const cut = end.cut ?? fault;
  const used = removed.length - (fault === "unused" && end.cut === null ? 1 : 0);
  for (const index of removed.reverse()) storage.remove(segmentName(index));
  if (last !== undefined) last.unseal();
  if (cut !== null && last !== undefined && (end.cut !== null || used > 0)) {
    // Before anything is added: whole records that are left behind the cut could follow new ones after a power cut.
    last.clearRest();
    last.sync();
  }
  if (used > 0) storage.syncDirectory();
  return {
    segments: kept,
    nextIndex,
    scannedFrom: segments[scannedFrom]?.index ?? nextIndex,
    recovery: { cut: report(cut, last, used), unsettled: [] },
  };
}

/** What stopped the walk, in the segment it stopped in. */
interface Stop {
  readonly reason: Cut["reason"];
  readonly bytes: number;
}

function report(
  cut: Stop | "unused" | "damaged" | null,
  last: Segment | undefined,
  later: number,
): Cut | null {
  const segment = last === undefined ? "the log" : segmentName(last.index);
  if (cut === null || (cut === "unused" && later === 0)) return null;
  if (cut === "unused") return { segment, reason: "segment lost", bytes: 0, segments: later };
  if (cut === "damaged") return { segment, reason: "segment damaged", bytes: 0, segments: later };
  return { segment, reason: cut.reason, bytes: cut.bytes, segments: later };
}

/** The longest run of indexes without a gap that ends with the last. */
function lastRun(indexes: readonly number[]): number[] {
  let from = indexes.length - 1;
  while (from > 0 && indexes[from - 1] === (indexes[from] ?? 0) - 1) from--;
  return indexes.slice(Math.max(from, 0));
}

/** Maps segments as long as their first pages are good. */
function openHeads(
  options: RecoveryOptions,
  run: readonly number[],
): { segments: Segment[]; fault: "unused" | "damaged" | null } {
  const segments: Segment[] = [];
  for (const index of run) {
    const size = options.storage.size(segmentName(index)) ?? 0;
    // A file that was created but not yet given its length.
    if (size === 0) return { segments, fault: "unused" };
    if (size % 4096 !== 0 || size > options.segmentMax) return { segments, fault: "damaged" };
    const segment = Segment.map(options.storage, index, size);
    const fault = readHead(options, segment);
    if (fault !== null) {
      segment.close();
      return { segments, fault };
    }
    segment.dirty = true;
    segments.push(segment);
  }
  return { segments, fault: null };
}

function readHead(options: RecoveryOptions, segment: Segment): "unused" | "damaged" | null {
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
): { kept: number; cut: Stop | null } {
  let expected = segments[0]?.first ?? 0;
  for (const [i, segment] of segments.entries()) {
    if (segment.first !== expected) return { kept: i, cut: { reason: "sequence", bytes: 0 } };
    const trusted = i < scanFrom && segment.readSeal(options.crc32);
    if (!trusted) {
      const { fault, leftover } = segment.scan(options.crc32, options.all ? "each" : "last");
      if (fault !== "end") return { kept: i + 1, cut: { reason: fault, bytes: leftover } };
    }
    expected = segment.last + 1;
  }
  return { kept: segments.length, cut: null };
}
