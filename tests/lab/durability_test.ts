/**
 * What each durability promises, with three directories of one module: `each-write`, `fsync` and `relaxed`, under one
 * order. What a node has is read beneath its mounts.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Cluster, MODULE, NODES, PATIENT_MODULE, story } from "./cluster.ts";
import { type HostProcess, must, type NodeName, until } from "./lab.ts";

const DIRECTORIES = { each: "each-write", sync: "fsync", lax: "relaxed" } as const;
type Name = keyof typeof DIRECTORIES;
const NAMES = Object.keys(DIRECTORIES) as Name[];
const KILLS = 5;

const path = (name: Name): string => `/srv/${name}`;
const beneath = (name: Name): string => `/run/lab/disk/srv/${name}`;

/** Opens a file, does as told, and stays with the file open: nothing is flushed by closing it. */
const HOLDER = `
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o644)
os.mkfifo(sys.argv[2])
orders = os.fdopen(os.open(sys.argv[2], os.O_RDWR), "r")
print("ready", flush=True)
for line in orders:
    word, value = line.split()
    if word == "write": os.pwrite(fd, value.encode(), 0)
    if word == "fsync": os.fsync(fd)
    print("done", value, flush=True)
`;

async function up(prefix: string): Promise<Cluster> {
  const cluster = await Cluster.up({ prefix, patient: true, apply: false });
  const lines = [`module: ${MODULE}`, "kind: directory", PATIENT_MODULE, "replicate:"];
  for (const name of NAMES) {
    for (const node of NODES) await cluster.lab.sh(node, `mkdir -p ${path(name)}`);
    lines.push(`  - { path: ${path(name)}, durability: ${DIRECTORIES[name]} }`);
  }
  await cluster.apply(lines.join("\n") + "\n");
  await cluster.lab.write("node1", "/run/lab/shared/holder.py", HOLDER);
  await cluster.startBoth();
  return cluster;
}

async function differences(cluster: Cluster): Promise<string[]> {
  const found: string[] = [];
  for (const name of NAMES) {
    const both = [{ node: "node1", path: beneath(name) }, { node: "node2", path: beneath(name) }] as const;
    found.push(...await cluster.lab.compare(...both));
  }
  return found;
}

/** Times follow writes by a moment. */
async function equal(cluster: Cluster): Promise<void> {
  let last: string[] = [];
  await until("equal trees", async () => (last = await differences(cluster)).length === 0, {
    timeoutMs: 60_000,
    everyMs: 200,
  }).catch(() => assertEquals(last, []));
}

async function holds(cluster: Cluster, node: NodeName, name: Name, text: string): Promise<boolean> {
  const found = await cluster.lab.exec(node, ["cat", `${beneath(name)}/held`]);
  return found.stdout === text;
}

/** Records that node1's secondary has not acknowledged, as `status` says. */
async function behind(cluster: Cluster): Promise<number> {
  const value = (await cluster.status("node1")).replicator?.["behind"];
  return typeof value === "number" ? value : -1;
}

Deno.test("three durabilities under one order keep what each promises", async (t) => {
  await using cluster = await up("lt-durable");
  const { lab } = cluster;
  const step = story(t);
  const source = new URL("writer.c", import.meta.url).pathname;
  await must(["gcc", "-O2", "-pthread", "-o", `${lab.folder}/shared/writer`, source]);

  await step("writers in all three see a pause at most when replicators are killed", async () => {
    const writers = NAMES.map((name) => {
      return lab.spawn("node1", [
        "sh",
        "-c",
        `mkdir ${path(name)}/w && exec /run/lab/shared/writer ${path(name)}/w 2`,
      ]);
    });
    try {
      for (const writer of writers) await writer.line((line) => line.startsWith("writes"), 60_000);
      for (let kills = 0; kills < KILLS; kills++) {
        const node = kills % 2 === 0 ? "node1" : "node2";
        const pid = await cluster.pid(node, "replicator");
        await lab.sh(node, `kill -KILL ${pid}`);
        for (const writer of writers) {
          for (let times = 0; times < 3; times++) {
            await writer.line((line) => line.startsWith("writes"), 60_000, writer.lines.length);
          }
        }
      }
      for (const writer of writers) {
        writer.signal("SIGTERM");
        await writer.status();
        assertEquals(writer.lines.filter((line) => line.startsWith("error")), []);
        assertMatch(writer.lines.at(-1) ?? "", /^end writes \d+ .* errors 0 /);
      }
    } finally {
      for (const writer of writers) await writer[Symbol.asyncDispose]();
    }
    await cluster.waitPair("node1");
    await equal(cluster);
  });

  const hold = (name: Name): HostProcess =>
    lab.spawn("node1", [
      "python3",
      "/run/lab/shared/holder.py",
      `${path(name)}/held`,
      `/run/lab/${name}.orders`,
    ]);
  await using each = hold("each");
  await using sync = hold("sync");
  await using lax = hold("lax");
  const holders = { each, sync, lax };
  for (const name of NAMES) await holders[name].line((line) => line === "ready", 60_000);
  const tell = async (name: Name, word: string, value: string): Promise<void> => {
    const from = holders[name].lines.length;
    await lab.sh("node1", `echo ${word} ${value} > /run/lab/${name}.orders`);
    await holders[name].line((line) => line === `done ${value}`, 60_000, from);
  };

  await step("each-write: a write that returned is on both nodes", async () => {
    for (let i = 10; i < 30; i++) {
      await tell("each", "write", `each${i}`);
      assert(await holds(cluster, "node2", "each", `each${i}`), `${i}`);
    }
  });

  await step("fsync: what was synced is on both nodes", async () => {
    for (let i = 10; i < 30; i++) {
      await tell("sync", "write", `sync${i}`);
      await tell("sync", "fsync", `sync${i}`);
      assert(await holds(cluster, "node2", "sync", `sync${i}`), `${i}`);
    }
  });

  await step(
    "relaxed: nothing waits for a secondary that is slow, and status says how far it is behind",
    async () => {
      await lab.freeze("node2");
      try {
        await tell("lax", "write", "lax10");
        await tell("lax", "fsync", "lax10");
        assert(await holds(cluster, "node1", "lax", "lax10"));
        await until("status to say so", async () => await behind(cluster) > 0, {
          timeoutMs: 60_000,
          everyMs: 100,
        });
      } finally {
        await lab.thaw("node2");
      }
      await until("node2 to have it", () => holds(cluster, "node2", "lax", "lax10"), {
        timeoutMs: 60_000,
        everyMs: 100,
      });
      await until("status to say so", async () => await behind(cluster) === 0, {
        timeoutMs: 60_000,
        everyMs: 100,
      });
    },
  );

  await step("a switchover takes along what applications have written and not closed", async () => {
    for (const name of NAMES) await tell(name, "write", `${name}99`);
    await cluster.must("node1", ["switchover", MODULE], 150_000);
    await cluster.waitPair("node2");
    for (const name of NAMES) assert(await holds(cluster, "node2", name, `${name}99`), name);
    await equal(cluster);
  });

  await step("both lose power: what was synced is on either disk", async () => {
    await lab.sh(
      "node2",
      `cd ${path("sync")} && dd if=/dev/zero of=big bs=64k count=32 conv=fsync status=none`,
    );
    await lab.sh(
      "node2",
      `cd ${path("each")} && dd if=/dev/zero of=big bs=64k count=32 conv=fsync status=none`,
    );
    await lab.powerOff("node1", "node2");
    await lab.powerOn("node1", "node2");
    await cluster.waitPair("node2");
    await equal(cluster);
    for (const node of NODES) {
      for (const name of ["sync", "each"] as const) {
        assertEquals((await lab.sh(node, `stat -c %s ${beneath(name)}/big`)).trim(), `${64 * 1024 * 32}`);
      }
    }
  });
});
