/**
 * Two nodes that cannot hold the same: other file systems, other owners, mounts within mounts. Each is refused with a reason
 * before anything is written.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { Cluster, DATA, MODULE, story } from "./cluster.ts";
import { type NodeName, until } from "./lab.ts";

/** Puts another file system on the replicated directory. */
async function mountOn(cluster: Cluster, node: NodeName, mkfs: string): Promise<void> {
  await cluster.lab.sh(
    node,
    `truncate -s 300M /run/lab/other.img && ${mkfs} /run/lab/other.img && mount -o loop /run/lab/other.img ${DATA}`,
    { timeoutMs: 60_000 },
  );
}

Deno.test("nodes that cannot hold the same are refused with a reason, before anything is written", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-fsys", apply: false });
  const { lab } = cluster;
  const step = story(t);
  await cluster.prepare();

  async function apply(yaml: string): Promise<string> {
    await lab.write("node1", "/etc/binome/module.yaml", yaml);
    const { code, stderr } = await cluster.binome("node1", ["apply", "/etc/binome/module.yaml"]);
    assertEquals(code === 0, stderr === "", stderr);
    return stderr;
  }

  await step("a directory on a mount that maps owners is not taken", async () => {
    await lab.sh("node2", `python3 /run/lab/tests/idmap.py ${DATA} 100000`);
    const said = await apply(cluster.moduleYaml());
    assertMatch(
      said,
      /on node2, \/srv\/data cannot be replicated: "\/srv\/data" is an id-mapped mount.*without a map/,
    );
    await lab.sh("node2", `umount ${DATA}`);
    assertEquals(await apply(cluster.moduleYaml()), "");
  });

  await step("nor where it came after the module was applied", async () => {
    await lab.sh("node1", `python3 /run/lab/tests/idmap.py ${DATA} 100000`);
    await cluster.binome("node1", ["start", MODULE, "--as", "primary"], 150_000);
    const { reason } = await cluster.waitState("node1", "waiting");
    assertMatch(reason, /Cannot .*"\/srv\/data" is an id-mapped mount/);
    await cluster.must("node1", ["stop", MODULE]);
    await lab.sh("node1", `umount ${DATA}`);
  });

  await step("nor in a user namespace, whose owners are other numbers", async () => {
    const { code, stderr } = await lab.exec("node1", [
      "unshare",
      "-U",
      "-r",
      "-m",
      "/usr/local/bin/binome",
      "cover",
      "--all",
    ]);
    assertEquals(code, 1, stderr);
    assertMatch(stderr, /user namespace/);
  });

  await step("nor one that has another module's directory in it, or is in it", async () => {
    const other = "module: other\nkind: directory\nport: 9021\nreplicate: [{ path: PATH }]\n";
    for (const path of [`${DATA}/sub`, "/srv"]) {
      assertMatch(await apply(other.replace("PATH", path)), /overlaps/);
    }
  });

  await step("nor one on a file system without handles", async () => {
    await lab.sh("node1", `mount -t ramfs none ${DATA}`);
    await cluster.binome("node1", ["start", MODULE, "--as", "primary"], 150_000);
    const { reason } = await cluster.waitState("node1", "waiting");
    assertMatch(
      reason,
      /Cannot use \/srv\/data: its file system has no file handles.*use ext4, xfs or btrfs/,
    );
    await cluster.must("node1", ["stop", MODULE]);
    await cluster.must("node1", ["uncover", MODULE]);
    await lab.sh("node1", `umount ${DATA}`);
  });

  await step(
    "a secondary whose file system holds less is refused, and has nothing of the primary's",
    async () => {
      await mountOn(cluster, "node2", "mkfs.ext4 -q -F -b 1024 -I 128");
      await cluster.must("node1", ["start", MODULE, "--as", "primary"], 150_000);
      await lab.sh("node1", `echo mine >${DATA}/file`);
      await cluster.binome("node2", ["start", MODULE, "--wait", "2"], 150_000);
      const { what, why } = await cluster.waitEvent("node2", /file systems of \/srv\/data differ/);
      assertEquals(what, "Cannot keep its copy");
      assertMatch(
        why,
        /primary's has times in nanoseconds beyond 2038, the secondary's times in whole seconds up to 2038\. Make/,
      );
      assertEquals(await lab.sh("node2", `ls ${DATA}`), "lost+found\n");
      assertMatch((await cluster.own("node2")).reason, /file systems of \/srv\/data differ/);
      await until("node1 to serve alone", async () => (await cluster.own("node1")).state === "alone");
    },
  );

  await step("on one that holds the same it is taken", async () => {
    await cluster.must("node2", ["stop", MODULE]);
    await cluster.must("node2", ["uncover", MODULE]);
    await lab.sh("node2", `umount ${DATA}; rm -r /var/lib/binome/modules/${MODULE}/log`);
    await cluster.must("node2", ["start", MODULE], 150_000);
    await cluster.waitPair("node1");
    assertEquals(await lab.sh("node2", `cat ${DATA}/file`), "mine\n");
  });
});
