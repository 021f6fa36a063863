import { assert, assertEquals, assertThrows } from "@std/assert";
import { Journal, type JournalOptions, KEEP } from "./journal.ts";
import { MemoryStorage } from "./memory_storage.ts";
import { FLAG, OFFSET, OP, type RecordFields, RecordView, STATE } from "./record.ts";
import { SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { DiskFullError } from "./storage.ts";
import { RECENT } from "./unique_index.ts";

const IDENTITY = { cluster: "c0ffee", module: "bms" };

function open(storage: MemoryStorage, options: Partial<JournalOptions> = {}): Journal {
  return Journal.open({
    storage,
    identity: IDENTITY,
    scan: "all",
    segmentBytes: 8192,
    segmentsMax: 8,
    ...options,
  });
}

function fields(sequence: number): RecordFields {
  const generation = 0xabcdef0123456789n;
  return {
    op: OP.write,
    sequence,
    epoch: 1,
    generation,
    unique: sequence * 2,
    id: 9,
    a: sequence,
    b: 0,
    c: 0,
  };
}

function fill(journal: Journal, count: number): void {
  for (let i = 0; i < count; i++) journal.append(fields(journal.last + 1), null, null, KEEP.no);
}

function sequences(journal: Journal, from: number): number[] {
  using cursor = journal.read(from) ?? raise(`the log does not hold ${from}`);
  const view = new RecordView();
  const found: number[] = [];
  while (cursor.next(view)) found.push(view.sequence);
  return found;
}

function raise(why: string): never {
  throw new Error(why);
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** Records of 96 bytes in a segment of 8192. */
const PER_SEGMENT = Math.floor((8192 - SEGMENT_HEADER_BYTES) / 96);

Deno.test("Journal.append() adds records that read() shows in order, across segments", () => {
  const journal = open(new MemoryStorage());
  fill(journal, 100);
  assertEquals([journal.first, journal.last], [1, 100]);
  assertEquals(sequences(journal, 1), range(1, 100));
  assertEquals(sequences(journal, 57), range(57, 100));
  assertEquals(sequences(journal, 101), []);
});

Deno.test("Journal.append() keeps names and payload", () => {
  const journal = open(new MemoryStorage());
  const names = new TextEncoder().encode("file\0");
  const position = journal.append(fields(1), names, new Uint8Array([7, 8]), KEEP.always);
  const view = journal.at(position, new RecordView());
  assertEquals([view?.names, view?.payload, view?.flags], [names, new Uint8Array([7, 8]), FLAG.payload]);
  assertEquals(journal.payloadBytes, 2);
});

Deno.test("Journal.append() leaves a payload out past the budget, and says so", () => {
  const journal = open(new MemoryStorage(), { payloadBudget: 25 });
  const view = new RecordView();
  const flags: (number | undefined)[] = [];
  for (const keep of [KEEP.budget, KEEP.budget, KEEP.budget, KEEP.no, KEEP.always]) {
    const position = journal.append(fields(journal.last + 1), null, new Uint8Array(10), keep);
    flags.push(journal.at(position, view)?.flags);
  }
  assertEquals(flags, [FLAG.payload, FLAG.payload, FLAG.hollow, FLAG.hollow, FLAG.payload]);
  assertEquals(journal.payloadBytes, 30);
});

Deno.test("Journal.append() refuses a gap in the sequence", () => {
  const journal = open(new MemoryStorage());
  assertThrows(() => journal.append(fields(2), null, null, KEEP.no), Error, "out of sequence");
});

Deno.test("Journal.settle() survives a killed process", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  fill(journal, 3);
  journal.settle(journal.positionOf(2) ?? raise("no record"), STATE.applied, -5n);
  const later = open(storage.killed(), { scan: "tail" });
  const view = later.at(later.positionOf(2) ?? raise("no record"), new RecordView());
  assertEquals([view?.state, view?.mtimeNs], [STATE.applied, -5n]);
  const open1 = later.recovery.unsettled.map((position) => later.at(position, new RecordView())?.sequence);
  assertEquals(open1, [1, 3]);
});

Deno.test("Journal.read() follows appends, and answers null for what the log does not hold", () => {
  const journal = open(new MemoryStorage(), { first: 10 });
  fill(journal, 2);
  assertEquals(journal.read(9), null);
  assertEquals(journal.read(13), null);
  using cursor = journal.read(12) ?? raise("no cursor");
  const view = new RecordView();
  assertEquals(cursor.next(view), false);
  fill(journal, 200);
  let last = 11;
  while (cursor.next(view)) assertEquals(view.sequence, ++last);
  assertEquals(last, journal.last);
});

Deno.test("Journal drops the oldest segment past its maximum, and a cursor there finishes it and is then lost", () => {
  const storage = new MemoryStorage();
  const journal = open(storage, { segmentsMax: 2 });
  fill(journal, PER_SEGMENT);
  using cursor = journal.read(1) ?? raise("no cursor");
  const view = new RecordView();
  assert(cursor.next(view));
  fill(journal, PER_SEGMENT * 3);
  assert(journal.first > PER_SEGMENT);
  let seen = 1;
  while (cursor.next(view)) assertEquals(view.sequence, ++seen);
  assertEquals(seen, PER_SEGMENT);
  assertEquals(cursor.lost, true);
  cursor.close();
  journal.close();
  assertEquals(storage.mappings, 0);
});

Deno.test("Journal.settle() and at() answer for dropped records that they are gone", () => {
  const journal = open(new MemoryStorage(), { segmentsMax: 2 });
  const position = journal.append(fields(1), null, null, KEEP.no);
  fill(journal, PER_SEGMENT * 3);
  assertEquals(journal.settle(position, STATE.applied, 1n), false);
  assertEquals(journal.at(position, new RecordView()), undefined);
  assertEquals(journal.findUnique(2), undefined);
});

Deno.test("Journal.findUnique() finds the newest record of a request, also after a restart", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  fill(journal, 60);
  journal.append({ ...fields(61), unique: 20 }, null, null, KEEP.no);
  for (const each of [journal, open(storage.killed(), { scan: "tail" }), open(storage.killed())]) {
    const view = new RecordView();
    assertEquals(each.at(each.findUnique(20) ?? -1, view)?.sequence, 61);
    assertEquals(each.at(each.findUnique(22) ?? -1, view)?.sequence, 11);
    assertEquals(each.findUnique(22, 11), undefined);
    assertEquals(each.findUnique(21), undefined);
  }
});

Deno.test("Journal.findUnique() forgets what is settled and old, and keeps what is not settled", () => {
  const journal = open(new MemoryStorage(), { segmentBytes: 1024 * 1024 });
  const settled = journal.append(fields(1), null, null, KEEP.no);
  const hanging = journal.append(fields(2), null, null, KEEP.no);
  journal.settle(settled, STATE.applied, 1n);
  fill(journal, RECENT);
  assertEquals(journal.findUnique(2), undefined);
  assertEquals(journal.findUnique(4), hanging);
  journal.settle(hanging, STATE.applied, 1n);
  assertEquals(journal.findUnique(4), undefined);
});

Deno.test("Journal.trim() gives back whole segments, but not the newest records'", () => {
  const journal = open(new MemoryStorage(), { segmentsMax: 1000 });
  fill(journal, RECENT + PER_SEGMENT * 3);
  journal.trim(PER_SEGMENT + 1);
  assertEquals(journal.first, PER_SEGMENT + 1);
  journal.trim(journal.last);
  assertEquals(journal.first, PER_SEGMENT * 3 + 1);
  assertEquals(sequences(journal, journal.first).at(-1), journal.last);
});

Deno.test("Journal.cutAfter() takes a tail back, durably, and another takes its place", () => {
  for (const last of [0, 1, 41, 42, 43, 84, 99]) {
    const storage = new MemoryStorage();
    const journal = open(storage);
    fill(journal, 100);
    using cursor = journal.read(1) ?? raise("no cursor");
    journal.cutAfter(last);
    assertEquals(journal.last, last);
    assertEquals([cursor.next(new RecordView()), cursor.lost], [false, true]);
    assertEquals(journal.findUnique(200), undefined);
    assertEquals(open(storage.crash(() => 0.9)).last, last);
    fill(journal, 150);
    assertEquals(sequences(journal, 1), range(1, last + 150));
    assertEquals(sequences(open(storage.killed()), 1), range(1, last + 150));
  }
});

Deno.test("Journal.reset() empties the log and starts at another sequence", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  fill(journal, 100);
  journal.reset(5000);
  assertEquals([journal.first, journal.last], [5000, 4999]);
  fill(journal, 5);
  journal.sync();
  const later = open(storage.crash(() => 0.9));
  assertEquals([later.first, later.last], [5000, 5004]);
});

Deno.test("Journal.open() refuses another module's log and does not touch it", () => {
  const storage = new MemoryStorage();
  fill(open(storage), 5);
  const other = { cluster: "c0ffee", module: "erp" };
  assertThrows(
    () => Journal.open({ storage, identity: other, scan: "all" }),
    Error,
    'belongs to module "bms" of cluster "c0ffee"',
  );
  assertEquals(open(storage.killed()).last, 5);
});

Deno.test("Journal.open() refuses a format it does not know", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  storage.damage(segmentName(0), 8, new Uint8Array([2]));
  const head = (storage.readAll(segmentName(0)) ?? raise("no segment")).subarray(8, 224);
  const crc = new Uint8Array(4);
  new DataView(crc.buffer).setUint32(0, crcOf(head), true);
  storage.damage(segmentName(0), 4, crc);
  assertThrows(() => open(storage), Error, "has format 2, this program knows 1");
  journal.close();
});

function crcOf(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

Deno.test("Journal.open() refuses sizes that cannot be", () => {
  for (const options of [{ segmentBytes: 4096 }, { segmentBytes: 8193 }, { segmentsMax: 1 }]) {
    assertThrows(() => open(new MemoryStorage(), options), RangeError, "Cannot open the log");
  }
});

Deno.test("Journal.append() on a full disk drops history first, and changes nothing when that does not help", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  storage.capacity = 8192 * 3;
  fill(journal, PER_SEGMENT * 5);
  assert(journal.first > 1);
  assertEquals(journal.last, PER_SEGMENT * 5);

  const small = new MemoryStorage();
  small.capacity = 8192;
  const only = open(small);
  fill(only, PER_SEGMENT);
  assertThrows(() => fill(only, 1), DiskFullError, "no space left");
  assertEquals(sequences(only, 1), range(1, PER_SEGMENT));
  small.capacity = 8192 * 2;
  fill(only, 1);
  assertEquals(only.last, PER_SEGMENT + 1);
});

Deno.test("Journal.open() keeps what is before the cut, cut at every byte of the last record", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  fill(journal, 2);
  const names = new TextEncoder().encode("name\0");
  journal.append(fields(3), names, new Uint8Array([1, 2, 3]), KEEP.always);
  const start = SEGMENT_HEADER_BYTES + 2 * 96;
  const length = 96 + 8;
  for (let kept = 0; kept < length; kept++) {
    for (const scan of ["all", "tail"] as const) {
      const torn = storage.killed();
      torn.damage(segmentName(0), start + kept, new Uint8Array(length - kept));
      const later = open(torn, { scan });
      assertEquals(later.last, 2, `${scan}, ${kept} bytes kept`);
      assertEquals(later.recovery.cut === null, kept === 0);
      fill(later, 2);
      assertEquals(sequences(open(torn.killed()), 1), [1, 2, 3, 4]);
    }
  }
});

Deno.test("Journal.open() cuts at a damaged record and leaves nothing of what followed", () => {
  const storage = new MemoryStorage();
  fill(open(storage), 100);
  storage.damage(segmentName(0), SEGMENT_HEADER_BYTES + 10 * 96 + OFFSET.id, new Uint8Array([1]));
  const later = open(storage);
  const cut = later.recovery.cut ?? raise("nothing was cut");
  assertEquals([later.last, cut.reason, cut.segment, cut.segments], [10, "checksum", segmentName(0), 2]);
  const rest = (PER_SEGMENT - 10) * 96;
  assert(cut.bytes > rest - 96 && cut.bytes <= rest);
  fill(later, 1);
  assertEquals(open(storage.killed()).last, 11);
});

Deno.test("Journal.open() starts after a segment whose first page is lost", () => {
  const storage = new MemoryStorage();
  fill(open(storage), 100);
  storage.damage(segmentName(1), 0, new Uint8Array(4096));
  const later = open(storage);
  assertEquals([later.last, later.recovery.cut?.reason], [PER_SEGMENT, "segment lost"]);
});

Deno.test("Journal.open() of a log that lost its first segments starts where the rest does", () => {
  const storage = new MemoryStorage();
  fill(open(storage), 120);
  storage.remove(segmentName(0));
  assertEquals(open(storage.killed()).first, PER_SEGMENT + 1);
  storage.remove(segmentName(1));
  const later = open(storage.killed());
  assertEquals([later.first, later.last, later.recovery.cut], [PER_SEGMENT * 2 + 1, 120, null]);
});

Deno.test("Journal.open() in a new version of the sizes reads the old segments", () => {
  const storage = new MemoryStorage();
  fill(open(storage), 100);
  const later = open(storage.killed(), { segmentBytes: 16384 });
  fill(later, 300);
  assertEquals(sequences(later, 1), range(1, 400));
});

Deno.test("Journal.prepare() makes the next segment ahead, once", () => {
  const storage = new MemoryStorage();
  const journal = open(storage);
  journal.prepare();
  journal.prepare();
  assertEquals(storage.list(), [segmentName(0), segmentName(1)]);
  storage.capacity = 0;
  fill(journal, PER_SEGMENT + 1);
  assertEquals(journal.segmentCount, 2);
});

Deno.test("Journal writes the first page of version 1", () => {
  const storage = new MemoryStorage();
  open(storage, { first: 7 });
  const page = storage.readAll(segmentName(0))?.subarray(0, 4096) ?? raise("no segment");
  const name = (text: string) => new TextEncoder().encode(text).toHex().padEnd(96 * 2, "0");
  const golden = "42534731" + "7d8c2609" + "01000000" + "00200000" + "0000000000000000" + "0700000000000000" +
    name("c0ffee") + name("bms");
  assertEquals(page.toHex(), golden.padEnd(4096 * 2, "0"));
});

Deno.test("Journal.retention says what is kept, and of which budget", () => {
  const journal = open(new MemoryStorage(), { segmentsMax: 2, payloadBudget: 100 });
  fill(journal, PER_SEGMENT * 2 + 1);
  journal.append(fields(journal.last + 1), null, new Uint8Array(10), KEEP.budget);
  assertEquals(journal.retention, {
    first: PER_SEGMENT + 1,
    last: PER_SEGMENT * 2 + 2,
    segments: 2,
    bytes: 2 * 8192,
    payloadBytes: 10,
    payloadBudget: 100,
  });
});
