/**
 * The program's file is replaced under a pair at work: by hand, and by `binome upgrade`, on the secondary and on the
 * primary, to a build that speaks a newer protocol, and back. The application must see a pause at most.
 */
import { assertEquals } from "@std/assert";
import { Cluster, MODULE, NODES, PATIENT, story } from "./cluster.ts";
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

Deno.test("the program is replaced under a pair at work: a pause to the application, and nothing else", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-upgrade", module: PATIENT });
  const step = story(t);
  await makeWriter(cluster);
  await install(cluster);
  await cluster.startBoth();

  await step("the file is replaced by hand, and what runs starts its own again", async () => {
    for (const node of NODES) {
      await cluster.lab.sh(
        node,
        `printf '#!/bin/sh\nexit 9\n' >/tmp/x; chmod 755 /tmp/x; cp -p ${PROGRAM} /tmp/kept
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
    for (const node of NODES) await cluster.lab.sh(node, `mv /tmp/kept ${PROGRAM}`);
    assertEquals(await cluster.differences(), []);
  });
});
