/** The format is a promise: what version 1 wrote is read, and version 1 is still what is written. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { inspect } from "./inspect.ts";
import { Journal } from "./journal.ts";
import { MemoryStorage } from "./memory_storage.ts";
import { HEADER_BYTES, OFFSET, OP, padded, RecordView, STATE } from "./record.ts";
import { SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import { AT } from "./segment_page.ts";
import { folderWith, goldenBytes, goldenStorage } from "./testdata/files.ts";
import {
  GOLDEN_FIRST,
  GOLDEN_GENERATION,
  GOLDEN_IDENTITY,
  writeLife,
  writeTornLife,
} from "./testdata/life.ts";
import { GOLDEN_BYTES, NEWEST, SEALED, TORN } from "./testdata/log_v1.ts";

/** Records in the sealed segment, and in both. */
const SEALED_RECORDS = 3;
const RECORDS = 8;

function open(storage: MemoryStorage, scan: "all" | "tail" = "all"): Journal {
  return Journal.open({ storage, identity: GOLDEN_IDENTITY, scan, segmentBytes: 8192, segmentsMax: 8 });
}

/** What the log says, as text: `state op id a b c mtime names payload-length`. */
function told(journal: Journal): string[] {
  const lines: string[] = [];
  using cursor = journal.read(journal.first) ?? raise("the log is empty");
  const view = new RecordView();
  while (cursor.next(view)) {
    lines.push(
      [
        view.sequence - GOLDEN_FIRST,
        view.op,
        view.state,
        view.flags,
        view.epoch,
        view.unique - view.sequence * 2,
        view.id,
        view.aBig,
        view.bBig,
        view.cBig,
        view.mtimeNs,
        view.names.toHex(),
        view.payloadLength,
      ].join(" "),
    );
    assertEquals(view.generation, GOLDEN_GENERATION);
  }
  return lines;
}

function raise(why: string): never {
  throw new Error(why);
}

/** Place, op, state, flags, epoch, unique, id, a, b, c, mtime, names, payload. */
const TOLD = [
  "0 1 1 0 658188 6 513 33184 111669149722 1 72623859790382856 646f6e6ec3a96573c2a02e646200 0",
  "1 10 1 1 658188 6 513 4096 3100 0 1700000000123456789  3100",
  "2 13 1 1 658188 6 513 0 0 0 -5 757365722e636f6c6f7200 4",
  "3 10 1 1 658188 6 513 1108152157446 700 0 1700000001000000000  700",
  "4 10 1 2 658188 6 513 65536 1048576 1 1700000002000000000  0",
  "5 6 2 0 658188 6 600 0 0 1 0 676f6e6500 0",
  "6 8 1 0 658188 6 513 1 0 1 1700000003000000001 6f6c64ff0a006e6577005802000000000000 0",
  "7 10 0 1 658188 6 513 5 11 0 0  11",
];

Deno.test("Journal.open() reads what version 1 wrote", () => {
  for (const scan of ["all", "tail"] as const) {
    const journal = open(goldenStorage(SEALED, NEWEST), scan);
    assertEquals(told(journal), TOLD);
    assertEquals([journal.first, journal.last], [GOLDEN_FIRST, GOLDEN_FIRST + RECORDS - 1]);
    assertEquals([journal.payloadBytes, journal.recovery.cut], [3100 + 4 + 700 + 11, null]);
    const hanging = journal.recovery.unsettled.map((at) => journal.at(at, new RecordView())?.sequence);
    assertEquals(hanging, [GOLDEN_FIRST + RECORDS - 1]);
  }
});

Deno.test("Journal.open() cuts the torn tail that version 1 left", () => {
  for (const scan of ["all", "tail"] as const) {
    const journal = open(goldenStorage(SEALED, TORN), scan);
    assertEquals(told(journal), TOLD.slice(0, -1));
    assertEquals(journal.recovery.cut?.segment, segmentName(1));
  }
});

Deno.test("Journal still writes the bytes of version 1", () => {
  const whole = new MemoryStorage();
  writeLife(whole);
  assertEquals(whole.readAll(segmentName(0))?.toHex(), goldenBytes(SEALED).toHex());
  assertEquals(whole.readAll(segmentName(1))?.toHex(), goldenBytes(NEWEST).toHex());
  const torn = new MemoryStorage();
  writeTornLife(torn);
  assertEquals(torn.readAll(segmentName(1))?.toHex(), goldenBytes(TORN).toHex());
});

Deno.test("Segments and records stand where the layout tables say", () => {
  const bytes = goldenBytes(SEALED);
  const text = (at: number, length: number) => new TextDecoder().decode(bytes.subarray(at, at + length));
  // The least significant byte first, read without any code of the journal.
  const number = (at: number, length: number) =>
    bytes.subarray(at, at + length).reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
  assertEquals([text(0, 4), text(224, 4), text(4096, 4)], ["BSG1", "BSL1", "BRC1"]);
  assertEquals([number(8, 4), number(12, 4), number(16, 8)], [1n, 8192n, 0n]);
  assertEquals([text(32, 14), text(128, 7)], ["f00dface-plant", "bms-ü\0"]);
  assertEquals([number(24, 8), number(232, 8)], [0x0102030405n, 0x0102030407n]);
  assertEquals([number(240, 8), number(248, 8)], [7520n, 3104n]);
  assertEquals(number(4096 + 8, 8), 0x0102030405060708n);
  assertEquals([number(4096 + 16, 4), number(4096 + 20, 1), number(4096 + 22, 2)], [110n, 1n, 14n]);
  assertEquals([number(4096 + 24, 8), number(4096 + 32, 8)], [0x0102030405n, 0x0a0b0cn]);
  assertEquals([number(4096 + 40, 8), number(4096 + 48, 8)], [GOLDEN_GENERATION, 0x0204060810n]);
  assertEquals([number(4096 + 56, 8), number(4096 + 64, 8)], [513n, 0o100640n]);
  assertEquals([number(4096 + 72, 8), number(4096 + 80, 8)], [0x0000001a_0000001an, 1n]);
  assertEquals([number(4096 + 88, 4), number(4096 + 92, 1)], [0n, 1n]);
});

Deno.test("Journal.open() takes no byte order but its own", () => {
  for (const [at, length] of [[AT.version, 4], [AT.bytes, 4], [AT.first, 8]] as const) {
    const storage = goldenStorage(SEALED, NEWEST);
    const field = goldenBytes(SEALED).slice(at, at + length).reverse();
    storage.damage(segmentName(0), at, field);
    assertEquals(open(storage).recovery.cut?.reason, "segment lost", `field at ${at}`);
  }
  for (const [name, at] of Object.entries(OFFSET)) {
    // One byte, or outside the checksum.
    if (["op", "flags", "state", "reserved8", "reserved16", "mtime"].includes(name)) continue;
    const length = at < 24 ? (name === "namesLength" ? 2 : 4) : name === "payloadLength" ? 4 : 8;
    const place = SEGMENT_HEADER_BYTES + at;
    const field = goldenBytes(NEWEST).slice(place, place + length);
    const storage = goldenStorage(SEALED, NEWEST);
    storage.damage(segmentName(1), place, field.slice().reverse());
    const same = field.toHex() === field.slice().reverse().toHex();
    assertEquals(open(storage).last === GOLDEN_FIRST + SEALED_RECORDS - 1, !same, name);
  }
});

/** Where each record of the newest golden segment starts, and where the last one ends. */
function starts(): number[] {
  const bytes = goldenBytes(NEWEST);
  const view = new DataView(bytes.buffer);
  const places: number[] = [];
  let at: number = SEGMENT_HEADER_BYTES;
  for (let i = SEALED_RECORDS; i < RECORDS; i++) {
    places.push(at);
    at += padded(view.getUint32(at + OFFSET.length, true));
  }
  return [...places, at];
}

/** Whether the log with these segments has a fault. */
function faulty(...segments: Uint8Array[]): boolean {
  return [...inspect({ folder: folderWith(...segments) })].some(({ kind }) => kind === "fault");
}

function flipped(bytes: Uint8Array, at: number, bit: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << bit);
  return copy;
}

Deno.test("inspect() finds every flipped bit of the newest records, Journal.open() one of each byte", () => {
  const sealed = goldenBytes(SEALED);
  const golden = goldenBytes(NEWEST);
  assertEquals(faulty(sealed, golden), false);
  for (const [i, start] of starts().slice(0, -1).entries()) {
    const length = new DataView(golden.buffer).getUint32(start + OFFSET.length, true);
    for (let at = 0; at < length; at++) {
      if ((at >= OFFSET.mtime && at < OFFSET.length) || at === OFFSET.state) continue;
      for (let bit = 0; bit < 8; bit++) {
        assert(faulty(sealed, flipped(golden, start + at, bit)), `byte ${at} bit ${bit} of record ${i}`);
      }
      if (at >= HEADER_BYTES + 32) continue;
      const storage = goldenStorage(SEALED, NEWEST);
      storage.writeAtomic(segmentName(1), flipped(golden, start + at, at % 8));
      assertEquals(open(storage).last, GOLDEN_FIRST + SEALED_RECORDS + i - 1, `byte ${at} of record ${i}`);
    }
  }
});

Deno.test("inspect() finds every flipped bit of a segment's head and seal", () => {
  const sealed = goldenBytes(SEALED);
  const newest = goldenBytes(NEWEST);
  for (let at = 0; at < AT.sealedEnd; at++) {
    for (let bit = 0; bit < 8; bit++) {
      assert(faulty(flipped(sealed, at, bit), newest), `byte ${at} bit ${bit}`);
    }
  }
});

Deno.test("Journal.open() does not take a damaged head, and does without a damaged seal", () => {
  for (let at = 0; at < AT.sealedEnd; at++) {
    const storage = goldenStorage(SEALED, NEWEST);
    storage.writeAtomic(segmentName(0), flipped(goldenBytes(SEALED), at, at % 8));
    const journal = open(storage);
    if (at < AT.headEnd) assertEquals(journal.recovery.cut?.reason, "segment lost", `byte ${at}`);
    else assertEquals(told(journal), TOLD, `byte ${at}`);
  }
});

/** How many records are whole when `content` stands at `at` instead of what stood there. */
function wholeRecords(at: number, content: Uint8Array): number {
  const golden = goldenBytes(NEWEST);
  const view = new DataView(golden.buffer);
  const changed = (from: number, to: number) => {
    for (let i = Math.max(from, at); i < Math.min(to, at + content.length); i++) {
      if (golden[i] !== content[i - at]) return true;
    }
    return false;
  };
  if (changed(0, AT.headEnd)) return SEALED_RECORDS;
  const torn = starts().slice(0, -1).findIndex((start) =>
    changed(start, start + view.getUint32(start + OFFSET.length, true))
  );
  return torn === -1 ? RECORDS : SEALED_RECORDS + torn;
}

Deno.test("Journal.open() keeps what is whole, cut at every byte of the last two records", () => {
  const places = starts();
  const end = places.at(-1) ?? 0;
  for (let from = places.at(-3) ?? 0; from < end; from++) {
    const zeros = new Uint8Array(end - from);
    // A killed process tears one record only: the other way of opening may rely on that.
    for (const scan of from >= (places.at(-2) ?? 0) ? ["all", "tail"] as const : ["all"] as const) {
      const storage = goldenStorage(SEALED, NEWEST);
      storage.damage(segmentName(1), from, zeros);
      const journal = open(storage, scan);
      assertEquals(told(journal), TOLD.slice(0, wholeRecords(from, zeros)), `${scan}, zeros from ${from}`);
      writesOn(storage, journal);
    }
  }
});

/** What stands behind a cut must not come back when new records end where it begins. */
function writesOn(storage: MemoryStorage, journal: Journal): void {
  const { last } = journal;
  const fields = { op: OP.write, epoch: 1, generation: 1n, unique: 0, id: 1, a: 0, b: 0, c: 0 };
  for (let i = 1; i <= 3; i++) journal.append({ ...fields, sequence: last + i }, null, null, 0);
  assertEquals(open(storage.killed()).last, last + 3);
}

const SECTOR = 512;

/** A sector that was not stored: as it was before the segment came into use, or never written at all. */
const LOST = { zeros: new Uint8Array(SECTOR), garbage: new Uint8Array(SECTOR).fill(0xa5) };

Deno.test("Journal.open() shows nothing untrue, whichever sector of the last segment is lost", () => {
  for (const [how, content] of Object.entries(LOST)) {
    for (let at = 0; at < GOLDEN_BYTES; at += SECTOR) {
      const storage = goldenStorage(SEALED, NEWEST);
      storage.damage(segmentName(1), at, content);
      const journal = open(storage);
      const kept = wholeRecords(at, content);
      assertEquals(told(journal), TOLD.slice(0, kept), `${how} at ${at}`);
      if (kept < RECORDS) writesOn(storage, journal);
    }
  }
});

Deno.test("Journal.settle() is all that changes a record: mtime and state are outside its checksum", () => {
  const storage = goldenStorage(SEALED, NEWEST);
  const journal = open(storage);
  journal.settle(journal.positionOf(journal.last) ?? raise("no record"), STATE.applied, 77n);
  const before = goldenBytes(NEWEST);
  const after = storage.readAll(segmentName(1)) ?? raise("no segment");
  const start = starts().at(-2) ?? 0;
  const places = Array.from(after).flatMap((byte, at) => byte === before[at] ? [] : [at - start]);
  assertEquals(places, [OFFSET.mtime, OFFSET.state]);
});

Deno.test("Journal.open() refuses the golden log under another name", () => {
  assertThrows(
    () =>
      Journal.open({
        storage: goldenStorage(SEALED, NEWEST),
        identity: { ...GOLDEN_IDENTITY, module: "x" },
        scan: "all",
      }),
    Error,
    'belongs to module "bms-ü"',
  );
});
