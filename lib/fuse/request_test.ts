import { assertEquals } from "@std/assert";
import { IN_HEADER } from "./layout.ts";
import { OPCODE } from "./opcode.ts";
import { HEADROOM, Request, REQUEST_AT, REQUEST_BYTES } from "./request.ts";

const LENGTH = 80 + 100;

/** A request in a memory that the next process has, too. */
function ground(): { readonly memory: Uint8Array<ArrayBuffer>; readonly request: Request } {
  const memory = new Uint8Array(REQUEST_BYTES);
  const request = new Request(() => 0, memory);
  request.root = 3;
  return { memory, request };
}

/** What `read(2)` does. */
function read(memory: Uint8Array<ArrayBuffer>, length = LENGTH): void {
  const view = new DataView(memory.buffer);
  memory.fill(7, REQUEST_AT, REQUEST_AT + LENGTH);
  view.setUint32(REQUEST_AT + IN_HEADER.len, length, true);
  view.setUint32(REQUEST_AT + IN_HEADER.opcode, OPCODE.WRITE, true);
  view.setBigUint64(REQUEST_AT + IN_HEADER.unique, 42n, true);
  view.setBigUint64(REQUEST_AT + IN_HEADER.nodeid, 17n, true);
}

function next(memory: Uint8Array<ArrayBuffer>): Request {
  return new Request(() => 0, memory);
}

Deno.test("Request.inherit() finds nothing where nothing was read", () => {
  const { memory, request } = ground();
  assertEquals(next(memory).inherit(), false);
  read(memory);
  request.parse(LENGTH);
  request.done();
  assertEquals(next(memory).inherit(), false);
});

Deno.test("Request.inherit() takes up what was read and not done with, for the directory it was read for", () => {
  const { memory } = ground();
  read(memory);
  const heir = next(memory);
  assertEquals([heir.inherit(), heir.resent, heir.root], [true, true, 3]);
  assertEquals([heir.unique, heir.nodeid, heir.opcode, heir.length], [42, 17, OPCODE.WRITE, LENGTH]);
  // And so does whoever comes after one that was killed in turn.
  assertEquals(next(memory).inherit(), true);
  heir.done();
  assertEquals([heir.resent, next(memory).inherit()], [false, false]);
});

Deno.test("Request.inherit() has a WRITE's headers back, which a record's header took the place of", () => {
  const { memory, request } = ground();
  read(memory);
  const before = memory.slice(REQUEST_AT, REQUEST_AT + LENGTH);
  request.parse(LENGTH);
  request.keepHeaders();
  memory.fill(0xee, HEADROOM - 96, HEADROOM);
  const heir = next(memory);
  assertEquals([heir.inherit(), heir.unique, heir.root], [true, 42, 3]);
  assertEquals(memory.slice(REQUEST_AT, REQUEST_AT + LENGTH), before);
});

Deno.test("Request.done() leaves the request or nothing, wherever the process is killed in it", () => {
  const { memory, request } = ground();
  read(memory);
  request.parse(LENGTH);
  request.keepHeaders();
  memory.fill(0xee, HEADROOM - 96, HEADROOM);
  // Killed between the two: what stands where the headers stood is none, and the copy tells.
  new DataView(memory.buffer).setUint32(REQUEST_AT, 0, true);
  const heir = next(memory);
  assertEquals([heir.inherit(), heir.unique], [true, 42]);
  request.done();
  assertEquals(next(memory).inherit(), false);
});

Deno.test("Request.inherit() drops what cannot be a request", () => {
  for (const length of [1, 39, REQUEST_BYTES, -1]) {
    const { memory } = ground();
    read(memory, length);
    assertEquals(next(memory).inherit(), false, `${length}`);
    assertEquals(new DataView(memory.buffer).getUint32(REQUEST_AT, true), 0, `${length}`);
  }
});
