/**
 * The primary dies for good while it brings its secondary up to date: a person forces the secondary, and it serves the very
 * tree it had before the resync.
 */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, PATIENTLY, story } from "./cluster.ts";
import { until } from "./lab.ts";

/** How node2 was away, and so what a resync is for it. */
type Away = "stopped" | "powered off";

/** Slow, so that it is cut in the middle; with a log that holds none of the data. */
const SLOW = "resync_bandwidth: 3MB/s\nlog_budget: 1MiB";

/** What both nodes have: files in several sizes, links, a sparse file, attributes. */
const COMMON = `cd ${DATA}
  mkdir -p d/e/f gone/deep moved; head -c 24M /dev/urandom > large; head -c 8M /dev/urandom > doomed
  for i in $(seq 60); do head -c $((i * 700)) /dev/urandom > d/f$i; done
  ln d/f1 hard; ln -s d/f2 soft; mkfifo fifo; truncate -s 64M sparse; echo end >> sparse
  echo deep > gone/deep/file; setfattr -n user.mine -v yes d/f3; chmod 2750 d/e; chown 33:33 d/f4
  sync -f .`;

/** What node1 does while node2 is away. */
const CHANGES = `cd ${DATA}
  dd if=/dev/urandom of=large bs=1M count=16 seek=4 conv=notrunc status=none
  rm -r gone doomed hard; mv d/e moved/e; mv d/f5 d/f6; mkdir new; echo new > new/file; mv moved new/moved
  for i in $(seq 10 30); do head -c 9000 /dev/urandom > d/f$i; done; truncate -s 100 d/f40
  setfattr -x user.mine d/f3; setfattr -n user.other -v no d/f7; chmod 600 d/f4; chown 0:0 d/f4; rm d/f8; mkdir d/f8
  for i in $(seq 400); do echo $i > new/n$i; done
  echo head | dd of=sparse conv=notrunc status=none; ln d/f9 new/hard9
  head -c 24M /dev/urandom > big`;

/** Every object of a tree with all that is replicated of it, by a comparer that knows nothing of Binome. */
async function list(cluster: Cluster, path: string, name: string): Promise<string> {
  const file = `/run/lab/shared/${name}`;
  const without = "--without-xattr trusted.binome.id --without-xattr trusted.binome.root";
  await cluster.lab.sh("node2", `python3 /run/lab/tests/compare.py ${without} --list ${path} > ${file}`);
  return file;
}

async function compare(cluster: Cluster, a: string, b: string): Promise<string> {
  const { stdout } = await cluster.lab.exec("node2", ["python3", "/run/lab/tests/compare.py", a, b]);
  return stdout;
}

/** node2 is away with a copy of its own while node1 changes much; answers the list of what it has. */
async function part(cluster: Cluster, away: Away): Promise<string> {
  const { lab } = cluster;
  await lab.sh("node1", COMMON, { timeoutMs: 120_000 });
  if (away === "stopped") {
    await cluster.must("node2", ["stop", MODULE], 150_000);
    await cluster.waitState("node1", "alone");
    // Then what node1 changes is what it names after its power cut, and nothing else is compared.
    await checkpointed(cluster);
    await lab.sh("node1", CHANGES, { timeoutMs: 120_000 });
    return await list(cluster, BENEATH, "before");
  }
  // What an application synced is on the disk of both; here it is also what the resync overwrites.
  await lab.sh("node2", "sync -f /run/lab/disk");
  await lab.powerOff("node2");
  await cluster.waitState("node1", "alone");
  await lab.sh("node1", CHANGES, { timeoutMs: 120_000 });
  // What the power cut left of it is what it has; until the line is there nothing changes it.
  await lab.cut("node1", "node2");
  await lab.powerOn("node2");
  await cluster.waitState("node2", "waiting");
  return await list(cluster, BENEATH, "before");
}

// Each file system and each way of being away once: a minute each.
for (const [filesystem, away] of [["ext4", "stopped"], ["xfs", "powered off"]] as const) {
  const name = `lt-wb${filesystem}${away === "stopped" ? "s" : "p"}`;
  Deno.test(`a primary that dies in mid-resync leaves the copy of before, ${filesystem}, node2 was ${away}`, async (t) => {
    await using cluster = await Cluster.up({
      prefix: name,
      lab: { filesystem },
      module: SLOW,
      patient: true,
    });
    const { lab } = cluster;
    const step = story(t);
    let before = "";

    await step("node2 is away while node1 changes much", async () => {
      await cluster.startBoth();
      before = await part(cluster, away);
    });

    await step("node2 comes back: the resync begins, and what it was is kept", async () => {
      if (away === "stopped") await cluster.must("node2", ["start", MODULE, "--no-wait"]);
      else await lab.heal();
      await cluster.waitEvent("node2", /^Keeps what its copy was before the resync: as of \d{4}-/);
      await resyncing(cluster, 1_000_000);
    });

    await step("its replicator is killed: the next session keeps the oldest state", async () => {
      await lab.sh("node2", `kill -KILL ${await cluster.pid("node2", "replicator")}`);
      await resyncing(cluster, 3_000_000);
    });

    await step("node1 dies for good, and node2 loses power too", async () => {
      await lab.powerOff("node1", "node2");
      await lab.powerOn("node2");
      await cluster.agentReady("node2");
      const own = await cluster.waitState("node2", "waiting");
      assertEquals(own.copy, "inconsistent");
      assertNotEquals(await compare(cluster, before, await list(cluster, BENEATH, "mixture")), "");
    });

    await step("a person is told what it would go back to", async () => {
      const refused = await cluster.binome("node2", ["start", MODULE, "--as", "primary"]);
      assertNotEquals(refused.code, 0);
      assertMatch(refused.stderr, /only partly resynchronised.*force-primary/s);
    });

    await step("and, insisting, has the tree that it was", async () => {
      const mark = await cluster.mark("node2");
      await cluster.must("node2", ["force-primary", MODULE], 150_000);
      await cluster.waitState("node2", "alone");
      const { why } = await cluster.waitEvent("node2", /^Its copy went back to what it was/, mark);
      assertMatch(why, /^as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, before the resync/);
      assertEquals(await compare(cluster, before, await list(cluster, DATA, "after")), "");
      assertEquals(await lab.sh("node2", `ls -A ${BENEATH} | grep -c '^.binome$' || true`), "0\n");
      await lab.sh("node2", `echo on > ${DATA}/on; sync ${DATA}/on`);
    });

    await step(
      "node1, back from the dead, is refused until a person decides, then gets that tree",
      async () => {
        await lab.powerOn("node1");
        await cluster.agentReady("node1");
        await cluster.waitState("node2", "alone");
        await cluster.binome("node1", ["stop", MODULE], 150_000);
        await cluster.must("node1", ["start", MODULE, "--as", "secondary", ...PATIENTLY], 150_000);
        await cluster.waitPair("node2");
        await cluster.mustBeEqual();
      },
    );
  });
}

/** Waits until all that node1 did is on its disk. */
async function checkpointed(cluster: Cluster): Promise<void> {
  await until("a checkpoint of node1", async () => {
    const { sequence, checkpoint } = (await cluster.status("node1")).replicator ?? {};
    return sequence !== undefined && sequence === checkpoint;
  }, { timeoutMs: 60_000, everyMs: 100 });
}

/** Waits until a resync has overwritten so much that was kept, and has not ended. */
async function resyncing(cluster: Cluster, bytes: number): Promise<void> {
  await until(
    "the resync to change the copy",
    async () => {
      const { wayBack } = (await cluster.status("node2")).replicator ?? {};
      return typeof wayBack === "object" && wayBack !== null && "bytes" in wayBack &&
        Number(wayBack.bytes) > bytes;
    },
    { timeoutMs: 60_000, everyMs: 100 },
  );
  assertEquals((await cluster.own("node2")).copy, "inconsistent");
}
