/** `binome agent`: the decisions beside their API, on this machine. */
import type { AgentControl } from "../agent_control.ts";
import { loadModules } from "../config/store.ts";
import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import { serveControlPlane } from "../http/mod.ts";
import { loadIdentity } from "../identity/mod.ts";
import { ambient } from "./cli_world.ts";
import { openHostChecks } from "./host_checks.ts";
import { serveHttps } from "./https.ts";
import { openPeerClient } from "./peer_client.ts";
import { openStateFiles } from "./state_files.ts";

/** What the agent loop is started with. */
export interface AgentStart {
  readonly node: string;
  readonly cluster: ClusterConfig;
  /** 32 bytes. */
  readonly clusterKey: Uint8Array;
  readonly modules: readonly { readonly config: ModuleConfig; readonly generation: number }[];
  readonly state: string;
  readonly run: string;
}

/** The agent loop, running. */
export interface RunningAgent {
  readonly control: AgentControl;
  /** Settles when the loop has ended; rejects when it ended by a mistake of ours. */
  readonly closed: Promise<void>;
  /** Ends the loop. The modules go on as they are. */
  close(): Promise<void>;
}

/** Starts the agent loop. */
export type RunAgent = (start: AgentStart) => Promise<RunningAgent>;

/**
 * Runs until it is told to stop by SIGTERM or SIGINT.
 *
 * @returns the exit code.
 */
export async function agentRole(
  options: {
    readonly state: string;
    readonly run: string;
    readonly version: string;
    readonly runAgent: RunAgent;
  },
): Promise<number> {
  const { state, run, version } = options;
  const files = openStateFiles(state);
  const identity = await loadIdentity(files);
  const { modules, broken } = await loadModules(files, identity.cluster);
  const plane = await serveControlPlane(identity, { version }, {
    files,
    ambient: ambient(),
    host: openHostChecks([state, run]),
    openPeers: (clusterKey) => openPeerClient(identity, clusterKey),
    listen: (handler) => serveHttps({ port: identity.cluster.ports.api, ...identity.credentials, handler }),
    every: (millis, callback) => {
      const timer = setInterval(callback, millis);
      return () => clearInterval(timer);
    },
  });
  const agent = await options.runAgent({
    node: identity.node,
    cluster: identity.cluster,
    clusterKey: identity.clusterKey,
    modules: modules.filter(({ config }) => config.nodes.includes(identity.node)),
    state,
    run,
  });
  for (const { name, message } of broken) {
    const what = "configuration cannot be used, the module is not started";
    agent.control.note({ level: "error", module: name, what, why: message });
  }
  plane.attach(agent.control);
  const stop = Promise.withResolvers<void>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, () => stop.resolve());
  await Promise.race([stop.promise, agent.closed]);
  await plane.close();
  await agent.close();
  return 0;
}
