import { namespaceTest } from "./testing/namespace.ts";

const script = new URL("testing/keeper_scenarios.ts", import.meta.url).pathname;

namespaceTest("runKeeper() covers, mounts, unmounts and uncovers a directory", script, "life");
namespaceTest("runKeeper() refuses what cannot be replicated, and says what to do", script, "refusals");
namespaceTest("runKeeper() refuses to mount over what somebody has open, by name", script, "openFiles");
namespaceTest("runKeeper() keeps and drops descriptors", script, "keepsAndDrops");
namespaceTest("runKeeper() starts a dead replicator again, and not a retired one", script, "replicatorDies");
namespaceTest("runKeeper() takes over from the replicator after its own death", script, "keeperDies");
namespaceTest(
  "runKeeper() takes over from a replicator that asks it for something first",
  script,
  "keeperDiesAsked",
);
namespaceTest(
  "runKeeper() takes over from the replicator at work, though its predecessor had not heard of it",
  script,
  "keeperDiesBehind",
);
namespaceTest(
  "runKeeper() leaves a read-only directory when keeper and replicator both died",
  script,
  "bothDie",
);
namespaceTest("runKeeper() takes a module down whose authority has lapsed", script, "deadMan");
