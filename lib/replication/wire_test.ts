import { assertEquals } from "@std/assert";
import { crc32 } from "node:zlib";
import { Memory } from "../../tests/sim/memory.ts";
import { CONTROL } from "./mutation.ts";
import type { Stream } from "./stream.ts";
import { Wire } from "./wire.ts";

/** A wire over a stream that notes each write: the ops of the frames in it. */
function harness(gather: boolean) {
  const memory = new Memory();
  const writes: number[][] = [];
  const stream = {
    writeAll(address: number, length: number) {
      const bytes = memory.at(address, length).slice();
      const view = new DataView(bytes.buffer);
      const ops: number[] = [];
      for (let at = 0; at < length; at += view.getUint32(at + 16, true)) ops.push(view.getUint8(at + 20));
      writes.push(ops);
    },
  };
  const wire = new Wire({ stream: stream as unknown as Stream, crc32, addressOf: memory.addressOf, gather });
  return { wire, writes };
}

Deno.test("Wire sends each frame at once where it is not told to gather", () => {
  const { wire, writes } = harness(false);
  wire.control(CONTROL.idle, {}, 0);
  wire.control(CONTROL.replay, { a: 1 }, 10);
  assertEquals(writes, [[CONTROL.idle], [CONTROL.replay]]);
});

Deno.test("Wire.flush() sends what was gathered, in order, once", () => {
  const { wire, writes } = harness(true);
  wire.control(CONTROL.idle, {}, 0);
  wire.control(CONTROL.replay, { a: 1 }, 10);
  assertEquals(writes, []);
  wire.flush();
  wire.flush();
  assertEquals(writes, [[CONTROL.idle, CONTROL.replay]]);
});

Deno.test("Wire sends a long frame behind what was gathered before it", () => {
  const { wire, writes } = harness(true);
  wire.control(CONTROL.idle, {}, 0);
  wire.control(CONTROL.data, {}, 100_000);
  wire.control(CONTROL.member, {}, 0);
  wire.flush();
  assertEquals(writes, [[CONTROL.idle], [CONTROL.data], [CONTROL.member]]);
});

Deno.test("Wire gathers no more than it has room for", () => {
  const { wire, writes } = harness(true);
  for (let i = 0; i < 100; i++) wire.control(CONTROL.object, { id: i }, 30_000);
  wire.flush();
  assertEquals(writes.flat().length, 100);
  assertEquals(writes.length > 10, true);
});
