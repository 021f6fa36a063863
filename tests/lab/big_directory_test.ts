/**
 * One directory with very many entries: made, listed, looked up, brought to a secondary that was away, removed; the peer stays and
 * the replicator's memory does not grow with them. `BINOME_LAB_ENTRIES=1000000` for the size that issue trackers speak of.
 */
import { assert, assertEquals } from "@std/assert";
import { Cluster, DATA, MODULE, story } from "./cluster.ts";
import type { NodeName } from "./lab.ts";

const ENTRIES = Number(Deno.env.get("BINOME_LAB_ENTRIES") ?? 10_000);
/** Beside what a small directory costs; the table of open descriptors alone may take so much. */
const GROWTH_KB = 200 * 1024;
const LIMIT_MS = 120_000 + ENTRIES * 2;

/** Makes, lists and looks up; every count must be right, whatever the listing's buffer cuts. */
const MAKE = `import os, sys
os.makedirs("${DATA}/big", exist_ok=True)
os.chdir("${DATA}/big")
for i in range(int(sys.argv[1]), int(sys.argv[2])):
    os.close(os.open("entry-%07d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
`;
const CHECK = `import os, sys
os.chdir("${DATA}/big")
n = int(sys.argv[1])
seen = set()
for entry in os.scandir("."):
    assert entry.name not in seen, entry.name
    seen.add(entry.name)
assert len(seen) == n, (len(seen), n)
for i in range(0, n, max(1, n // 1000)): os.stat("entry-%07d" % i)
`;
/** Removes while it lists: the rest of the listing must neither skip nor repeat. */
const REMOVE = `import os
os.chdir("${DATA}/big")
with os.scandir(".") as entries:
    for entry in entries: os.unlink(entry.name)
os.chdir("/")
os.rmdir("${DATA}/big")
`;

async function memoryKb(cluster: Cluster, node: NodeName): Promise<number> {
  const pid = await cluster.pid(node, "replicator");
  return Number((await cluster.lab.sh(node, `awk '/^VmRSS/ { print $2 }' /proc/${pid}/status`)).trim());
}

Deno.test(`a directory of ${ENTRIES} entries is made, listed, copied and removed, and the peer stays`, async (t) => {
  await using cluster = await Cluster.up({
    prefix: Deno.env.get("BINOME_LAB_PREFIX") ?? "lt-bigdir",
    patient: true,
    // ext4 has one inode for each 16 KiB; the store is a file with holes.
    lab: { storeMiB: Math.max(2048, Math.ceil(ENTRIES / 16)) },
  });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  for (const [name, text] of Object.entries({ make: MAKE, check: CHECK, remove: REMOVE })) {
    await lab.write("node1", `/tmp/${name}.py`, text);
  }
  const run = (what: string) => lab.sh("node1", `python3 /tmp/${what}`, { timeoutMs: LIMIT_MS });
  const before = await memoryKb(cluster, "node1");
  const beforeThere = await memoryKb(cluster, "node2");
  const since = await cluster.mark("node1");
  const timed = async (what: string, work: () => Promise<unknown>) => {
    const began = performance.now();
    await work();
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const memory = [await memoryKb(cluster, "node1"), await memoryKb(cluster, "node2")];
    const line = `    ${what}: ${seconds} s, the replicators have ${memory.join(" and ")} KiB\n`;
    await Deno.stdout.write(new TextEncoder().encode(line));
  };

  await step("made, listed and looked up", async () => {
    await timed("make", () => run(`make.py 0 ${ENTRIES}`));
    await timed("list", () => run(`check.py ${ENTRIES}`));
    assertEquals((await lab.sh("node2", `ls -f ${DATA}/big | grep -c entry`)).trim(), `${ENTRIES}`);
  });
  await step("nobody left meanwhile, and memory is bounded", async () => {
    const gone = (await cluster.events("node1", since)).filter(({ what }) => /alone/.test(what));
    assertEquals(gone, []);
    const grown = await memoryKb(cluster, "node1") - before;
    assert(grown < GROWTH_KB, `the primary's replicator has grown by ${grown} KiB`);
    const grownThere = await memoryKb(cluster, "node2") - beforeThere;
    assert(grownThere < GROWTH_KB, `the secondary's replicator has grown by ${grownThere} KiB`);
  });
  await step("a secondary that was away gets what is new", async () => {
    await cluster.must("node2", ["stop", MODULE]);
    await run(`make.py ${ENTRIES} ${ENTRIES + 1000}`);
    await timed("resync", async () => {
      await cluster.must("node2", ["start", MODULE]);
      await cluster.waitPair("node1", LIMIT_MS);
    });
    assertEquals((await lab.sh("node2", `ls -f ${DATA}/big | grep -c entry`)).trim(), `${ENTRIES + 1000}`);
  });
  await step("removed while it is listed", async () => {
    const from = await cluster.mark("node1");
    await timed("remove", () => run("remove.py"));
    assertEquals((await lab.sh("node2", `ls ${DATA}`)).trim(), "");
    assertEquals((await cluster.events("node1", from)).filter(({ what }) => /alone/.test(what)), []);
  });
  await step("lsattr shows the flags of a file, and chattr is refused", async () => {
    await lab.sh("node1", `touch ${DATA}/file && lsattr ${DATA}/file && lsattr -d ${DATA}`);
    const { code, stderr } = await lab.exec("node1", ["chattr", "+i", `${DATA}/file`]);
    assertEquals([code, /not supported/.test(stderr)], [1, true], stderr);
  });
});
