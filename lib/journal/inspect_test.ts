import { assertEquals, assertThrows } from "@std/assert";
import { type Fault, type Found, inspect, type InspectOptions } from "./inspect.ts";
import { Journal, KEEP } from "./journal.ts";
import { MemoryStorage } from "./memory_storage.ts";
import { HEADER_BYTES, OFFSET, OP } from "./record.ts";
import { SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { folderOf, folderWith, goldenBytes } from "./testdata/files.ts";
import { SEALED, TORN } from "./testdata/log_v1.ts";

const IDENTITY = { cluster: "c0ffee", module: "bms" };
const SIZES = { segmentBytes: 8192, segmentsMax: 8 };

/** Records of 96 bytes in a segment of 8192. */
const PER_SEGMENT = Math.floor((8192 - SEGMENT_HEADER_BYTES) / HEADER_BYTES);

function open(storage: MemoryStorage): Journal {
  return Journal.open({ storage, identity: IDENTITY, scan: "all", ...SIZES });
}

function fill(journal: Journal, count: number): void {
  const fields = { op: OP.write, epoch: 1, generation: 5n, unique: 0, id: 9, a: 0, b: 0, c: 0 };
  for (let i = 0; i < count; i++) {
    journal.append({ ...fields, sequence: journal.last + 1 }, null, null, KEEP.no);
  }
}

/** A log of 100 records in three segments. */
function filled(): { storage: MemoryStorage; journal: Journal } {
  const storage = new MemoryStorage();
  const journal = open(storage);
  fill(journal, 100);
  return { storage, journal };
}

/** What a walk meets, `during` being called at each step. */
function walked(options: InspectOptions, during: (found: Found) => void = () => {}) {
  const sequences: number[] = [];
  const faults: Fault[] = [];
  let end: Found | null = null;
  let pauses = 0;
  for (const found of inspect(options)) {
    if (found.kind === "record") sequences.push(found.record.sequence);
    else if (found.kind === "fault") faults.push(found);
    else if (found.kind === "pause") pauses++;
    else if (found.kind === "end") end = found;
    during(found);
  }
  return { sequences, faults, end, pauses };
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

Deno.test("inspect() shows every record, and what the log measures", () => {
  const { storage } = filled();
  const { sequences, faults, end, pauses } = walked({ folder: folderOf(storage) });
  assertEquals([sequences, faults, pauses], [range(1, 100), [], 0]);
  assertEquals(end, { kind: "end", segments: 3, dropped: 0, spares: 1, bytes: 3 * 8192 });
});

Deno.test("inspect() shows what was asked for, and reads no segment it need not", () => {
  const { storage } = filled();
  const folder = folderOf(storage);
  assertEquals(walked({ folder, from: 50, to: 52 }).sequences, [50, 51, 52]);
  const segments: string[] = [];
  walked({ folder, from: 50, to: 52 }, (found) => found.kind === "segment" && segments.push(found.segment));
  assertEquals(segments, [segmentName(1)]);
  assertEquals(walked({ folder, from: 200 }).sequences, []);
});

Deno.test("inspect() writes nothing", () => {
  const { storage } = filled();
  storage.before = (action) => {
    throw new Error(`it did ${action}`);
  };
  assertEquals(walked({ folder: folderOf(storage) }).sequences.length, 100);
});

Deno.test("inspect() says of a torn tail where it is, and that nothing follows", () => {
  const { sequences, faults, pauses } = walked({
    folder: folderWith(goldenBytes(SEALED), goldenBytes(TORN)),
  });
  assertEquals(sequences.length, 7);
  assertEquals(faults.map(({ segment, torn, sequence }) => ({ segment, torn, sequence })), [
    { segment: segmentName(1), torn: true, sequence: (sequences.at(-1) ?? 0) + 1 },
  ]);
  assertEquals(pauses, 3);
});

Deno.test("inspect() goes on after a damaged record, and says which one it is", () => {
  const { storage } = filled();
  const at = SEGMENT_HEADER_BYTES + 10 * HEADER_BYTES;
  storage.damage(segmentName(1), at + OFFSET.id, Uint8Array.of(1));
  const { sequences, faults } = walked({ folder: folderOf(storage) });
  const lost = PER_SEGMENT + 11;
  assertEquals(sequences, range(1, 100).filter((sequence) => sequence !== lost));
  const fault = {
    kind: "fault",
    segment: segmentName(1),
    at,
    reason: "checksum",
    sequence: lost,
    torn: false,
  };
  assertEquals(faults, [fault as Fault]);
});

Deno.test("inspect() says that a segment is missing, or its first page damaged", () => {
  const { storage } = filled();
  const damaged = storage.killed();
  damaged.damage(segmentName(1), 0, new Uint8Array(4096).fill(1));
  const { sequences, faults } = walked({ folder: folderOf(damaged) });
  assertEquals([sequences, faults.map(({ reason }) => reason)], [range(1, 100), ["segment page"]]);
  storage.remove(segmentName(1));
  const missing = walked({ folder: folderOf(storage) });
  assertEquals(missing.sequences, [...range(1, PER_SEGMENT), ...range(2 * PER_SEGMENT + 1, 100)]);
  assertEquals(missing.faults.map(({ reason, segment }) => [reason, segment]), [[
    "segment missing",
    segmentName(2),
  ]]);
});

Deno.test("inspect() says that a copied file is cut short", () => {
  const { storage } = filled();
  storage.cut(segmentName(2), 4096 + 50);
  const reasons = walked({ folder: folderOf(storage) }).faults.map(({ reason }) => reason);
  assertEquals(reasons, ["segment size", "short"]);
});

Deno.test("inspect() tells segments of two logs apart", () => {
  const { storage } = filled();
  const other = new MemoryStorage();
  fill(
    Journal.open({ storage: other, identity: { ...IDENTITY, module: "erp" }, scan: "all", ...SIZES }),
    100,
  );
  storage.writeAtomic(segmentName(1), other.readAll(segmentName(1)) ?? new Uint8Array(0));
  const reasons = walked({ folder: folderOf(storage) }).faults.map(({ reason }) => reason);
  assertEquals(reasons, ["other log", "other log"]);
});

Deno.test("inspect() follows a log that is being written to, its end not torn", () => {
  const { storage, journal } = filled();
  let written = 0;
  const { sequences, faults } = walked({ folder: folderOf(storage) }, (found) => {
    // A writer that is faster than the reader must not keep it for ever.
    if (found.kind === "record") fill(journal, 2), written += 2;
  });
  assertEquals(faults, []);
  assertEquals(sequences, range(1, 3 * PER_SEGMENT));
  assertEquals(written, 2 * sequences.length);
});

Deno.test("inspect() looks again at a record that is being written", () => {
  const { storage, journal } = filled();
  const at = SEGMENT_HEADER_BYTES + (100 - 2 * PER_SEGMENT) * HEADER_BYTES;
  // The payload is stored before the header.
  storage.damage(segmentName(2), at + 80, new Uint8Array(16).fill(7));
  const { sequences, faults, pauses } = walked({ folder: folderOf(storage) }, (found) => {
    if (found.kind === "pause" && journal.last === 100) {
      storage.damage(segmentName(2), at + 80, new Uint8Array(16));
      fill(journal, 1);
    }
  });
  assertEquals([sequences, faults, pauses], [range(1, 101), [], 1]);
});

Deno.test("inspect() says how many segments the replicator dropped meanwhile", () => {
  const { storage } = filled();
  const { sequences, faults, end } = walked({ folder: folderOf(storage) }, (found) => {
    if (found.kind === "segment" && found.segment === segmentName(0)) storage.remove(segmentName(1));
  });
  assertEquals(faults, []);
  assertEquals(sequences, [...range(1, PER_SEGMENT), ...range(2 * PER_SEGMENT + 1, 100)]);
  assertEquals(end, { kind: "end", segments: 3, dropped: 1, spares: 1, bytes: 3 * 8192 });
});

Deno.test("inspect() takes segments made ahead for none, whatever is there of them", () => {
  const { storage } = filled();
  storage.writeAtomic(segmentName(4), new Uint8Array(0));
  // Its first page was being written: the magic is stored last.
  storage.damage(segmentName(3), 8, Uint8Array.of(1));
  const { faults, end } = walked({ folder: folderOf(storage) });
  assertEquals([faults, end], [[], { kind: "end", segments: 3, dropped: 0, spares: 2, bytes: 3 * 8192 }]);
});

Deno.test("inspect() refuses a format it does not know", () => {
  const bytes = goldenBytes(SEALED);
  bytes[8] = 2;
  const crc32 = () => new DataView(bytes.buffer).getUint32(4, true);
  assertThrows(
    () => walked({ folder: folderWith(bytes), crc32 }),
    Error,
    `Cannot read ${segmentName(0)}: it has format 2, this program knows 1`,
  );
});
