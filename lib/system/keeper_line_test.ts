import { assert, assertEquals } from "@std/assert";
import { boottimeMs } from "./clock.ts";
import { KeeperLine } from "./keeper_line.ts";

/** A folder of its own, gone afterwards. */
async function inFolder(test: (path: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(`${folder}/keeper.sock`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Reads `lines` lines, then answers them as told; `says` gets each request. */
async function answer(server: Deno.UnixConn, lines: number, says: (id: number) => string): Promise<string> {
  const bytes = new Uint8Array(65536);
  let text = "";
  while (text.split("\n").length <= lines) {
    const got = await server.read(bytes);
    if (got === null) break;
    text += new TextDecoder().decode(bytes.subarray(0, got));
  }
  const ids = text.trim().split("\n").map((line) => (JSON.parse(line) as { id: number }).id);
  await server.write(new TextEncoder().encode(ids.map((id) => says(id) + "\n").join("")));
  return text;
}

const DONE = (id: number) => `{"id":${id},"result":{}}`;

Deno.test("KeeperLine.call() waits once for a keeper that is away, not for each question", async () => {
  await inFolder((path) => {
    const awayMs = 500;
    const line = new KeeperLine(path, { awayMs });
    const began = boottimeMs();
    assertEquals(line.call("keep", {}), "away");
    const first = boottimeMs();
    assertEquals(first - began >= awayMs, true);
    for (let i = 0; i < 10; i++) assertEquals(line.call("keep", {}), "away");
    // Ten times as long, were it waited for each time.
    assertEquals(boottimeMs() - first < 9 * awayMs, true);
  });
});

Deno.test("KeeperLine.call() comes back from a keeper that takes longer to answer than it may be away", async () => {
  await inFolder((path) => {
    // Who listens and never looks: the kernel takes the connection and the request.
    using _listener = Deno.listen({ transport: "unix", path });
    const line = new KeeperLine(path, { answerMs: 20 });
    assertEquals(line.call("drop", {}, 5), "away");
    line.close();
  });
});

Deno.test("KeeperLine.post() does not wait, and answers() tells what came of each once all are answered", async () => {
  await inFolder(async (path) => {
    using listener = Deno.listen({ transport: "unix", path });
    const line = new KeeperLine(path);
    assert(line.post([{ method: "keep", params: { key: "a" } }, { method: "drop", params: { key: "b" } }]));
    assertEquals(line.answers(), null);
    using server = await listener.accept();
    const event = `{"event":"fenced","params":{}}\n`;
    const text = await answer(
      server,
      2,
      (id) => id === 2 ? `${event}{"id":2,"error":{"code":"full"}}` : DONE(id),
    );
    assertEquals(
      text,
      [
        `{"id":1,"method":"keep","params":{"key":"a"}}`,
        `{"id":2,"method":"drop","params":{"key":"b"}}`,
        "",
      ].join("\n"),
    );
    assertEquals(line.answers(), ["done", "refused"]);
    assertEquals(line.answers(), "lost", "nothing is asked any more");
    line.close();
  });
});

Deno.test("KeeperLine.answers() understands answers that come in pieces", async () => {
  await inFolder(async (path) => {
    using listener = Deno.listen({ transport: "unix", path });
    const line = new KeeperLine(path);
    assert(line.post([{ method: "keep", params: {} }]));
    using server = await listener.accept();
    for (const byte of new TextEncoder().encode(`{"event":"x"}\n${DONE(1)}`)) {
      await server.write(Uint8Array.of(byte));
      assertEquals(line.answers(), null);
    }
    await server.write(new TextEncoder().encode("\n"));
    assertEquals(line.answers(), ["done"]);
    line.close();
  });
});

Deno.test("KeeperLine.answers() says that a keeper which died answers nothing, and the next one is asked", async () => {
  await inFolder(async (path) => {
    const first = Deno.listen({ transport: "unix", path });
    const line = new KeeperLine(path);
    assert(line.post([{ method: "keep", params: {} }]));
    (await first.accept()).close();
    first.close();
    assertEquals(line.answers(), "lost");
    assertEquals(line.post([{ method: "keep", params: {} }]), false, "nobody listens");
    using second = Deno.listen({ transport: "unix", path });
    assert(line.post([{ method: "keep", params: {} }]));
    using server = await second.accept();
    await answer(server, 1, DONE);
    assertEquals(line.answers(), ["done"]);
    line.close();
  });
});
