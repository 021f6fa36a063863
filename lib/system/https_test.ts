import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { createAuthority, createRequest, issueCertificate } from "../identity/certificate.ts";
import { HttpsError, openHttpsClient, serveHttps } from "./https.ts";

async function credentials(cluster: string) {
  const authority = await createAuthority({ cluster, at: Date.now() });
  const { request, key } = await createRequest("node1");
  const certificate = await issueCertificate(authority, request, {
    node: "node1",
    addresses: [],
    at: Date.now(),
  });
  return { authority: authority.certificate, certificate, key };
}

Deno.test("openHttpsClient() talks to a server of its own authority, by IP address", async () => {
  const own = await credentials("plant");
  const server = serveHttps({
    ...own,
    port: 0,
    handler: async (request) => new Response(await request.text()),
  });
  using client = openHttpsClient(own.authority);
  const url = `https://127.0.0.1:${server.port}/`;
  const answer = await client.send(url, { method: "POST", body: "hello", timeoutMs: 5000 });
  assertEquals([answer.status, answer.body], [200, "hello"]);
  await server.close();
});

Deno.test("openHttpsClient() refuses a server of another authority", async () => {
  const server = serveHttps({
    ...await credentials("plant"),
    port: 0,
    handler: () => new Response("secret"),
  });
  using client = openHttpsClient((await credentials("plant")).authority);
  const url = `https://127.0.0.1:${server.port}/`;
  const error = await assertRejects(() => client.send(url, { method: "GET", timeoutMs: 5000 }), HttpsError);
  assertEquals(error.kind, "untrusted");
  await server.close();
});

Deno.test("openHttpsClient() says that nothing listens", async () => {
  const own = await credentials("plant");
  const server = serveHttps({ ...own, port: 0, handler: () => new Response("") });
  await server.close();
  using client = openHttpsClient(own.authority);
  const url = `https://127.0.0.1:${server.port}/`;
  const error = await assertRejects(() => client.send(url, { method: "GET", timeoutMs: 5000 }), HttpsError);
  assertEquals(error.kind, "refused");
});

Deno.test("openHttpsClient() gives up in time", async () => {
  const own = await credentials("plant");
  const gate = Promise.withResolvers<Response>();
  const server = serveHttps({ ...own, port: 0, handler: () => gate.promise });
  using client = openHttpsClient(own.authority);
  const url = `https://127.0.0.1:${server.port}/`;
  const error = await assertRejects(() => client.send(url, { method: "GET", timeoutMs: 200 }), HttpsError);
  assertEquals(error.kind, "timeout");
  gate.resolve(new Response(""));
  await server.close();
});

Deno.test("serveHttps() names the port that is taken and what to do", async () => {
  const own = await credentials("plant");
  const server = serveHttps({ ...own, port: 0, handler: () => new Response("") });
  assertThrows(
    () => serveHttps({ ...own, port: server.port, handler: () => new Response("") }),
    Error,
    `Cannot listen on TCP port ${server.port}: it is taken by another program`,
  );
  await server.close();
});

Deno.test("serveHttps() survives bytes that are no TLS", async () => {
  const own = await credentials("plant");
  const server = serveHttps({ ...own, port: 0, handler: () => new Response("well") });
  const junk = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await junk.write(crypto.getRandomValues(new Uint8Array(4096)));
  junk.close();
  using client = openHttpsClient(own.authority);
  const answer = await client.send(`https://127.0.0.1:${server.port}/`, { method: "GET", timeoutMs: 5000 });
  assertEquals(answer.body, "well");
  await server.close();
});

Deno.test("serveHttps() outlives a flood of connections that takes every descriptor", async () => {
  const script = new URL("testing/https_flood.ts", import.meta.url).pathname;
  const shell = 'ulimit -n 100 && exec "$0" run --allow-all "$1"';
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", shell, Deno.execPath(), script],
  })
    .output();
  const decoder = new TextDecoder();
  assertEquals([code, decoder.decode(stdout)], [0, "here\n"], decoder.decode(stderr));
});
