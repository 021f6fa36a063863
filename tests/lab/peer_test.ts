/**
 * A peer that is slow, hangs or comes and goes: the application waits for it once, within the bound, and then goes on
 * without it; it comes back by itself, when it has held up for long enough.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Cluster, story } from "./cluster.ts";
import { endWriter, goesOn, makeWriter, startWriter } from "./writer.ts";

/** How long the application may wait for a peer that does not answer. */
const BOUND_MS = 2000;
/** What a busy machine, the silence before it and the decision may add to that. No measurement: a bound for a hang. */
const SLACK_MS = 6000;

const FLAPS = 10;

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
    assert(epochs <= 6, `${epochs} epochs`);
  });

  await step("status says what the peer waits for", async () => {
    assertMatch(
      await cluster.must("node1", ["status"]),
      /node2: (waits until [0-9:]{8} UTC before it is taken in|is taken in once it has held up for \d+ s): dropped \d times in/,
    );
  });

  await step("it is taken in once it has held up", async () => {
    await cluster.waitPair("node1");
    assertEquals(await cluster.differences(), []);
  });
});
