/**
 * A keeper that hangs: what loses its name while it is open is held by the replicator alone, and is not lost with it
 * once the keeper has recovered.
 */
import { assertEquals } from "@std/assert";
import { Cluster, DATA, MODULE, story } from "./cluster.ts";
import { connected, kill } from "./kills.ts";
import { until } from "./lab.ts";

/** Opens a file, takes its name away and says so; writes and reads once the file `go` is there. */
const APPLICATION = `
exec 3<> "$1/open" 4< "$1/open"
printf before >&3
rm "$1/open"; echo unlinked
while ! test -e "$2"; do sleep 0.1; done
printf after >&3 && echo "$(cat <&4)"
`;

/** How often a line stands in the log of node1's replicator. */
async function told(cluster: Cluster, line: string): Promise<number> {
  const log = `/var/lib/binome/log/replicator-${MODULE}.log`;
  return Number((await cluster.lab.sh("node1", `grep -c '${line}' ${log} || true`)).trim());
}

Deno.test("a keeper that hangs costs no file that is open without a name, though the replicator dies after it", async (t) => {
  await using cluster = await Cluster.up({ prefix: "lt-orphan", patient: true });
  const step = story(t);
  await cluster.startBoth();
  const keeper = await cluster.pid("node1", "keeper");

  await step("the keeper hangs while a file that is open loses its name", async () => {
    await cluster.lab.sh("node1", `kill -STOP ${keeper}`);
    const application = cluster.lab.spawn("node1", ["bash", "-c", APPLICATION, "bash", DATA, "/tmp/go"]);
    await application.line((line) => line === "unlinked", 60_000);
    assertEquals(await told(cluster, "no keeper answers"), 1);

    await cluster.lab.sh("node1", `kill -CONT ${keeper}`);
    await until("the keeper to be told", async () => await told(cluster, "the keeper answers again") === 1, {
      timeoutMs: 30_000,
      everyMs: 50,
    });
    await kill(cluster, "node1", "replicator");
    await connected(cluster);
    await cluster.lab.sh("node1", "touch /tmp/go");
    await application.line((line) => line === "beforeafter", 60_000);
    assertEquals(await application.status(), 0);
  });
  await cluster.mustBeEqual();
});
