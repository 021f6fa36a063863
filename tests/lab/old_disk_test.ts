/**
 * A copy whose folder of state is gone, on the disk that it was on: its objects carry ids that nobody remembers having given.
 */
import { assertEquals } from "@std/assert";
import { Cluster, DATA, MODULE, story } from "./cluster.ts";

const FILES = 40;

Deno.test("a new copy on an old disk gives no file the identity of another", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-olddisk", patient: true });
  const { lab } = cluster;
  const step = story(t);
  const expected = Array.from({ length: FILES }, (_, i) => `old ${i + 1}\n`).join("");
  await cluster.startBoth();
  await lab.sh("node1", `cd ${DATA} && for i in $(seq ${FILES}); do echo old $i >old$i; done`);

  await step("what is made there is something of its own, and what was there stays what it was", async () => {
    await cluster.must("node1", ["stop", MODULE, "--all"], 150_000);
    for (const node of ["node1", "node2"] as const) {
      await lab.sh(node, `rm -r /var/lib/binome/modules/${MODULE}/log`);
    }
    await cluster.startBoth();
    // New ones first: as long as nothing has looked at the old ones, their ids seem free.
    await lab.sh("node1", `cd ${DATA} && for i in $(seq ${FILES}); do echo new $i >new$i; done`);
    const old = await lab.sh("node1", `cd ${DATA} && for i in $(seq ${FILES}); do cat old$i; done`);
    assertEquals(old, expected);
    assertEquals((await lab.sh("node1", `cd ${DATA} && stat -c %i * | sort | uniq -d`)).trim(), "");
  });

  await step("the other copy has the same", async () => {
    await cluster.must("node1", ["switchover", MODULE], 150_000);
    await cluster.waitPair("node2");
    const old = await lab.sh("node2", `cd ${DATA} && for i in $(seq ${FILES}); do cat old$i; done`);
    assertEquals(old, expected);
    assertEquals((await lab.sh("node2", `ls ${DATA} | wc -l`)).trim(), String(2 * FILES));
  });
});
