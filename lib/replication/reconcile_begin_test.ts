import { assertEquals, assertThrows } from "@std/assert";
import { decodeBegin } from "./reconcile_begin.ts";
import { StreamError } from "./stream.ts";

const GOOD = {
  whole: true,
  preserve: false,
  sequence: 7,
  history: [{ generation: "00000000000000aa", epoch: 1, first: 1 }],
  nextId: 65536,
};

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

Deno.test("decodeBegin() reads what the source says", () => {
  const begin = decodeBegin(encode(GOOD));
  assertEquals([begin.whole, begin.sequence, begin.nextId], [true, 7, 65536]);
  assertEquals(begin.generations, [{ generation: 0xaan, epoch: 1, first: 1 }]);
});

Deno.test("decodeBegin() ends the session for whatever else comes", () => {
  const bad: unknown[] = [
    null,
    7,
    [],
    { ...GOOD, whole: 1 },
    { ...GOOD, preserve: undefined },
    { ...GOOD, sequence: -1 },
    { ...GOOD, nextId: 2 ** 60 },
    { ...GOOD, history: {} },
    { ...GOOD, history: [{ generation: "x", epoch: 1, first: 1 }] },
    { ...GOOD, history: [...GOOD.history, ...GOOD.history] },
  ];
  for (const value of bad) assertThrows(() => decodeBegin(encode(value)), StreamError, "Cannot begin");
  assertThrows(() => decodeBegin(Uint8Array.of(0xff, 0xfe)), StreamError);
  assertThrows(() => decodeBegin(new Uint8Array(0)), StreamError);
});
