/** The API beside the running agent: its port, its way to the other nodes, the configurations it fetches. */
import type { AgentControl } from "../agent_control.ts";
import { importClusterKey } from "../identity/mod.ts";
import type { Ambient, Identity, StateFiles } from "../identity/mod.ts";
import { createApp } from "./app.ts";
import { catchUp } from "./apply.ts";
import type { HostChecks, PeerClient } from "./control_types.ts";
import { errorBody } from "./errors.ts";

/** How often other nodes are asked for configurations applied while this one was away. */
const CATCH_UP_MS = 10_000;
/** And how long after the start at first: what has just taken over has more urgent things to do. */
const BEGIN_MS = 1000;

/** What {@link serveControlPlane} touches. */
export interface ControlPlaneWorld {
  readonly files: StateFiles;
  readonly ambient: Ambient;
  readonly host: HostChecks;
  openPeers(clusterKey: CryptoKey): PeerClient & Disposable;
  /** Throws when the port is taken. */
  listen(handler: (request: Request) => Response | Promise<Response>): { close(): Promise<void> };
  /** Calls back every so many milliseconds until the returned function is called. */
  every(millis: number, callback: () => void): () => void;
}

/** The API of one node. */
export interface ControlPlane {
  /** From now on requests are answered by the agent; before, with "starting". */
  attach(control: AgentControl): void;
  close(): Promise<void>;
}

/**
 * Takes the port, before the agent starts: two agents on one machine must not get as far as deciding.
 *
 * @throws {Error} when the port is taken, or the cluster key is none.
 */
export async function serveControlPlane(
  identity: Identity,
  options: { readonly version: string },
  world: ControlPlaneWorld,
): Promise<ControlPlane> {
  const clusterKey = await importClusterKey(identity.clusterKey);
  const peers = world.openPeers(clusterKey);
  let answer: (request: Request) => Response | Promise<Response> = starting;
  let stopCatchingUp: () => void = () => {};
  const server = world.listen((request) => answer(request));
  return {
    attach(control) {
      const { files, ambient, host } = world;
      const parts = { identity, files, ambient, clusterKey, peers, host, version: options.version };
      const app = createApp(control, parts);
      answer = (request) => app.fetch(request);
      let busy = false;
      const ask = async (): Promise<void> => {
        if (busy) return;
        busy = true;
        try {
          for (const what of await catchUp(control, parts)) {
            control.note({ level: "info", what, why: "another node had a later configuration" });
          }
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error);
          control.note({ level: "warning", what: "cannot compare configurations with other nodes", why });
        } finally {
          busy = false;
        }
      };
      let restMs = BEGIN_MS;
      stopCatchingUp = world.every(BEGIN_MS, () => {
        restMs -= BEGIN_MS;
        if (restMs > 0) return;
        restMs = CATCH_UP_MS;
        void ask();
      });
    },
    async close() {
      stopCatchingUp();
      await server.close();
      peers[Symbol.dispose]();
    },
  };
}

function starting(request: Request): Response {
  if (new URL(request.url).pathname === "/healthz") return Response.json({ ok: true, starting: true });
  const body = errorBody({
    code: "starting",
    message: "Cannot answer yet: the agent is starting",
    hint: "ask again in a second",
  });
  return Response.json(body, { status: 503 });
}
