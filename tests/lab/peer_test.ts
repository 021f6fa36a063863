/**
 * A peer that is slow, hangs or comes and goes: the application waits for it once, within the bound, and then goes on
 * without it; it comes back by itself, when it has held up for long enough.
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Cluster, DATA, MODULE, NODES, story } from "./cluster.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

/** How long the application may wait for a peer that does not answer. */
const BOUND_MS = 2000;
/** What a busy machine, the silence before it and the decision may add to that. No measurement: a bound for a hang. */
const SLACK_MS = 6000;

/** The same where the module says nothing: the lab's `timings.peer`. */
const DEFAULT_BOUND_MS = 3000;

const FLAPS = 6;

function seconds(count: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, count * 1000));
}

Deno.test("a link that flaps does not make the membership flap", async (t) => {
  // `strict`: a secondary that hears nothing leaves the decision to a person, so that only the primary's is seen here.
  await using cluster = await Cluster.up({
    prefix: "lt-flap",
    mode: "strict",
    module: `peer_timeout: ${BOUND_MS}ms`,
  });
  const { lab } = cluster;
  const step = story(t);
  await makeWriter(cluster);
  await cluster.startBoth();
  const { epoch } = await cluster.own("node1");

  await step(`the link is cut ${FLAPS} times for 5 s and stands for 2 s between`, async () => {
    await using writer = await startWriter(cluster, "flaps", 1);
    for (let flaps = 0; flaps < FLAPS; flaps++) {
      await lab.cut("node1", "node2");
      await seconds(5);
      await goesOn(writer);
      await lab.heal();
      await seconds(2);
    }
    const longest = await endWriter(writer, `${FLAPS} cuts of the link`);
    assert(longest <= BOUND_MS + SLACK_MS, `the application waited ${longest} ms`);
    const epochs = (await cluster.own("node1")).epoch - epoch;
    // deno-lint-ignore no-console
    console.log(`    ${epochs} epochs`);
    // Each drop and each return is one; without a pause ${FLAPS} cuts would cost twice as many.
    assert(epochs <= FLAPS, `${epochs} epochs`);
  });

  await step("status says what the peer waits for", async () => {
    assertMatch(
      await cluster.must("node1", ["status"]),
      /node2: (waits until [0-9:]{8} UTC before it is taken in|is taken in once it has held up for \d+ s): dropped \d times in/,
    );
  });

  await step("it is taken in once it has held up", async () => {
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
  });
});

/** One way in which a secondary stops answering, and back. */
interface Trouble {
  readonly name: string;
  begin(cluster: Cluster): Promise<void>;
  end(cluster: Cluster): Promise<void>;
}

/** Node2's copy on a file system of its own, so that its disk can hang while its agent goes on. */
async function ownDisk({ lab }: Cluster): Promise<void> {
  await lab.sh(
    "node2",
    `cd /run/lab/disk; mkdir own; truncate -s 256M own.img; mkfs.ext4 -q own.img; mount -n -o loop own.img own
    mkdir own/data; mount -n --bind own/data ${DATA}`,
  );
}

const TROUBLES: readonly Trouble[] = [
  {
    name: "its replicator is stopped",
    begin: async (cluster) => {
      const pid = await cluster.pid("node2", "replicator");
      await cluster.lab.sh("node2", `kill -STOP ${pid}; echo ${pid} > /run/stopped`);
    },
    end: async ({ lab }) => void await lab.sh("node2", "kill -CONT $(cat /run/stopped)"),
  },
  {
    name: "its disk hangs",
    begin: async ({ lab }) => void await lab.sh("node2", "fsfreeze -f /run/lab/disk/own"),
    end: async ({ lab }) => void await lab.sh("node2", "fsfreeze -u /run/lab/disk/own"),
  },
  {
    name: "nine of ten frames between the two are lost",
    begin: async ({ lab }) => await lab.loss("node1", "node2", 90),
    end: async ({ lab }) => await lab.heal(),
  },
];

Deno.test("a secondary that does not answer is waited for once, and comes back by itself", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-slow", mode: "strict" });
  const step = story(t);
  await makeWriter(cluster);
  await ownDisk(cluster);
  await cluster.startBoth();

  for (const [number, { name, begin, end }] of TROUBLES.entries()) {
    await step(name, async () => {
      await using writer = await startWriter(cluster, `trouble${number}`, 1);
      const since = await cluster.mark("node1");
      await begin(cluster);
      try {
        await cluster.waitEvent("node1", /^Goes on alone/, since);
        await goesOn(writer);
      } finally {
        await end(cluster);
      }
      const longest = await endWriter(writer, name);
      assert(longest <= DEFAULT_BOUND_MS + SLACK_MS, `the application waited ${longest} ms`);
      await cluster.waitPair("node1");
    });
  }

  await step("both copies are equal", async () => {
    assertEquals(
      await cluster.lab.compare({ node: "node1", path: DATA }, { node: "node2", path: DATA }, {
        withoutXattrs: ["trusted.binome.id", "trusted.binome.root"],
      }),
      [],
    );
  });
});

Deno.test("a replication network that is gone costs no membership: the channel moves to another, and back", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-network",
    lab: { repl: true },
    module: "network_return: 5s",
  });
  const { lab } = cluster;
  const step = story(t);
  await makeWriter(cluster);
  await cluster.startBoth();
  const { epoch } = await cluster.own("node1");
  const used = async (): Promise<unknown[]> =>
    await Promise.all(NODES.map(async (node) => (await cluster.status(node)).network.used));
  assertEquals(await used(), ["repl", "repl"]);
  const before = await cluster.mark("node2");

  for (const node of NODES) {
    await step(`${node} loses the replication network`, async () => {
      await using writer = await startWriter(cluster, `lost-${node}`, 1);
      const since = await cluster.mark("node1");
      await lab.unplug(node, "repl");
      await cluster.waitEvent("node1", /^Replicates over lan/, since);
      await goesOn(writer);
      assertEquals(await used(), ["lan", "lan"]);
      assertMatch(await cluster.must("node1", ["status"]), /files: replicates over lan instead of repl/);
      await endWriter(writer, `the cable of ${node} is pulled out`);
    });

    await step("it is back", async () => {
      await using writer = await startWriter(cluster, `back-${node}`, 1);
      const since = await cluster.mark("node1");
      await lab.plug(node, "repl");
      await cluster.waitEvent("node1", /^Replicates over repl again/, since);
      await goesOn(writer);
      assertEquals(await used(), ["repl", "repl"]);
      await endWriter(writer, `the cable of ${node} is put back`);
    });
  }

  await step("the membership is what it was, and both copies are equal", async () => {
    await cluster.waitPair("node1");
    assertEquals((await cluster.own("node1")).epoch, epoch);
    await cluster.mustBeEqual();
  });
  await step("at no time was the secondary's copy one that could not have taken over", async () => {
    const events = await cluster.events("node2", before);
    assertEquals(events.filter(({ what }) => /^Keeps what its copy was|inconsistent/.test(what)), []);
  });
});

Deno.test("a secondary whose disk fails leaves with an alarm, and the primary goes on", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-eio", patient: true });
  const { lab } = cluster;
  const step = story(t);
  // A disk that has no room for what it promised refuses whatever is to be written there.
  await lab.sh(
    "node2",
    `mkdir /run/thin; mount -n -t tmpfs -o size=64m none /run/thin; cd /run/thin; truncate -s 512M disk.img
    mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard disk.img; mkdir own; mount -n -o loop disk.img own
    mkdir own/data; mount -n --bind own/data ${DATA}`,
  );
  await cluster.startBoth();

  await step("the disk refuses what was written: an alarm, and no error for the application", async () => {
    const since = await cluster.mark("node2");
    const script = `dd if=/dev/urandom of=${DATA}/large bs=1M count=120 conv=fsync status=none; echo done`;
    assertEquals(await lab.sh("node1", script, { timeoutMs: 60_000 }), "done\n");
    // As what it refuses is up to the file system: the data, or its journal, after which it is read-only.
    const refused =
      /^Cannot keep its copy: the disk refused a sync: errno (5; the disk fails|28; no space left|30; the file system is read-only)/;
    const alarm = await cluster.waitEvent("node2", refused, since);
    assertEquals(alarm.level, "error");
    await cluster.waitState("node1", "alone");
    assertNotEquals((await cluster.own("node2")).copy, "uptodate");
  });
});

Deno.test("a channel that is too narrow for what many write is left within the bound, not after the queue", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-narrow", lab: { repl: true } });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();

  await step("16 writers write 1 MiB at a time through 1 Mbit/s", async () => {
    const since = await cluster.mark("node1");
    await lab.sh("node1", "tc qdisc add dev e1 root tbf rate 1mbit burst 32k latency 200ms");
    const script = `for i in $(seq 16); do
        (dd if=/dev/zero of=${DATA}/file-$i bs=1M count=4 status=none && echo whole) &
      done; wait`;
    const began = performance.now();
    const said = await lab.sh("node1", script, { timeoutMs: 120_000 });
    const took = performance.now() - began;
    // deno-lint-ignore no-console
    console.log(`    all were answered within ${(took / 1000).toFixed(2)} s`);
    assertEquals(said, "whole\n".repeat(16));
    // Through the channel it would have been 9 minutes.
    assert(took <= 4 * DEFAULT_BOUND_MS + SLACK_MS, `the applications waited ${took} ms`);
    await cluster.waitEvent("node1", /^Goes on alone as epoch \d+/, since);
  });

  await step("the channel is wide again: the secondary comes back by itself", async () => {
    await lab.sh("node1", "tc qdisc del dev e1 root");
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
  });
});

/** Stops one thread of a process and no other, as a system call that does not return would, until it is ended itself. */
const HOLD_THREAD = `
import ctypes, os, signal, sys
pid, name = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, WALL = 16, 0x40000000
tids = [int(t) for t in os.listdir(f"/proc/{pid}/task") if open(f"/proc/{pid}/task/{t}/comm").read().startswith(name)]
assert len(tids) == 1, tids
assert libc.ptrace(ATTACH, tids[0], None, None) == 0, ctypes.get_errno()
os.waitpid(tids[0], WALL)
print("held", flush=True)
signal.pause()
`;

Deno.test("an fsync that hangs on the secondary is waited for once, though writes go on", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-hung" });
  const { lab } = cluster;
  const step = story(t);
  await makeWriter(cluster);
  await cluster.startBoth();

  await step("the secondary's disk thread hangs under a writer", async () => {
    await using writer = await startWriter(cluster, "hung");
    const since = await cluster.mark("node1");
    const pid = await cluster.pid("node2", "replicator");
    const held = lab.spawn("node2", ["timeout", "120", "python3", "-c", HOLD_THREAD, `${pid}`, "disk"]);
    await held.line((line) => line === "held", 30_000);
    const began = performance.now();
    await lab.sh("node1", `echo synced > ${DATA}/synced; sync ${DATA}/synced`, { timeoutMs: 120_000 });
    const took = performance.now() - began;
    assert(took <= 2 * DEFAULT_BOUND_MS + SLACK_MS, `the application waited ${took} ms`);
    // deno-lint-ignore no-console
    console.log(`    the fsync was answered after ${(took / 1000).toFixed(2)} s`);
    await cluster.waitEvent("node1", /^Goes on alone/, since);
    const log = `/var/lib/binome/log/replicator-${MODULE}.log`;
    assertMatch(await lab.sh("node1", `cat ${log}`), /it did not sync to its disk for 3000 ms/);
    await goesOn(writer);
    held.signal("SIGTERM");
    await endWriter(writer, "an fsync that hangs");
  });

  await step("the secondary comes back by itself", async () => {
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
  });
});
