import { assert, assertEquals } from "@std/assert";
import type { LineSpeed } from "../replication/packing.ts";
import { addressOf } from "./libc.ts";
import {
  acceptSocket,
  closeSocket,
  lineSpeed,
  listenSocket,
  receiveBytes,
  sendBytesNow,
  setBlocking,
  startConnect,
} from "./socket.ts";

function speedOf(fd: number): LineSpeed {
  const speed = lineSpeed(fd);
  if (speed === null) throw new Error("this kernel does not say how fast a connection is");
  return speed;
}

Deno.test("lineSpeed() tells what waits in the kernel, that the peer has no room, and how fast it went", () => {
  const listener = listenSocket({ address: "127.0.0.1", port: 0 });
  const fd = startConnect(listener.endpoint);
  const accepted = acceptSocket(listener);
  if (accepted === null) throw new Error("a connection that was made waits to be accepted");
  const bytes = new Uint8Array(1 << 20);
  const address = addressOf(bytes);
  try {
    assertEquals(lineSpeed(fd)?.unsent, 0);
    // Nobody reads: sooner or later it takes no more.
    let sent = 0;
    for (let more = 1; more > 0 && sent < 1 << 28; sent += Math.max(0, more)) {
      more = sendBytesNow(fd, address, bytes.length);
    }
    const full = speedOf(fd);
    assert(full.unsent > 0 && full.unsent <= sent, `${full.unsent} of ${sent} bytes wait`);
    setBlocking(accepted.fd, true);
    for (let got = 0; got < sent;) got += receiveBytes(accepted.fd, address, bytes.length);
    const empty = speedOf(fd);
    assert(empty.unsent === 0 && empty.bytesPerSecond > 0);
    assert(empty.peerFullUs >= full.peerFullUs);
  } finally {
    for (const socket of [fd, accepted.fd, listener.fd]) closeSocket(socket);
  }
});

Deno.test("lineSpeed() answers null for what is no connection", () => {
  assertEquals(lineSpeed(-1), null);
});
