import { readExactly } from "./testing/read_exactly.ts";
import { assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { type Stream, StreamError } from "../replication/stream.ts";
import { addressOf } from "./libc.ts";
import { SealSecrets } from "./seal.ts";
import { receiveBytes, setBlocking } from "./socket.ts";
import { openStream } from "./stream.ts";
import { TestDoor, tlsSecurity } from "./testing/pair.ts";
import { socketPair } from "./testing/sealed_pair.ts";
import { type TlsConnection, TlsContext, TlsMissingError } from "./tls.ts";
import { tlsLibrary } from "./tls_library.ts";

/** Both ends of a TLS connection on a socket pair, hands shaken. */
async function shaken(): Promise<{ readonly client: TlsConnection; readonly server: TlsConnection }> {
  await using tls = await tlsSecurity();
  const [one, other] = socketPair();
  for (const fd of [one, other]) setBlocking(fd, false);
  const contexts = [new TlsContext(tls.of("node1").files), new TlsContext(tls.of("node2").files)] as const;
  const server = contexts[0].connection(one, "server");
  const client = contexts[1].connection(other, "client");
  for (const context of contexts) context.close();
  for (let steps = 0; steps < 10; steps++) {
    const done = [client.handshakeStep(), server.handshakeStep()].every((want) => want === null);
    if (done) return { client, server };
  }
  throw new Error("no handshake");
}

function adopted(connection: TlsConnection): Stream {
  const handle = connection.describe("peer");
  setBlocking(handle.fd, true);
  return openStream(handle);
}

Deno.test("TlsConnection.describe() finds sealed records right behind the last TLS record", async () => {
  const { client, server } = await shaken();
  const sent = crypto.getRandomValues(new Uint8Array(40_000));
  const received = new Uint8Array(40_000);
  // All of it is on the line before the client reads its first byte.
  assertEquals(server.write(addressOf(sent), 20_000), 20_000);
  const sender = adopted(server);
  sender.writeAll(addressOf(sent) + 20_000, 20_000);

  for (let done = 0; done < 20_000;) {
    const got = client.read(addressOf(received) + done, 20_000 - done);
    if (typeof got !== "number" || got === 0) throw new Error(`nothing to read: ${got}`);
    done += got;
  }
  const receiver = adopted(client);
  readExactly(receiver, addressOf(received) + 20_000, 20_000);
  receiver.writeAll(addressOf(sent), 100);
  readExactly(sender, addressOf(received), 100);

  assertEquals(received, sent);
  sender.close();
  receiver.close();
});

Deno.test("TlsConnection.describe() writes nothing to the line, and TLS tickets are off", async () => {
  const { client, server } = await shaken();
  const [one, other] = [client.describe("peer"), server.describe("peer")];
  const byte = new Uint8Array(1);

  assertEquals(receiveBytes(one.fd, addressOf(byte), 1), -1);
  assertEquals(receiveBytes(other.fd, addressOf(byte), 1), -1);
  for (const handle of [one, other]) openStream(handle).close();
});

Deno.test("TlsConnection.describe() refuses while something sent under TLS is not read", async () => {
  const { client, server } = await shaken();
  const bytes = new Uint8Array(10);
  server.write(addressOf(bytes), 10);
  client.read(addressOf(bytes), 4);

  const error = assertThrows(() => client.describe("node1"), StreamError);

  assertEquals(error.failure, "protocol");
  assertStrictEquals(error.message, "Cannot go on with node1: it has sent more than its hello under TLS");
  client.close();
  server.close();
});

function describedSecrets(connection: TlsConnection) {
  const handle = connection.describe("peer");
  if (handle.kind !== "sealed") throw new Error(`a ${handle.kind} stream`);
  const { send, receive } = SealSecrets.at(handle.secrets);
  return { handle, send: send.slice(), receive: receive.slice() };
}

Deno.test("TlsConnection.describe() gives each connection and each direction secrets of its own", async () => {
  const seen = new Set<string>();
  const pairs = [await shaken(), await shaken()];
  for (const { client, server } of pairs) {
    const [one, other] = [client, server].map(describedSecrets);
    if (one === undefined || other === undefined) throw new Error("no secrets");
    assertEquals(one.send, other.receive);
    assertEquals(one.receive, other.send);
    for (const secret of [one.send, one.receive]) seen.add(secret.toString());
    for (const { handle } of [one, other]) openStream(handle).close();
  }

  assertEquals(seen.size, 4);
});

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
