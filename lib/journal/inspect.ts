/**
 * Reads a log without opening it: nothing is locked, mapped, cut or written, so a stopped module's log, a copy of it, and
 * one that a replicator is writing to can be looked at. Memory is bounded whatever the log measures.
 *
 * Which segments are read is decided at the start: those that are full by then change no more, and the newest is followed
 * to its end. What a writer is just adding may look torn: the caller is asked for a pause, and it is looked at again.
 *
 * After damage the walk goes on with the next whole record of a higher sequence, to show what is there. A replicator
 * does not: `recovery.ts` ends the log at the first fault it meets.
 *
 * @module
 */

import { crc32 as zlibCrc32 } from "node:zlib";
import { type LogFile, LogWindow } from "./log_window.ts";
import { OFFSET, padded, peekU64, type RecordFault, RecordView } from "./record.ts";
import { segmentIndex } from "./segment.ts";
import { AT, decodePage, SEGMENT_HEADER_BYTES, SEGMENT_VERSION, type SegmentPage } from "./segment_page.ts";
import type { Checksum } from "./storage.ts";

export type { LogFile } from "./log_window.ts";
export type { Seal, SegmentPage } from "./segment_page.ts";

/** The files of a log, for reading. */
export interface LogFolder {
  /** Names of all files, in any order. */
  list(): readonly string[];
  /** Opens one; `null` when it is gone. Throws `Cannot <what>: <why>` when it cannot be read. */
  open(name: string): LogFile | null;
}

/** What to read, and from where. */
export interface InspectOptions {
  /** Where the segments are. */
  readonly folder: LogFolder;
  /** First sequence asked for. */
  readonly from?: number;
  /** Last sequence asked for. */
  readonly to?: number;
  /** CRC-32; by default zlib's. */
  readonly crc32?: Checksum;
}

/** Why a place of the log is not as it should be. */
export type InspectFault =
  | RecordFault
  | "sequence"
  | "segment page"
  | "segment missing"
  | "segment size"
  | "other log"
  | "seal";

/** Something that must not be. */
export interface Fault {
  /** To be told from other {@link Found}. */
  readonly kind: "fault";
  /** The file. */
  readonly segment: string;
  /** Where in it. */
  readonly at: number;
  /** What is wrong there. */
  readonly reason: InspectFault;
  /** The sequence that should stand there; 0: not known. */
  readonly sequence: number;
  /** Nothing whole follows: what a crash leaves of a record that was being written, or of a log never synced. */
  readonly torn: boolean;
}

/** What the walk meets, in order. */
export type Found =
  | Fault
  | { readonly kind: "segment"; readonly segment: string; readonly page: SegmentPage }
  /** A whole record; `record` is good until the next step. */
  | { readonly kind: "record"; readonly segment: string; readonly at: number; readonly record: RecordView }
  /** Wait for a moment, then go on: a writer may be in the middle of a record. */
  | { readonly kind: "pause" }
  /** The log as a whole, after the last record. */
  | {
    readonly kind: "end";
    /** In use, those before `from` and after `to` included. */
    readonly segments: number;
    /** Dropped by the replicator while this was reading. */
    readonly dropped: number;
    /** Made ahead, not in use. */
    readonly spares: number;
    readonly bytes: number;
  };

/** How often the end of the log is looked at again before it is called torn. */
const LOOKS_MAX = 3;

interface Used {
  readonly name: string;
  readonly page: SegmentPage | "damaged";
  readonly size: number;
}

/**
 * Walks through a log.
 *
 * @throws when there is no log, its format is not known, or the disk refuses.
 */
export function* inspect(options: InspectOptions): Generator<Found> {
  const { folder, crc32 = zlibCrc32, from = 0, to = Number.MAX_SAFE_INTEGER } = options;
  const { used, spares } = usedSegments(folder, crc32);
  const start = startOf(used, from);
  const walk = new Walk(crc32, from, to);
  let read = 0;
  for (const [i, segment] of used.slice(start).entries()) {
    if (walk.next > to) break;
    const file = folder.open(segment.name);
    if (file === null) {
      walk.next = 0;
      continue;
    }
    try {
      const newest = start + i === used.length - 1;
      yield* walk.segment(segment, used[start + i - 1], newest, file);
      read++;
    } finally {
      file.close();
    }
  }
  const dropped = walk.next > to ? 0 : used.length - start - read;
  const bytes = used.reduce((sum, { size }) => sum + size, 0);
  yield { kind: "end", segments: used.length, dropped, spares, bytes };
}

/** The first pages, without those at the end that were only prepared. */
function usedSegments(folder: LogFolder, crc32: Checksum): { used: Used[]; spares: number } {
  const names = folder.list().filter((name) => segmentIndex(name) !== null).sort();
  const found: { readonly name: string; readonly page: Used["page"] | "unused"; readonly size: number }[] =
    [];
  for (const name of names) {
    const file = folder.open(name);
    if (file === null) continue;
    try {
      found.push({ name, page: firstPage(name, file, crc32), size: file.size });
    } finally {
      file.close();
    }
  }
  let end = found.length;
  while (found[end - 1]?.page === "unused") end--;
  const used = found.slice(0, end).map(({ name, page, size }) => (
    { name, page: page === "unused" ? "damaged" as const : page, size }
  ));
  return { used, spares: found.length - end };
}

function firstPage(name: string, file: LogFile, crc32: Checksum): Used["page"] | "unused" {
  // A file that was made but not yet given its length.
  if (file.size === 0) return "unused";
  const bytes = new Uint8Array(AT.sealedEnd);
  const page = file.read(0, bytes) < bytes.length ? "damaged" : decodePage(bytes, crc32);
  // The magic is stored last: a page without, and no records, is of a segment that was just coming into use.
  if (page === "unused") return new LogWindow(file, crc32).zeroFrom(SEGMENT_HEADER_BYTES) ? page : "damaged";
  if (page !== "damaged" && page.version !== SEGMENT_VERSION) {
    throw new Error(
      `Cannot read ${name}: it has format ${page.version}, this program knows ${SEGMENT_VERSION}`,
    );
  }
  return page;
}

/** The segment that holds `from`: where the pages tell, those before need not be read. */
function startOf(used: readonly Used[], from: number): number {
  let start = 0;
  for (const [i, { page }] of used.entries()) {
    if (page !== "damaged" && page.first <= from) start = i;
  }
  return start;
}

/** The walk through the records. */
class Walk {
  /** The sequence expected next; 0: any. */
  next = 0;
  readonly #crc32: Checksum;
  readonly #from: number;
  readonly #to: number;
  readonly #record = new RecordView();
  /** Cluster and module of the first page. */
  #owner = "";

  constructor(crc32: Checksum, from: number, to: number) {
    this.#crc32 = crc32;
    this.#from = from;
    this.#to = to;
  }

  *segment(segment: Used, before: Used | undefined, newest: boolean, file: LogFile): Generator<Found> {
    const { name, page } = segment;
    yield* this.#head(segment, this.next === 0 ? undefined : before, newest);
    if (page !== "damaged") {
      yield { kind: "segment", segment: name, page };
      if (this.next === 0) this.next = page.first;
    }
    const first = this.next;
    const window = new LogWindow(file, this.#crc32);
    let at = SEGMENT_HEADER_BYTES;
    let payload = 0;
    let looks = 0;
    let whole = true;
    while (at < file.size && this.next <= this.#to) {
      const length = this.#look(window, at);
      if (typeof length === "number") {
        payload += window.view.getUint32(window.index(at) + OFFSET.payloadLength, true);
        yield* this.#show(name, window, at);
        at += padded(length);
        looks = 0;
        continue;
      }
      const ended = (length === "magic" || length === "short") && window.zeroFrom(at);
      if (newest && looks < LOOKS_MAX) {
        // An end is looked at once more, a fault a few times: what was read may be older than what is there.
        looks = ended ? LOOKS_MAX : looks + 1;
        if (!ended) yield { kind: "pause" };
        window.forget();
        continue;
      }
      if (ended) break;
      whole = false;
      const resumed = window.search(
        at,
        (index) => peekU64(window.view, index + OFFSET.sequence) >= this.next,
      );
      const torn = newest && resumed === null;
      yield { kind: "fault", segment: name, at, reason: length, sequence: this.next, torn };
      if (resumed === null) break;
      at = resumed;
      this.next = peekU64(window.view, window.index(at) + OFFSET.sequence);
      looks = 0;
    }
    if (whole && this.next <= this.#to) yield* this.#sealOf(segment, { first, at, payload });
  }

  /** What the first page says about its place in the log. */
  *#head(segment: Used, before: Used | undefined, newest: boolean): Generator<Found> {
    const { name, page } = segment;
    const fault = (reason: InspectFault, torn = false): Fault => (
      { kind: "fault", segment: name, at: 0, reason, sequence: this.next, torn }
    );
    const index = segmentIndex(name) ?? 0;
    if (before !== undefined && segmentIndex(before.name) !== index - 1) {
      yield fault("segment missing");
      this.next = 0;
    }
    if (page === "damaged") {
      yield fault("segment page", newest);
      return;
    }
    if (page.bytes !== segment.size || page.index !== index) yield fault("segment size");
    const owner = JSON.stringify([page.cluster, page.module]);
    if (this.#owner !== "" && this.#owner !== owner) yield fault("other log");
    this.#owner = owner;
    if (this.next !== 0 && page.first !== this.next) {
      yield fault("sequence");
      this.next = page.first;
    }
  }

  #look(window: LogWindow, at: number): number | RecordFault | "sequence" {
    const length = window.check(at);
    if (typeof length === "string") return length;
    const sequence = peekU64(window.view, window.index(at) + OFFSET.sequence);
    if (this.next === 0) this.next = sequence;
    return sequence === this.next ? length : "sequence";
  }

  *#show(segment: string, window: LogWindow, at: number): Generator<Found> {
    const record = this.#record.point(window.bytes, window.view, window.index(at));
    const { sequence } = record;
    this.next = sequence + 1;
    if (sequence >= this.#from && sequence <= this.#to) yield { kind: "record", segment, at, record };
  }

  /** Whether what was written down of a full segment's end is where its records end. */
  *#sealOf(
    segment: Used,
    found: { readonly first: number; readonly at: number; readonly payload: number },
  ): Generator<Found> {
    const { name, page } = segment;
    if (page === "damaged" || page.seal === null) return;
    const { seal } = page;
    const right = seal !== "damaged" && seal.last === this.next - 1 && seal.used === found.at &&
      seal.payloadBytes === found.payload;
    if (right) return;
    yield {
      kind: "fault",
      segment: name,
      at: AT.sealedMagic,
      reason: "seal",
      sequence: found.first,
      torn: false,
    };
  }
}
