/**
 * The program's parts are killed again and again while an application writes as fast as it can: it must see a pause at
 * most. `writer.c` checks every answer it gets.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { Cluster, MODULE, story, VIP } from "./cluster.ts";
import { connected, kill, killKeeper } from "./kills.ts";
import { type NodeName, until } from "./lab.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

const KILLS = 20;

/** When the authority of a node's module ends, in its own time. */
async function authority(cluster: Cluster, node: NodeName): Promise<bigint> {
  return BigInt((await cluster.lab.sh(node, `od -An -tu8 -N8 /run/binome/${MODULE}.authority`)).trim());
}

/** Processes of the agent on a node. */
async function agents(cluster: Cluster, node: NodeName): Promise<number> {
  const found = await cluster.lab.exec(node, ["pgrep", "-c", "-f", "^[^ ]*binome agent( --spare [0-9]+)?$"]);
  return Number(found.stdout);
}

/** What must stay as it is: membership, roles, the service's process, the address. */
async function standing(cluster: Cluster): Promise<unknown> {
  await cluster.waitPair("node1");
  const { epoch, members } = await cluster.own("node1");
  const service = await cluster.lab.sh("client", `curl -sf --max-time 30 http://${VIP}:8080/`);
  return { epoch, members, service, owners: await cluster.vipOwners() };
}

Deno.test("kills of replicator, agent and keeper are a pause to the application, and nothing else", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-kill",
    service: "http",
    patient: true,
  });
  const step = story(t);
  await makeWriter(cluster);
  await cluster.startBoth();
  const before = await standing(cluster);

  await step("nothing is killed", async () => {
    await using writer = await startWriter(cluster, "nothing");
    for (let times = 0; times < 4; times++) await goesOn(writer);
    await endWriter(writer, "undisturbed");
  });

  await step(`the primary's replicator is killed ${KILLS} times`, async () => {
    await using writer = await startWriter(cluster, "replicator");
    for (let kills = 0; kills < KILLS; kills++) {
      await kill(cluster, "node1", "replicator");
      await goesOn(writer);
      await connected(cluster);
    }
    await endWriter(writer, `${KILLS} kills of the primary's replicator`);
    assertEquals(await standing(cluster), before);
    await cluster.mustBeEqual();
  });

  await step("the secondary's replicator is killed 5 times", async () => {
    await using writer = await startWriter(cluster, "secondary");
    for (let kills = 0; kills < 5; kills++) {
      await kill(cluster, "node2", "replicator");
      await goesOn(writer);
      await connected(cluster);
    }
    await endWriter(writer, "5 kills of the secondary's replicator");
    assertEquals(await standing(cluster), before);
    await cluster.mustBeEqual();
  });

  await step(`the primary's agent is killed ${KILLS} times`, async () => {
    await using writer = await startWriter(cluster, "agent");
    for (let kills = 0; kills < KILLS; kills++) {
      await kill(cluster, "node1", "agent");
      const granted = await authority(cluster, "node1");
      // One that never lives long enough to renew its authority loses it: that is what authority is for.
      await until("the authority to be renewed", async () => await authority(cluster, "node1") > granted, {
        timeoutMs: 60_000,
        everyMs: 20,
      });
    }
    await endWriter(writer, `${KILLS} kills of the primary's agent`);
    assertEquals(await standing(cluster), before);
    await cluster.mustBeEqual();
  });

  await step("a stop of the agent ends what serves, though another was started since", async () => {
    for (let kills = 0; kills < 3; kills++) {
      await kill(cluster, "node2", "agent");
      await until("a spare", async () => await agents(cluster, "node2") === 2, { timeoutMs: 60_000 });
    }
    await cluster.lab.stopBinome("node2");
    assertEquals(await agents(cluster, "node2"), 0);
    await cluster.lab.startBinome("node2");
    await cluster.waitPair("node1");
  });

  await step("the keeper is killed 5 times on each node", async () => {
    await using writer = await startWriter(cluster, "keeper");
    for (let kills = 0; kills < 5; kills++) {
      await killKeeper(cluster, "node1");
      await goesOn(writer);
      await killKeeper(cluster, "node2");
    }
    // What a keeper has adopted it can restart.
    await kill(cluster, "node1", "replicator");
    await goesOn(writer);
    await endWriter(writer, "5 kills of the keeper on each node");
    assertEquals(await standing(cluster), before);
    await cluster.mustBeEqual();
  });

  assertMatch(await cluster.must("node1", ["status"]), /files +node1 +primary +ready/);
});
