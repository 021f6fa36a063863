import { assert, assertEquals, assertThrows } from "@std/assert";
import { crc32 as zlib, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { Memory } from "../../tests/sim/memory.ts";
import { OFFSET } from "../journal/record.ts";
import { setU64, u64 } from "./bytes.ts";
import { dataFrames, FRAME_HEADER, FRAME_MAX, FrameReader, kinds, sealControl } from "./frame.ts";
import { CONTROL } from "./mutation.ts";
import { type Codec, Packing } from "./packing.ts";
import { type Stream, StreamError } from "./stream.ts";
import { Unpacking } from "./unpacking.ts";
import { Wire } from "./wire.ts";

const crc32 = (bytes: Uint8Array, value?: number) => zlib(bytes, value);
const OPS = [CONTROL.idle, CONTROL.data];

const CODEC: Codec = {
  packs: true,
  pack(from, into) {
    const packed = zstdCompressSync(from);
    if (packed.length > into.length) return -1;
    into.set(packed);
    return packed.length;
  },
  unpack(from, into) {
    try {
      const bytes = zstdDecompressSync(from, { maxOutputLength: into.length });
      into.set(bytes);
      return bytes.length;
    } catch {
      return -1;
    }
  },
};

/** The receiving end of a stream on which `bytes` come, `grain` at a time. */
function receiver(bytes: Uint8Array, grain: number = bytes.length, codec: Pick<Codec, "unpack"> = CODEC) {
  const memory = new Memory();
  const room = new Uint8Array(FRAME_MAX);
  const address = memory.addressOf(room);
  let at = 0;
  const stream = {
    label: "node1 test",
    readSome(into: number, max: number): number {
      const part = bytes.subarray(at, at + Math.min(max, grain));
      if (part.length > 0) memory.at(into, part.length).set(part);
      at += part.length;
      return part.length;
    },
  };
  const reader = new FrameReader({
    stream,
    layout: dataFrames(crc32, kinds([...OPS, CONTROL.packed])),
    bytes: room,
    address,
  });
  const layout = dataFrames(crc32, kinds(OPS));
  return new Unpacking({ reader, address, codec, layout, addressOf: memory.addressOf, label: "node1 test" });
}

/** Packs whatever shrinks. */
function eager(): Packing {
  return new Packing({ codec: CODEC, now: () => 0, line: () => null, kept: () => 1, bandwidth: null });
}

/** What a wire sends, of a resync where `packs`. */
function sent(packs: boolean, send: (wire: Wire) => void): Uint8Array<ArrayBuffer> {
  const memory = new Memory();
  const chunks: Uint8Array[] = [];
  const stream = {
    writeAll: (address: number, length: number) => void chunks.push(memory.at(address, length).slice()),
  } as unknown as Stream;
  const packing = eager();
  const wire = new Wire({
    stream,
    crc32,
    addressOf: memory.addressOf,
    gather: true,
    ...(packs ? { packing } : {}),
  });
  wire.resync(() => send(wire));
  wire.flush();
  assertEquals(wire.resyncBytes.sent, chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  return new Uint8Array(chunks.flatMap((chunk) => [...chunk]));
}

/** Frames short and long. */
function frames(wire: Wire): void {
  for (let id = 1; id <= 20; id++) {
    const length = id === 10 ? 100_000 : id * 37;
    wire.body.fill(id, 0, length);
    wire.control(CONTROL.data, { id, b: length }, length);
  }
}

/** What a receiver gives: id, length, and the last byte of each frame. */
function received(unpacking: Unpacking): number[][] {
  const found: number[][] = [];
  while (unpacking.next()) {
    const { bytes, view, offset, length } = unpacking;
    found.push([u64(view, offset + OFFSET.id), length, bytes[offset + length - 1] ?? -1]);
  }
  return found;
}

function packedFrame(body: Uint8Array, claimed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_HEADER + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(body, FRAME_HEADER);
  setU64(view, OFFSET.a, claimed);
  sealControl({ bytes, view, offset: 0, op: CONTROL.packed, body: body.length }, crc32);
  return bytes;
}

Deno.test("Unpacking gives the frames that a wire packed, as if they had come one by one", () => {
  const [packed, plain] = [sent(true, frames), sent(false, frames)];
  assert(packed.length < plain.length / 10, `${packed.length} of ${plain.length} bytes`);
  assertEquals(received(receiver(packed)), received(receiver(plain)));
});

Deno.test("Unpacking gives the same frames however they are cut on the way", () => {
  const packed = sent(true, frames);
  const expected = received(receiver(packed));
  for (const grain of [1, 7, 95, 97, 1000]) {
    const unpacking = receiver(packed, grain);
    const found: number[][] = [];
    for (let i = 0; i < packed.length && found.length < expected.length; i++) {
      found.push(...received(unpacking));
    }
    assertEquals(found, expected);
  }
});

Deno.test("Wire packs nothing but what a resync sends", () => {
  const live = sent(true, () => {});
  assertEquals(live.length, 0);
  const memory = new Memory();
  const ops: number[] = [];
  const stream = {
    writeAll: (address: number, length: number) => void ops.push(memory.at(address, length)[OFFSET.op] ?? 0),
  } as unknown as Stream;
  const packing = eager();
  const wire = new Wire({ stream, crc32, addressOf: memory.addressOf, gather: true, packing });
  wire.control(CONTROL.data, { id: 1 }, 2000);
  wire.resync(() => wire.control(CONTROL.data, { id: 2 }, 2000));
  wire.control(CONTROL.data, { id: 3 }, 2000);
  wire.flush();
  assertEquals(ops, [CONTROL.data, CONTROL.packed, CONTROL.data]);
});

Deno.test("Unpacking.ahead() shows the frames behind the current one", () => {
  const unpacking = receiver(sent(true, (wire) => {
    for (let id = 1; id <= 5; id++) wire.control(CONTROL.data, { id }, 500);
  }));
  unpacking.next();
  const ids: number[] = [];
  unpacking.ahead((offset) => ids.push(u64(unpacking.view, offset + OFFSET.id)));
  assertEquals([ids, unpacking.opened], [[2, 3, 4, 5], true]);
  unpacking.next();
  assertEquals(unpacking.opened, false);
});

Deno.test("Unpacking is ready while frames of a packed one are left", () => {
  const unpacking = receiver(sent(true, (wire) => {
    for (let id = 1; id <= 3; id++) wire.control(CONTROL.data, { id }, 500);
  }));
  const ready: boolean[] = [];
  while (unpacking.next()) ready.push(unpacking.ready);
  assertEquals(ready, [true, true, false]);
});

Deno.test("Unpacking refuses a length out of bounds before anything is unpacked", () => {
  for (const claimed of [0, 95, FRAME_MAX + 1, 2 ** 40]) {
    const codec = {
      unpack: () => {
        throw new Error("it was unpacked");
      },
    };
    const unpacking = receiver(packedFrame(new Uint8Array(100), claimed), 1 << 20, codec);
    assertThrows(() => unpacking.next(), StreamError, `it claims ${claimed} bytes, expected 96 to`);
  }
});

Deno.test("Unpacking never has room for more than was claimed", () => {
  const bomb = zstdCompressSync(new Uint8Array(FRAME_MAX));
  let room = 0;
  const codec = {
    unpack(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>) {
      room = into.length;
      return CODEC.unpack(from, into);
    },
  };
  const unpacking = receiver(packedFrame(bomb, 1000), 1 << 20, codec);
  assertThrows(() => unpacking.next(), StreamError, "it is damaged");
  assertEquals(room, 1000);
});

Deno.test("Unpacking refuses what is damaged at any byte, or cut at any", () => {
  const inner = sent(false, (wire) => wire.control(CONTROL.data, { id: 1 }, 50));
  const body = zstdCompressSync(inner);
  for (let at = 0; at < body.length; at++) {
    const damaged = new Uint8Array(body);
    damaged[at] = (damaged[at] ?? 0) ^ 0xff;
    assertThrows(() => receivedAll(packedFrame(damaged, inner.length), inner), StreamError);
    assertThrows(() => received(receiver(packedFrame(body.subarray(0, at), inner.length))), StreamError);
  }
});

Deno.test("Unpacking refuses frames that do not fill what was packed, and packed ones in it", () => {
  const inner = sent(false, (wire) => wire.control(CONTROL.data, { id: 1 }, 50));
  const refusals: [Uint8Array, number, string][] = [
    [zstdCompressSync(inner), inner.length + 1, "bytes came of it"],
    [zstdCompressSync(inner.subarray(0, inner.length - 1)), inner.length - 1, "it ends within a frame"],
    [zstdCompressSync(new Uint8Array([...inner, 1])), inner.length + 1, "it ends within a frame"],
  ];
  for (const [body, claimed, reason] of refusals) {
    assertThrows(() => received(receiver(packedFrame(body, claimed))), StreamError, reason);
  }
  const nested = packedFrame(zstdCompressSync(inner), inner.length);
  const unpacking = receiver(packedFrame(zstdCompressSync(nested), nested.length));
  assertThrows(() => unpacking.next(), StreamError, `its kind ${CONTROL.packed} is not known here`);
});

/** Where damage has changed nothing that counts, the frames are those that were sent. */
function receivedAll(bytes: Uint8Array<ArrayBuffer>, inner: Uint8Array<ArrayBuffer>): void {
  assertEquals(received(receiver(bytes)), received(receiver(inner)));
  throw new StreamError("protocol", "the damage was harmless");
}
