import { assertEquals, assertThrows } from "@std/assert";
import { crc32 as zlib } from "node:zlib";
import { decodeHello, decodeHelloHeader, decodeReply, encodeHello } from "./hello.ts";
import { type Hello, HELLO_HEADER, helloMax } from "./hello.ts";
import { StreamError } from "./stream.ts";

const crc32 = (bytes: Uint8Array, value?: number) => zlib(bytes, value);

const HELLO: Hello = {
  version: 1,
  versionMin: 1,
  cluster: "plant",
  module: "bms",
  node: "node2",
  kind: "data",
  session: "0a1b",
  body: { history: ["x"] },
};

function split(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  return [bytes.subarray(0, HELLO_HEADER), bytes.subarray(HELLO_HEADER)];
}

Deno.test("decodeHello() gives back what encodeHello() was given", () => {
  const [header, json] = split(encodeHello("data", HELLO, crc32));

  assertEquals(decodeHelloHeader(header), { kind: "data", length: json.length });
  assertEquals(decodeHello(header, json, crc32), HELLO);
});

Deno.test("decodeReply() gives back both kinds of reply", () => {
  for (
    const reply of [
      { accept: true, version: 1, node: "node1", body: null } as const,
      { accept: false, code: "version", reason: "too old" } as const,
    ]
  ) {
    const [header, json] = split(encodeHello("reply", reply, crc32));
    assertEquals(decodeReply(header, json, crc32), reply);
  }
});

Deno.test("decodeHello() refuses a message with any byte damaged", () => {
  const good = encodeHello("data", HELLO, crc32);

  for (let index = 0; index < good.length; index++) {
    const bad = good.slice();
    bad[index] = (bad[index] ?? 0) ^ 0x02;
    const [header, json] = split(bad);
    assertThrows(() => {
      const { length } = decodeHelloHeader(header);
      decodeHello(header, json.subarray(0, length), crc32);
    }, StreamError);
  }
});

Deno.test("decodeHelloHeader() bounds the length by what the connection is for", () => {
  const [header] = split(encodeHello("ack", { ...HELLO, kind: "ack" }, crc32).slice());
  new DataView(header.buffer).setUint32(8, helloMax("ack") + 1, true);

  assertThrows(
    () => decodeHelloHeader(header),
    StreamError,
    "it has 65537 bytes, at most 65536 are accepted on ack",
  );
});

Deno.test("decodeHelloHeader() refuses what is not a hello", () => {
  const garbage = new TextEncoder().encode("GET / HTTP/1.1\r\n");

  assertThrows(() => decodeHelloHeader(garbage), StreamError, "it does not begin like a hello");
});

Deno.test("decodeHello() refuses wrong fields by name", () => {
  const cases: [Partial<Record<keyof Hello, unknown>>, string][] = [
    [{ version: -1 }, '"version" is not a whole number'],
    [{ versionMin: "1" }, '"versionMin" is not a whole number'],
    [{ cluster: "" }, '"cluster" is not a text'],
    [{ session: "x".repeat(1025) }, '"session" is not a text'],
    [{ kind: "ack" }, "header and text name different connections"],
  ];

  for (const [change, message] of cases) {
    const [header, json] = split(encodeHello("data", { ...HELLO, ...change } as Hello, crc32));
    assertThrows(() => decodeHello(header, json, crc32), StreamError, message);
  }
});

Deno.test("encodeHello() refuses more than the other side accepts", () => {
  assertThrows(
    () => encodeHello("ack", { ...HELLO, body: "x".repeat(65536) }, crc32),
    RangeError,
    "Cannot say hello",
  );
});
