import { readExactly } from "./testing/read_exactly.ts";
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { type Stream, StreamError, type StreamHandle } from "../replication/stream.ts";
import { addressOf } from "./libc.ts";
import { SEAL_LIMITS, SEAL_OVERHEAD } from "./seal.ts";
import { SealedStream } from "./sealed_stream.ts";
import { closeSocket, receiveBytes, sendBytes, setBlocking } from "./socket.ts";
import { openStream } from "./stream.ts";
import { dialAs, PLAIN, TestDoor, tlsSecurity } from "./testing/pair.ts";
import { sealedHandle, sealedPair, SECRETS, socketPair } from "./testing/sealed_pair.ts";

const SIZE = 256 * 1024;

/** What the primary writes and the secondary reads, and a buffer on each side. */
interface Pair {
  readonly sender: Stream;
  readonly receiver: Stream;
  readonly sent: Uint8Array;
  readonly received: Uint8Array;
}

/** The data connection of a session, as handles; all is closed after the test. */
async function session(
  encryption: "on" | "off",
  test: (data: { readonly sender: StreamHandle; readonly receiver: StreamHandle }) => void | Promise<void>,
): Promise<void> {
  await using tls = await tlsSecurity();
  await using door = new TestDoor(encryption === "on" ? tls.of("node1") : PLAIN);
  const session = await dialAs(encryption === "on" ? tls.of("node2") : PLAIN, door);
  await door.until(() => door.sessions.length === 1);
  const sender = door.sessions[0]?.data;
  if (sender === undefined) throw new Error("no session");
  try {
    await test({ sender, receiver: session.data });
  } finally {
    for (const other of [session, ...door.sessions]) {
      for (const handle of [other.ack, other.sync]) openStream(handle).close();
    }
    session.cut();
  }
}

/** Both ends in this thread. */
function overLoopback(encryption: "on" | "off", test: (pair: Pair) => void): Promise<void> {
  return session(encryption, (handles) => {
    const [sender, receiver] = [openStream(handles.sender), openStream(handles.receiver)];
    const pair = { sender, receiver, sent: new Uint8Array(SIZE), received: new Uint8Array(SIZE) };
    crypto.getRandomValues(pair.sent.subarray(0, 65536));
    try {
      test(pair);
    } finally {
      sender.close();
      receiver.close();
    }
  });
}

function streamError(work: () => unknown): StreamError {
  return assertThrows(work, StreamError);
}

for (const [name, encryption] of [["SealedStream", "on"], ["PlainStream", "off"]] as const) {
  Deno.test(`${name}.writeAll() and readSome() carry bytes of every size unchanged`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      for (const size of [1, 31, 96, 4192, 65536, 65537, SIZE]) {
        received.fill(0);
        sender.writeAll(addressOf(sent), size);
        readExactly(receiver, addressOf(received), size);
        assertEquals(received.subarray(0, size), sent.subarray(0, size));
      }
    }));

  Deno.test(`${name} carries bytes both ways`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.writeAll(addressOf(sent), 100);
      receiver.writeAll(addressOf(sent) + 100, 100);

      readExactly(receiver, addressOf(received), 100);
      readExactly(sender, addressOf(received) + 100, 100);

      assertEquals(received.subarray(0, 200), sent.subarray(0, 200));
    }));

  Deno.test(`${name}.readSome() answers 0 when nothing comes in time`, () =>
    overLoopback(encryption, ({ receiver, received }) => {
      receiver.setTimeouts({ sendMs: 1000, receiveMs: 5 });

      assertEquals(receiver.readSome(addressOf(received), 100), 0);
      assertEquals(streamError(() => readExactly(receiver, addressOf(received), 100)).failure, "timeout");
    }));

  Deno.test(`${name}.readSome() goes on after a silence`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      receiver.setTimeouts({ sendMs: 1000, receiveMs: 5 });
      receiver.readSome(addressOf(received), 100);

      sender.writeAll(addressOf(sent), 100);

      readExactly(receiver, addressOf(received), 100);
      assertEquals(received.subarray(0, 100), sent.subarray(0, 100));
    }));

  Deno.test(`${name}.writeAll() gives up when the peer takes nothing`, () =>
    overLoopback(encryption, ({ sender, sent }) => {
      sender.setTimeouts({ sendMs: 5, receiveMs: 1000 });

      const error = streamError(() => {
        for (let round = 0; round < 1000; round++) sender.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(error.failure, "timeout");
      assertMatch(error.message, /^Cannot write to .*: the peer took nothing in time$/);
    }));

  Deno.test(`${name}.keepUpTo() has it go on while the peer takes nothing, and the peer gets it all, in order`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.setTimeouts({ sendMs: 5, receiveMs: 1000 });
      receiver.setTimeouts({ sendMs: 1000, receiveMs: 5 });
      sender.keepUpTo(64 << 20);
      const rounds = 120;
      for (let round = 0; round < rounds; round++) {
        sent[0] = round;
        sender.writeAll(addressOf(sent), SIZE);
      }
      assert(sender.kept > 0, "the sockets hold less than 30 MiB");

      for (let round = 0; round < rounds; round++) {
        received.fill(0);
        for (let done = 0; done < SIZE;) {
          done += receiver.readSome(addressOf(received) + done, SIZE - done);
          sender.sendKept();
        }
        sent[0] = round;
        assertEquals(received, sent);
      }
      assertEquals(sender.kept, 0);
      assertEquals(receiver.readSome(addressOf(received), 1), 0);
    }));

  Deno.test(`${name}.writeAll() gives up once more is kept than may be, and the peer takes nothing`, () =>
    overLoopback(encryption, ({ sender, sent }) => {
      sender.setTimeouts({ sendMs: 5, receiveMs: 1000 });
      sender.keepUpTo(4 << 20);

      const error = streamError(() => {
        for (let round = 0; round < 1000; round++) sender.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(error.failure, "timeout");
      assert(sender.kept <= (4 << 20) + 2 * SIZE, `${sender.kept} bytes are kept`);
    }));

  Deno.test(`${name} tells a closed peer from silence, and survives writing to it`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.close();
      assertEquals(streamError(() => receiver.readSome(addressOf(received), 1)).failure, "closed");

      const error = streamError(() => {
        for (let round = 0; round < 100; round++) receiver.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(error.failure, "closed");
    }));

  Deno.test(`${name}.writeAll() ends when the peer has gone`, () =>
    overLoopback(encryption, ({ sender, receiver, sent }) => {
      receiver.close();

      const error = streamError(() => {
        for (let round = 0; round < 100; round++) sender.writeAll(addressOf(sent), SIZE);
      });

      assertEquals(error.failure, "closed");
    }));

  Deno.test(`${name} refuses to be used once closed`, () =>
    overLoopback(encryption, ({ sender, receiver, sent, received }) => {
      sender.close();
      sender.close();
      receiver.close();

      assertEquals(streamError(() => sender.writeAll(addressOf(sent), 1)).failure, "closed");
      assertEquals(streamError(() => receiver.readSome(addressOf(received), 1)).failure, "closed");
    }));

  Deno.test(`${name} works in a worker that adopts it by its numbers`, () =>
    session(encryption, async (handles) => {
      const sender = openStream(handles.sender);
      const [sent, received] = [new Uint8Array(30_000).fill(7), new Uint8Array(30_000)];
      const worker = new Worker(new URL("./testing/echo_worker.ts", import.meta.url), { type: "module" });
      try {
        const done = Promise.withResolvers<unknown>();
        worker.onmessage = (event) => done.resolve(event.data);
        worker.postMessage({ handle: handles.receiver, length: 30_000 });
        sender.writeAll(addressOf(sent), 30_000);
        // Only then read: a blocked main thread could not load the worker's modules.
        assertEquals(await done.promise, "done");
        readExactly(sender, addressOf(received), 30_000);
      } finally {
        worker.terminate();
        sender.close();
      }
      assertEquals(received, sent);
    }));
}

/** A sealed stream that reads what a test puts on the line, and the records the peer would have put there. */
class Line implements Disposable {
  readonly receiver: SealedStream;
  readonly #fd: number;
  readonly #received = new Uint8Array(SIZE);
  readonly #limits = { ...SEAL_LIMITS, recordMax: 100, keyRecords: 5 };

  constructor() {
    const [fd, other] = socketPair();
    this.#fd = fd;
    // What is not there does not come: nobody waits.
    setBlocking(other, false);
    this.receiver = SealedStream.adopt(
      sealedHandle(other, { send: SECRETS.other, receive: SECRETS.one }),
      this.#limits,
    );
  }

  /** The bytes of these messages on the line, each beginning a record. */
  sealed(messages: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
    const [fd, other] = socketPair();
    const sender = SealedStream.adopt(
      sealedHandle(fd, { send: SECRETS.one, receive: SECRETS.other }),
      this.#limits,
    );
    for (const message of messages) sender.writeAll(addressOf(message), message.length);
    const bytes = new Uint8Array(SIZE);
    const length = receiveBytes(other, addressOf(bytes), bytes.length);
    sender.close();
    closeSocket(other);
    return bytes.slice(0, length);
  }

  put(bytes: Uint8Array): void {
    assertEquals(sendBytes(this.#fd, addressOf(bytes), bytes.length), bytes.length);
  }

  /** All that the receiver gives now, asked for `max` at a time. */
  taken(max: number = SIZE): Uint8Array {
    let length = 0;
    for (;;) {
      const got = this.receiver.readSome(addressOf(this.#received) + length, Math.min(max, SIZE - length));
      if (got === 0) return this.#received.slice(0, length);
      length += got;
    }
  }

  hangUp(): void {
    closeSocket(this.#fd);
  }

  [Symbol.dispose](): void {
    this.receiver.close();
  }
}

const MESSAGES = [1, 99, 100, 101, 130, 3, 20].map((length, index) => new Uint8Array(length).fill(index + 1));
const ALL = new Uint8Array(MESSAGES.flatMap((message) => [...message]));

/** The records of a byte string, whole. */
function records(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + view.getUint32(at, true) + SEAL_OVERHEAD;
    found.push(bytes.slice(at, end));
    at = end;
  }
  return found;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

Deno.test("SealedStream reads the same wherever the line cuts what was sent, across changes of the key", () => {
  using model = new Line();
  const bytes = model.sealed(MESSAGES);
  for (let cut = 0; cut <= bytes.length; cut++) {
    using line = new Line();
    line.put(bytes.slice(0, cut));
    const first = line.taken();
    line.put(bytes.slice(cut));
    assertEquals(joined([first, line.taken()]), ALL, `cut at ${cut}`);
    line.hangUp();
  }
  model.hangUp();
});

Deno.test("SealedStream reads the same in pieces of every size, asked for in pieces of every size", () => {
  using model = new Line();
  const bytes = model.sealed(MESSAGES);
  for (const piece of [1, 2, 3, 7, 19, 20, 21, 119, 120, 121, 500]) {
    for (const max of [1, 5, 99, 100, 101, 333]) {
      using line = new Line();
      const parts: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += piece) {
        line.put(bytes.slice(at, at + piece));
        parts.push(line.taken(max));
      }
      assertEquals(joined(parts), ALL, `pieces of ${piece}, reads of ${max}`);
      line.hangUp();
    }
  }
  model.hangUp();
});

Deno.test("SealedStream.readSome() gives many records for one system call", () => {
  const { one, other } = sealedPair();
  const [sent, received] = [new Uint8Array(100).fill(5), new Uint8Array(SIZE)];
  for (let count = 0; count < 20; count++) one.writeAll(addressOf(sent), 100);

  assertEquals(other.readSome(addressOf(received), SIZE), 2000);

  assertEquals(received.subarray(0, 2000), new Uint8Array(2000).fill(5));
  one.close();
  other.close();
});

Deno.test("SealedStream.pending() says what is there without asking the kernel", () => {
  using line = new Line();
  const bytes = line.sealed([new Uint8Array(100), new Uint8Array(100), new Uint8Array(100)]);
  assertEquals(line.receiver.pending(), 0);
  line.put(bytes.slice(0, 250));
  const received = new Uint8Array(100);

  assertEquals(line.receiver.readSome(addressOf(received), 40), 40);
  assertEquals(line.receiver.pending(), 60);
  assertEquals(line.receiver.readSome(addressOf(received), 100), 60);
  assertEquals(line.receiver.pending(), 100);
  assertEquals(line.receiver.readSome(addressOf(received), 100), 100);
  // 10 bytes of the third record are no data yet.
  assertEquals(line.receiver.pending(), 0);
  line.hangUp();
});

/** What a line full of `bytes` does to its reader: data given before, then this failure, for ever. */
function refused(line: Line, bytes: Uint8Array): { readonly given: number; readonly error: StreamError } {
  const received = new Uint8Array(SIZE);
  line.put(bytes);
  let given = 0;
  const read = () => {
    for (;;) {
      const got = line.receiver.readSome(addressOf(received), SIZE);
      if (got === 0) throw new Error("nothing was refused");
      given += got;
    }
  };
  const error = streamError(read);
  const again = streamError(() => line.receiver.readSome(addressOf(received), 1));
  assertEquals([again.failure, again.message], [error.failure, error.message]);
  assertEquals(streamError(() => line.receiver.writeAll(addressOf(received), 1)).failure, error.failure);
  assert(line.receiver.pending() > 0, "who asks before reading must come to the failure");
  return { given, error };
}

Deno.test("SealedStream is dead after a record with any bit changed", () => {
  using model = new Line();
  const bytes = model.sealed([new Uint8Array(30).fill(1), new Uint8Array(30).fill(2)]);
  const second = 30 + SEAL_OVERHEAD;
  for (let at = second; at < bytes.length; at++) {
    using line = new Line();
    const changed = bytes.slice();
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    // A shorter length leaves less than a record behind it; a longer one waits for the rest, which comes.
    const { given, error } = refused(line, joined([changed, new Uint8Array(200)]));
    assertEquals([given, error.failure], [30, "protocol"], `byte ${at}`);
    line.hangUp();
  }
  model.hangUp();
});

Deno.test("SealedStream refuses records that are left out, swapped, repeated, cut short or sent back", () => {
  using model = new Line();
  const all = records(model.sealed(MESSAGES));
  const [one, two, three] = [all[0] ?? ALL, all[1] ?? ALL, all[2] ?? ALL];
  const cases: readonly (readonly [string, readonly Uint8Array[], number])[] = [
    ["left out", [one, three], 1],
    ["swapped", [two, one], 0],
    ["repeated", [one, two, two], 100],
    ["cut short", [one, two.slice(0, 50), three, three], 1],
    ["a record of before the key changed", [...all.slice(0, 5), one], 301],
  ];
  for (const [name, parts, expected] of cases) {
    using line = new Line();
    const { given, error } = refused(line, joined(parts));
    assertEquals([given, error.failure], [expected, "protocol"], name);
    assertMatch(
      error.message,
      /^Cannot read from peer: a record was altered on the way or is out of its place/,
    );
    line.hangUp();
  }
  model.hangUp();
});

Deno.test("SealedStream does not take its own records back from the line", () => {
  const [fd, raw] = socketPair();
  const stream = SealedStream.adopt(sealedHandle(fd, { send: SECRETS.one, receive: SECRETS.other }));
  const bytes = new Uint8Array(200);
  stream.writeAll(addressOf(bytes), 50);

  const length = receiveBytes(raw, addressOf(bytes), bytes.length);
  sendBytes(raw, addressOf(bytes), length);

  assertEquals(streamError(() => stream.readSome(addressOf(bytes), 50)).failure, "protocol");
  stream.close();
  closeSocket(raw);
});

Deno.test("SealedStream refuses a length out of bounds before it waits for a byte of it", () => {
  for (const length of [0, 101, 0x7fff_ffff, 0xffff_ffff]) {
    using line = new Line();
    const header = new Uint8Array(4);
    new DataView(header.buffer).setUint32(0, length, true);

    const { error } = refused(line, header);

    assertEquals(error.failure, "protocol");
    assertMatch(error.message, new RegExp(`: a record claims ${length} bytes, 1 to 100 are accepted$`));
    line.hangUp();
  }
});

Deno.test("SealedStream.pending() counts what breaks the protocol, so that it is found at once", () => {
  using line = new Line();
  line.put(joined([line.sealed([new Uint8Array(50)]), new Uint8Array(4)]));
  const received = new Uint8Array(100);

  assertEquals(line.receiver.readSome(addressOf(received), 100), 50);

  assert(line.receiver.pending() > 0);
  assertEquals(streamError(() => line.receiver.readSome(addressOf(received), 100)).failure, "protocol");
  line.hangUp();
});

Deno.test("SealedStream says whether the peer left between records or within one", () => {
  for (const [kept, words] of [[70, /closed the connection$/], [69, /in the middle of a record$/]] as const) {
    using line = new Line();
    line.put(line.sealed([new Uint8Array(50)]).slice(0, kept));
    line.hangUp();
    const received = new Uint8Array(100);
    if (kept === 70) assertEquals(line.receiver.readSome(addressOf(received), 100), 50);

    const error = streamError(() => line.receiver.readSome(addressOf(received), 100));

    assertEquals(error.failure, "closed");
    assertMatch(error.message, words);
  }
});
