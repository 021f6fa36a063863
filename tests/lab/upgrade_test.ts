/**
 * The program's file is replaced under a pair at work: by hand, and by `binome upgrade`, on the secondary and on the
 * primary, to a build that speaks a newer protocol, and back. The application must see a pause at most.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import settings from "../../deno.json" with { type: "json" };
import { PROTOCOL, protocolOf, protocolText } from "../../lib/protocol.ts";
import { build } from "./build.ts";
import { Cluster, MODULE, NODES, story } from "./cluster.ts";
import { type NodeName, until } from "./lab.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

const PROGRAM = "/usr/local/bin/binome";

/**
 * Puts the program on the node's own disk: the lab mounts it over its name, and what is a mount cannot be renamed. There it
 * is in nobody's way when it is taken to pieces.
 */
async function install(cluster: Cluster): Promise<void> {
  for (const node of NODES) {
    await cluster.lab.stopBinome(node);
    await cluster.lab.sh(
      node,
      `mkdir /run/lab/disk/bin && cp ${PROGRAM} /run/lab/disk/bin/binome
      mount -n --bind /run/lab/disk/bin /usr/local/bin`,
    );
    await cluster.lab.startBinome(node);
    await cluster.agentReady(node);
  }
}

/** SIGKILL of the module's replicator; answers when another one works. */
async function killReplicator(cluster: Cluster, node: NodeName): Promise<void> {
  const pid = await cluster.pid(node, "replicator");
  await cluster.lab.sh(node, `kill -KILL ${pid}`);
  await until(`another replicator of ${MODULE} on ${node}`, async () => {
    const next = await cluster.pid(node, "replicator").catch(() => pid);
    return next !== pid && (await cluster.status(node)).peerConnected;
  }, { timeoutMs: 120_000, everyMs: 100 });
}

/** Builds a version that does not exist: another name, and a protocol newer by `newer`. */
async function buildNewer(name: string, newer: number): Promise<{ file: string; folder: string }> {
  const folder = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "binome-newer-" });
  const file = await build(folder, [
    { file: "deno.json", from: `"version": "${settings.version}"`, to: `"version": "${name}"` },
    {
      file: "lib/protocol.ts",
      from: `VERSION = ${PROTOCOL.version};`,
      to: `VERSION = ${PROTOCOL.version + newer};`,
    },
  ]);
  return { file, folder };
}

/** What each process of a node runs. */
async function programs(cluster: Cluster, node: NodeName): Promise<readonly string[]> {
  const found = await cluster.lab.sh(
    node,
    `for pid in $(pgrep -f '^[^ ]*binome (keeper|agent|replicator)'); do readlink /proc/$pid/exe; done | sort -u`,
  );
  return found.trim().split("\n");
}

/** Upgrades a node under a writer on node1, which must not see an error. */
async function upgrade(
  cluster: Cluster,
  node: NodeName,
  args: readonly string[],
  about: string,
): Promise<void> {
  const before = await standing(cluster);
  await using writer = await startWriter(cluster, `upgrade-${node}-${args.join("").replaceAll(/\W/g, "")}`);
  const said = await cluster.must(node, ["upgrade", ...args], 400_000);
  await goesOn(writer);
  await endWriter(writer, about);
  // deno-lint-ignore no-console
  console.log(said.trimEnd().replaceAll(/^/gm, "      "));
  assertEquals(await standing(cluster), before);
  await cluster.mustBeEqual();
}

/** What must stay as it is: membership and roles. */
async function standing(cluster: Cluster): Promise<unknown> {
  await cluster.waitPair("node1");
  const { epoch, members } = await cluster.own("node1");
  return { epoch, members };
}

Deno.test("the program is replaced under a pair at work: a pause to the application, and nothing else", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-upgrade", patient: true });
  const step = story(t);
  await makeWriter(cluster);
  await install(cluster);
  await cluster.startBoth();

  await step("the file is replaced by hand, and what runs starts its own again", async () => {
    for (const node of NODES) {
      await cluster.lab.sh(
        node,
        `printf '#!/bin/sh\nexit 9\n' >/tmp/x; chmod 755 /tmp/x; cp -p ${PROGRAM} /run/lab/disk/kept
      mv /tmp/x ${PROGRAM}`,
      );
    }
    await using writer = await startWriter(cluster, "byhand");
    // The first death ends what was started before; only the later ones need the program.
    for (let kills = 0; kills < 3; kills++) {
      await killReplicator(cluster, "node1");
      await killReplicator(cluster, "node2");
      await goesOn(writer);
    }
    await endWriter(writer, "6 kills of replicators whose program is gone");
    for (const node of NODES) await cluster.lab.sh(node, `mv /run/lab/disk/kept ${PROGRAM}`);
    await cluster.mustBeEqual();
  });
  const shared = `${cluster.lab.folder}/shared`;
  const next = "/run/lab/shared/next";
  await step("a program two versions of the protocol ahead is refused, and nothing is changed", async () => {
    const before = await programs(cluster, "node2");
    const { file, folder } = await buildNewer("9.9.9", 2);
    await Deno.rename(file, `${shared}/far`);
    await Deno.remove(folder, { recursive: true });
    const far = await cluster.binome("node2", ["upgrade", "/run/lab/shared/far"]);
    assertEquals(far.code, 1);
    const [theirs, ours] = [protocolOf(PROTOCOL.version + 2), PROTOCOL].map(protocolText);
    const why =
      `it speaks protocol ${theirs}, binome ${settings.version} here ${ours}; go by a version between`;
    assertStringIncludes(far.stderr, `Cannot upgrade to /run/lab/shared/far: ${why}`);
    const script = await cluster.binome("node2", ["upgrade", "/run/lab/tests/supervise.sh"]);
    assertMatch(script.stderr, /Cannot upgrade to .*: it is no Linux program/);
    assertEquals(await programs(cluster, "node2"), before);
    assertEquals((await cluster.lab.sh("node2", "ls /usr/local/bin")).trim(), "binome");
    await Deno.remove(`${shared}/far`);
  });

  await step("the secondary, then the primary is upgraded to the next version of the protocol", async () => {
    const { file, folder } = await buildNewer("9.9.9", 1);
    await Deno.rename(file, `${shared}/next`);
    await Deno.remove(folder, { recursive: true });
    await upgrade(cluster, "node2", [next], "upgrade of the secondary");
    const protocols = async (node: NodeName) =>
      (await cluster.cluster(node)).peers.map(({ protocol }) => protocol);
    assertEquals(await protocols("node1"), [PROTOCOL.version + 1]);
    await upgrade(cluster, "node1", [next], "upgrade of the primary");
    assertEquals(await protocols("node2"), [PROTOCOL.version + 1]);
    for (const node of NODES) {
      assertEquals((await cluster.must(node, ["version"])).trim(), "binome 9.9.9");
      assertEquals(await programs(cluster, node), [PROGRAM]);
    }
  });

  await step("both are taken back to the version before", async () => {
    await upgrade(cluster, "node1", ["--back"], "the primary taken back");
    await upgrade(cluster, "node2", ["--back"], "the secondary taken back");
    for (const node of NODES) {
      assertEquals((await cluster.must(node, ["version"])).trim(), `binome ${settings.version}`);
      assertEquals(await programs(cluster, node), [PROGRAM]);
    }
  });
});
