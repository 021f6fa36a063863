/** What people, programs and disks do wrong: each time a clear word that says what to do, and nothing is lost. */
import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Cluster, DATA, MODULE, NODES, story } from "./cluster.ts";
import { type ExecResult, type NodeName, until } from "./lab.ts";

/** Runs a command that must be refused; answers what it said. */
async function refused(cluster: Cluster, node: NodeName, args: readonly string[], exit = 1): Promise<string> {
  const { code, stderr, stdout } = await cluster.binome(node, args, 60_000);
  assertEquals(code, exit, `${stdout}${stderr}`);
  return stderr;
}

Deno.test("wrong files are refused with file, line, key, value and what was expected", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-wrong" });
  const { lab } = cluster;

  async function refuses(name: string, yaml: string, expected: RegExp): Promise<void> {
    await t.step(name, async () => {
      await lab.write("node1", "/root/bad.yaml", yaml);
      assertMatch(await refused(cluster, "node1", ["apply", "/root/bad.yaml"]), expected);
      assertEquals((await cluster.cluster("node1")).modules.map(({ module }) => module), [MODULE]);
    });
  }
  const other = "module: other\nkind: directory\nport: 9021\n";
  await refuses("a file that is no YAML", `${other}replicate: [{ path: /srv/x\n`, /bad\.yaml:\d+: /);
  await refuses(
    "an unknown key",
    `${other}replicate: [{ path: /srv/x }]\nreplicas: 2\n`,
    /bad\.yaml:5: replicas: .*unknown/i,
  );
  await refuses(
    "a path that is missing",
    `${other}replicate: [{ path: /srv/nowhere }]\n`,
    /"?\/srv\/nowhere"?.*exist/,
  );
  await refuses(
    "a port that another module has",
    "module: other\nkind: directory\nreplicate: [{ path: /srv/x }]\n",
    /bad\.yaml:\d*:? ?port: 9020 is the port of module files \(expected a free one, for example 9021\)/,
  );
  await t.step("a file that is not there", async () => {
    assertMatch(
      await refused(cluster, "node1", ["apply", "/root/none.yaml"]),
      /Cannot .*\/root\/none\.yaml.*/,
    );
  });
  await t.step(
    "a module that is not there, a verb that is not there, an option that is not there",
    async () => {
      assertMatch(
        await refused(cluster, "node1", ["start", "nothing"]),
        /Cannot .*nothing.*: .*binome apply FILE/s,
      );
      assertMatch(
        await refused(cluster, "node1", ["strat", MODULE], 2),
        /Cannot understand "strat".*binome help/,
      );
      assertMatch(
        await refused(cluster, "node1", ["start", MODULE, "--hard"], 2),
        /Cannot understand --hard: known are/,
      );
    },
  );

  await t.step("a directory with a mount inside is not taken", async () => {
    await lab.sh("node1", `mkdir ${DATA}/inside; mount -t tmpfs none ${DATA}/inside`);
    await cluster.binome("node1", ["start", MODULE, "--as", "primary"], 150_000);
    const { reason } = await cluster.waitState("node1", "waiting");
    assertMatch(reason, /Cannot .*\/srv\/data\/inside.*(unmount|umount)/i);
    await lab.sh("node1", `umount ${DATA}/inside; rmdir ${DATA}/inside`);
  });

  await t.step("a directory in which a program has a file open for writing is not taken", async () => {
    await using holder = lab.spawn("node1", [
      "/usr/bin/python3",
      "-c",
      `f = open("${DATA}/held", "w"); print("open", flush=True); import time; time.sleep(600)`,
    ]);
    await holder.line((line) => line === "open", 60_000);
    await cluster.binome("node1", ["start", MODULE, "--as", "primary"], 150_000);
    const { reason } = await cluster.waitState("node1", "waiting");
    assertMatch(reason, /Cannot .*python3.*held/s);
    await holder.kill();
    await cluster.must("node1", ["start", MODULE, "--as", "primary"], 150_000);
    await cluster.waitState("node1", "alone");
    assertEquals(await lab.sh("node1", `ls ${DATA}`), "held\n");
  });
});

Deno.test("garbage, wrong keys and taken ports are refused, and nothing that runs notices", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-garbage", patient: true });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  await lab.sh("node1", `echo before > ${DATA}/file`);
  const { epoch } = await cluster.own("node1");

  async function unharmed(): Promise<void> {
    await cluster.waitPair("node1");
    assertEquals((await cluster.own("node1")).epoch, epoch);
    await lab.sh("node1", `date +%N >> ${DATA}/file`);
    await cluster.mustBeEqual();
  }
  async function pids(): Promise<number[]> {
    const roles = ["agent", "keeper", "replicator"] as const;
    return await Promise.all(NODES.flatMap((node) => roles.map((role) => cluster.pid(node, role))));
  }

  await step("garbage on every port and socket", async () => {
    const before = await pids();
    const garbage = ["/usr/bin/python3", "/run/lab/tests/garbage.py"];
    const loads = [
      ...NODES.flatMap((node) => [
        { host: "client", args: ["tcp", node, "9010"] },
        { host: "client", args: ["udp", node, "9011"] },
        { host: "client", args: ["tcp", node, "9020"] },
        { host: node, args: ["unix", "/run/binome/keeper.sock"] },
        { host: node, args: ["unix", `/run/binome/${MODULE}.sock`] },
      ]),
    ] as const;
    for (const { host, args } of loads) {
      // The secondary does not listen for replication: a connection refused is an answer too.
      if (args[1] === "node2" && args[2] === "9020") continue;
      const said = await lab.sh(host as NodeName, [...garbage, ...args].join(" "), { timeoutMs: 60_000 });
      assertMatch(said, /^sent \d+$/m);
    }
    await unharmed();
    assertEquals(await pids(), before);
    assertMatch(await lab.log("node1", "agent"), /heartbeats: refused a datagram on network lan: /);
  });

  await step("an agent that is not running", async () => {
    await lab.stopBinome("node2");
    const said = await refused(cluster, "node2", ["status"], 3);
    assertMatch(said, /Cannot reach the agent at .*: it is not running\n {2}try: systemctl start/);
  });

  await step("the ports of the agent are taken", async () => {
    for (const [kind, port] of [["STREAM", 9010], ["DGRAM", 9011]] as const) {
      const listen = kind === "STREAM" ? "s.listen(); " : "";
      await using thief = lab.spawn("node2", [
        "/usr/bin/python3",
        "-c",
        `import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_${kind}); s.setsockopt(1, 2, 1); s.bind(("${
          lab.address("node2")
        }", ${port})); ${listen}print("bound", flush=True); time.sleep(600)`,
      ]);
      await thief.line((line) => line === "bound", 60_000);
      const result = await lab.exec("node2", ["binome", "agent"], { timeoutMs: 60_000 });
      assertEquals(result.code, 1, result.stderr);
      assertMatch(result.stderr, new RegExp(`Cannot listen .*${port}.*taken.*stop`));
    }
  });

  await step(
    "a node with another cluster's key is refused by name, and heard again with the right one",
    async () => {
      await lab.sh(
        "node2",
        "cd /var/lib/binome; cp -p cluster.key /root/cluster.key; tr 'a-f0-9A-Z' 'b-g1-9a0-z' </root/cluster.key >cluster.key",
      );
      await lab.startBinome("node2");
      await until("the refusal", async () => /wrong cluster key/.test(await lab.log("node1", "agent")), {
        timeoutMs: 60_000,
        everyMs: 200,
      });
      await cluster.waitState("node1", "alone");
      await lab.stopBinome("node2");
      await lab.sh("node2", "cp -p /root/cluster.key /var/lib/binome/cluster.key");
      await lab.startBinome("node2");
      await cluster.waitPair("node1");
      await cluster.mustBeEqual();
    },
  );

  await step("the replication port is taken", async () => {
    await cluster.must("node2", ["stop", MODULE], 150_000);
    await cluster.must("node1", ["stop", MODULE], 150_000);
    await using thief = lab.spawn("node1", [
      "/usr/bin/python3",
      "-c",
      `import socket, time; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("0.0.0.0", 9020)); s.listen(); print("bound", flush=True); time.sleep(600)`,
    ]);
    await thief.line((line) => line === "bound", 60_000);
    await cluster.binome("node1", ["start", MODULE], 150_000);
    const { reason } = await cluster.waitState("node1", "waiting");
    assertMatch(reason, /Cannot listen .*9020.*taken/);
    await thief.kill();
    await cluster.must("node1", ["start", MODULE], 150_000);
    await cluster.waitState("node1", "alone");
    assertMatch(await lab.sh("node1", `head -n 1 ${DATA}/file`), /before/);
  });
});

Deno.test("a full disk is told to the application on the primary; on the secondary it is an alarm", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-full", lab: { storeMiB: 512 }, patient: true });
  const { lab } = cluster;
  const step = story(t);
  // node2 keeps its copy on a file system of its own, as servers do; node1's disk holds everything.
  await lab.sh(
    "node2",
    `cd /run/lab/disk; mkdir own; truncate -s 256M own.img; mkfs.ext4 -q own.img; mount -n -o loop own.img own
    mkdir own/data; mount -n --bind own/data ${DATA}; fallocate -l 180M own/filler`,
  );
  await cluster.startBoth();

  /** What a person sees in the directories: node2's disk beneath is not at the usual place. */
  async function differences(): Promise<string[]> {
    return await lab.compare({ node: "node1", path: DATA }, { node: "node2", path: DATA }, {
      withoutXattrs: ["trusted.binome.id", "trusted.binome.root"],
    });
  }
  async function write(file: string, mib: number): Promise<ExecResult> {
    const dd = ["dd", "if=/dev/urandom", `of=${DATA}/${file}`, "bs=1M", `count=${mib}`, "status=none"];
    return await lab.exec("node1", dd, { timeoutMs: 60_000 });
  }

  await step("the primary's disk is full: the application is told, room makes it go on", async () => {
    await lab.sh(
      "node1",
      `free=$(df -m --output=avail /run/lab/disk | tail -n 1); fallocate -l $((free - 8))M /run/lab/disk/filler`,
    );
    const result = await write("too-much", 60);
    assertNotEquals(result.code, 0);
    assertMatch(result.stderr, /No space left on device/);
    await lab.sh("node1", `rm -f /run/lab/disk/filler ${DATA}/too-much`);
    assertEquals((await write("after", 5)).code, 0);
    await cluster.waitPair("node1");
    assertEquals(await differences(), []);
  });

  await step("the secondary's disk is full: it drops out with an alarm, the primary goes on", async () => {
    const since = await cluster.mark("node2");
    const result = await write("large", 120);
    assertEquals(result.code, 0, result.stderr);
    const alarm = await cluster.waitEvent("node2", /^Cannot keep its copy/, since);
    assertEquals(alarm.level, "error");
    assertMatch(alarm.why, /no space left on device \(ENOSPC\): make room/);
    await cluster.waitState("node1", "alone");
    assertEquals(await lab.sh("node1", `stat -c %s ${DATA}/large`), `${120 << 20}\n`);
  });

  await step("and comes back by itself once there is room", async () => {
    await lab.sh("node2", "rm /run/lab/disk/own/filler");
    await cluster.waitPair("node1");
    assertEquals(await differences(), []);
    assertEquals(await lab.sh("node2", `stat -c %s ${DATA}/large`), `${120 << 20}\n`);
  });
});

Deno.test("a disk that others fill on the secondary costs a membership, no process and no byte", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-filled", lab: { storeMiB: 512 }, patient: true });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  const processes = async (): Promise<number[]> =>
    await Promise.all((["agent", "keeper", "replicator"] as const).map((role) => cluster.pid("node2", role)));
  const before = await processes();
  let since = 0;

  await step("state, log and copy have not a block left: an alarm, and the primary goes on", async () => {
    since = await cluster.mark("node2");
    // By root, so the blocks that a file system keeps for root are gone too.
    await lab.sh(
      "node2",
      `cd /run/lab/disk; sync -f .
      for size in 64M 8M 1M 64K 4K; do i=0; while fallocate -l $size filler$size$i 2>/dev/null; do i=$((i + 1)); done; done
      sync -f .`,
    );
    for (let round = 0; round < 20; round++) {
      await lab.sh("node1", `dd if=/dev/urandom of=${DATA}/file${round} bs=1M count=2 status=none`);
    }
    const alarm = await cluster.waitEvent("node2", /^Cannot keep its copy/, since);
    assertEquals(alarm.level, "error");
    assertMatch(alarm.why, /no space left on device \(ENOSPC\): make room/);
    await cluster.waitState("node1", "alone");
  });

  await step("meanwhile nothing dies, and nothing is tried again and again", async () => {
    await lab.sh("node1", `for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >> ${DATA}/list; sleep 1; done`, {
      timeoutMs: 60_000,
    });
    assertEquals(await processes(), before);
    const events = await cluster.events("node2", since);
    const alarms = events.filter(({ what }) => what === "Cannot keep its copy");
    assertEquals(alarms.length, 1, JSON.stringify(events.map(({ what, why }) => `${what}: ${why}`), null, 1));
    await cluster.binome("node2", ["status"]);
  });

  await step("and it comes back by itself once there is room", async () => {
    await lab.sh("node2", "rm /run/lab/disk/filler*");
    await cluster.waitPair("node1");
    assertEquals(await processes(), before);
    await cluster.mustBeEqual();
  });
});
