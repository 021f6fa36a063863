/**
 * A cluster arranged as the other tests' are not: the arbiter is `strict`, and the module's channel is not encrypted, only
 * authenticated. What both promise, with the program's parts and the servers being lost.
 */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, PATIENT_MODULE, story } from "./cluster.ts";
import { until } from "./lab.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

/** Longer than T_promote of the lab's timings, 3.53 s, with what a busy machine may need on top. */
const LONG_AFTER_MS = 7000;

Deno.test("a strict arbiter leaves the takeover to a person; a channel in plain carries the same promises", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-strict",
    vip: true,
    mode: "strict",
    encryption: false,
    module: PATIENT_MODULE,
  });
  const { lab } = cluster;
  const step = story(t);
  await makeWriter(cluster);

  await step("both start; the status says that the channel is not encrypted", async () => {
    await cluster.startBoth();
    const status = JSON.parse(await cluster.must("node1", ["status", "--json"]));
    assertMatch(JSON.stringify(status), /"encryption":false/);
  });

  await step("replicators die on both nodes under load: a pause, no error", async () => {
    await using writer = await startWriter(cluster, "plain");
    for (const node of ["node1", "node2", "node1"] as const) {
      const pid = await cluster.pid(node, "replicator");
      await lab.sh(node, `kill -KILL ${pid}`);
      await until(
        `another replicator on ${node}`,
        async () => (await cluster.pid(node, "replicator").catch(() => pid)) !== pid,
        { timeoutMs: 60_000 },
      );
      await goesOn(writer);
    }
    await endWriter(writer, "3 kills, not encrypted");
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
  });

  await step("a planned hand-over needs nobody's word", async () => {
    await cluster.must("node1", ["switchover", MODULE], 150_000);
    await cluster.waitPair("node2");
    await cluster.mustBeEqual();
  });

  await step("the secondary loses power: the primary goes on alone, and takes it back", async () => {
    await lab.powerOff("node1");
    await cluster.waitState("node2", "alone");
    await lab.sh("node2", `echo alone > ${DATA}/alone; sync ${DATA}/alone`);
    await lab.powerOn("node1");
    await cluster.waitPair("node2");
    await cluster.mustBeEqual();
  });

  await step("the primary loses power: the secondary does not serve, and says who decides", async () => {
    await lab.sh("node2", `echo acknowledged > ${DATA}/acknowledged; sync ${DATA}/acknowledged`);
    const since = await cluster.mark("node1");
    await lab.powerOff("node2");
    const event = await cluster.waitEvent("node1", /^Does not take over/, since);
    assertMatch(event.why, /strict/);
    const end = performance.now() + LONG_AFTER_MS;
    while (performance.now() < end) {
      assertNotEquals((await cluster.own("node1")).role, "primary");
      assertEquals(await cluster.vipOwners(), []);
    }
  });

  await step(
    "a person is told that the silent server may have gone on, insists, and has everything",
    async () => {
      const refused = await cluster.binome("node1", ["start", MODULE, "--as", "primary"]);
      assertNotEquals(refused.code, 0);
      assertMatch(refused.stderr, /Cannot start as primary: .*force-primary/s);
      await cluster.must("node1", ["force-primary", MODULE], 150_000);
      await cluster.waitState("node1", "alone");
      assertEquals(await lab.sh("node1", `cat ${DATA}/alone ${DATA}/acknowledged`), "alone\nacknowledged\n");
    },
  );

  await step("the former primary comes back and follows", async () => {
    await lab.sh("node1", `echo since > ${DATA}/since; sync ${DATA}/since`);
    await lab.powerOn("node2");
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
    assertEquals(await lab.sh("node2", `cat ${BENEATH}/since`), "since\n");
  });
});
