/** `binome agent`: the decisions beside their API, on this machine. */
import type { AgentControl } from "../agent_control.ts";
import { type BrokenModule, loadModules, type StoredModule } from "../config/store.ts";
import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import { serveControlPlane } from "../http/mod.ts";
import { type Identity, loadIdentity, type StateFiles } from "../identity/mod.ts";
import type { AgentTurn } from "./agent_turn.ts";
import { ambient } from "./cli_world.ts";
import { boottimeMs, clock } from "./clock.ts";
import { openHostChecks } from "./host_checks.ts";
import { serveHttps } from "./https.ts";
import { logLine } from "./log.ts";
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

/** A port of an agent that has just died is closed by the kernel a moment later. */
const PORTS_MS = 2000;
const PORTS_TRY_MS = 5;

/**
 * Waits for its turn, then runs until it is told to stop by SIGTERM or SIGINT.
 *
 * @returns the exit code.
 */
export async function agentRole(
  options: {
    readonly state: string;
    readonly run: string;
    readonly version: string;
    readonly turn: AgentTurn;
    readonly runAgent: RunAgent;
  },
): Promise<number> {
  const { state, run, version } = options;
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, () => stop.abort());
  const files = openStateFiles(state);
  // Also as a spare: what is wrong is said at once, and what is read again later has its code loaded.
  let who = await readWho(files);
  const turn = await options.turn.take(stop.signal);
  if (turn === null) return 0;
  const began = boottimeMs();
  if (turn.late) {
    // Configurations may have been applied while it waited.
    who = await readWho(files);
    await portsFreed(who.identity);
  }
  const { identity, modules, broken } = who;
  const plane = await serveControlPlane(identity, { version }, {
    files,
    ambient: ambient(),
    host: openHostChecks([state, run]),
    openPeers: (clusterKey) => openPeerClient(identity, clusterKey),
    listen: (handler) =>
      serveHttps({
        port: identity.cluster.ports.api,
        ...identity.credentials,
        known: ["127.0.0.1", ...identity.cluster.nodes.flatMap(({ addresses }) => Object.values(addresses))],
        handler,
      }),
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
  logLine(`${clock.wall()} the agent serves, ${boottimeMs() - began} ms after it had its turn`);
  const spares = options.turn.keepSpare();
  const stopped = new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    stop.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.race([stopped, agent.closed]);
  // Before this process gives up its turn, or the spare would go on.
  await spares.close();
  await plane.close();
  await agent.close();
  return 0;
}

interface Who {
  readonly identity: Identity;
  readonly modules: readonly StoredModule[];
  readonly broken: readonly BrokenModule[];
}

async function readWho(files: StateFiles): Promise<Who> {
  const identity = await loadIdentity(files);
  return { identity, ...await loadModules(files, identity.cluster) };
}

/** Who died had these ports. When they stay taken, whoever opens them next says by whom. */
async function portsFreed({ cluster, node }: Identity): Promise<void> {
  const addresses = cluster.nodes.find(({ name }) => name === node)?.addresses ?? {};
  for (let waitedMs = 0; waitedMs < PORTS_MS; waitedMs += PORTS_TRY_MS) {
    const taken = isTaken(() => Deno.listen({ hostname: "0.0.0.0", port: cluster.ports.api })) ||
      Object.values(addresses).some((hostname) =>
        isTaken(() => Deno.listenDatagram({ transport: "udp", hostname, port: cluster.ports.heartbeat }))
      );
    if (!taken) return;
    await new Promise((resolve) => setTimeout(resolve, PORTS_TRY_MS));
  }
}

function isTaken(listen: () => { close(): void }): boolean {
  try {
    listen().close();
    return false;
  } catch (error) {
    // An address that is not there yet is no port that is taken.
    return error instanceof Deno.errors.AddrInUse;
  }
}
