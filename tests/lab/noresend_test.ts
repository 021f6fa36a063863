/**
 * The program's parts are killed under an application on a kernel that does not send again what a killed process had read
 * (before Linux 6.9; here the program is told not to ask for it): the application must see a pause at most.
 */
import { assertEquals } from "@std/assert";
import { Cluster, MODULE, story } from "./cluster.ts";
import { connected, kill, killKeeper } from "./kills.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

const KILLS = 10;
/** One line to a socket, one line back. */
const ASK = [
  "import socket, sys",
  "s = socket.socket(socket.AF_UNIX)",
  "s.connect(sys.argv[1])",
  's.sendall(b"""{"id":1,"method":"status","params":{}}\\n""")',
  "print(s.makefile().readline())",
].join("; ");

/** What the primary's replicator says of the requests that outlive it. */
async function inFlight(cluster: Cluster): Promise<unknown> {
  const { result } = JSON.parse(
    await cluster.lab.sh("node1", `python3 -c '${ASK}' /run/binome/${MODULE}.sock`),
  );
  return { resend: result.resend, inFlight: result.inFlight };
}

Deno.test("without the kernel's resend, kills of replicator and keeper are a pause to the application too", async (t) => {
  await using cluster = await Cluster.up({
    prefix: "lt-noresend",
    patient: true,
    environment: ["BINOME_RESEND=off"],
  });
  const step = story(t);
  await makeWriter(cluster);
  await cluster.startBoth();
  assertEquals(await inFlight(cluster), { resend: false, inFlight: "memory" });

  await step(`the primary's replicator is killed ${KILLS} times`, async () => {
    await using writer = await startWriter(cluster, "replicator", 8);
    for (let kills = 0; kills < KILLS; kills++) {
      await kill(cluster, "node1", "replicator");
      await goesOn(writer);
      await connected(cluster);
    }
    await endWriter(writer, `${KILLS} kills of the primary's replicator, no resend`);
    assertEquals(await inFlight(cluster), { resend: false, inFlight: "memory" });
    await cluster.mustBeEqual();
  });

  await step("the keeper is killed 3 times, and then the replicator that it took over", async () => {
    await using writer = await startWriter(cluster, "keeper");
    for (let kills = 0; kills < 3; kills++) {
      await killKeeper(cluster, "node1");
      await goesOn(writer);
      await kill(cluster, "node1", "replicator");
      await goesOn(writer);
    }
    await endWriter(writer, "3 kills of the keeper, no resend");
    await cluster.mustBeEqual();
  });

  await step("the primary is alone, and its replicator is killed 3 times", async () => {
    await cluster.must("node2", ["stop", MODULE]);
    await using writer = await startWriter(cluster, "alone");
    for (let kills = 0; kills < 3; kills++) {
      await kill(cluster, "node1", "replicator");
      await goesOn(writer);
    }
    await endWriter(writer, "3 kills of a primary alone, no resend");
    await cluster.must("node2", ["start", MODULE]);
    await cluster.waitPair("node1");
    await cluster.mustBeEqual();
  });
});
