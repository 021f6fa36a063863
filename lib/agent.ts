/**
 * `binome agent`: the loop, with the real world around it.
 *
 * @module
 */

import { Agent } from "./agent/agent.ts";
import type { Authority } from "./agent/seams.ts";
import type { AgentStart, RunningAgent } from "./system/agent_role.ts";
import { EDITED_MARK } from "./replication/edited_mark.ts";
import { AuthorityFile } from "./system/authority_file.ts";
import { bootId } from "./system/boot_id.ts";
import { boottimeMs, clock, randomIncarnation, timers } from "./system/clock.ts";
import { openProbes, openServices, openVips } from "./system/effects.ts";
import { hmacSha256 } from "./system/hmac.ts";
import { logLine } from "./system/log.ts";
import { RpcClient } from "./system/rpc.ts";
import { openStateFiles } from "./system/state_files.ts";
import { SqliteStore } from "./system/sqlite_store.ts";
import { UdpNetworks } from "./system/udp.ts";

/**
 * Starts the loop. What runs already on this node is found and kept.
 *
 * @throws {Error} when the heartbeat port is taken or the database cannot be opened.
 */
export function runAgent(start: AgentStart): Promise<RunningAgent> {
  const { node, cluster, modules, state, run } = start;
  const me = cluster.nodes.find((one) => one.name === node);
  if (me === undefined) {
    throw new Error(`Cannot start the agent: "${node}" is no node of ${state}/cluster.yaml`);
  }
  const boot = bootId(run);
  const store = new SqliteStore(`${state}/agent.db`, logLine);
  const { transport, open } = lateTransport(me.addresses, cluster.ports.heartbeat);
  const agent = new Agent({ node, cluster, modules }, {
    clock,
    timers,
    store,
    connect: (path, onEvent) => RpcClient.connect(path, { onEvent }),
    vips: openVips(logLine),
    services: openServices(state),
    probes: openProbes(),
    sign: hmacSha256(start.clusterKey),
    incarnation: randomIncarnation(),
    bootId: boot,
    socket: (name) => `${run}/${name}.sock`,
    markEdited: (module) =>
      openStateFiles(state).write(`modules/${module}/log/${EDITED_MARK}`, new Uint8Array(0), 0o600),
    openAuthority: (module) => tellFirst(module, new AuthorityFile(`${run}/${module}.authority`)),
    openTransport: open,
    log: logLine,
  });
  return Promise.resolve({
    control: agent,
    closed: agent.failed,
    async close() {
      await agent.close();
      await transport()?.close();
      await store.close();
    },
  });
}

/** Says how soon after its start an agent has renewed the authority that a former one had granted. */
function tellFirst(module: string, file: Authority): Authority {
  const began = boottimeMs();
  let said = false;
  return {
    write(untilMs, epoch) {
      file.write(untilMs, epoch);
      if (said || untilMs === 0) return;
      said = true;
      logLine(
        `${clock.wall()} ${module} authority renewed ${boottimeMs() - began} ms after the agent's start`,
      );
    },
    close: () => file.close(),
  };
}

/** The sockets are opened by the agent, once there is someone to receive; closed by us, after it has ended. */
function lateTransport(
  addresses: Readonly<Record<string, string>>,
  port: number,
): {
  transport: () => UdpNetworks | null;
  open: (onDatagram: (network: string, bytes: Uint8Array) => void) => UdpNetworks;
} {
  let opened: UdpNetworks | null = null;
  return {
    transport: () => opened,
    open: (onDatagram) => opened = new UdpNetworks({ addresses, port, onDatagram, log: logLine }),
  };
}
