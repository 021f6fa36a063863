/**
 * Stopped copies: read-only, opened for a person by `binome uncover`, covered at boot. What was edited is found at the next
 * start, whichever role it is for.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { Cluster, DATA, MODULE, NODES, story } from "./cluster.ts";
import type { NodeName } from "./lab.ts";

/** What a person does in the night: new files, one changed, one gone, one copied with all its attributes. */
const EDIT =
  `cd ${DATA} && echo new >new && echo more >>changed && rm gone && cp -a kept copied && mkdir folder && echo x >folder/x`;
const LIST = `cd ${DATA} && for f in $(find . -type f | sort); do echo $f $(cat $f); done`;

async function writable(cluster: Cluster, node: NodeName): Promise<boolean> {
  const { code, stderr } = await cluster.lab.exec(node, ["touch", `${DATA}/kept`]);
  if (code !== 0) assertMatch(stderr, /Read-only file system/);
  return code === 0;
}

async function stopBoth(cluster: Cluster): Promise<void> {
  await cluster.must("node1", ["stop", MODULE, "--all"], 150_000);
}

Deno.test("a stopped copy is read-only; what a person edits in it is found at the next start", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-cover", patient: true });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  await lab.sh("node1", `cd ${DATA} && for f in changed gone kept; do echo $f >$f; done`);

  await step("a module that runs is not opened", async () => {
    const { code, stderr } = await cluster.binome("node1", ["uncover", MODULE]);
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot uncover "files": it runs on node1; stop it there first/);
  });

  await step(
    "an edited secondary gets the primary's state back; what was edited is in quarantine",
    async () => {
      await cluster.must("node2", ["stop", MODULE]);
      assertEquals(await writable(cluster, "node2"), false);
      await cluster.must("node2", ["uncover", MODULE]);
      await lab.sh("node2", EDIT);
      await cluster.must("node2", ["cover", MODULE]);
      assertEquals(await writable(cluster, "node2"), false);
      await cluster.must("node2", ["start", MODULE]);
      await cluster.waitPair("node1");
      await cluster.mustBeEqual();
      assertEquals(await lab.sh("node2", LIST), "./changed changed\n./gone gone\n./kept kept\n");
      const kept = await lab.sh("node2", "cd /var/lib/binome/quarantine && find . -type f | xargs cat");
      for (const text of [/^new$/m, /^more$/m, /^x$/m]) assertMatch(kept, text);
    },
  );

  await step("an edited primary gives its peer all of it, and copies are files of their own", async () => {
    await stopBoth(cluster);
    await cluster.must("node1", ["uncover", MODULE]);
    await lab.sh("node1", EDIT);
    await cluster.must("node1", ["start", MODULE, "--as", "primary"], 150_000);
    await cluster.must("node2", ["start", MODULE], 150_000);
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
    await lab.sh("node1", `echo other >>${DATA}/copied`);
    const expected = "./changed changed more\n./copied kept other\n./folder/x x\n./kept kept\n./new new\n";
    assertEquals(await lab.sh("node1", LIST), expected);
    assertEquals(await lab.sh("node2", LIST), expected);
    await cluster.mustBeEqual();
  });

  await step("the boot covers what is replicated, before anything of Binome runs", async () => {
    await stopBoth(cluster);
    await cluster.must("node2", ["uncover", MODULE]);
    await lab.stopBinome("node2");
    assertEquals(await writable(cluster, "node2"), true);
    assertMatch(await cluster.must("node2", ["cover", "--all"]), /files: \/srv\/.* is read-only until/);
    assertEquals(await writable(cluster, "node2"), false);
    assertMatch(await cluster.must("node2", ["cover", "--all"]), /is covered already/);
    await lab.startBinome("node2");
    await cluster.agentReady("node2");
    await cluster.startBoth();
    await cluster.mustBeEqual();
  });

  await step(
    "a node whose directory lacks the required file does not start, and starts once it is there",
    async () => {
      await stopBoth(cluster);
      await cluster.apply(
        cluster.moduleYaml().replace(`- path: ${DATA}`, `- path: ${DATA}\n    require: .mounted`),
      );
      await cluster.binome("node1", ["start", MODULE, "--as", "primary", "--wait", "20"]);
      const why = await cluster.waitEvent(
        "node1",
        /".mounted" is missing in it .* create it, or remove the line/,
      );
      assertEquals(why.level === "info", false);
      await stopBoth(cluster);
      for (const node of NODES) {
        await cluster.must(node, ["uncover", MODULE]);
        await lab.sh(node, `touch ${DATA}/.mounted`);
      }
      await cluster.startBoth();
      await cluster.mustBeEqual();
      // What an application removes while it serves ends nothing.
      await lab.sh("node1", `rm ${DATA}/.mounted; kill -KILL ${await cluster.pid("node1", "replicator")}`);
      await cluster.waitPair("node1");
      await lab.sh("node1", `echo goes on >${DATA}/after`);
      await cluster.mustBeEqual();
    },
  );
});
