/**
 * SafeKit's acceptance tests of a mirror, M1 to M9 of its user's guide, on the compiled program with a real service.
 *
 * One cluster goes through them in order, as an operator would; a second one, with PostgreSQL, loses its primary's power
 * under load and both of its cables at once.
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, other, PATIENT_MODULE, story, VIP } from "./cluster.ts";
import { type NodeName, until } from "./lab.ts";

/** What the service answers at the virtual address: the node it runs on and its process. */
async function served(cluster: Cluster): Promise<{ readonly node: string; readonly pid: number }> {
  let answer = "";
  await until("the service to answer at the virtual address", async () => {
    const result = await cluster.lab.exec("client", [
      "curl",
      "-sf",
      "--max-time",
      "1",
      `http://${VIP}:8080/`,
    ]);
    answer = result.stdout;
    return result.code === 0;
  }, { timeoutMs: 60_000, everyMs: 20 });
  const [node = "", pid = ""] = answer.trim().split(" ");
  return { node, pid: Number(pid) };
}

/** What the start and stop scripts have noted on a node. */
async function scripts(cluster: Cluster, node: NodeName): Promise<string[]> {
  const text = await cluster.lab.sh(node, "cat /var/log/binome/service.log 2>/dev/null || true");
  return text.split("\n").filter(Boolean);
}

async function write(cluster: Cluster, line: string): Promise<void> {
  await cluster.lab.sh("client", `curl -sf --max-time 30 -d '${line}' http://${VIP}:8080/ >/dev/null`);
}

Deno.test("a mirror passes the acceptance tests M1 to M9", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-mirror",
    service: "http",
    lab: { repl: true },
    module: PATIENT_MODULE,
  });
  const { lab } = cluster;
  const step = story(t);

  await step("M1: the first start waits on both nodes and advises to say where the data is", async () => {
    for (const node of ["node1", "node2"] as const) {
      const said = await cluster.must(node, ["start", MODULE]);
      assertMatch(said, /waiting, not-ready: .*`start --as primary` on the node that holds the data/);
      await cluster.waitEvent(node, /^Waits: .*start --as primary/);
    }
    assertEquals(await cluster.vipOwners(), []);
    assertEquals(await scripts(cluster, "node1"), []);
  });

  await step("M2: primary and secondary are ready; the start script ran on the primary only", async () => {
    await lab.sh("node1", `echo before > ${BENEATH}/before; sync ${BENEATH}/before`);
    await cluster.must("node1", ["start", MODULE, "--as", "primary"], 150_000);
    await cluster.waitPair("node1");
    assertEquals(await scripts(cluster, "node1"), ["start node1 primary"]);
    assertEquals(await scripts(cluster, "node2"), []);
    for (const node of ["node1", "node2"] as const) {
      const { nodes } = await cluster.status(node);
      const states = Object.fromEntries(nodes.map((one) => [one.node, `${one.state} ${one.readiness}`]));
      assertEquals(states, { node1: "primary ready", node2: "secondary ready" });
    }
    await cluster.waitEvent("node1", /^Is paired as epoch \d+: node2/);
    await cluster.waitEvent("node2", /^Is uptodate/);
    assertEquals(await cluster.vipOwners(), ["node1"]);
    assertEquals((await served(cluster)).node, "node1");
    assertEquals(await lab.sh("node2", `cat ${BENEATH}/before`), "before\n");
  });

  await step("M3: the primary's stop hands over at once, after its stop script", async () => {
    await write(cluster, "one");
    const since = await cluster.mark("node2");
    await cluster.must("node1", ["stop", MODULE], 150_000);
    assertEquals(await cluster.state("node1"), "stopped not-ready");
    await cluster.waitState("node2", "alone");
    assertEquals(await scripts(cluster, "node1"), ["start node1 primary", "stop node1"]);
    const taken = await cluster.waitEvent("node2", /^Becomes primary of epoch \d+/, since);
    assertMatch(taken.why, /hand/, "it was handed over, no silence was waited for");
    assertEquals((await served(cluster)).node, "node2");
    assertEquals(await lab.sh("node2", `cat ${DATA}/lines`), "one\n");
  });

  await step("M4: the stopped node comes back as secondary; the service is not restarted", async () => {
    const before = await served(cluster);
    await write(cluster, "two");
    await cluster.must("node1", ["start", MODULE], 150_000);
    await cluster.waitPair("node2");
    assertEquals(await served(cluster), before);
    assertEquals(await scripts(cluster, "node2"), ["start node2 primary"]);
    assertEquals(await lab.sh("node1", `cat ${BENEATH}/lines`), "one\ntwo\n");
  });

  await step("the log of a primary that works shows the write just made", async () => {
    await lab.sh("node2", `echo inspected > ${DATA}/inspected; sync ${DATA}/inspected`);
    const said = await cluster.must("node2", ["journal", "inspect", MODULE, "--json"]);
    const lines: Record<string, unknown>[] = said.trim().split("\n").map((line) => JSON.parse(line));
    const created = lines.find(({ op, name }) => op === "create" && name === "inspected");
    const written = lines.find(({ op, id }) => op === "write" && id === created?.["id"]);
    // Both nodes have the bytes: the log need not keep them, and the record is hollow.
    assertEquals([written?.["offset"], written?.["length"]], [0, "inspected\n".length]);
    const { summary } = lines.at(-1) as { summary?: { damaged: number } };
    assertEquals(summary?.damaged, 0);
    // It begins where this node joined: with the first record, or behind what the service wrote before.
    assertMatch(await cluster.must("node2", ["status"]), /the log here holds records \d+ to \d+, /);
  });

  await step("M5: a restart stops and starts the service where it is", async () => {
    const before = await served(cluster);
    const { epoch } = await cluster.own("node2");
    const since = await cluster.mark("node2");
    await cluster.must("node2", ["restart", MODULE], 150_000);
    await cluster.waitEvent("node2", /^Service restarted/, since);
    await cluster.waitPair("node2");
    assertEquals((await cluster.own("node2")).epoch, epoch);
    const after = await served(cluster);
    assertEquals(after.node, "node2");
    assertNotEquals(after.pid, before.pid);
    assertEquals(await scripts(cluster, "node2"), [
      "start node2 primary",
      "stop node2",
      "start node2 primary",
    ]);
  });

  await step(
    "M6: the virtual address and the client's ARP cache follow the primary, there and back",
    async () => {
      for (const to of ["node1", "node2", "node1"] as const) {
        assertEquals((await served(cluster)).node, other(to));
        assertEquals((await lab.arp()).get(VIP), lab.mac(other(to)));
        const since = await cluster.mark(to);
        await cluster.must("node1", ["switchover", MODULE], 150_000);
        await cluster.waitPair(to);
        assertEquals(await cluster.vipOwners(), [to]);
        // Told by the new primary: the client has asked nothing since.
        await until(`the client to know that ${to} has the virtual address`, async () => {
          return (await lab.arp()).get(VIP) === lab.mac(to);
        });
        await lab.sh("client", `ping -q -c 1 -W 1 ${VIP}; ping -q -c 1 -W 1 node1; ping -q -c 1 -W 1 node2`);
        await cluster.waitEvent(to, /10\.77\.0\.100/, since);
      }
    },
  );

  await step("M7a: a file made on the primary is on the secondary", async () => {
    await lab.sh("node1", `echo a > ${DATA}/a`);
    assertEquals(await lab.sh("node2", `cat ${DATA}/a`), "a\n");
    assertEquals(await lab.sh("node2", `cat ${BENEATH}/a`), "a\n");
  });

  await step("M7b: nothing can be removed or written on the secondary", async () => {
    for (const script of [`rm ${DATA}/a`, `echo b > ${DATA}/a`, `mkdir ${DATA}/b`]) {
      const result = await lab.exec("node2", ["sh", "-c", script]);
      assertNotEquals(result.code, 0);
      assertMatch(result.stderr, /Read-only file system/);
    }
    assertEquals(await lab.sh("node1", `cat ${DATA}/a`), "a\n");
  });

  await step("M7c: what is written while a node is stopped is not on it", async () => {
    await cluster.must("node1", ["stop", MODULE], 150_000);
    await cluster.waitState("node2", "alone");
    await lab.sh("node2", `dd if=/dev/urandom of=${DATA}/big bs=1M count=101 status=none; sync ${DATA}/big`, {
      timeoutMs: 60_000,
    });
    assertEquals((await lab.exec("node1", ["test", "-e", `${BENEATH}/big`])).code, 1);
  });

  await step("M7d: its start copies what is missing, and tells how much, how long, how fast", async () => {
    const since = await cluster.mark("node2");
    await cluster.must("node1", ["start", MODULE], 150_000);
    await cluster.waitPair("node2");
    await cluster.mustBeEqual();
    const { why } = await cluster.waitEvent("node2", /^Has copied what node1 was missing/, since);
    assertMatch(why, /^10[12] MiB in \d+\.\d s \(\d+(\.\d)? MiB\/s\), \d+ operations of the log$/);
  });

  await step(
    "M8: a halt of the primary stops the service first; at boot it starts again by itself",
    async () => {
      await cluster.must("node1", ["switchover", MODULE], 150_000);
      await cluster.waitPair("node1");
      const before = (await scripts(cluster, "node1")).length;
      await lab.shutdown("node1");
      await cluster.waitState("node2", "alone");
      assertEquals((await served(cluster)).node, "node2");
      await until("node2 to show that node1 is gone", async () => {
        const { nodes } = await cluster.status("node2");
        return nodes.some(({ node, heard }) => node === "node1" && !heard);
      });
      await lab.powerOn("node1");
      assertEquals((await scripts(cluster, "node1")).slice(before), ["stop node1"]);
      await cluster.waitPair("node2");
      await cluster.waitEvent("node1", /^Starts: started with the node/);
      await cluster.mustBeEqual();
    },
  );

  await step(
    "M9: the primary loses its power; the secondary takes over; it comes back as secondary",
    async () => {
      await write(cluster, "before the power cut");
      const since = await cluster.mark("node1");
      await lab.powerOff("node2");
      await cluster.waitState("node1", "alone");
      assertEquals((await served(cluster)).node, "node1");
      assertMatch(await lab.sh("node1", `tail -n 1 ${DATA}/lines`), /^before the power cut$/m);
      await cluster.waitEvent("node1", /^Its primary is silent/, since);
      const [peer] = (await cluster.cluster("node1")).peers;
      assertEquals(peer?.heard, false);
      assert(Object.values(peer?.networks ?? {}).length === 2);
      await write(cluster, "while it was away");
      await lab.powerOn("node2");
      await cluster.waitPair("node1");
      await cluster.mustBeEqual();
      assertEquals(
        await lab.sh("node2", `tail -n 2 ${BENEATH}/lines`),
        "before the power cut\nwhile it was away\n",
      );
    },
  );
});

Deno.test("a mirror of PostgreSQL loses its primary under load, and both of its cables at once", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-mirror-pg",
    service: "postgresql",
    lab: { repl: true },
    module: PATIENT_MODULE,
  });
  const { lab } = cluster;
  const step = story(t);
  const rows = ["/usr/bin/python3", "/run/lab/tests/rows.py", VIP];
  const acknowledged = new Set<number>();
  let first = 1;

  /** Runs `disturb` while rows are inserted, goes on until some are acknowledged afterwards, and looks for all of them. */
  async function underLoad(disturb: () => Promise<void>): Promise<void> {
    await using load = lab.spawn("client", [...rows, "--first", `${first}`]);
    await load.line((line) => line.startsWith("ack "), 60_000);
    await disturb();
    await load.line((line) => line.startsWith("ack "), 60_000, load.lines.length);
    load.signal("SIGTERM");
    await load.status();
    for (const line of load.lines) {
      const [word, number] = line.split(" ");
      if (word === "ack" || word === "lost") first = Math.max(first, Number(number) + 1);
      if (word === "ack") acknowledged.add(Number(number));
    }
    const found = new Set((await lab.sh("client", [...rows, "--list"].join(" "))).split("\n").map(Number));
    assertEquals([...acknowledged].filter((row) => !found.has(row)), []);
  }

  await step("M2: PostgreSQL runs on the primary, its data directory on both", async () => {
    await cluster.startBoth();
    await lab.sh(
      "client",
      `psql -qh ${VIP} -U postgres -c "CREATE TABLE ledger (n bigint PRIMARY KEY, mark text)"`,
    );
    assertEquals(await cluster.vipOwners(), ["node1"]);
    assertEquals((await lab.exec("node2", ["pgrep", "-x", "postgres"])).code, 1);
    await underLoad(async () => {});
  });

  await step("M9: after a power cut of the primary every acknowledged row is there", async () => {
    await underLoad(async () => {
      await lab.powerOff("node1");
      await cluster.waitState("node2", "alone");
    });
    await lab.powerOn("node1");
    await cluster.waitPair("node2");
    await cluster.mustBeEqual();
  });

  await step(
    "M9: a primary without both its cables stops serving; the other takes over; no row is lost",
    async () => {
      const since = await cluster.mark("node1");
      await underLoad(async () => {
        await Promise.all([lab.unplug("node2", "lan"), lab.unplug("node2", "repl")]);
        await cluster.waitState("node1", "alone");
        assertEquals(await cluster.vipOwners(), ["node1"]);
        assertEquals((await lab.exec("node2", ["pgrep", "-x", "postgres"])).code, 1);
      });
      await cluster.waitEvent("node1", /^Becomes primary of epoch/, since);
      await Promise.all([lab.plug("node2", "lan"), lab.plug("node2", "repl")]);
      await cluster.waitPair("node1");
      await cluster.mustBeEqual();
    },
  );
});
