import { assert, assertEquals } from "@std/assert";
import { runCli } from "../cli.ts";
import { loadModules } from "../config/store.ts";
import { FakeControl } from "../http/fake_control.ts";
import { type ControlPlane, serveControlPlane } from "../http/mod.ts";
import { loadIdentity } from "../identity/mod.ts";
import { ambient, openWorld } from "./cli_world.ts";
import { openHostChecks } from "./host_checks.ts";
import { serveHttps } from "./https.ts";
import { openPeerClient } from "./peer_client.ts";
import { openStateFiles } from "./state_files.ts";

/** One node on a loopback address of its own, everything real but the decisions. */
async function serveNode(
  state: string,
  hostname: string,
): Promise<{ plane: ControlPlane; control: FakeControl }> {
  const files = openStateFiles(state);
  const identity = await loadIdentity(files);
  const plane = await serveControlPlane(identity, { version: "0" }, {
    files,
    ambient: ambient(),
    host: openHostChecks([state]),
    openPeers: (clusterKey) => openPeerClient(identity, clusterKey),
    listen: (handler) =>
      serveHttps({ hostname, port: identity.cluster.ports.api, ...identity.credentials, handler }),
    every: () => () => {},
  });
  const control = new FakeControl(identity.node);
  plane.attach(control);
  return { plane, control };
}

/** A command line on a state directory; what it printed. */
async function run(
  state: string,
  ...args: readonly string[]
): Promise<{ exit: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const world = {
    ...openWorld({ state, run: `${state}/run`, version: "0" }),
    print: (line: string) => void out.push(line),
    complain: (line: string) => void err.push(line),
  };
  return { exit: await runCli(args, world), out: out.join("\n"), err: err.join("\n") };
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("serveControlPlane() and the command line: init, join, apply on two nodes over real HTTPS", async () => {
  const root = await Deno.realPath(await Deno.makeTempDir());
  const [one, two, data] = [`${root}/one`, `${root}/two`, `${root}/data`];
  await Deno.mkdir(data);
  const cluster = `cluster: plant
nodes:
  - { name: node1, addresses: { lan: 127.0.0.1 } }
  - { name: node2, addresses: { lan: 127.0.0.2 } }
ports: { api: ${freePort()} }
`;
  await Deno.writeTextFile(`${root}/cluster.yaml`, cluster);
  await Deno.writeTextFile(
    `${root}/bms.yaml`,
    `module: bms\nkind: directory\nreplicate: [{ path: ${data} }]\n`,
  );

  assertEquals((await run(one, "init", "--config", `${root}/cluster.yaml`, "--name", "node1")).exit, 0);
  assertEquals((await run(one, "status")).exit, 3);
  const first = await serveNode(one, "127.0.0.1");
  const token = (await run(one, "join-token", "node2")).out;
  const joined = await run(two, "join", token);
  assertEquals([joined.exit, joined.err], [0, ""]);
  const second = await serveNode(two, "127.0.0.2");

  const applied = await run(one, "apply", `${root}/bms.yaml`);
  assertEquals([applied.exit, applied.err], [0, ""]);
  const { modules } = await loadModules(
    openStateFiles(two),
    (await loadIdentity(openStateFiles(two))).cluster,
  );
  assertEquals(modules.map(({ name, generation }) => [name, generation]), [["bms", 1]]);
  assertEquals((await Deno.stat(`${two}/cluster.key`)).mode, 0o100600);
  assertEquals((await run(one, "start", "bms", "--node", "node2", "--no-wait")).exit, 0);
  assertEquals(second.control.commands, [{ module: "bms", verb: "start", by: "node node1" }]);

  await Deno.remove(data);
  await run(one, "stop", "bms", "--no-wait");
  await Deno.writeTextFile(
    `${root}/bms.yaml`,
    `module: bms\nkind: directory\nreplicate: [{ path: ${data} }]\nport: 9030\n`,
  );
  const refused = await run(one, "apply", `${root}/bms.yaml`);
  assertEquals(refused.exit, 1);
  assert(refused.err.includes(`Cannot apply bms: on node2, directory ${data} does not exist: create it`));

  await second.plane.close();
  await first.plane.close();
  await Deno.remove(root, { recursive: true });
});

Deno.test("serveControlPlane() refuses a node whose cluster key is another", async () => {
  const root = await Deno.realPath(await Deno.makeTempDir());
  const cluster = `cluster: plant
nodes:
  - { name: node1, addresses: { lan: 127.0.0.1 } }
  - { name: node2, addresses: { lan: 127.0.0.2 } }
ports: { api: ${freePort()} }
`;
  await Deno.writeTextFile(`${root}/cluster.yaml`, cluster);
  await run(`${root}/one`, "init", "--config", `${root}/cluster.yaml`, "--name", "node1");
  const first = await serveNode(`${root}/one`, "127.0.0.1");
  await run(`${root}/two`, "join", (await run(`${root}/one`, "join-token")).out);
  await Deno.writeFile(`${root}/two/cluster.key`, new Uint8Array(32));
  const second = await serveNode(`${root}/two`, "127.0.0.2");
  const { exit, err } = await run(`${root}/one`, "status", "--node", "node2");
  assertEquals(exit, 1);
  assertEquals(err.split("\n"), [
    "Cannot accept the request: its signature does not match this node's cluster key",
    "  try: both nodes need the same cluster.key: join the node again",
  ]);
  assertEquals(second.control.notes.map(({ what }) => what), [
    "1 request refused: no valid token or signature",
  ]);
  await second.plane.close();
  await first.plane.close();
  await Deno.remove(root, { recursive: true });
});
