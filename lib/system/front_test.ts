import { assertEquals } from "@std/assert";
import { Front, type FrontOptions } from "./front.ts";

/** A server that answers each line by itself, and a front before it. */
class Pair implements AsyncDisposable {
  readonly front: Front;
  readonly #server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #echoes: Promise<void>[] = [];
  readonly #serving: Promise<void>;

  constructor(options: Partial<FrontOptions>) {
    this.front = new Front({ hostname: "0.0.0.0", port: 0, to: () => this.#server.addr.port, ...options });
    this.#serving = this.#serve();
  }

  async #serve(): Promise<void> {
    for await (const conn of this.#server) {
      this.#echoes.push(conn.readable.pipeTo(conn.writable).catch(() => {}));
    }
  }

  async connect(): Promise<Deno.TcpConn> {
    return await Deno.connect({ hostname: "127.0.0.1", port: this.front.port });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.front.close();
    this.#server.close();
    await this.#serving;
    await Promise.all(this.#echoes);
  }
}

/** What the server echoes; null when the connection was ended. */
async function say(conn: Deno.TcpConn, text: string): Promise<string | null> {
  try {
    await conn.write(new TextEncoder().encode(text));
    return await hear(conn);
  } catch {
    return null;
  }
}

async function hear(conn: Deno.TcpConn): Promise<string | null> {
  const bytes = new Uint8Array(100);
  try {
    const got = await conn.read(bytes);
    return got === null ? null : new TextDecoder().decode(bytes.subarray(0, got));
  } catch {
    return null;
  }
}

Deno.test("Front passes bytes on, both ways and to the end", async () => {
  await using pair = new Pair({});
  using conn = await pair.connect();
  assertEquals(await say(conn, "one"), "one");
  assertEquals(await say(conn, "two"), "two");
  await conn.closeWrite();
  assertEquals(await hear(conn), null);
});

Deno.test("Front ends connections to which the server has said nothing for too long, at first and later", async () => {
  for (const talks of [false, true]) {
    // The limit that is not looked at is out of reach, also of a slow machine.
    const limits = talks ? { helloMs: 600_000, idleMs: 60 } : { helloMs: 60, idleMs: 600_000 };
    await using pair = new Pair({ limits });
    using conn = await pair.connect();
    if (talks) assertEquals(await say(conn, "hello"), "hello");
    assertEquals(await hear(conn), null);
    assertEquals([pair.front.size, pair.front.counters.silent], [0, 1]);
  }
});

Deno.test("Front bounds the connections of one source: the one idle longest gives way", async () => {
  await using pair = new Pair({ limits: { perSource: 3 } });
  const conns: Deno.TcpConn[] = [];
  for (let i = 0; i < 20; i++) conns.push(await pair.connect());
  using last = await pair.connect();
  assertEquals(await say(last, "here"), "here");
  assertEquals([pair.front.size, pair.front.counters.crowded], [3, 18]);
  for (const conn of conns) conn.close();
});

Deno.test("Front lets nobody in while all of a source are busy, and known addresses past any crowd", async () => {
  await using strangers = new Pair({ limits: { strangersMax: 2 } });
  using one = await strangers.connect();
  using two = await strangers.connect();
  assertEquals([await say(one, "1"), await say(two, "2")], ["1", "2"]);
  using refused = await strangers.connect();
  assertEquals(await say(refused, "3"), null);
  assertEquals([await say(one, "1"), await say(two, "2")], ["1", "2"]);

  await using known = new Pair({ limits: { strangersMax: 0 }, known: ["127.0.0.1"] });
  using node = await known.connect();
  assertEquals(await say(node, "peer"), "peer");
});
