import { readExactly } from "./testing/read_exactly.ts";
import { PROTOCOL } from "../protocol.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertStrictEquals } from "@std/assert";
import { DialError } from "../replication/dial.ts";
import { openNetwork, type Security } from "./network.ts";
import { addressOf } from "./libc.ts";
import { openStream } from "./stream.ts";
import { crc32, dialAs, PLAIN, TestDoor, tlsSecurity } from "./testing/pair.ts";
import { type Session, StreamError } from "../replication/stream.ts";

function endSession(session: Session<unknown>): void {
  for (const handle of [session.data, session.ack, session.sync]) openStream(handle).close();
  session.cut();
}

function endAll(door: TestDoor): void {
  for (const session of door.sessions) endSession(session);
}

async function refusedDial(work: Promise<unknown>): Promise<DialError> {
  return await assertRejects(() => work, DialError);
}

/** Sends raw bytes to the door and waits until the door hangs up, or leaves at once. */
async function knock(door: TestDoor, bytes: Uint8Array): Promise<void> {
  const { address: hostname, port } = door.door.endpoint;
  using connection = await Deno.connect({ hostname, port });
  await connection.write(bytes);
  const buffer = new Uint8Array(65536);
  try {
    while (await connection.read(buffer) !== null);
  } catch (error) {
    assert(error instanceof Deno.errors.ConnectionReset, String(error));
  }
}

function descriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

async function bothWays(test: (security: (node: string) => Security) => Promise<void>): Promise<void> {
  await using tls = await tlsSecurity();
  await test((node) => tls.of(node));
  await test(() => PLAIN);
}

Deno.test("Door hands over a session once its three connections are there, with and without encryption", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));

    const session = await dialAs(security("node2"), door, { body: { position: 7 } });
    await door.until(() => door.sessions.length === 1);

    assertEquals(session.agreement, {
      accept: true,
      version: PROTOCOL.version,
      node: "node1",
      body: { echo: { position: 7 } },
    });
    assertEquals(door.sessions[0]?.agreement.node, "node2");
    assertEquals(door.sessions[0]?.id, session.id);
    endSession(session);
    endAll(door);
  }));

Deno.test("dial() reconnects in less time than a person notices, with and without encryption", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));

    for (let round = 1; round <= 5; round++) {
      endSession(await dialAs(security("node2"), door));
      await door.until(() => door.sessions.length === round);
    }

    endAll(door);
    assertEquals(door.door.counters.sessions, 5);
  }));

Deno.test("Door replaces a peer's session by its newer one", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));
    const older = await dialAs(security("node2"), door);
    await door.until(() => door.sessions.length === 1);

    const newer = await dialAs(security("node2"), door);
    await door.until(() => door.sessions.length === 2);

    assertEquals(door.replaced, [null, older.id]);
    const stream = openStream(older.data);
    const byte = new Uint8Array(1);
    await assertRejects(
      async () => await Promise.resolve(readExactly(stream, addressOf(byte), 1)),
      StreamError,
      "the peer",
    );
    stream.close();
    for (const handle of [older.ack, older.sync]) openStream(handle).close();
    older.cut();
    endSession(newer);
    endAll(door);
  }));

Deno.test("dial() reports a refusal of the data road in its words", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"), {
      decide: () => ({ accept: false, code: "diverged", reason: "both copies have changed" }),
    });

    const error = await refusedDial(dialAs(security("node2"), door));

    assertEquals(error.failure, "refused");
    assertEquals(error.refusal, { code: "diverged", reason: "both copies have changed" });
    assertEquals(error.message, "Cannot follow node1: both copies have changed");
    assertEquals(door.door.counters.refused, 1);
  }));

Deno.test("dial() is told which versions do not fit, and what to do", async () => {
  await using door = new TestDoor(PLAIN, { protocol: { version: 9, versionMin: 8 } });

  const error = await refusedDial(dialAs(PLAIN, door));

  assertEquals(error.refusal?.code, "version");
  assertMatch(
    error.message,
    /node1 speaks protocol 8 to 9, node2 [\d to]+; install the newer Binome on the older node/,
  );
});

Deno.test("Door refuses a node whose Binome does not know sealed records", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));

    const error = await refusedDial(
      dialAs(security("node2"), door, { protocol: { version: 1, versionMin: 1 } }),
    );

    assertEquals(error.refusal?.code, "version");
    assertMatch(
      error.message,
      /node1 speaks protocol [\d to]+, node2 1; install the newer Binome on the older/,
    );
  }));

Deno.test("dial() is told when cluster or module differ", async () => {
  await using door = new TestDoor(PLAIN);

  assertMatch(
    (await refusedDial(dialAs(PLAIN, door, { cluster: "other" }))).message,
    /belongs to cluster "plant"/,
  );
  assertMatch((await refusedDial(dialAs(PLAIN, door, { module: "erp" }))).message, /replicates module "bms"/);
});

Deno.test("dial() names a wrong cluster key and what to do, and the door counts a stranger", async () => {
  await using door = new TestDoor(PLAIN);
  const other: Security = { encryption: "off", clusterKey: new Uint8Array(32).fill(8) };

  const error = await refusedDial(dialAs(other, door));

  assertEquals(error.failure, "stranger");
  assertMatch(error.message, /it holds another cluster key; "binome join" gives a node the cluster's key/);
});

Deno.test("Door refuses a proof made with another cluster key", async () => {
  await using door = new TestDoor(PLAIN);

  await knock(door, new Uint8Array([0x42, 0x50, 0x48, 0x31, ...new Uint8Array(64)]));
  await door.until(() => door.refusals.length === 1);

  assertEquals(door.door.counters.strangers, 1);
});

Deno.test("dial() names a certificate of another cluster", async () => {
  await using tls = await tlsSecurity();
  await using foreign = await tlsSecurity();
  await using door = new TestDoor(tls.of("node1"));

  const error = await refusedDial(dialAs(foreign.of("node2"), door));

  assertEquals(error.failure, "stranger");
  assertMatch(error.message, /Cannot accept the peer's certificate: .*are both nodes of one cluster\?/);
});

Deno.test("Door refuses a client certificate of another cluster", async () => {
  await using tls = await tlsSecurity();
  await using foreign = await tlsSecurity();
  const mixed = tls.of("node2");
  const wrong = foreign.of("node2");
  await using door = new TestDoor(tls.of("node1"));

  const error = await refusedDial(
    dialAs({ encryption: "on", files: { ...wrong.files, ca: mixed.files.ca } }, door),
  );
  await door.until(() => door.door.counters.strangers > 0);

  assertEquals(door.door.counters.sessions, 0);
  assertMatch(error.message, /Cannot (pass as a node of the cluster|reach node1)/);
});

Deno.test("Door refuses a node of the cluster that is not the module's", async () => {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(tls.of("node1"));

  await refusedDial(dialAs(tls.of("node3"), door, { node: "node3" }));
  await door.until(() => door.refusals.length > 0);

  assertMatch(door.refusals[0]?.reason ?? "", /Cannot let node3 in: expected node2/);
});

Deno.test("Door refuses a node that says it is another", async () => {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(tls.of("node1"), { expected: ["node2", "node3"] });

  await refusedDial(dialAs(tls.of("node3"), door, { node: "node2" }));
  await door.until(() => door.refusals.length > 0);

  assertMatch(door.refusals[0]?.reason ?? "", /Cannot let node2 in: its certificate is that of node3/);
});

Deno.test("dial() does not take another node for the expected one", async () => {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(tls.of("node3"));

  const error = await refusedDial(dialAs(tls.of("node2"), door));

  assertEquals(error.failure, "stranger");
  assertMatch(error.message, /Cannot take node3 for node1: that address belongs to another node/);
});

Deno.test("dial() and Door say so when encryption is on at one end only", async () => {
  await using tls = await tlsSecurity();
  await using plainDoor = new TestDoor(PLAIN);
  await using tlsDoor = new TestDoor(tls.of("node1"));

  await refusedDial(dialAs(tls.of("node2"), plainDoor));
  await refusedDial(dialAs(PLAIN, tlsDoor));
  await plainDoor.until(() => plainDoor.refusals.length > 0);
  await tlsDoor.until(() => tlsDoor.refusals.length > 0);

  assertMatch(plainDoor.refusals[0]?.reason ?? "", /is encryption set alike on both nodes/);
  assertMatch(tlsDoor.refusals[0]?.reason ?? "", /is encryption set alike on both nodes/);
});

Deno.test("Door closes garbage, counts it, and goes on letting the secondary in", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));
    const random = crypto.getRandomValues(new Uint8Array(65536));

    await knock(door, new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    await knock(door, random);
    await knock(door, new Uint8Array(4096).fill(0xff));
    await door.until(() => door.refusals.length === 3);
    const session = await dialAs(security("node2"), door);
    await door.until(() => door.sessions.length === 1);

    assertEquals(door.door.counters.garbage, 3);
    endSession(session);
    endAll(door);
  }));

Deno.test("Door refuses an oversized hello before reading it", async () => {
  await using door = new TestDoor(PLAIN);
  const network = openNetwork(PLAIN);
  const limit = { until: network.now() + 3000 };
  const connection = await network.connect(door.door.endpoint, limit);
  await connection.authenticate(limit);
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0x314c4842, true);
  view.setUint8(4, 2);
  view.setUint32(8, 0xffff_ffff, true);
  view.setUint32(12, crc32(header.subarray(0, 12)), true);

  await connection.write(header, limit);
  await door.until(() => door.refusals.length === 1);

  assertMatch(door.refusals[0]?.reason ?? "", /it has 4294967295 bytes, at most 65536 are accepted on ack/);
  connection.close();
  await network.close();
});

Deno.test("Door lets the secondary in past a crowd of silent connections of one source", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));
    const { address: hostname, port } = door.door.endpoint;
    const crowd: Deno.Conn[] = [];
    for (let index = 0; index < 20; index++) crowd.push(await Deno.connect({ hostname, port }));

    const session = await dialAs(security("node2"), door);
    await door.until(() => door.sessions.length === 1);

    assert(door.door.counters.crowded >= 14, "all but the last six gave way");
    for (const connection of crowd) connection.close();
    endSession(session);
    endAll(door);
  }));

Deno.test("Door gives a silent connection up after its time", async () => {
  await using door = new TestDoor(PLAIN, { limits: { handshakeMs: 50 } });

  await knock(door, new Uint8Array([0x42]));
  await door.until(() => door.refusals.length === 1);

  assertEquals(door.door.counters.timeouts, 1);
});

Deno.test("Door gives a session up whose other connections never come", async () => {
  await using door = new TestDoor(PLAIN, { limits: { handshakeMs: 100 } });
  const network = openNetwork(PLAIN);
  const limit = { until: network.now() + 3000 };
  const { encodeHello } = await import("../replication/hello.ts");
  const connection = await network.connect(door.door.endpoint, limit);
  await connection.authenticate(limit);
  const hello = { ...PROTOCOL, cluster: "plant", module: "bms", node: "node2" };

  await connection.write(
    encodeHello("ack", { ...hello, kind: "ack", session: "s", body: null }, crc32),
    limit,
  );
  await door.until(() => door.refusals.length === 1);

  assertMatch(door.refusals[0]?.reason ?? "", /its session was not complete in time/);
  assertEquals(door.door.counters.timeouts, 1);
  connection.close();
  await network.close();
});

Deno.test("Door gives a session up that its owner cannot decide about in time", async () => {
  const never = Promise.withResolvers<{ accept: true; body: null }>();
  await using door = new TestDoor(PLAIN, { limits: { handshakeMs: 100 }, decide: () => never.promise });

  const error = await refusedDial(dialAs(PLAIN, door));
  never.resolve({ accept: true, body: null });

  assertEquals(error.failure, "unreachable");
  assertEquals(door.sessions.length, 0);
});

Deno.test("Door.open() says what to do when the port is taken", async () => {
  await using door = new TestDoor(PLAIN);
  const { endpoint } = door.door;
  const network = openNetwork(PLAIN);

  const error = await assertRejects(async () => await Promise.resolve(network.listen(endpoint)), Error);

  assertMatch(
    error.message,
    /^Cannot listen on 127\.0\.0\.1:\d+: the port is taken \(EADDRINUSE\); see who has it/,
  );
  await network.close();
});

Deno.test("dial() tries the next address when nothing listens at the first", async () => {
  await using door = new TestDoor(PLAIN);

  const session = await dialAs(PLAIN, door, {
    endpoints: [{ address: "127.0.0.1", port: 1 }, door.door.endpoint],
  });
  await door.until(() => door.sessions.length === 1);

  endSession(session);
  endAll(door);
});

Deno.test("dial() names the address where nothing listens, and what to check", async () => {
  await using door = new TestDoor(PLAIN);

  const error = await refusedDial(dialAs(PLAIN, door, { endpoints: [{ address: "127.0.0.1", port: 1 }] }));

  assertEquals(error.failure, "unreachable");
  assertMatch(
    error.message,
    /^Cannot reach node1 at 127\.0\.0\.1:1: Cannot connect .* \(ECONNREFUSED\); is the module/,
  );
});

Deno.test("dial() ends with its signal", async () => {
  const never = Promise.withResolvers<{ accept: true; body: null }>();
  const started = Promise.withResolvers<void>();
  await using door = new TestDoor(PLAIN, {
    decide: () => {
      started.resolve();
      return never.promise;
    },
  });
  const abort = new AbortController();
  const reason = new Error("stopping");

  const dialling = dialAs(PLAIN, door, { signal: abort.signal });
  started.promise.then(() => abort.abort(reason));

  assertStrictEquals(await assertRejects(() => dialling), reason);
  never.resolve({ accept: true, body: null });
});

Deno.test("Session.cut() ends a stream that another owner is about to read", () =>
  bothWays(async (security) => {
    await using door = new TestDoor(security("node1"));
    const session = await dialAs(security("node2"), door);
    await door.until(() => door.sessions.length === 1);
    const stream = openStream(session.data);
    const bytes = new Uint8Array(16);

    session.cut();
    session.cut();

    await assertRejects(
      async () => await Promise.resolve(stream.readSome(addressOf(bytes), 16)),
      Error,
      "Cannot read",
    );
    stream.close();
    for (const handle of [session.ack, session.sync]) openStream(handle).close();
    endAll(door);
  }));

Deno.test("Door and dial() leave no descriptor open", () =>
  bothWays(async (security) => {
    const before = descriptors();
    {
      await using door = new TestDoor(security("node1"));
      for (let round = 1; round <= 4; round++) {
        endSession(await dialAs(security("node2"), door));
        await door.until(() => door.sessions.length === round);
      }
      await refusedDial(dialAs(security("node2"), door, { module: "erp" }));
      endAll(door);
    }
    assertEquals(descriptors(), before);
  }));
