import { assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { StreamError } from "../replication/stream.ts";
import type { Stream } from "../replication/stream.ts";
import { addressOf } from "./libc.ts";
import { PlainStream } from "./plain_stream.ts";
import { openStream } from "./stream.ts";
import { dialAs, PLAIN, TestDoor, tlsSecurity } from "./testing/pair.ts";
import { TlsContext, TlsMissingError, TlsStream } from "./tls.ts";
import { tlsLibrary } from "./tls_library.ts";

/** What the primary writes and the secondary reads, and a buffer on each side. */
interface Pair {
  readonly sender: Stream;
  readonly receiver: Stream;
  readonly sent: Uint8Array;
  readonly received: Uint8Array;
}

const SIZE = 128 * 1024;

/** The data connection of a session, both ends in this thread; all is closed after the test. */
async function overLoopback(
  encryption: "tls" | "plain",
  test: (pair: Pair) => void | Promise<void>,
  updateEvery?: number,
): Promise<void> {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(encryption === "tls" ? tls.of("node1") : PLAIN);
  const session = await dialAs(encryption === "tls" ? tls.of("node2") : PLAIN, door);
  await door.until(() => door.sessions.length === 1);
  const data = door.sessions[0]?.data;
  if (data === undefined) throw new Error("no session");
  const sender = data.kind === "tls"
    ? TlsStream.adopt(data.ssl, data.fd, data.label, updateEvery)
    : PlainStream.adopt(data.fd, data.label);
  const receiver = openStream(session.data);
  const pair = { sender, receiver, sent: new Uint8Array(SIZE), received: new Uint8Array(SIZE) };
  crypto.getRandomValues(pair.sent.subarray(0, 65536));
  try {
    await test(pair);
  } finally {
    sender.close();
    receiver.close();
    for (const other of [session, ...door.sessions]) {
      for (const handle of [other.ack, other.sync]) openStream(handle).close();
    }
    session.cut();
  }
}

function streamFailure(work: () => unknown): StreamError["failure"] {
  return assertThrows(work, StreamError).failure;
}

for (const [name, encryption] of [["TlsStream", "tls"], ["PlainStream", "plain"]] as const) {
  Deno.test(`${name}.writeAll() and readExactly() carry bytes of every size unchanged`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      for (const size of [1, 31, 96, 4192, 16384, 16385, SIZE]) {
        received.fill(0);
        sender.writeAll(addressOf(sent), size);
        receiver.readExactly(addressOf(received), size);
        assertEquals(received.subarray(0, size), sent.subarray(0, size));
      }
    }));

  Deno.test(`${name}.readSome() answers 0 when nothing comes in time`, () =>
    overLoopback(encryption, ({ receiver, received }) => {
      receiver.setTimeouts({ sendMs: 1000, receiveMs: 5 });

      assertEquals(receiver.readSome(addressOf(received), 100), 0);
      assertEquals(streamFailure(() => receiver.readExactly(addressOf(received), 100)), "timeout");
    }));

  Deno.test(`${name}.readSome() goes on after a silence`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      receiver.setTimeouts({ sendMs: 1000, receiveMs: 5 });
      receiver.readSome(addressOf(received), 100);

      sender.writeAll(addressOf(sent), 100);

      receiver.readExactly(addressOf(received), 100);
      assertEquals(received.subarray(0, 100), sent.subarray(0, 100));
    }));

  Deno.test(`${name}.writeAll() gives up when the peer takes nothing`, () =>
    overLoopback(encryption, ({ sender, sent }) => {
      sender.setTimeouts({ sendMs: 5, receiveMs: 1000 });

      const failure = streamFailure(() => {
        for (let round = 0; round < 1000; round++) sender.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(failure, "timeout");
    }));

  Deno.test(`${name} tells a closed peer from silence, and survives writing to it`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.close();
      assertEquals(streamFailure(() => receiver.readSome(addressOf(received), 1)), "closed");

      const failure = streamFailure(() => {
        for (let round = 0; round < 100; round++) receiver.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(failure, "closed");
    }));

  Deno.test(`${name} refuses to be used once closed or given away`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.close();
      sender.close();
      assertEquals(streamFailure(() => sender.writeAll(addressOf(sent), 1)), "closed");

      const given = openStream(receiver.describe());

      assertEquals(streamFailure(() => receiver.readSome(addressOf(received), 1)), "closed");
      receiver.close();
      assertEquals(streamFailure(() => given.readSome(addressOf(received), 1)), "closed");
      given.close();
    }));

  Deno.test(`${name} works in a worker that adopts it by its numbers`, () =>
    overLoopback(encryption, async ({ sender, receiver, sent, received }) => {
      const worker = new Worker(new URL("./testing/echo_worker.ts", import.meta.url), { type: "module" });
      try {
        const done = Promise.withResolvers<unknown>();
        worker.onmessage = (event) => done.resolve(event.data);
        worker.postMessage({ handle: receiver.describe(), length: 30_000 });
        sender.writeAll(addressOf(sent), 30_000);
        // Only then read: a blocked main thread could not load the worker's modules.
        assertEquals(await done.promise, "done");
        sender.readExactly(addressOf(received), 30_000);
      } finally {
        worker.terminate();
      }
      assertEquals(received.subarray(0, 30_000), sent.subarray(0, 30_000));
    }));
}

Deno.test("TlsStream.pending() counts what is decrypted and not yet read", () =>
  overLoopback("tls", ({ sender, receiver, sent, received }) => {
    sender.writeAll(addressOf(sent), 100);
    receiver.readExactly(addressOf(received), 40);

    assertEquals(receiver.pending(), 60);
  }));

Deno.test("TlsStream changes its key on the way, and the reader follows without writing", () =>
  overLoopback("tls", ({ sender, receiver, sent, received }) => {
    for (let round = 0; round < 50; round++) {
      received.fill(0);
      sender.writeAll(addressOf(sent), 20_000);
      receiver.readExactly(addressOf(received), 20_000);
      assertEquals(received.subarray(0, 20_000), sent.subarray(0, 20_000));
    }
    receiver.writeAll(addressOf(sent), 10);
    sender.readExactly(addressOf(received), 10);
    assertEquals(received.subarray(0, 10), sent.subarray(0, 10));
  }, 3));

Deno.test("TlsContext names the file it cannot use", async () => {
  await using tls = await tlsSecurity();
  const { files } = tls.of("node1");

  assertMatch(
    assertThrows(() => new TlsContext({ ...files, ca: "/nowhere/ca.crt" }), Error).message,
    /^Cannot use the cluster's CA "\/nowhere\/ca\.crt": .*it is written by "binome init" or "binome join"$/,
  );
  assertMatch(
    assertThrows(() => new TlsContext({ ...files, certificate: files.key }), Error).message,
    /^Cannot use this node's certificate ".*node1\.key"/,
  );
  assertMatch(
    assertThrows(() => new TlsContext({ ...files, key: tls.of("node2").files.key }), Error).message,
    /Cannot use .*node2\.key": key values mismatch/,
  );
});

Deno.test("TlsConnection.cipher() is TLS 1.3 with AES-GCM", async () => {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(tls.of("node1"));
  const { address: hostname, port } = door.door.endpoint;
  const { startConnect } = await import("./socket.ts");
  const context = new TlsContext(tls.of("node2").files);
  const connection = context.connection(startConnect({ address: hostname, port }), "client");
  context.close();
  const poller = new (await import("./poller.ts")).Poller();
  await poller.ready({ fd: connection.fd, for: "write" });
  for (let want = connection.handshakeStep(); want !== null; want = connection.handshakeStep()) {
    await poller.ready({ fd: connection.fd, for: want, until: performance.now() + 3000 });
  }

  assertStrictEquals(connection.cipher(), "TLSv1.3 TLS_AES_256_GCM_SHA384");
  assertStrictEquals(connection.peerName(), "node1");
  connection.close();
  await poller.close();
});

Deno.test("tlsLibrary() says what to install when OpenSSL is missing", () => {
  const error = assertThrows(
    () => tlsLibrary({ ssl: "libnothing.so.3", crypto: "libcrypto.so.3" }),
    TlsMissingError,
  );

  assertMatch(
    error.message,
    /OpenSSL 3 \(libnothing\.so\.3\) .* install the package libssl3, or set "encryption: off"/,
  );
});

Deno.test("tlsLibrary() makes SIGPIPE harmless", async () => {
  tlsLibrary();
  const status = await Deno.readTextFile("/proc/self/status");
  const ignored = BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);

  assertEquals((ignored >> 12n) & 1n, 1n);
});
