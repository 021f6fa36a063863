import { assert, assertEquals, assertMatch } from "@std/assert";
import { CLUSTER, MODULE, Pair } from "./testing.ts";

Deno.test("Agent makes a pair, with service, address and authority on the primary alone", async () => {
  const pair = new Pair();
  await pair.pair();
  assertEquals([pair.n1.mounted, pair.n1.vip, pair.n1.service], [true, true, true]);
  assertEquals([pair.n2.mounted, pair.n2.vip, pair.n2.service], [false, false, false]);
  assert(pair.n1.authority.untilMs > pair.time.now);
  assertEquals(pair.n2.authority.untilMs, 0);
});

Deno.test("Agent decides to take over within 4 s of a power cut of the primary", async () => {
  const pair = new Pair();
  await pair.pair();
  pair.n1.powerOff();
  await pair.killAgent(pair.n1);
  const ms = await pair.time.until("n2 serves", () => pair.shows(pair.n2) === "alone ready");
  assert(ms <= 4000, `took ${ms} ms`);
  assertEquals([pair.n2.mounted, pair.n2.vip, pair.n2.service], [true, true, true]);
});

Deno.test("Agent switches over within 1 s", async () => {
  const pair = new Pair();
  await pair.pair();
  const result = await pair.n2.agent?.command("m", "switchover", { by: "test" });
  assertEquals(result?.code, "accepted");
  const ms = await pair.time.until("n2 serves", () => pair.n2.service && pair.n2.vip);
  assert(ms <= 1000, `took ${ms} ms`);
  await pair.time.until(
    "a pair",
    () => pair.shows(pair.n1) === "secondary ready" && pair.shows(pair.n2) === "primary ready",
  );
  assertEquals([pair.n1.mounted, pair.n1.vip, pair.n1.service], [false, false, false]);
});

Deno.test("Agent that is killed and restarted finds everything as it was", async () => {
  const pair = new Pair();
  await pair.pair();
  for (const host of [pair.n1, pair.n2]) {
    const records = JSON.stringify([...pair.n1.records, ...pair.n2.records]);
    await pair.killAgent(host);
    await pair.time.run(700);
    pair.startAgent(host);
    await pair.time.until(
      "resumed",
      () => pair.shows(pair.n1) === "primary ready" && pair.shows(pair.n2) === "secondary ready",
    );
    await pair.time.run(3000);
    assertEquals(JSON.stringify([...pair.n1.records, ...pair.n2.records]), records);
    assertEquals([pair.n1.serviceStarts, pair.n1.mounted, pair.n1.vip], [1, true, true]);
    assert(pair.n1.authority.untilMs > pair.time.now);
  }
});

Deno.test("Agent keeps the membership when a replicator dies and comes back", async () => {
  const pair = new Pair();
  await pair.pair();
  for (const host of [pair.n1, pair.n2]) {
    const records = JSON.stringify([...pair.n1.records, ...pair.n2.records]);
    host.killReplicator();
    await pair.time.run(300);
    host.replicatorRuns = true;
    await pair.time.run(3000);
    assertEquals(JSON.stringify([...pair.n1.records, ...pair.n2.records]), records);
    assertEquals([pair.shows(pair.n1), pair.shows(pair.n2)], ["primary ready", "secondary ready"]);
  }
});

Deno.test("Agent goes on with one network of two", async () => {
  const pair = new Pair();
  await pair.pair();
  pair.cutNetworks.add("repl");
  await pair.time.run(5000);
  assertEquals([pair.shows(pair.n1), pair.shows(pair.n2)], ["primary ready", "secondary ready"]);
  const networks = pair.n1.agent?.status().peers[0]?.networks ?? {};
  assert((networks["lan"] ?? 9999) < 1000);
  assert((networks["repl"] ?? 0) > 4000);
});

Deno.test("Agent lets the replication channel move to another network within the peer bound, and back", async () => {
  const pair = new Pair();
  await pair.pair();
  await pair.time.run(500);
  const epoch = pair.n1.agent?.status().modules[0]?.nodes[0]?.epoch;
  const used = (): unknown[] =>
    [pair.n1, pair.n2].map((host) => host.agent?.status().modules[0]?.network.used);
  assertEquals(used(), ["repl", "repl"]);
  pair.cutNetworks.add("repl");
  const ms = await pair.time.until("another network", () => used().join() === "lan,lan");
  assert(ms <= MODULE.peerTimeoutMs - 500, `took ${ms} ms`);
  assertEquals(pair.n2.addresses, ["10.0.0.1", "10.1.0.1"]);
  await pair.time.run(3000);
  pair.cutNetworks.delete("repl");
  await pair.time.run(29_000);
  assertEquals(used(), ["lan", "lan"]);
  await pair.time.until("its own network", () => used().join() === "repl,repl");
  assertEquals(pair.n1.agent?.status().modules[0]?.nodes[0]?.epoch, epoch);
  for (const host of [pair.n1, pair.n2]) {
    const told = host.events.filter(({ what }) => what.startsWith("Replicates")).map(({ what }) => what);
    assertEquals(told, ["Replicates over lan", "Replicates over repl again"]);
  }
});

Deno.test("Agent says what is wrong when the service does not start, and repairs it by restart", async () => {
  const pair = new Pair();
  pair.n1.failService = "Cannot start service of m: exit code 3";
  pair.startAgent(pair.n1);
  await pair.time.run(500);
  await pair.n1.agent?.command("m", "start-primary", { by: "test" });
  await pair.time.until("a failure", () => pair.shows(pair.n1) === "alone not-ready");
  assertMatch(pair.n1.agent?.status().modules[0]?.nodes[0]?.reason ?? "", /exit code 3.*restart/);
  pair.n1.failService = null;
  await pair.n1.agent?.command("m", "restart", { by: "test" });
  await pair.time.until("repaired", () => pair.shows(pair.n1) === "alone ready");
});

Deno.test("Agent refuses verbs for what it does not know, and changes to what runs", async () => {
  const pair = new Pair();
  await pair.pair();
  assertEquals((await pair.n1.agent?.command("x", "start", { by: "test" }))?.code, "unknown-module");
  const applied = await pair.n1.agent?.applyModule({ ...MODULE, port: 9999 }, 2);
  assertEquals(applied?.code, "refused");
  assertMatch(applied?.message ?? "", /stop it/);
  assertEquals((await pair.n1.agent?.removeModule("m"))?.code, "refused");
  const cluster = { ...CLUSTER, timings: { ...CLUSTER.timings, deadMs: 9 } };
  assertEquals((await pair.n1.agent?.applyCluster(cluster))?.code, "refused");
});

Deno.test("Agent opens the directories of a stopped module only, and notes it first", async () => {
  const pair = new Pair();
  await pair.pair();
  const { n2 } = pair;
  const by = { by: "test" };
  assertMatch(
    (await n2.agent?.setCover("m", false, by))?.message ?? "",
    /it runs on n2; stop it there first/,
  );
  assertEquals(n2.edited, []);
  await n2.agent?.command("m", "stop", by);
  await pair.time.until("stopped", () => pair.shows(n2) === "stopped not-ready");
  n2.calls.length = 0;
  assertEquals((await n2.agent?.setCover("m", false, by))?.code, "accepted");
  assertEquals(n2.edited, ["m"]);
  assertEquals((await n2.agent?.setCover("m", true, by))?.code, "accepted");
  assertEquals(n2.calls.filter((call) => /cover|stop/.test(call)), ["replicator.stop", "uncover", "cover"]);
  assertEquals((await n2.agent?.setCover("x", true, by))?.code, "unknown-module");
});

Deno.test("Agent records every decision with its reason", async () => {
  const pair = new Pair();
  await pair.pair();
  const events = pair.n1.agent?.events(0, 1000) ?? [];
  assert(
    events.some((event) =>
      event.what === "Becomes primary of epoch 1" && event.why === "a person chose this node"
    ),
  );
  assert(events.some((event) => event.what === "start-primary by test"));
});

Deno.test("Agent does not resume what the keeper took down while no agent ran", async () => {
  const pair = new Pair();
  await pair.pair();
  await pair.killAgent(pair.n1);
  // The mount is still in the table, its connection is aborted; the replicator does not know yet.
  pair.n1.fenced = true;
  pair.startAgent(pair.n1);
  await pair.time.until("a pair again", () => {
    const shown = [pair.shows(pair.n1), pair.shows(pair.n2)].sort().join();
    return !pair.n1.fenced && shown === "primary ready,secondary ready";
  });
  assertEquals(pair.n1.calls.includes("demote"), true);
});

Deno.test("Agent takes over the replicator's word that a comparison began while no agent ran", async () => {
  const pair = new Pair();
  await pair.pair();
  await pair.killAgent(pair.n2);
  pair.n2.comparing = true;
  pair.n1.powerOff();
  await pair.killAgent(pair.n1);
  pair.startAgent(pair.n2);
  await pair.time.run(10_000);
  const record = pair.n2.records.get("m");
  assertEquals([record?.copy, record?.memberAt], ["inconsistent", 0]);
  pair.startAgent(pair.n1);
  pair.n1.powered = true;
  await pair.time.until("the last primary serves", () => pair.shows(pair.n1) === "alone ready");
  assertEquals(pair.n2.mounted, false);
});

Deno.test("Agent whose replicator refuses to lead with a copy in mid-comparison lets the other lead", async () => {
  const pair = new Pair();
  await pair.pair();
  // Nobody has asked the replicator since: the verb comes between two polls.
  pair.n2.comparing = true;
  await pair.n1.agent?.command("m", "switchover", { by: "test" });
  await pair.time.until("the giver serves again", () => pair.shows(pair.n1) === "alone ready");
  assertEquals([pair.n2.mounted, pair.n2.records.get("m")?.copy], [false, "inconsistent"]);
  pair.n2.comparing = false;
  await pair.time.until("a pair", () => pair.shows(pair.n2) === "secondary ready");
});

Deno.test("Agent on a full disk goes on as it is, refuses verbs, and decides once there is room", async () => {
  const pair = new Pair();
  await pair.pair();
  pair.n1.diskFull = true;
  await pair.time.run(5000);
  assertEquals([pair.shows(pair.n1), pair.shows(pair.n2)], ["primary ready", "secondary ready"]);
  const refused = await pair.n1.agent?.command("m", "maintenance-on", { by: "test" });
  assertEquals(refused?.code, "refused");
  assertMatch(refused?.message ?? "", /no space left.*make room/);
  // The hand-over goes as far as it can without its record, which would give the role away.
  const record = JSON.stringify(pair.n1.records.get("m"));
  await pair.n1.agent?.command("m", "switchover", { by: "test" });
  await pair.time.run(10_000);
  assertEquals(JSON.stringify(pair.n1.records.get("m")), record);
  assertEquals([pair.n1.mounted, pair.n2.mounted], [false, false]);
  pair.n1.diskFull = false;
  // The other has stood back meanwhile: the role stays.
  await pair.time.until(
    "a pair",
    () => pair.shows(pair.n1) === "primary ready" && pair.shows(pair.n2) === "secondary ready",
  );
  const told = pair.n1.events.map(({ what }) => what);
  assertEquals(told.filter((what) => what === "Cannot write down a decision").length, 1);
  assertEquals(told.filter((what) => what === "Writes decisions down again").length, 1);
  assertEquals(told.includes("Does not hand over"), true);
});

Deno.test("Agent that cannot write a promise falls silent, and its primary goes on without it", async () => {
  const pair = new Pair();
  await pair.pair();
  pair.n2.diskFull = true;
  // The channel is gone, so the primary needs the word of n2, which it cannot give.
  pair.n2.killReplicator();
  const ms = await pair.time.until("n1 goes alone", () => pair.n1.records.get("m")?.members.length === 1);
  assert(ms <= 8000, `took ${ms} ms`);
  await pair.time.run(30_000);
  assertEquals([pair.shows(pair.n1), pair.n2.mounted], ["alone ready", false]);
  pair.n2.diskFull = false;
  pair.n2.replicatorRuns = true;
  await pair.time.until("a pair", () => pair.shows(pair.n2) === "secondary ready");
  assertEquals(pair.shows(pair.n1), "primary ready");
});

Deno.test("Agent that cannot write its membership gives a takeover up, and does not do it later", async () => {
  const pair = new Pair();
  await pair.pair();
  pair.n2.diskFull = true;
  pair.n1.powerOff();
  await pair.killAgent(pair.n1);
  await pair.time.run(10_000);
  assertEquals(pair.n2.mounted, false);
  assert(pair.n2.events.some(({ what }) => what === "Does not become primary"));
  // The other comes back and serves; only then there is room.
  pair.n1.powered = true;
  pair.startAgent(pair.n1);
  await pair.time.run(5000);
  pair.n2.diskFull = false;
  await pair.time.until("a pair", () => {
    const shown = [pair.shows(pair.n1), pair.shows(pair.n2)].sort().join();
    return shown === "primary ready,secondary ready";
  });
  assertEquals(pair.n1.mounted !== pair.n2.mounted, true);
});
