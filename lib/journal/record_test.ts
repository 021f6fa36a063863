import { assertEquals, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import {
  checkRecord,
  encodeHeader,
  FLAG,
  HEADER_BYTES,
  OFFSET,
  OP,
  padded,
  type RecordFields,
  RecordView,
  sealRecord,
  STATE,
} from "./record.ts";

const FIELDS: RecordFields = {
  op: OP.rename,
  sequence: 0x1122334455,
  epoch: 7,
  generation: 0xfedcba9876543210n,
  unique: 4242,
  id: 513,
  a: 0x123456789abcn,
  b: 0xffffffffffffffffn,
  c: 3,
};

const NAMES = new TextEncoder().encode("old\0new\0");
const PAYLOAD = new Uint8Array([1, 2, 3, 4, 5]);

function sample(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(padded(HEADER_BYTES + NAMES.length + PAYLOAD.length));
  const shape = { flags: FLAG.payload, namesLength: NAMES.length, payloadLength: PAYLOAD.length };
  encodeHeader(new DataView(bytes.buffer), 0, FIELDS, shape);
  bytes.set(NAMES, HEADER_BYTES);
  bytes.set(PAYLOAD, HEADER_BYTES + NAMES.length);
  sealRecord(bytes, 0, crc32);
  return bytes;
}

const LENGTH = HEADER_BYTES + NAMES.length + PAYLOAD.length;

Deno.test("encodeHeader() writes the bytes of version 1", () => {
  const golden = "42524331" + "98aab51a" + "0000000000000000" + "6d000000" + "08" + "01" + "0800" +
    "5544332211000000" + "0700000000000000" + "1032547698badcfe" + "9210000000000000" + "0102000000000000" +
    "bc9a785634120000" + "ffffffffffffffff" + "0300000000000000" + "05000000" + "00" + "00" + "0000" +
    "6f6c64006e657700" + "0102030405" + "000000";
  assertEquals(sample().toHex(), golden);
});

Deno.test("RecordView shows what was encoded", () => {
  const bytes = sample();
  const view = new RecordView().point(bytes, new DataView(bytes.buffer), 0);
  assertEquals(view.length, LENGTH);
  assertEquals(view.op, OP.rename);
  assertEquals(view.flags, FLAG.payload);
  assertEquals(view.hollow, false);
  assertEquals(view.sequence, FIELDS.sequence);
  assertEquals(view.epoch, 7);
  assertEquals(view.generation, FIELDS.generation);
  assertEquals(view.unique, 4242);
  assertEquals(view.id, 513);
  assertEquals(view.a, 0x123456789abc);
  assertEquals(view.bBig, 0xffffffffffffffffn);
  assertEquals(view.c, 3);
  assertEquals(view.state, STATE.intention);
  assertEquals(view.mtimeNs, 0n);
  assertEquals(view.names, NAMES);
  assertEquals(view.payload, PAYLOAD);
  assertEquals(view.bytes, bytes.subarray(0, LENGTH));
  assertThrows(() => view.b, Error, "read it as bigint");
});

Deno.test("RecordView.clear() lets go of the memory", () => {
  const bytes = sample();
  const view = new RecordView().point(bytes, new DataView(bytes.buffer), 0);
  view.clear();
  assertThrows(() => view.sequence, RangeError);
});

Deno.test("encodeHeader() refuses a number that is not a 64-bit count", () => {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  const shape = { flags: 0, namesLength: 0, payloadLength: 0 };
  for (const a of [-1, 2 ** 53, NaN]) {
    assertThrows(() => encodeHeader(view, 0, { ...FIELDS, a }, shape), Error, "64-bit");
  }
});

Deno.test("checkRecord() says short, cut at every byte", () => {
  const bytes = sample();
  for (let limit = 0; limit < LENGTH; limit++) assertEquals(checkRecord(bytes, 0, limit, crc32), "short");
  assertEquals(checkRecord(bytes, 0, LENGTH, crc32), LENGTH);
});

Deno.test("checkRecord() finds a change of any bit but those of mtime and state", () => {
  const free = (at: number) => (at >= OFFSET.mtime && at < OFFSET.length) || at === OFFSET.state;
  for (let at = 0; at < LENGTH; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const bytes = sample();
      bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      const accepted = checkRecord(bytes, 0, LENGTH, crc32) === LENGTH;
      const valid = free(at) && (at !== OFFSET.state || (bytes[at] ?? 0) <= STATE.void);
      assertEquals(accepted, valid, `byte ${at} bit ${bit}`);
    }
  }
});

Deno.test("checkRecord() looks at the meaning after the checksum", () => {
  const cases: [number, number, string][] = [
    [OFFSET.op, 0, "op"],
    [OFFSET.op, 19, "op"],
    [OFFSET.op, 63, "op"],
    [OFFSET.flags, 0, "flags"],
    [OFFSET.flags, FLAG.hollow, "flags"],
    [OFFSET.flags, 3, "flags"],
    [OFFSET.reserved8, 1, "reserved"],
    [OFFSET.reserved16, 1, "reserved"],
    [OFFSET.state, 3, "state"],
  ];
  for (const [at, value, fault] of cases) {
    const bytes = sample();
    bytes[at] = value;
    sealRecord(bytes, 0, crc32);
    assertEquals(checkRecord(bytes, 0, LENGTH, crc32), fault);
  }
});

Deno.test("checkRecord() takes no length that the fields do not add up to", () => {
  for (const length of [0, 95, LENGTH - 1, LENGTH + 1, 0xffffffff]) {
    const bytes = sample();
    new DataView(bytes.buffer).setUint32(OFFSET.length, length, true);
    assertEquals(checkRecord(bytes, 0, bytes.length, crc32), "length");
  }
});

Deno.test("checkRecord() gives the same answer for a settled record", () => {
  const bytes = sample();
  bytes[OFFSET.state] = STATE.applied;
  assertEquals(checkRecord(bytes, 0, LENGTH, crc32), LENGTH);
});
