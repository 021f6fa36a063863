/**
 * The eligibility rule of the `ping` arbiter: a copy that may lack acknowledged writes never takes over by itself, not
 * even long after, not even after a reboot. Each test makes the primary go on alone in one way, then takes its power.
 */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, story } from "./cluster.ts";

/** Longer than T_promote of the lab's timings, 3.53 s, with what a busy machine may need on top. */
const LONG_AFTER_MS = 7000;

/** Drops what the given rules name, both ways, in node2's own kernel: its addresses, and node1's, go on answering. */
async function deafen(cluster: Cluster, rules: readonly string[]): Promise<void> {
  const script = [
    "table inet deaf {",
    // Only what comes in and goes out: the node's own command line talks to its agent by the same address.
    ...[["input", "iifname"], ["output", "oifname"]].map(([hook, way]) =>
      `chain ${hook} { type filter hook ${hook} priority -300; ${
        rules.map((rule) => `${way} "e0" ${rule} drop;`).join(" ")
      } }`
    ),
    "}",
  ];
  await cluster.lab.sh("node2", "nft -f - ", { stdin: script.join("\n") });
}

async function undeafen(cluster: Cluster): Promise<void> {
  await cluster.lab.sh("node2", "nft delete table inet deaf");
}

/** Watches a node for longer than any takeover takes. */
async function neverServes(cluster: Cluster): Promise<void> {
  const end = performance.now() + LONG_AFTER_MS;
  while (performance.now() < end) {
    assertEquals((await cluster.own("node2")).role === "primary", false);
    assertEquals(await cluster.vipOwners(), []);
  }
}

Deno.test("a secondary that was vetoed while its primary went on alone never takes over", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-veto", vip: true });
  const { lab } = cluster;
  const step = story(t);

  await step(
    "node1 falls silent, but its address answers: node2 is vetoed, node1 goes on alone",
    async () => {
      await cluster.startBoth();
      await lab.sh("node1", `echo both > ${DATA}/both`);
      await deafen(cluster, ["udp dport 9011", "tcp dport { 9010, 9020 }", "tcp sport { 9010, 9020 }"]);
      const vetoed = await cluster.waitEvent("node2", /^Does not take over: .*host still answers/);
      assertEquals(vetoed.level, "error");
      await cluster.waitState("node1", "alone");
      await lab.sh("node1", `echo alone > ${DATA}/alone; sync ${DATA}/alone`);
      assertEquals((await cluster.own("node2")).copy, "outdated");
    },
  );

  await step("hours later node1 dies, and node2 hears nothing any more: it does not serve", async () => {
    await lab.powerOff("node1");
    await undeafen(cluster);
    await neverServes(cluster);
  });

  await step("not even after a reboot of its own", async () => {
    await lab.powerOff("node2");
    await lab.powerOn("node2");
    const own = await cluster.waitState("node2", "waiting");
    assertEquals(own.copy, "outdated");
    await neverServes(cluster);
  });

  await step("a person who starts it is told what is lost, and must insist", async () => {
    const refused = await cluster.binome("node2", ["start", MODULE, "--as", "primary"]);
    assertNotEquals(refused.code, 0);
    assertMatch(refused.stderr, /Cannot start as primary: .*outdated.*force-primary/s);
    await cluster.must("node2", ["force-primary", MODULE], 150_000);
    await cluster.waitState("node2", "alone");
    await cluster.waitEvent("node2", /^Serves a copy that is behind/);
    assertEquals(await lab.sh("node2", `ls ${DATA}`), "both\n");
    await lab.sh("node2", `echo forced > ${DATA}/forced; sync ${DATA}/forced`);
  });

  await step("node1 comes back: both were written apart, a person decides, nothing is lost", async () => {
    await lab.powerOn("node1");
    await cluster.waitEvent("node1", /written apart/i);
    assertEquals(await lab.sh("node1", `cat ${BENEATH}/alone`), "alone\n");
    assertEquals(await lab.sh("node2", `cat ${BENEATH}/forced`), "forced\n");
  });
});

Deno.test("a secondary whose channel was closed while heartbeats lived never takes over until it is resynced", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-channel", vip: true });
  const { lab } = cluster;
  const step = story(t);

  await step(
    "the replication port is cut: node2 confirms that it stands back, node1 goes on alone",
    async () => {
      await cluster.startBoth();
      await deafen(cluster, ["tcp dport 9020", "tcp sport 9020"]);
      await lab.sh("node1", `echo alone > ${DATA}/alone; sync ${DATA}/alone`, { timeoutMs: 60_000 });
      await cluster.waitState("node1", "alone");
      await cluster.waitEvent("node1", /^Goes on alone as epoch \d+: node2/);
      assertEquals((await cluster.own("node2")).copy, "outdated");
      assertEquals((await lab.exec("node2", ["test", "-e", `${BENEATH}/alone`])).code, 1);
    },
  );

  await step("node1 dies: node2 says why it does not take over", async () => {
    const since = await cluster.mark("node2");
    await lab.powerOff("node1");
    await undeafen(cluster);
    const event = await cluster.waitEvent("node2", /^Does not take over/, since);
    assertMatch(event.why, /this copy is outdated/);
    await neverServes(cluster);
  });

  await step("node1 comes back and serves; after the resync node2 is as good as before", async () => {
    await lab.powerOn("node1");
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
    await lab.powerOff("node1");
    await cluster.waitState("node2", "alone");
    assertEquals(await lab.sh("node2", `cat ${DATA}/alone`), "alone\n");
  });
});
