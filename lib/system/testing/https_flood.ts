/** A server whose process has no descriptors left: run with few of them, ends with 0 when it answers afterwards. */
import { createAuthority, createRequest, issueCertificate } from "../../identity/certificate.ts";
import { openHttpsClient, serveHttps } from "../https.ts";

const at = Date.now();
const authority = await createAuthority({ cluster: "plant", at });
const { request, key } = await createRequest("node1");
const certificate = await issueCertificate(authority, request, { node: "node1", addresses: [], at });
const server = serveHttps({ certificate, key, port: 0, handler: () => new Response("here") });
const flood: Deno.TcpConn[] = [];
try {
  for (;;) flood.push(await Deno.connect({ hostname: "127.0.0.1", port: server.port }));
} catch {
  // no descriptor is left, or nobody listens any more
}
await new Promise((resolve) => setTimeout(resolve, 300));
for (const connection of flood) connection.close();
using client = openHttpsClient(authority.certificate);
for (let attempt = 0;; attempt++) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  try {
    const url = `https://127.0.0.1:${server.port}/`;
    const answer = await client.send(url, { method: "GET", timeoutMs: 2000 });
    await Deno.stdout.write(new TextEncoder().encode(`${answer.body}\n`));
    break;
  } catch (error) {
    if (attempt === 20) throw error;
  }
}
await server.close();
