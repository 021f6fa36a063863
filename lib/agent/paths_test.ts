import { assertEquals } from "@std/assert";
import { choosePath, firstPath, inOrder, type Paths, pathSilentMs } from "./paths.ts";

const NETWORKS = ["repl", "lan"];
const TIMES = { silentMs: 1000, returnMs: 30_000 };

/** Lets time pass in steps of 200 ms; `live` says which networks are heard then. */
function pass(paths: Paths, from: number, to: number, live: readonly string[]): Paths {
  let result = paths;
  for (let at = from; at <= to; at += 200) {
    // What falls silent was heard last just before.
    const heard = new Map(
      NETWORKS.map((name): [string, number] => [name, live.includes(name) ? at : from - 1]),
    );
    result = choosePath(result, { at, networks: NETWORKS, heard, times: TIMES });
  }
  return result;
}

Deno.test("choosePath() keeps the preferred network as long as it is heard", () => {
  assertEquals(pass(firstPath("repl", 0), 200, 60_000, NETWORKS).network, "repl");
});

Deno.test("choosePath() waits at the start until the preferred network could have been heard", () => {
  const heard = new Map([["lan", 100]]);
  const paths = choosePath(firstPath("repl", 0), { at: 100, networks: NETWORKS, heard, times: TIMES });
  assertEquals(paths.network, "repl");
  const later = new Map([["lan", 1000]]);
  assertEquals(
    choosePath(paths, { at: 1000, networks: NETWORKS, heard: later, times: TIMES }).network,
    "lan",
  );
});

Deno.test("choosePath() takes another network when the preferred one is silent and the other is heard", () => {
  const paths = pass(firstPath("repl", 0), 200, 10_000, NETWORKS);
  assertEquals(pass(paths, 10_200, 11_000, ["lan"]).network, "repl");
  assertEquals(pass(paths, 10_200, 11_400, ["lan"]).network, "lan");
});

Deno.test("choosePath() changes nothing when the peer is silent on every network", () => {
  const paths = pass(firstPath("repl", 0), 200, 10_000, NETWORKS);
  assertEquals(pass(paths, 10_200, 60_000, []).network, "repl");
});

Deno.test("choosePath() returns once the preferred network was heard for long enough without a gap", () => {
  let paths = pass(pass(firstPath("repl", 0), 200, 10_000, NETWORKS), 10_200, 20_000, ["lan"]);
  paths = pass(paths, 20_200, 40_000, NETWORKS);
  assertEquals(paths.network, "lan");
  paths = pass(paths, 40_200, 42_000, ["lan"]);
  paths = pass(paths, 42_200, 72_000, NETWORKS);
  assertEquals(paths.network, "lan");
  assertEquals(pass(paths, 72_200, 72_400, NETWORKS).network, "repl");
});

Deno.test("choosePath() goes back at once when the other network falls silent too", () => {
  const paths = pass(pass(firstPath("repl", 0), 200, 10_000, NETWORKS), 10_200, 20_000, ["lan"]);
  assertEquals(pass(paths, 20_200, 21_600, ["repl"]).network, "repl");
});

Deno.test("inOrder() tries the network in use first", () => {
  assertEquals(inOrder(["a", "b", "c"], "b"), ["b", "a", "c"]);
});

Deno.test("pathSilentMs() leaves time to connect within the peer bound", () => {
  assertEquals(pathSilentMs({ heartbeatMs: 250, deadMs: 2000, peerMs: 3000 }), 1500);
  assertEquals(pathSilentMs({ heartbeatMs: 200, deadMs: 1000, peerMs: 3000 }), 1000);
  assertEquals(pathSilentMs({ heartbeatMs: 250, deadMs: 2000, peerMs: 500 }), 750);
});
