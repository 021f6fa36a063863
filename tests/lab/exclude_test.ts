/**
 * What `exclude` keeps on its node: it is written without the peer, left alone by comparisons, and never crosses the border.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { BENEATH, Cluster, DATA, MODULE, story } from "./cluster.ts";

const EXCLUDE = '    exclude: ["*.tmp", "cache/**", "log"]';
/** What is excluded beneath, on a node's own disk. */
const OWN =
  `cd ${BENEATH} && find . \\( -path './cache/*' -o -name '*.tmp' -o -path '*/log*' \\) -not -path './.binome*' | sort`;
/** What is replicated, with content and times. */
const SHARED =
  `cd ${BENEATH} && find . -path './.binome*' -prune -o -path './lost+found' -prune -o -path './cache/*' -prune ` +
  `-o -name '*.tmp' -prune -o -name log -prune -o -printf '%p %y %m %T@ ' -exec sh -c '[ -f "$1" ] && cksum <"$1" || echo' _ {} \\; | sort`;

async function same(cluster: Cluster): Promise<void> {
  const [one, two] = [await cluster.lab.sh("node1", SHARED), await cluster.lab.sh("node2", SHARED)];
  assertEquals(two, one);
}

Deno.test("what is excluded stays on its node, and nothing crosses the border", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-excl", patient: true, apply: false });
  const { lab } = cluster;
  const step = story(t);
  const yaml = cluster.moduleYaml().replace(`- path: ${DATA}`, `- path: ${DATA}\n${EXCLUDE}`);
  await cluster.prepare();
  await cluster.apply(yaml);
  await lab.sh("node2", `mkdir ${DATA}/cache && echo own >${DATA}/cache/own && echo two >${DATA}/x.tmp`);
  await lab.sh("node1", `mkdir ${DATA}/cache`);
  await cluster.startBoth();

  await step("a first copy leaves the secondary's own alone", async () => {
    await lab.sh("node1", `cd ${DATA} && mkdir -p a/b && echo one >a/file`);
    assertMatch(await lab.sh("node2", OWN), /\.\/cache\/own\n\.\/x\.tmp/);
    assertEquals(await lab.sh("node1", OWN), "");
    await same(cluster);
  });

  await step("everything works on what is excluded, and none of it travels", async () => {
    await lab.sh(
      "node1",
      `cd ${DATA} && echo 1 >a/b/one.tmp && mkdir a/log && echo 2 >a/log/x && mkdir cache/deep && echo 3 >cache/deep/y &&
      mv cache/deep/y cache/deep/z && ln cache/deep/z cache/hard && ln -s z cache/deep/soft && mkfifo cache/pipe &&
      setfattr -n user.k -v v cache/hard && chmod 600 cache/hard && dd if=/dev/zero of=cache/big bs=64k count=16 conv=fsync 2>/dev/null &&
      truncate -s 10 cache/big && rm cache/pipe && cat cache/deep/soft && cp a/file cache/copied && cp cache/copied a/back &&
      mv a/log/x cache/moved && exec 3<>cache/gone && rm cache/gone && echo lives >&3`,
    );
    assertEquals(
      await lab.sh("node1", OWN),
      "./a/b/one.tmp\n./a/log\n./cache/big\n./cache/copied\n./cache/deep\n./cache/deep/soft\n./cache/deep/z\n./cache/hard\n./cache/moved\n",
    );
    assertEquals(await lab.sh("node2", OWN), "./cache/own\n./x.tmp\n");
    await same(cluster);
  });

  await step("a rename or a link over the border is refused, and mv copies instead", async () => {
    const script = `import errno, os
os.chdir("${DATA}")
def refused(call, *names):
    try: call(*names)
    except OSError as e: assert e.errno == errno.EXDEV, e; return
    raise SystemExit("not refused: %s %s" % (call, names))
refused(os.rename, "a/file", "cache/file")
refused(os.rename, "cache/copied", "a/copied")
refused(os.rename, "a/b/one.tmp", "a/b/one")
refused(os.rename, "a/file", "a/file.tmp")
refused(os.link, "a/file", "cache/link")
refused(os.link, "cache/copied", "a/link")
refused(os.rename, "cache", "other")
refused(os.rename, "a", "log")
`;
    await lab.write("node1", "/tmp/border.py", script);
    await lab.sh("node1", "python3 /tmp/border.py");
    await lab.sh("node1", `cd ${DATA} && mv cache/copied a/out && mv a/back cache/in && cat a/out cache/in`);
    await same(cluster);
  });

  await step("a replicator that is killed goes on with what is excluded", async () => {
    await lab.sh(
      "node1",
      `cd ${DATA} && exec 3>>cache/appended && (for i in $(seq 200); do echo $i >&3; done; echo $i >a/n.tmp) &
      kill -KILL ${await cluster.pid(
        "node1",
        "replicator",
      )}; wait; cd ${DATA} && [ $(wc -l <cache/appended) = 200 ] && cat a/n.tmp`,
    );
    await same(cluster);
  });

  await step("another list that came in mid-service waits for the next start", async () => {
    const file = `/var/lib/binome/modules/${MODULE}.yaml`;
    await lab.sh(
      "node1",
      `cp ${file} /tmp/before.yaml && sed -i 's/"log"\\]/"log", "f*"]/' ${file} && grep -q '"f\\*"' ${file}`,
    );
    await lab.sh(
      "node1",
      `cd ${DATA} && echo held >a/fheld && exec 3>>a/fheld && kill -KILL ${await cluster.pid(
        "node1",
        "replicator",
      )} && echo on >&3 && echo more >a/fmore && cat a/fheld`,
    );
    await cluster.waitPair("node1");
    await same(cluster);
    await lab.sh("node1", `cp /tmp/before.yaml ${file} && rm ${DATA}/a/fheld ${DATA}/a/fmore`);
  });

  await step(
    "a directory removed on the primary goes on the secondary, where something of its own was in it",
    async () => {
      await lab.sh("node1", `cd ${DATA} && mkdir d && echo x >d/shared`);
      await cluster.must("node1", ["switchover", MODULE], 150_000);
      await cluster.waitPair("node2");
      await lab.sh("node2", `echo mine >${DATA}/d/of2.tmp; cat ${DATA}/cache/own`);
      assertEquals((await lab.exec("node2", ["cat", `${DATA}/cache/big`])).code, 1);
      await cluster.must("node2", ["switchover", MODULE], 150_000);
      await cluster.waitPair("node1");
      await lab.sh("node1", `rm -r ${DATA}/d && mkdir ${DATA}/e && echo y >${DATA}/e/f`);
      await cluster.waitPair("node1");
      await same(cluster);
      assertEquals((await lab.exec("node2", ["ls", `${DATA}/d`])).code, 2);
    },
  );

  await step("verify finds no difference", async () => {
    assertMatch(await cluster.must("node1", ["verify", MODULE], 120_000), /identical|0 differences/);
  });

  await step("what is excluded no more is compared and travels; what the secondary had is kept", async () => {
    await cluster.must("node1", ["stop", MODULE, "--all"], 150_000);
    await cluster.apply(yaml.replace(EXCLUDE, '    exclude: ["cache/**", "secret"]'));
    await cluster.startBoth();
    assertEquals(await lab.sh("node2", `cat ${DATA}/a/log/../b/one.tmp ${DATA}/a/n.tmp`), "1\n200\n");
    assertEquals((await lab.exec("node2", ["cat", `${DATA}/x.tmp`])).code, 1);
    assertMatch(
      await lab.sh("node2", "cd /var/lib/binome/quarantine && find . -type f | xargs cat"),
      /^two$/m,
    );
    assertEquals(await lab.sh("node2", `cat ${DATA}/cache/own`), "own\n");
    await lab.sh("node1", `cd ${DATA} && mv a/b/one.tmp a/b/one && echo s >secret`);
    assertEquals(await lab.sh("node2", `cat ${DATA}/a/b/one`), "1\n");
    assertEquals((await lab.exec("node2", ["ls", `${DATA}/secret`])).code, 2);
  });

  await step("a file with a name on both sides refuses the start, by name", async () => {
    await lab.sh("node1", `cd ${DATA} && ln a/out a/out2`);
    await cluster.must("node1", ["stop", MODULE, "--all"], 150_000);
    await cluster.apply(yaml.replace(EXCLUDE, '    exclude: ["cache/**", "secret", "out2"]'));
    await cluster.binome("node1", ["start", MODULE, "--as", "primary", "--wait", "20"]);
    await cluster.waitEvent(
      "node1",
      /a file has the name "out2?" and another one, of which only one is excluded/,
    );
  });
});
