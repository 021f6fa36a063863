import { assert, assertEquals } from "@std/assert";
import type { Hono } from "hono";
import {
  createIdentity,
  createRequest,
  decodeJoinToken,
  importClusterKey,
  loadIdentity,
  sign,
} from "../identity/mod.ts";
import { saveModule } from "../config/store.ts";
import { memoryFiles } from "../identity/memory_files.ts";
import { createApp } from "./app.ts";
import { catchUp } from "./apply.ts";
import type { Variables } from "./auth.ts";
import { type AppOptions, type PeerRequest, PeerUnreachable } from "./control_types.ts";
import { FakeControl, fakeInstance, fakeModule } from "./fake_control.ts";

const CLUSTER = `cluster: plant
nodes:
  - { name: node1, addresses: { lan: 10.0.0.11 } }
  - { name: node2, addresses: { lan: 10.0.0.12 } }
`;
const BMS = "module: bms\nkind: directory\nreplicate: [{ path: /srv/bms }]\n";

interface Node {
  readonly app: Hono<{ Variables: Variables }>;
  readonly control: FakeControl;
  readonly options: AppOptions;
  readonly faults: string[];
  token: string;
}

/** Two nodes of one cluster, their requests carried by plain calls. `cut` breaks the wire between them. */
async function pair() {
  const wire = { cut: false };
  const nodes = new Map<string, Node>();
  const made = memoryFiles();
  const ambient = {
    now: () => Date.UTC(2026, 0, 1),
    randomBytes: (n: number) => crypto.getRandomValues(new Uint8Array(n)),
  };
  await createIdentity(made, { clusterText: CLUSTER, node: "node1", file: "cluster.yaml" }, ambient);
  for (const name of ["node1", "node2"]) {
    const files = memoryFiles();
    for (const [file, { bytes, mode }] of made.content) await files.write(file, bytes, mode);
    await files.write("node", new TextEncoder().encode(name), 0o644);
    const identity = await loadIdentity(files);
    const clusterKey = await importClusterKey(identity.clusterKey);
    const faults: string[] = [];
    const control = new FakeControl(name);
    const options: AppOptions = {
      identity,
      files,
      ambient,
      clusterKey,
      host: { check: () => Promise.resolve(faults) },
      peers: {
        async request(node: string, { method, path, body, headers = {} }: PeerRequest) {
          const target = nodes.get(node);
          if (wire.cut || target === undefined) throw new PeerUnreachable("10.0.0.12: nothing listens there");
          const bytes = new TextEncoder().encode(body ?? "");
          const authorization = await sign(clusterKey, { from: name, to: node, method, path, body: bytes });
          const content = body === undefined ? {} : { body };
          const answer = await target.app.request(path, {
            method,
            headers: { ...headers, authorization },
            ...content,
          });
          return { status: answer.status, contentType: "application/json", body: await answer.text() };
        },
      },
      version: "0.0.0",
    };
    nodes.set(name, { app: createApp(control, options), control, options, faults, token: identity.token });
  }
  const [node1, node2] = [nodes.get("node1"), nodes.get("node2")];
  if (node1 === undefined || node2 === undefined) throw new TypeError("two nodes were made");
  return { node1, node2, wire };
}

async function ask(node: Node, method: string, path: string, body?: string) {
  const content = body === undefined ? {} : { body };
  const headers = { authorization: `Bearer ${node.token}` };
  const answer = await node.app.request(path, { method, headers, ...content });
  return { status: answer.status, json: await answer.json() };
}

Deno.test("createApp() answers /healthz to anybody, and nothing else", async () => {
  const { node1 } = await pair();
  assertEquals((await node1.app.request("/healthz")).status, 200);
  for (
    const path of [
      "/api/v1/status",
      "/api/v1/modules",
      "/api/v1/events",
      "/api/v1/configs",
      "/api/v1/nodes/node2/status",
    ]
  ) {
    assertEquals((await node1.app.request(path)).status, 401, path);
  }
});

Deno.test("createApp() says what is wrong with a token, once a minute in the events", async () => {
  const { node1 } = await pair();
  const headers = { authorization: "Bearer wrong" };
  for (let count = 0; count < 5; count++) await node1.app.request("/api/v1/status", { headers });
  const answer = await node1.app.request("/api/v1/status", { headers });
  assertEquals((await answer.json()).error.code, "unauthorized");
  assertEquals(node1.control.notes.length, 1);
});

Deno.test("createApp() refuses a signature made with another cluster key", async () => {
  const { node1 } = await pair();
  const key = await importClusterKey(new Uint8Array(32));
  const path = "/api/v1/status";
  const authorization = await sign(key, {
    from: "node2",
    to: "node1",
    method: "GET",
    path,
    body: new Uint8Array(),
  });
  const answer = await node1.app.request(path, { headers: { authorization } });
  assertEquals(answer.status, 401);
  assertEquals((await answer.json()).error.hint, "both nodes need the same cluster.key: join the node again");
});

Deno.test("createApp() refuses a body that is too large, unread", async () => {
  const { node1 } = await pair();
  const { status, json } = await ask(node1, "PUT", "/api/v1/modules/bms", "#".repeat(300_000));
  assertEquals([status, json.error.code], [413, "too-large"]);
});

Deno.test("PUT /modules applies on both nodes as one generation", async () => {
  const { node1, node2 } = await pair();
  const { status, json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals(status, 200);
  assertEquals(json, {
    module: "bms",
    generation: 1,
    changed: true,
    nodes: { node1: "applied", node2: "applied" },
    warnings: [],
  });
  for (const { control } of [node1, node2]) {
    assertEquals(control.applied.map(({ config, generation }) => [config.name, generation]), [["bms", 1]]);
  }
});

Deno.test("PUT /modules does nothing for the text that is in use", async () => {
  const { node1 } = await pair();
  await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  node1.control.modules = [fakeModule("bms", { nodes: [fakeInstance("node1", { state: "primary" })] })];
  const { json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals([json.changed, json.generation], [false, 1]);
});

Deno.test("PUT /modules names the file's faults by its own name", async () => {
  const { node1, node2 } = await pair();
  const { status, json } = await ask(node1, "PUT", "/api/v1/modules/bms?file=my.yaml", `${BMS}sped: 3\n`);
  assertEquals([status, json.error.code], [400, "bad-config"]);
  assert(json.error.message.startsWith("my.yaml:4: sped: unknown key (expected one of module, "));
  assertEquals(node2.control.applied, []);
});

Deno.test("PUT /modules changes nothing anywhere when one node objects", async () => {
  const { node1, node2 } = await pair();
  node2.faults.push(
    "directory /srv/bms does not exist: create it (mkdir -p /srv/bms), empty on a node without data",
  );
  const { status, json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals([status, json.error.code], [400, "host-not-ready"]);
  assert(json.error.message.startsWith("Cannot apply bms: on node2, directory /srv/bms does not exist"));
  assertEquals([node1.control.applied, node2.control.applied], [[], []]);
});

Deno.test("PUT /modules refuses a change under a running module", async () => {
  const { node1 } = await pair();
  await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  node1.control.modules = [
    fakeModule("bms", { nodes: [fakeInstance("node1"), fakeInstance("node2", { state: "alone" })] }),
  ];
  const { status, json } = await ask(node1, "PUT", "/api/v1/modules/bms", `${BMS}port: 9030\n`);
  assertEquals([status, json.error.message], [409, "Cannot apply bms: it is alone on node2"]);
});

Deno.test("catchUp() takes what was applied while this node was away, once", async () => {
  const { node1, node2, wire } = await pair();
  wire.cut = true;
  const { json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals(json.nodes, { node1: "applied", node2: "unreachable" });
  assertEquals(await catchUp(node2.control, node2.options), []);
  wire.cut = false;
  assertEquals(await catchUp(node2.control, node2.options), ["module bms: generation 1 taken from node1"]);
  assertEquals(await catchUp(node2.control, node2.options), []);
  assertEquals(node2.control.applied.map(({ generation }) => generation), [1]);
});

Deno.test("PUT /modules goes past the highest generation of any node", async () => {
  const { node1, node2, wire } = await pair();
  wire.cut = true;
  await ask(node2, "PUT", "/api/v1/modules/bms", BMS);
  await ask(node2, "PUT", "/api/v1/modules/bms", `${BMS}port: 9030\n`);
  wire.cut = false;
  const { json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals([json.generation, json.nodes.node2], [3, "applied"]);
});

Deno.test("PUT /modules replaces a stored text that the cluster does not fit any more", async () => {
  const { node1 } = await pair();
  await saveModule(node1.options.files, { name: "bms", generation: 7, text: "module: bms\n" });
  const { json } = await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals(json.generation, 8);
  assertEquals((await ask(node1, "GET", "/api/v1/configs")).json.configs[0].generation, 8);
});

Deno.test("DELETE /modules forgets it on both nodes", async () => {
  const { node1, node2 } = await pair();
  await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  assertEquals((await ask(node1, "DELETE", "/api/v1/modules/bms")).status, 200);
  assertEquals((await ask(node2, "GET", "/api/v1/configs")).json.configs, []);
  assertEquals((await ask(node1, "DELETE", "/api/v1/modules/bms")).status, 404);
});

Deno.test("POST /modules/NAME/VERB hands the verb over with who asked", async () => {
  const { node1 } = await pair();
  node1.control.modules = [fakeModule("bms")];
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/start", '{"as":"primary"}')).status, 200);
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/maintenance", '{"on":false}')).status, 200);
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/force-primary", '{"force":true}')).status, 200);
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/stop")).status, 200);
  assertEquals(node1.control.commands, [
    { module: "bms", verb: "start-primary", by: "token" },
    { module: "bms", verb: "maintenance-off", by: "token" },
    { module: "bms", verb: "force-primary", by: "token", force: true },
    { module: "bms", verb: "stop", by: "token" },
  ]);
});

Deno.test("POST /modules/NAME/VERB refuses what it does not know", async () => {
  const { node1 } = await pair();
  node1.control.modules = [fakeModule("bms")];
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/explode")).json.error.code, "unknown-verb");
  assertEquals((await ask(node1, "POST", "/api/v1/modules/no/start")).json.error.code, "unknown-module");
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/start", "{")).json.error.code, "bad-json");
  assertEquals(
    (await ask(node1, "POST", "/api/v1/modules/bms/start", '{"a":1}')).json.error.code,
    "bad-body",
  );
  node1.control.answer = { ok: false, code: "refused", message: "Cannot start bms: …" };
  const { status, json } = await ask(node1, "POST", "/api/v1/modules/bms/start");
  assertEquals([status, json.error.message], [409, "Cannot start bms: …"]);
});

Deno.test("POST /modules/NAME/verify has the copies compared, with who asked", async () => {
  const { node1 } = await pair();
  node1.control.modules = [fakeModule("bms")];
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/verify")).status, 200);
  assertEquals(node1.control.verifications, [{ module: "bms", by: "token" }]);
  assertEquals((await ask(node1, "POST", "/api/v1/modules/no/verify")).json.error.code, "unknown-module");
  node1.control.answer = { ok: false, code: "refused", message: "Cannot verify: …" };
  assertEquals((await ask(node1, "POST", "/api/v1/modules/bms/verify")).status, 409);
});

Deno.test("/nodes/NODE is that node's own answer, and 502 when it is silent", async () => {
  const { node1, node2, wire } = await pair();
  node2.control.modules = [fakeModule("bms")];
  assertEquals((await ask(node1, "GET", "/api/v1/nodes/node2/status")).json.node, "node2");
  assertEquals((await ask(node1, "GET", "/api/v1/nodes/node1/status")).json.node, "node1");
  assertEquals((await ask(node1, "POST", "/api/v1/nodes/node2/modules/bms/start")).status, 200);
  assertEquals(node2.control.commands, [{ module: "bms", verb: "start", by: "node node1" }]);
  assertEquals((await ask(node1, "GET", "/api/v1/nodes/node9/status")).status, 404);
  assertEquals((await ask(node1, "GET", "/api/v1/nodes/node2/nodes/node1/status")).status, 400);
  wire.cut = true;
  assertEquals((await ask(node1, "GET", "/api/v1/nodes/node2/status")).status, 502);
});

Deno.test("GET /events goes on after an id, bounded", async () => {
  const { node1 } = await pair();
  const { json } = await ask(node1, "GET", "/api/v1/events?since=1&limit=1");
  assertEquals(json.events.map(({ id }: { id: number }) => id), [2]);
  assertEquals((await ask(node1, "GET", "/api/v1/events?limit=100000")).json.error.code, "bad-query");
  assertEquals((await ask(node1, "GET", "/api/v1/events?since=-1")).json.error.code, "bad-query");
});

Deno.test("POST /join gives everything for a good secret, once, and nothing for a bad one", async () => {
  const { node1 } = await pair();
  await ask(node1, "PUT", "/api/v1/modules/bms", BMS);
  const { json: made } = await ask(node1, "POST", "/api/v1/join-tokens", '{"node":"node2"}');
  const { secret } = decodeJoinToken(made.token);
  const { request } = await createRequest("node2");
  const join = (body: unknown) =>
    node1.app.request("/api/v1/join", { method: "POST", body: JSON.stringify(body) });
  assertEquals((await join({ secret: "x", request })).status, 403);
  const answer = await (await join({ secret, request })).json();
  assertEquals([answer.node, answer.modules.length], ["node2", 1]);
  assertEquals((await join({ secret, request })).status, 403);
});

Deno.test("createApp() tells once a minute of strangers who break off their requests", async () => {
  const { node1 } = await pair();
  const before = node1.control.notes.length;
  for (let round = 0; round < 5; round++) {
    const body = new ReadableStream({ pull: (controller) => controller.error(new Error("connection lost")) });
    assertEquals((await node1.app.request("/api/v1/join", { method: "POST", body })).status, 500);
  }
  assertEquals(node1.control.notes.length - before, 1);
});
