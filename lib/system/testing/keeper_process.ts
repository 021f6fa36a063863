/**
 * A keeper for tests. Arguments: STATE, RUN.
 *
 * @module
 */

import { runKeeper } from "../../keeper.ts";

const [state = "", run = ""] = Deno.args;
const replicator = new URL("replicator.ts", import.meta.url).pathname;
const end = new AbortController();
Deno.addSignalListener("SIGTERM", () => end.abort());
await runKeeper({
  state,
  run,
  watchdog: null,
  replicator: [Deno.execPath(), "run", "--quiet", "--allow-all", replicator, run],
  log: (line) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`)),
  signal: end.signal,
});
Deno.exit(0);
