import { assertEquals } from "@std/assert";
import { checksum, encodeEcho, isEchoReply } from "./icmp.ts";

const FROM = Uint8Array.of(10, 0, 0, 2);

/** What a host at 10.0.0.2 answers, with an IPv4 header of 20 bytes. */
function reply(identifier: number): Uint8Array<ArrayBuffer> {
  const echo = encodeEcho(identifier, 3);
  echo[0] = 0;
  echo.fill(0, 2, 4);
  new DataView(echo.buffer).setUint16(2, checksum(echo));
  const packet = new Uint8Array(20 + echo.length);
  packet[0] = 0x45;
  packet.set(FROM, 12);
  packet.set(echo, 20);
  return packet;
}

Deno.test("encodeEcho() carries a checksum that verifies", () => {
  const echo = encodeEcho(0x1234, 7);
  assertEquals([...echo.subarray(4, 8)], [0x12, 0x34, 0, 7]);
  assertEquals(checksum(echo), 0);
});

Deno.test("isEchoReply() takes the answer to our own question only", () => {
  assertEquals(isEchoReply(reply(0x1234), FROM, 0x1234), true);
  assertEquals(isEchoReply(reply(0x1235), FROM, 0x1234), false);
  assertEquals(isEchoReply(reply(0x1234), Uint8Array.of(10, 0, 0, 3), 0x1234), false);
});

Deno.test("isEchoReply() refuses an answer that is cut or damaged anywhere", () => {
  const whole = reply(0x1234);
  for (let cut = 0; cut < whole.length; cut += 2) {
    assertEquals(isEchoReply(whole.subarray(0, cut), FROM, 0x1234), false);
  }
  for (let at = 20; at < whole.length; at++) {
    const damaged = whole.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 0x11;
    assertEquals(isEchoReply(damaged, FROM, 0x1234), false);
  }
});
