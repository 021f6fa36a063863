/**
 * Our list of POSIX checks over a mount that replicates, and what is left of them on both disks.
 */
import { assertEquals } from "@std/assert";
import { CHECKS, runPosix } from "../conformance/posix.ts";
import { Cluster, DATA, NODES, other, story } from "./cluster.ts";

for (const durability of ["each-write", "fsync"] as const) {
  Deno.test(`every POSIX check passes over the mount with ${durability}, and both disks end equal`, async (t) => {
    await using cluster = await Cluster.up({ prefix: `lt-posix-${durability}`, durability, patient: true });
    const step = story(t);
    await cluster.startBoth();
    const passed = Object.keys(CHECKS).length;
    for (const node of NODES) {
      if (node !== "node1") {
        await step("the nodes change their roles", async () => {
          await cluster.must("node1", ["switchover", "files"], 150_000);
          await cluster.waitPair(node);
        });
      }
      await step(`the checks on ${node}`, async () => {
        const root = `/proc/${cluster.lab.init(node)}/root${DATA}`;
        assertEquals(await runPosix(root, 360_000), { passed, failed: [] });
      });
      await step(`${other(node)} has the same tree`, async () => {
        await cluster.mustBeEqual();
      });
    }
  });
}
