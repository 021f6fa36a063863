/**
 * A comparison of everything that is cut short (either replicator killed, or the link gone) goes on where it was, while an
 * application writes.
 */
import { assert, assertEquals } from "@std/assert";
import { Cluster, DATA, FORGET, MODULE, story } from "./cluster.ts";
import { type NodeName, until } from "./lab.ts";

const FILES = 24_000;
/** It is written down how far a comparison is whenever 8192 objects more were compared. */
const ENOUGH = 12_000;
/** It may be through before it is interrupted, also between two looks at it: then once more. */
const TRIES = 8;
const LIMIT_MS = 120_000;

const MAKE = `import os
for i in range(${FILES}):
    d = "${DATA}/d%d" % (i // 1000)
    if i % 1000 == 0: os.mkdir(d)
    with open("%s/f%d" % (d, i), "wb") as f: f.write(b"%08d" % i)
`;

/** Something every moment: beside applications a comparison takes a tenth of the time. */
const WRITER = `import os, sys, time
print("ready", flush=True)
i = 0
while not os.path.exists("/run/lab/stop"):
    i += 1
    with open("${DATA}/d%d/f%d" % (i * 7 % ${FILES} // 1000, i * 7 % ${FILES}), "wb") as f: f.write(b"%09d" % i)
    # As long as there are such files: a slow machine gets further.
    if i % 50 == 0 and i < 50000: os.rename("${DATA}/d1/f%d" % (1000 + i // 50), "${DATA}/d2/moved%d" % i)
    time.sleep(0.001)
`;

Deno.test("a comparison that is cut short goes on where it was", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-goes-on", patient: true });
  const { lab } = cluster;
  const step = story(t);
  await lab.write("node1", "/run/lab/shared/make.py", MAKE);
  await lab.write("node1", "/run/lab/shared/writer.py", WRITER);
  await lab.sh("node1", "python3 /run/lab/shared/make.py", { timeoutMs: LIMIT_MS });
  await cluster.startBoth();
  await using writer = lab.spawn("node1", ["python3", "/run/lab/shared/writer.py"]);
  await writer.line((line) => line === "ready", 20_000);

  /** Compares everything, does something in the middle, and answers how many objects were compared after that; null: it was over before. */
  const compare = async (prepare: () => Promise<() => Promise<void>>): Promise<number | null> => {
    await cluster.must("node2", ["stop", MODULE]);
    await cluster.waitState("node1", "alone");
    await lab.sh("node2", FORGET);
    const mark = await cluster.mark("node1");
    await cluster.must("node2", ["start", MODULE, "--no-wait"]);
    await until("node2 has come", async () => {
      const { resync, replicator } = await cluster.status("node1");
      return resync !== null || replicator?.["members"] === 2;
    }, { timeoutMs: LIMIT_MS, everyMs: 20 });
    const interrupt = await prepare();
    let over = false;
    await until("much of it is compared, or all", async () => {
      const { resync } = await cluster.status("node1");
      over = resync === null;
      return over || (resync?.files ?? 0) >= ENOUGH;
    }, { timeoutMs: LIMIT_MS, everyMs: 20 });
    if (!over) await interrupt();
    const interrupted = new Date().toISOString();
    const event = await cluster.waitEvent("node1", /^Has copied/, mark, LIMIT_MS);
    await cluster.waitPair("node1", LIMIT_MS);
    if (over || event.time < interrupted) return null;
    const [, objects = ""] = /, (\d+) objects compared/.exec(event.why) ?? [];
    return Number(objects);
  };
  const kill = async (node: NodeName): Promise<() => Promise<void>> => {
    const pid = await cluster.pid(node, "replicator");
    return async () => void await lab.sh(node, `kill -KILL ${pid}`);
  };
  const goesOn = async (prepare: () => Promise<() => Promise<void>>): Promise<void> => {
    let compared: number | null = null;
    for (let i = 0; i < TRIES && compared === null; i++) compared = await compare(prepare);
    if (compared === null) throw new Error(`${TRIES} comparisons were over before they could be interrupted`);
    assert(compared > 0 && compared < FILES, `${compared} of ${FILES} objects were compared after it`);
  };

  await step("the secondary's replicator is killed", () => goesOn(() => kill("node2")));
  await step("the primary's replicator is killed", () => goesOn(() => kill("node1")));
  await step("the link is cut for longer than the bound", () =>
    goesOn(() =>
      Promise.resolve(async () => {
        await lab.cut("node1", "node2");
        await lab.cut("node2", "node1");
        // Heartbeats fall silent much sooner than the connection is given up.
        await until("the connection is given up", async () => {
          const { replicator } = await cluster.status("node1");
          return replicator?.["connected"] === false;
        }, { timeoutMs: LIMIT_MS });
        await lab.heal();
      })
    ));
  await step("the copies are equal afterwards", async () => {
    await lab.sh("node1", "touch /run/lab/stop");
    assertEquals(await writer.status(), 0);
    await cluster.must("node1", ["verify", MODULE], LIMIT_MS);
    await cluster.mustBeEqual();
  });
});
