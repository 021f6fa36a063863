import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { crc32 as zlib } from "node:zlib";
import { encodeHeader, FLAG, HEADER_BYTES, OP, sealRecord } from "../journal/record.ts";
import {
  dataFrames,
  encodeLittle,
  FRAME_HEADER,
  FRAME_MAX,
  type FrameLayout,
  FrameReader,
  kinds,
  LITTLE_BODY_MAX,
  LITTLE_HEADER,
  littleFrames,
  littleKind,
  littleSequence,
  littleValue,
  sealControl,
} from "./frame.ts";
import { StreamError } from "./stream.ts";

const crc32 = (bytes: Uint8Array, value?: number) => zlib(bytes, value);
const DATA = dataFrames(crc32, kinds([10, 64, 65]));
const LITTLE = littleFrames(crc32, kinds([1, 2]));

/** Gives its chunks one by one, then the end; an empty chunk is a receive timeout. */
class FakeStream {
  readonly label = "node2 test";
  readonly #chunks: Uint8Array[];
  #target: Uint8Array = new Uint8Array();

  constructor(chunks: readonly Uint8Array[]) {
    this.#chunks = chunks.map((chunk) => chunk.slice());
  }

  /** The memory whose "address" is 0. */
  into(target: Uint8Array): this {
    this.#target = target;
    return this;
  }

  readSome(address: number, max: number): number {
    const chunk = this.#chunks[0];
    if (chunk === undefined) throw new StreamError("closed", "end");
    const taken = chunk.subarray(0, max);
    this.#target.set(taken, address);
    if (taken.length === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(max);
    return taken.length;
  }
}

function reader(layout: FrameLayout, chunks: readonly Uint8Array[], size: number = layout.max): FrameReader {
  const bytes = new Uint8Array(size);
  return new FrameReader({ stream: new FakeStream(chunks).into(bytes), layout, bytes, address: 0 });
}

function control(op: number, body: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(body);
  const bytes = new Uint8Array(FRAME_HEADER + text.length);
  bytes.set(text, FRAME_HEADER);
  sealControl({ bytes, view: new DataView(bytes.buffer), offset: 0, op, body: text.length }, crc32);
  return bytes;
}

function little(kind: number, sequence: number, value: bigint, body = ""): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(body);
  const bytes = new Uint8Array(LITTLE_HEADER + text.length);
  bytes.set(text, LITTLE_HEADER);
  const view = new DataView(bytes.buffer);
  encodeLittle({ bytes, view, offset: 0, kind, sequence, value, body: text.length }, crc32);
  return bytes;
}

/** As the primary's journal makes it: a write of `payload` to object 5. */
function record(payload: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(payload);
  const bytes = new Uint8Array(HEADER_BYTES + text.length);
  bytes.set(text, HEADER_BYTES);
  const fields = { op: OP.write, sequence: 3, epoch: 2, generation: 9n, unique: 4, id: 5, a: 0, b: 0, c: 0 };
  const shape = { flags: FLAG.payload, namesLength: 0, payloadLength: text.length };
  encodeHeader(new DataView(bytes.buffer), 0, fields, shape);
  sealRecord(bytes, 0, crc32);
  return bytes;
}

function failure(work: () => unknown): string {
  const error = assertThrows(work, StreamError);
  assertStrictEquals(error.failure, "protocol");
  return error.message;
}

Deno.test("encodeLittle() writes the golden bytes", () => {
  const bytes = little(2, 0x1_2345_6789, 0x1122_3344_5566_7788n, "ab");

  assertEquals(
    bytes.toHex(),
    "42414b31" + "02" + "000000" + "8967452301000000" + "8877665544332211" + "02000000" + "e956f3c0" + "6162",
  );
});

Deno.test("sealControl() writes the golden bytes", () => {
  const bytes = control(64, "hi");

  assertEquals(
    bytes.toHex(),
    "42524331" + "c413b497" + "00".repeat(8) + "62000000" + "40" + "00".repeat(75) + "6869",
  );
});

Deno.test("FrameReader.next() gives frames of data wherever the stream is cut", () => {
  const whole = new Uint8Array([...control(64, "one"), ...control(65, ""), ...control(64, "three")]);

  for (let cut = 1; cut < whole.length; cut++) {
    const frames = reader(DATA, [whole.subarray(0, cut), new Uint8Array(), whole.subarray(cut)]);
    const seen: [number, number][] = [];
    for (let idle = 0; seen.length < 3;) {
      if (frames.next()) seen.push([frames.view.getUint8(frames.offset + 20), frames.length]);
      else assert(++idle === 1, "one silence, one answer of false");
    }
    assertEquals(seen, [[64, 99], [65, 96], [64, 101]]);
  }
});

Deno.test("FrameReader.next() gives little frames byte by byte", () => {
  const whole = new Uint8Array([
    ...little(1, 7, 9n, "body"),
    ...little(2, Number.MAX_SAFE_INTEGER, 2n ** 64n - 1n),
  ]);
  const frames = reader(LITTLE, [...whole].map((byte) => new Uint8Array([byte])));

  assert(frames.next());
  assertEquals(littleSequence(frames.view, frames.offset), 7);
  assertEquals(frames.length, LITTLE_HEADER + 4);
  assert(frames.next());
  assertEquals(littleKind(frames.view, frames.offset), 2);
  assertEquals(littleSequence(frames.view, frames.offset), Number.MAX_SAFE_INTEGER);
  assertEquals(littleValue(frames.view, frames.offset), 2n ** 64n - 1n);
});

Deno.test("FrameReader.next() refuses a little frame with any byte damaged", () => {
  const good = little(1, 0x0102_0304_0506, 0x1122_3344_5566_7788n, "body");

  for (let index = 0; index < good.length; index++) {
    const bad = good.slice();
    bad[index] = (bad[index] ?? 0) ^ 0x55;
    // A damaged length may ask for more than came: then the end of the stream is what is seen.
    assertThrows(() => reader(LITTLE, [bad]).next(), StreamError);
  }
});

Deno.test("FrameReader.next() refuses a frame of data with any byte damaged but mtime and state", () => {
  const good = control(64, "body");

  for (let index = 0; index < good.length; index++) {
    const bad = good.slice();
    bad[index] = (bad[index] ?? 0) ^ 0x01;
    const free = (index >= 8 && index < 16) || index === 92;
    if (free) assert(reader(DATA, [bad]).next());
    else assertThrows(() => reader(DATA, [bad]).next(), StreamError);
  }
});

Deno.test("FrameReader.next() refuses a length before anything of the frame is waited for", () => {
  for (const length of [0, FRAME_HEADER - 1, FRAME_MAX + 1, 0xffff_ffff]) {
    const bytes = control(64, "");
    new DataView(bytes.buffer).setUint32(16, length, true);
    assertMatch(failure(() => reader(DATA, [bytes]).next()), /its length is \d+, expected 96 to 2097152/);
  }
});

Deno.test("FrameReader.next() refuses a body of a little frame above the maximum", () => {
  const bytes = little(1, 1, 1n);
  new DataView(bytes.buffer).setUint32(24, LITTLE_BODY_MAX + 1, true);

  assertMatch(failure(() => reader(LITTLE, [bytes]).next()), /its body has 1048577 bytes, at most 1048576/);
});

Deno.test("FrameReader.next() refuses a kind it was not told about", () => {
  assertMatch(failure(() => reader(DATA, [control(66, "")]).next()), /its kind 66 is not known here/);
  assertMatch(failure(() => reader(LITTLE, [little(3, 1, 1n)]).next()), /its kind 3 is not known here/);
});

Deno.test("FrameReader.next() refuses what is not a frame at all, naming the stream", () => {
  const garbage = new TextEncoder().encode("GET / HTTP/1.1\r\n".padEnd(FRAME_HEADER));

  assertMatch(failure(() => reader(DATA, [garbage]).next()), /from node2 test: its magic is 0x20544547/);
  assertMatch(failure(() => reader(LITTLE, [garbage]).next()), /its magic is/);
});

Deno.test("FrameReader.next() passes the longest frame, also when it must be moved to the front", () => {
  const longest = control(64, "x".repeat(FRAME_MAX - FRAME_HEADER));
  const frames = reader(DATA, [control(65, "first"), longest, control(65, "last")]);

  assert(frames.next());
  assert(frames.next());
  assertEquals(frames.length, FRAME_MAX);
  assertEquals(frames.bytes[frames.offset + FRAME_MAX - 1], "x".charCodeAt(0));
  assert(frames.next());
  assertEquals(frames.length, FRAME_HEADER + 4);
});

Deno.test("FrameReader.ready tells a whole frame from half of one", () => {
  const frame = control(64, "body");
  const frames = reader(DATA, [
    new Uint8Array([...frame, ...frame]),
    frame.subarray(0, 97),
    frame.subarray(97),
  ]);

  assert(!frames.ready);
  frames.next();
  assert(frames.ready);
  frames.next();
  assert(!frames.ready);
  assert(frames.next());
});

Deno.test("encodeLittle() refuses what the layout cannot hold", () => {
  assertThrows(() => little(1, 2 ** 53, 1n), RangeError, "sequence 9007199254740992 is not");
  assertThrows(() => little(1, -1, 1n), RangeError, "sequence -1 is not");
});

Deno.test("sealControl() refuses the op of a journal record", () => {
  assertThrows(() => control(63, ""), RangeError, "op 63 is not 64 to 255");
});

Deno.test("kinds() refuses a kind outside one byte", () => {
  assertThrows(() => kinds([0]), RangeError, "Cannot accept frame kind 0: expected 1 to 255");
  assertThrows(() => kinds([256]), RangeError);
});

Deno.test("FrameReader.next() passes a record of the journal as it is, also once it is settled", () => {
  const settled = record("data");
  settled[92] = 1;
  settled[8] = 0xff;
  const frames = reader(DATA, [record("data"), settled]);

  assert(frames.next());
  assertEquals(frames.length, HEADER_BYTES + 4);
  assert(frames.next());
  assertEquals(frames.bytes[frames.offset + 92], 1, "the checksum leaves the state byte as it came");
});

Deno.test("FrameReader.next() refuses a record whose parts do not make up its length", () => {
  const bytes = record("data");
  new DataView(bytes.buffer).setUint32(88, 5, true);
  sealRecord(bytes, 0, crc32);

  assertMatch(
    failure(() => reader(DATA, [bytes]).next()),
    /header, names \(0\) and payload \(5\) make another/,
  );
});
