/**
 * A program that writes through a shared map while its node hands over: what msync(2) returned from is on the next primary; the
 * program itself gets SIGBUS or an error once its mount is gone, never a page that nobody will see. And directories on file systems
 * that cannot hold a copy are refused.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Cluster, DATA, MODULE, NODES, other, story } from "./cluster.ts";

/** Puts a number into one page after the other, syncs that page, and only then says the number. */
const WRITE = `import mmap, os, struct, sys
fd = os.open("${DATA}/map", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 64 * 4096)
said = os.open("/tmp/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
pages = mmap.mmap(fd, 64 * 4096)
i = int(sys.argv[1])
while True:
    i += 1
    at = i % 64 * 4096
    pages[at:at + 8] = struct.pack("<q", i)
    pages.flush(at, 4096)
    os.write(said, b"%d\\n" % i)
`;
/** Compares what was said with what is there; prints the last number. */
const CHECK = `import struct, sys
said = [int(line) for line in open("/tmp/said")]
data = open("${DATA}/map", "rb").read()
last = {i % 64: i for i in said}
lost = [i for page, i in last.items() if struct.unpack_from("<q", data, page * 4096)[0] < i]
assert not lost, lost
print(said[-1])
`;

Deno.test("what was synced through a shared map survives hand-overs under load", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-mapped", patient: true, durability: "fsync" });
  const { lab } = cluster;
  const step = story(t);
  await cluster.startBoth();
  for (const node of NODES) {
    await lab.write(node, "/tmp/write.py", WRITE);
    await lab.write(node, "/tmp/check.py", CHECK);
  }
  let last = 0;
  for (const [round, node] of [...NODES, ...NODES].entries()) {
    await step(`hand-over ${round + 1}, from ${node}`, async () => {
      // What was said there before is not this writer's.
      await lab.sh(node, ": > /tmp/said");
      const writer = lab.exec(node, ["python3", "/tmp/write.py", `${last}`], { timeoutMs: 60_000 });
      await lab.sh(node, `until [ "$(wc -l </tmp/said)" -gt 50 ]; do sleep 0.05; done`);
      await cluster.must(node, ["switchover", MODULE], 150_000);
      const { code, timedOut } = await writer;
      assertEquals([code === 0, timedOut], [false, false]);
      await cluster.waitPair(other(node));
      await lab.write(other(node), "/tmp/said", await lab.sh(node, "cat /tmp/said"));
      const said = Number(await lab.sh(other(node), "python3 /tmp/check.py"));
      assert(said > last + 50, `${said} after ${last}`);
      last = said;
      await cluster.mustBeEqual();
    });
  }
});

Deno.test("a secondary whose file system cannot hold a copy is refused by name", async () => {
  await using cluster = await Cluster.up({ prefix: "lt-noxattr", patient: true, apply: false });
  const { lab } = cluster;
  await cluster.prepare();
  await lab.sh("node2", `mount -t ramfs none ${DATA}`);
  await cluster.apply(cluster.moduleYaml());
  await cluster.must("node1", ["start", MODULE, "--as", "primary"], 150_000);
  await cluster.binome("node2", ["start", MODULE, "--wait", "15"]);
  const { what, why } = await cluster.waitEvent("node2", /file handles/);
  assertMatch(
    `${what}: ${why}`,
    /Cannot use \/srv\/data: its file system has no file handles.*use ext4, xfs or btrfs/,
  );
});
