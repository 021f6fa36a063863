import { assertEquals, assertThrows } from "@std/assert";
import { OFFSET } from "../journal/record.ts";
import { cbytes, setU64 } from "./bytes.ts";
import { FRAME_HEADER } from "./frame.ts";
import { CONTROL } from "./mutation.ts";
import { costOf, decodeObject, encodeObject, type Entry, PART, setContent } from "./object_frame.ts";
import type { ObjectState } from "./object_state.ts";
import { StreamError } from "./stream.ts";

const STATE: ObjectState = {
  id: 2 ** 40 + 7,
  root: 3,
  mode: 0o120777,
  uid: 4_000_000_000,
  gid: 12,
  rdev: 0x103,
  nlink: 2,
  size: 2 ** 45 + 1,
  mtime: -1_000_000_001n,
  target: new TextEncoder().encode("where/to"),
  xattrs: [
    { name: cbytes("user.empty"), value: new Uint8Array(0) },
    { name: cbytes("trusted.x"), value: Uint8Array.of(0, 1, 255) },
  ],
};
const ENTRIES: readonly Entry[] = [
  { id: 17, type: 0o100000, name: cbytes("a"), extra: new Uint8Array(0) },
  { id: 2 ** 33, type: 0o120000, name: Uint8Array.of(0xff, 0x0a, 0), extra: cbytes("target").subarray(0, 6) },
  { id: 19, type: 0o040000, name: cbytes("..."), extra: new Uint8Array(0) },
];
const CONTENT = Uint8Array.of(9, 8, 7);

function frame(entries: readonly Entry[] = ENTRIES): { bytes: Uint8Array; view: DataView } {
  const whole = new Uint8Array(4096);
  const body = whole.subarray(FRAME_HEADER);
  const bodyView = new DataView(body.buffer, FRAME_HEADER);
  const length = encodeObject(body, bodyView, STATE, entries);
  body.set(CONTENT, length);
  setContent(bodyView, CONTENT.length);
  const bytes = whole.slice(0, FRAME_HEADER + length + CONTENT.length);
  const view = new DataView(bytes.buffer);
  setU64(view, OFFSET.id, STATE.id);
  setU64(view, OFFSET.a, PART.begin | PART.end);
  return { bytes, view };
}

Deno.test("decodeObject() gives what encodeObject() was given", () => {
  const { bytes, view } = frame();
  assertEquals(decodeObject(bytes, view, 0, bytes.length), {
    parts: PART.begin | PART.end,
    state: STATE,
    entries: [...ENTRIES],
    content: CONTENT,
  });
});

Deno.test("decodeObject() refuses a frame cut at any byte of its body", () => {
  const { bytes, view } = frame();
  for (let length = FRAME_HEADER; length < bytes.length; length++) {
    assertThrows(() => decodeObject(bytes, view, 0, length), StreamError);
  }
});

Deno.test("decodeObject() refuses names that would lead out of their directory", () => {
  for (const name of [".", "..", "a/b", "", "n".repeat(256)]) {
    const entry = { id: 17, type: 0o100000, name: cbytes(name), extra: new Uint8Array(0) };
    const { bytes, view } = frame([entry]);
    assertThrows(() => decodeObject(bytes, view, 0, bytes.length), StreamError, "no proper name");
  }
});

Deno.test("decodeObject() refuses a name without its end", () => {
  const { bytes, view } = frame([{
    id: 17,
    type: 0o100000,
    name: Uint8Array.of(0x61),
    extra: new Uint8Array(0),
  }]);
  assertThrows(() => decodeObject(bytes, view, 0, bytes.length), StreamError);
});

Deno.test("encodeObject() refuses more xattrs than a frame holds", () => {
  const body = new Uint8Array(200_000);
  const xattrs = [{ name: cbytes("user.large"), value: new Uint8Array(65536) }];
  const state = { ...STATE, xattrs: [...xattrs, ...xattrs] };
  assertThrows(
    () => encodeObject(body, new DataView(body.buffer), state, []),
    StreamError,
    "extended attributes",
  );
});

Deno.test("costOf() counts what a frame makes the target do", () => {
  const body = new DataView(new ArrayBuffer(4096));
  const cost = (op: number, length: number, covered: number) => costOf(op, { body, at: 0, length, covered });
  assertEquals(cost(CONTROL.blocks, 256, 1 << 20), 256 + (1 << 20));
  assertEquals(cost(CONTROL.blocks, 0, 2 ** 40), 32_768);
  assertEquals(cost(CONTROL.data, 5000, 0), 5000 + 32_768);
  const entries = encodeObject(new Uint8Array(body.buffer), body, STATE, ENTRIES);
  assertEquals(cost(CONTROL.object, entries, 0) > entries + 32_768, true);
});
