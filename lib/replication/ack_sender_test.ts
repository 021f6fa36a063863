import { crc32 } from "node:zlib";
import { assertEquals } from "@std/assert";
import { Memory } from "../../tests/sim/memory.ts";
import { MemoryStream } from "../../tests/sim/data_road.ts";
import { AckSender } from "./ack_sender.ts";
import {
  FrameReader,
  kinds,
  LITTLE_BODY_MAX,
  LITTLE_HEADER,
  littleFrames,
  littleKind,
  littleSequence,
  littleValue,
} from "./frame.ts";
import { ACK } from "./mutation.ts";

/** A sender, and the frames that arrive at its other end: kind, sequence, value, and the numbers of the body. */
function connected() {
  const memory = new Memory();
  const stream = new MemoryStream(memory);
  const sender = new AckSender(memory.addressOf);
  sender.stream = stream;
  const bytes = new Uint8Array(2 * (LITTLE_HEADER + LITTLE_BODY_MAX));
  const layout = littleFrames(crc32, kinds(Object.values(ACK)));
  const reader = new FrameReader({ stream, layout, bytes, address: memory.addressOf(bytes) });
  const frames = function* () {
    while (stream.pending() > 0 || reader.ready) {
      if (!reader.next()) continue;
      const { view, offset, length } = reader;
      const body = reader.bytes.slice(offset + LITTLE_HEADER, offset + length);
      yield {
        kind: littleKind(view, offset),
        sequence: littleSequence(view, offset),
        value: Number(littleValue(view, offset)),
        body,
        numbers: () => [...new Float64Array(body.buffer, 0, body.length >> 3)],
      };
    }
  };
  return { sender, frames };
}

Deno.test("AckSender.emit() sends a frame, and nothing without a connection", () => {
  const { sender, frames } = connected();
  sender.emit(ACK.applied, 812);
  sender.stream = null;
  sender.emit(ACK.applied, 813);
  assertEquals([...frames()].map(({ kind, sequence, body }) => [kind, sequence, body.length]), [[
    ACK.applied,
    812,
    0,
  ]]);
});

Deno.test("AckSender.ids() takes as many frames as it needs, one for none, and marks the last", () => {
  const { sender, frames } = connected();
  sender.ids(ACK.touched, [], 1);
  const ids = Array.from({ length: 65_537 }, (_, index) => 2 ** 40 + index);
  sender.ids(ACK.touched, ids, 1);
  const [none, ...some] = [...frames()];
  assertEquals([none?.value, none?.body.length], [1, 0]);
  assertEquals(some.map(({ value, body }) => [value, body.length / 8]), [[0, 65_536], [1, 1]]);
  assertEquals(some.flatMap((frame) => frame.numbers()), ids);
});

Deno.test("AckSender.ranges() names an object and where it differs", () => {
  const { sender, frames } = connected();
  sender.ranges(ACK.want, 77, [{ offset: 2 ** 41, length: 5 }, { offset: 0, length: 9 }]);
  const [frame] = [...frames()];
  assertEquals([frame?.sequence, frame?.numbers()], [77, [2 ** 41, 5, 0, 9]]);
});

Deno.test("AckSender.text() sends a text, and cuts a long one", () => {
  const { sender, frames } = connected();
  sender.text(ACK.failed, "disk full");
  sender.text(ACK.failed, "x".repeat(10_000));
  const texts = [...frames()].map(({ body }) => new TextDecoder().decode(body));
  assertEquals(texts, ["disk full", "x".repeat(4096)]);
});
