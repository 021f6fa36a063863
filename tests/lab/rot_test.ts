/**
 * What a disk loses by itself, content that changes while nobody writes: a byte is turned in the image beneath the file system. On
 * whichever node, the good copy wins, also against what applications have read of the other one.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, story } from "./cluster.ts";
import type { NodeName } from "./lab.ts";

const BLOCK = 4096;
const FILES = ["small", "large"] as const;

/** Files, on both disks, that nobody has changed for longer than a change time's second. */
const GROW = `cd ${DATA} && mkdir -p many && for i in $(seq 100); do echo content $i > many/f$i; done
dd if=/dev/urandom of=small bs=5000 count=1 status=none
dd if=/dev/urandom of=large bs=64k count=48 status=none; sync -f .; sleep 1.2`;

/** Content from the disk, and not from memory. */
const sums = (folder: string): string =>
  `cd ${folder} && for f in ${
    FILES.join(" ")
  }; do dd if=$f iflag=nocache count=0 status=none; md5sum $f; done`;

/** Turns a bit where the file system has put a byte of a file. */
async function rot({ lab }: Cluster, node: NodeName, name: string, at: number): Promise<void> {
  const extents = await lab.sh(
    node,
    `sync -f ${BENEATH}; filefrag -v -b${BLOCK} ${BENEATH}/${name}; stat -c 'changed %z' ${BENEATH}/${name}`,
  );
  const block = Math.floor(at / BLOCK);
  const found = [...extents.matchAll(/^\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\./gm)]
    .map(([, first, last, place]) => ({ first: Number(first), last: Number(last), place: Number(place) }))
    .find(({ first, last }) => first <= block && block <= last);
  if (found === undefined) throw new Error(`no block at ${at} of ${name}: ${extents}`);
  const place = (found.place + block - found.first) * BLOCK + at % BLOCK;
  using image = await Deno.open(`${lab.folder}/${node}/store.img`, { read: true, write: true });
  const byte = new Uint8Array(1);
  await image.seek(place, Deno.SeekMode.Start);
  await image.read(byte);
  byte[0] = (byte[0] ?? 0) ^ 1;
  await image.seek(place, Deno.SeekMode.Start);
  await image.write(byte);
  await image.sync();
}

async function verify(cluster: Cluster): Promise<string> {
  return await cluster.must("node1", ["verify", MODULE], 120_000);
}

Deno.test("verify keeps what one disk has lost from the other node, and repairs it from there", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-rot", patient: true });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  await lab.sh("node1", GROW);
  const good = await lab.sh("node1", sums(DATA));
  const changed = `stat -c %z ${BENEATH}/small ${BENEATH}/large`;

  const assertGood = async (primary: NodeName): Promise<void> => {
    assertEquals(await lab.sh(primary, sums(DATA)), good, "as applications read it");
    for (const node of ["node1", "node2"] as const) {
      assertEquals(await lab.sh(node, sums(BENEATH)), good, `on the disk of ${node}`);
    }
  };
  /** On the disk of the primary, and seen by applications. */
  const lose = async (primary: NodeName): Promise<void> => {
    const before = await lab.sh(primary, changed);
    await rot(cluster, primary, "small", 1000);
    await rot(cluster, primary, "large", 1_500_000);
    await rot(cluster, primary, "large", 2_900_000);
    assertEquals(await lab.sh(primary, changed), before);
    await lab.sh(primary, sums(BENEATH));
    const seen = (await lab.sh(primary, sums(DATA))).split("\n");
    assert(good.split("\n").every((line, index) => line === "" || line !== seen[index]), seen.join());
  };

  await step("equal copies are identical", async () => {
    assertMatch(await verify(cluster), / 0 differences \(/);
  });

  await step(
    "what the primary's disk has lost is repaired from the secondary, which is not touched",
    async () => {
      const mark = await cluster.mark("node1");
      const before = await lab.sh("node2", changed);
      await lose("node1");
      assertMatch(
        await verify(cluster),
        /^files: identical .* 0 differences, 3 lost by the primary's disk, repaired \(/,
      );
      await assertGood("node1");
      assertEquals(await lab.sh("node2", changed), before);
      for (const range of [/small: content, bytes 0 to 4999/, /large: content, bytes 1441792 to 1572863/]) {
        const found = await cluster.waitEvent("node1", range, mark, 5000);
        assertMatch(found.what, /The disk here has lost content .* repaired from the copy on node2/);
      }
      assertMatch(await verify(cluster), / 0 differences \(/);
    },
  );

  await step(
    "what the secondary's disk has lost is repaired from the primary, and named as that",
    async () => {
      const mark = await cluster.mark("node1");
      await rot(cluster, "node2", "small", 4000);
      await rot(cluster, "node2", "large", 700_000);
      assertMatch(await verify(cluster), / 2 differences, repaired \(/);
      await assertGood("node1");
      for (const range of [/small: content, bytes 0 to 4999/, /large: content, bytes 655360 to 786431/]) {
        const found = await cluster.waitEvent("node1", range, mark, 5000);
        assertMatch(found.what, /The disk of node2 has lost content/);
      }
      await cluster.waitPair("node1");
      assertMatch(await verify(cluster), / 0 differences \(/);
    },
  );

  await step("a process that died knows it still, and so does the other node as primary", async () => {
    await lab.sh("node1", `kill -9 ${await cluster.pid("node1", "replicator")}`);
    await cluster.waitPair("node1");
    await lose("node1");
    assertMatch(await verify(cluster), / 0 differences, 3 lost by the primary's disk, repaired \(/);
    await cluster.must("node1", ["switchover", MODULE]);
    await cluster.waitPair("node2");
    await lose("node2");
    assertMatch(await verify(cluster), / 0 differences, 3 lost by the primary's disk, repaired \(/);
    await assertGood("node2");
  });

  await step(
    "of a file that both disks have lost parts of, each node gives the other what it has",
    async () => {
      await rot(cluster, "node1", "large", 100_000);
      await rot(cluster, "node2", "large", 2_900_000);
      assertMatch(
        await verify(cluster),
        / 1 difference, repaired, 1 lost by the primary's disk, repaired \(/,
      );
      await assertGood("node2");
    },
  );
});
