import { assertEquals, assertThrows } from "@std/assert";
import {
  encodeLine,
  LINE_MAX,
  LineSplitter,
  parseMessage,
  parseRequest,
  ProtocolError,
} from "./rpc_lines.ts";

Deno.test("LineSplitter gives the same lines wherever the stream is cut", () => {
  const stream = new TextEncoder().encode('{"a":"é"}\n\n{"b":2}\nrest');
  for (let cut = 0; cut <= stream.length; cut++) {
    const splitter = new LineSplitter();
    const lines = [...splitter.push(stream.subarray(0, cut)), ...splitter.push(stream.subarray(cut))];
    assertEquals(lines, ['{"a":"é"}', "", '{"b":2}']);
  }
});

Deno.test("LineSplitter refuses a line that never ends", () => {
  const splitter = new LineSplitter();
  splitter.push(new Uint8Array(LINE_MAX - 1).fill(65));
  assertThrows(() => splitter.push(Uint8Array.of(65)), ProtocolError, "longer than");
});

Deno.test("LineSplitter refuses bytes that are not UTF-8", () => {
  assertThrows(() => new LineSplitter().push(Uint8Array.of(0xff, 10)), ProtocolError, "not UTF-8");
});

Deno.test("parseRequest() reads a request and gives absent params as an empty object", () => {
  assertEquals(parseRequest('{"id":7,"method":"list"}'), { id: 7, method: "list", params: {} });
});

Deno.test("parseRequest() refuses everything that is not a request", () => {
  for (
    const line of [
      "",
      "x",
      "[]",
      "null",
      "3",
      '{"id":"1","method":"m"}',
      '{"id":1}',
      '{"id":1.5,"method":"m"}',
    ]
  ) {
    assertThrows(() => parseRequest(line), ProtocolError, "Cannot read");
  }
});

Deno.test("parseMessage() tells results, errors and events apart", () => {
  assertEquals(parseMessage('{"id":1,"result":{"a":1}}'), { kind: "result", id: 1, result: { a: 1 } });
  assertEquals(parseMessage('{"id":1,"error":{"code":"c","message":"m"}}'), {
    kind: "error",
    id: 1,
    code: "c",
    message: "m",
  });
  assertEquals(parseMessage('{"event":"e","params":{}}'), { kind: "event", event: "e", params: {} });
});

Deno.test("encodeLine() refuses a line the other side would refuse", () => {
  assertThrows(() => encodeLine("x".repeat(LINE_MAX)), ProtocolError, "at most");
});
