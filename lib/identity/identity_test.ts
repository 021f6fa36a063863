import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { X509Certificate } from "./x509.ts";
import { AdmissionError, admissionFromJson, admissionToJson, admit, createJoinToken } from "./admission.ts";
import { createRequest } from "./certificate.ts";
import { type Ambient, createIdentity, loadIdentity, saveAdmission } from "./identity.ts";
import { decodeJoinToken, TOKEN_LIFE_MS } from "./join_token.ts";
import { memoryFiles } from "./memory_files.ts";
import { importClusterKey, sameSecret, sign, verify } from "./signature.ts";

const CLUSTER = `cluster: plant
nodes:
  - { name: node1, addresses: { lan: 10.0.0.11 } }
  - { name: node2, addresses: { lan: 10.0.0.12 } }
`;

function world(): Ambient & { at: number } {
  return { at: Date.UTC(2026, 0, 1), now: () => ambient.at, randomBytes: (length) => ambient.bytes(length) };
}
const ambient = {
  at: Date.UTC(2026, 0, 1),
  bytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
};

async function first() {
  const files = memoryFiles();
  await createIdentity(files, { clusterText: CLUSTER, node: "node1", file: "cluster.yaml" }, world());
  return { files, identity: await loadIdentity(files) };
}

Deno.test("createIdentity() keeps every secret at mode 0600", async () => {
  const { files } = await first();
  const open = [...files.content].filter(([, { mode }]) => mode !== 0o600).map(([name]) => name).sort();
  assertEquals(open, ["ca.crt", "cluster.yaml", "node", "node.crt"]);
});

Deno.test("createIdentity() refuses a machine that is a member already", async () => {
  const { files } = await first();
  const again = createIdentity(files, { clusterText: CLUSTER, node: "node1", file: "cluster.yaml" }, world());
  assert((await assertRejects(() => again)).message.includes("already node node1"));
});

Deno.test("createIdentity() refuses a node the cluster does not have", async () => {
  const made = createIdentity(
    memoryFiles(),
    { clusterText: CLUSTER, node: "node3", file: "cluster.yaml" },
    world(),
  );
  assertEquals(
    (await assertRejects(() => made)).message,
    'Cannot use node "node3": cluster plant has node1, node2',
  );
});

Deno.test("loadIdentity() names the file that is missing", async () => {
  const { files } = await first();
  files.content.delete("cluster.key");
  const error = await assertRejects(() => loadIdentity(files));
  assert(error instanceof Error && error.message.startsWith("Cannot start: cluster.key is missing"));
});

Deno.test("admit() gives the newcomer all of the identity, its own certificate signed by the authority", async () => {
  const { files, identity } = await first();
  const { line } = await createJoinToken(files, identity, "node2", world());
  const token = decodeJoinToken(`  ${line}\n`);
  assertEquals([token.address, token.node], ["10.0.0.11:9010", "node2"]);
  assertEquals(token.authority.trim(), identity.authority.trim());

  const { request, key } = await createRequest("anything");
  const answer = await admit(files, identity, { secret: token.secret, request }, world());
  const second = memoryFiles();
  await saveAdmission(second, admissionFromJson(JSON.parse(JSON.stringify(admissionToJson(answer)))), key);
  const joined = await loadIdentity(second);

  assertEquals(joined.node, "node2");
  assertEquals(joined.clusterKey, identity.clusterKey);
  assertEquals(joined.token, identity.token);
  const certificate = new X509Certificate(joined.credentials.certificate);
  assertEquals(certificate.subject, "CN=node2");
  assert(
    await certificate.verify({ publicKey: new X509Certificate(identity.authority), signatureOnly: true }),
  );
});

Deno.test("admit() takes a token once", async () => {
  const { files, identity } = await first();
  const { line } = await createJoinToken(files, identity, "node2", world());
  const { secret } = decodeJoinToken(line);
  const { request } = await createRequest("node2");
  await admit(files, identity, { secret, request }, world());
  await assertRejects(
    () => admit(files, identity, { secret, request }, world()),
    AdmissionError,
    "used before",
  );
});

Deno.test("admit() refuses a token after its time", async () => {
  const { files, identity } = await first();
  const { line } = await createJoinToken(files, identity, "node2", world());
  const { secret } = decodeJoinToken(line);
  const { request } = await createRequest("node2");
  const late: Ambient = { ...world(), now: () => ambient.at + TOKEN_LIFE_MS + 1 };
  await assertRejects(() => admit(files, identity, { secret, request }, late), AdmissionError, "expired");
});

Deno.test("admit() refuses a request that is none", async () => {
  const { files, identity } = await first();
  const { line } = await createJoinToken(files, identity, "node2", world());
  const { secret } = decodeJoinToken(line);
  await assertRejects(
    () => admit(files, identity, { secret, request: "junk" }, world()),
    AdmissionError,
    "PKCS #10",
  );
});

Deno.test("createJoinToken() refuses this node and strangers", async () => {
  const { files, identity } = await first();
  await assertRejects(
    () => createJoinToken(files, identity, "node1", world()),
    AdmissionError,
    "is this node",
  );
  await assertRejects(() => createJoinToken(files, identity, "node9", world()), Error, "has node1, node2");
});

Deno.test("decodeJoinToken() refuses a line cut anywhere", async () => {
  const { files, identity } = await first();
  const { line } = await createJoinToken(files, identity, "node2", world());
  for (let length = 0; length < line.length; length += 7) {
    assertThrows(() => decodeJoinToken(line.slice(0, length)), TypeError, "Cannot read the join token");
  }
});

Deno.test("verify() knows the sender, and refuses any other key, receiver, path or body", async () => {
  const key = await importClusterKey(new Uint8Array(32).fill(1));
  const other = await importClusterKey(new Uint8Array(32).fill(2));
  const body = new TextEncoder().encode("module: bms");
  const request = { from: "node1", to: "node2", method: "PUT", path: "/api/v1/modules/bms?x=1", body };
  const header = await sign(key, request);
  assertEquals(await verify(key, header, request), "node1");
  assertEquals(await verify(other, header, request), undefined);
  assertEquals(await verify(key, header, { ...request, to: "node1" }), undefined);
  assertEquals(await verify(key, header, { ...request, path: "/api/v1/modules/bms" }), undefined);
  assertEquals(await verify(key, header, { ...request, method: "POST" }), undefined);
  assertEquals(await verify(key, header, { ...request, body: body.slice(1) }), undefined);
  assertEquals(await verify(key, header.replace("node1", "node3"), request), undefined);
  for (const junk of ["", "Binome-Node", "Binome-Node node1 short", `${header} more`, "Bearer x"]) {
    assertEquals(await verify(key, junk, request), undefined);
  }
});

Deno.test("importClusterKey() refuses a key of another length", async () => {
  await assertRejects(() => importClusterKey(new Uint8Array(31)), TypeError, "it has 31 bytes, not 32");
});

Deno.test("sameSecret() compares whole texts", async () => {
  assertEquals(await sameSecret("abc", "abc"), true);
  assertEquals(await sameSecret("abc", "abd"), false);
  assertEquals(await sameSecret("abc", "abcd"), false);
});
