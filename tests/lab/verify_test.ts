/**
 * `binome verify`: what was changed beneath the secondary's mount, past Binome, is found and repaired, while an application
 * goes on writing; where nothing was, nothing is found.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, story } from "./cluster.ts";
import { until } from "./lab.ts";

/** Writes, renames and removes until it is told to stop. */
const WRITER = `
cd ${DATA} && mkdir -p busy && i=0
echo ready
while [ ! -e /run/lab/stop ]; do
  i=$((i+1)); echo $i > busy/f$((i % 40)); mv busy/f$((i % 40)) busy/g$((i % 30)); rm -f busy/g$(((i + 7) % 30))
  dd if=/dev/zero of=busy/big bs=4k count=1 seek=$((i % 200)) conv=notrunc status=none
done`;

const GROW =
  `cd ${DATA} && mkdir -p tree/a tree/b tree/c && for i in $(seq 200); do echo content $i > tree/a/f$i; done
dd if=/dev/urandom of=tree/b/large bs=64k count=40 status=none
truncate -s 3M tree/b/sparse && ln -s ../a tree/b/link && ln tree/a/f1 tree/b/hard && mkfifo tree/b/fifo
setfattr -n user.colour -v blue tree/a/f2 2>/dev/null || true; sync -f .`;

/** What somebody does to the secondary's disk, past Binome, and what the events must say of it. */
const TAMPER: readonly (readonly [script: string, event: RegExp])[] = [
  [
    // Another byte than the random one that is there.
    `byte=$(od -An -tu1 -j 1000000 -N 1 tree/b/large)
    printf "\\\\$(printf %03o $(((byte + 1) % 256)))" | dd of=tree/b/large bs=1 seek=1000000 conv=notrunc status=none`,
    /content, bytes 917504 to 1048575: sha256/,
  ],
  [
    "printf X | dd of=tree/a/f7 bs=1 conv=notrunc status=none",
    /f7: content, bytes 0 to \d+: sha256 [0-9a-f]{64} here/,
  ],
  ["chmod 600 tree/a/f8", /f8: mode: 100644 here, 100600/],
  ["rm tree/a/f9", /name f9: object \d+ here, no such name/],
  ["echo foreign > tree/c/foreign", /name foreign: no such name here, present/],
  ["rm tree/a/f10; echo replaced > tree/a/f10", /name f10: object \d+ here, a foreign object/],
  [
    "printf y | dd of=tree/b/sparse bs=1 seek=2000000 conv=notrunc status=none",
    /content, bytes .* zeros here, .*other bytes/,
  ],
];

Deno.test("verify finds and repairs what was changed beneath the secondary", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-verify", patient: true });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  await lab.sh("node1", GROW);
  await using writer = lab.spawn("node1", ["sh", "-c", WRITER]);
  await writer.line((line) => line === "ready", 20_000);

  await step("equal copies are found identical, from either node, while an application writes", async () => {
    for (const node of ["node1", "node2"] as const) {
      const mark = await cluster.mark("node1");
      const said = await cluster.must(node, ["verify", MODULE], 120_000);
      assertMatch(said, /identical as of [\d-]+ [\d:]+, 0 differences \(\d{3} objects, /);
      await cluster.waitEvent("node1", /The copies are identical: \d+ objects/, mark);
    }
    assertMatch(await cluster.must("node1", ["status"]), /identical as of .* 0 differences/);
    assertEquals((await cluster.status("node2")).verification?.differences, 0);
    await cluster.waitPair("node1");
  });

  await step("what was changed on the secondary's disk is named and repaired", async () => {
    const mark = await cluster.mark("node1");
    for (const [script] of TAMPER) await lab.sh("node2", `cd ${BENEATH} && ${script}`);
    const said = await cluster.must("node1", ["verify", MODULE], 120_000);
    assertMatch(said, /identical as of .* [1-9]\d* differences, repaired/);
    for (const [script, event] of TAMPER) {
      const found = await cluster.waitEvent("node1", event, mark, 5000).catch((cause) => {
        throw new Error(`no event ${event} tells of: ${script}`, { cause });
      });
      assertMatch(found.what, /The copy on node2 differs, and is repaired/);
    }
    await cluster.waitPair("node1");
  });

  await step("then the copies are identical", async () => {
    const said = await cluster.must("node1", ["verify", MODULE], 120_000);
    assertMatch(said, / 0 differences \(/);
    await lab.sh("node1", "touch /run/lab/stop");
    await writer.status();
    let last: string[] = [];
    await until("equal trees", async () => (last = await cluster.differences()).length === 0, {
      timeoutMs: 20_000,
      everyMs: 200,
    }).catch(() => assertEquals(last, []));
  });
});
