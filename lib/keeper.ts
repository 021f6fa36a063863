/**
 * `binome keeper`: one per node. See `lib/keeper/` for its rules and `lib/README.md` for its methods.
 *
 * @module
 */

import { Keeper } from "./keeper/keeper.ts";
import type { KeeperStatus } from "./keeper/types.ts";
import { openKeeperWorld } from "./system/keeper_world.ts";
import { harden } from "./system/process.ts";
import { type RpcServer, serveRpc } from "./system/rpc.ts";
import { openWatchdog } from "./system/watchdog.ts";

export type { KeeperList, KeeperStatus, ReplicatorDescriptors } from "./keeper/types.ts";

/** Where the keeper works. */
export interface KeeperOptions {
  /** `/var/lib/binome`; replicators' logs go to its `log` folder. */
  readonly state: string;
  /** `/run/binome`; must exist. */
  readonly run: string;
  /** Hardware or software watchdog, for instance `/dev/watchdog`. Null: none is used, and `status` says so. */
  readonly watchdog: string | null;
  /** Program and arguments that start a replicator; the module's name is added. This very program when left out. */
  readonly replicator?: readonly string[];
  /** One line of log, without time. */
  readonly log: (line: string) => void;
  /** Aborting ends the keeper. Mounts and replicators stay. */
  readonly signal: AbortSignal;
}

/** Runs a keeper until it is told to end. */
export async function runKeeper(options: KeeperOptions): Promise<void> {
  const warnings = harden();
  const watchdog = openWatchdog(options.watchdog);
  if ("warning" in watchdog) warnings.push(watchdog.warning);
  warnings.forEach(options.log);
  const world = openKeeperWorld({ ...options, watchdog: "warning" in watchdog ? null : watchdog });
  let server: RpcServer | null = null;
  // Only our own replicator knows how to wait for its turn.
  const spares = options.replicator === undefined;
  const keeper = new Keeper(world, (event, params) => server?.broadcast(event, params), warnings, spares);
  // The socket first: a second keeper must fail before it touches what the first one holds.
  server = await serveRpc(`${options.run}/keeper.sock`, keeper.handlers, { log: options.log });
  keeper.start();
  options.signal.addEventListener("abort", () => keeper.stop(), { once: true });
  if (options.signal.aborted) keeper.stop();
  await keeper.run();
  await server.close();
  // With a mount, whoever comes next must take over before the watchdog fires; without, there is nothing to guard.
  if (!("warning" in watchdog)) watchdog.close(!mounted(keeper.status()));
}

function mounted(status: KeeperStatus): boolean {
  return status.modules.some(({ paths }) => paths.some((path) => path.mounted));
}
