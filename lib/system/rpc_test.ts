import { assert, assertEquals, assertRejects } from "@std/assert";
import { LINE_MAX, RpcClient, RpcError, serveRpc } from "./rpc.ts";

/** A socket path in a directory that goes away with the test. */
async function withSocket(run: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "binome-rpc-" });
  try {
    await run(`${folder}/rpc.sock`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("serveRpc() answers calls, refusals and unknown methods", () =>
  withSocket(async (path) => {
    const server = await serveRpc(path, {
      echo: (params) => params,
      refuse: () => {
        throw new RpcError("busy", "Cannot do it: busy");
      },
      nothing: () => undefined,
    });
    const client = await RpcClient.connect(path);
    assertEquals(await client.call("echo", { a: "é\n" }), { a: "é\n" });
    assertEquals(await client.call("nothing"), {});
    assertEquals((await assertRejects(() => client.call("refuse"), RpcError)).code, "busy");
    assertEquals((await assertRejects(() => client.call("toString"), RpcError)).code, "unknown-method");
    client.close();
    await client.closed;
    await server.close();
  }));

Deno.test("serveRpc() makes a socket only its owner may use, and removes it at close", () =>
  withSocket(async (path) => {
    const server = await serveRpc(path, {});
    assertEquals(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
    await server.close();
    await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
  }));

Deno.test("serveRpc() refuses a socket where somebody answers", () =>
  withSocket(async (path) => {
    const server = await serveRpc(path, {});
    const error = await assertRejects(() => serveRpc(path, {}), RpcError);
    assertEquals(error.code, "in-use");
    await server.close();
  }));

Deno.test("serveRpc() replaces the socket file of a server that was killed", () =>
  withSocket(async (path) => {
    const script = `Deno.listen({ transport: "unix", path: ${
      JSON.stringify(path)
    } }); Deno.kill(Deno.pid, "SIGKILL");`;
    await new Deno.Command(Deno.execPath(), { args: ["eval", script], stdout: "null", stderr: "null" })
      .output();
    assert((await Deno.lstat(path)).isSocket);
    const server = await serveRpc(path, { ping: () => "pong" });
    const client = await RpcClient.connect(path);
    assertEquals(await client.call("ping"), "pong");
    client.close();
    await client.closed;
    await server.close();
  }));

Deno.test("serveRpc() closes a connection that sends garbage, says why, and goes on serving others", () =>
  withSocket(async (path) => {
    const log: string[] = [];
    const server = await serveRpc(path, { ping: () => "pong" }, { log: (line) => log.push(line) });
    for (
      const garbage of [
        new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
        new Uint8Array(LINE_MAX + 1).fill(65),
      ]
    ) {
      const socket = await Deno.connect({ transport: "unix", path });
      // The server may hang up while we still write: that is what is being tested.
      await writeAll(socket, garbage).catch(() => {});
      assertEquals(await socket.read(new Uint8Array(1)).catch(() => null), null);
      socket.close();
    }
    const client = await RpcClient.connect(path);
    assertEquals(await client.call("ping"), "pong");
    assertEquals(log.length, 2);
    assert(log[0]?.includes("not JSON"), log[0]);
    assert(log[1]?.includes("longer than"), log[1]);
    client.close();
    await client.closed;
    await server.close();
  }));

Deno.test("serveRpc() broadcasts events to every caller", () =>
  withSocket(async (path) => {
    const server = await serveRpc(path, { ready: () => "yes" });
    const seen: unknown[] = [];
    let all: () => void = () => {};
    const done = new Promise<void>((resolve) => all = resolve);
    const onEvent = (event: string, params: unknown) => {
      seen.push([event, params]);
      if (seen.length === 2) all();
    };
    const clients = [await RpcClient.connect(path, { onEvent }), await RpcClient.connect(path, { onEvent })];
    for (const client of clients) await client.call("ready");
    server.broadcast("connected", { peer: "node2" });
    await done;
    assertEquals(seen, [["connected", { peer: "node2" }], ["connected", { peer: "node2" }]]);
    await server.close();
    for (const client of clients) await client.closed;
  }));

Deno.test("RpcClient.call() fails with timeout when no answer comes, and ignores the late one", () =>
  withSocket(async (path) => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => release = resolve);
    const server = await serveRpc(path, { slow: () => held, ping: () => "pong" });
    const client = await RpcClient.connect(path);
    assertEquals(
      (await assertRejects(() => client.call("slow", {}, { timeoutMs: 5 }), RpcError)).code,
      "timeout",
    );
    release();
    assertEquals(await client.call("ping"), "pong");
    client.close();
    await client.closed;
    await server.close();
  }));

Deno.test("RpcClient.call() fails with closed when the server goes away, before and after", () =>
  withSocket(async (path) => {
    const server = await serveRpc(path, { never: () => new Promise(() => {}) });
    const client = await RpcClient.connect(path);
    const waiting = assertRejects(() => client.call("never"), RpcError);
    const second = await RpcClient.connect(path);
    await assertRejects(() => second.call("none"), RpcError);
    await server.close();
    assertEquals((await waiting).code, "closed");
    await client.closed;
    assertEquals((await assertRejects(() => client.call("never"), RpcError)).code, "closed");
    await second.closed;
  }));

Deno.test("RpcClient.connect() says unreachable when nobody listens", () =>
  withSocket(async (path) => {
    assertEquals((await assertRejects(() => RpcClient.connect(path), RpcError)).code, "unreachable");
  }));

async function writeAll(socket: Deno.UnixConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await socket.write(bytes.subarray(at));
}
