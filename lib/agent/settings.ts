/**
 * From the configuration to what the core and the data road need of it.
 *
 * @module
 */

import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import { promoteAfterMs, type Settings, type Timings } from "../failover/mod.ts";
import { inOrder } from "./paths.ts";
import type { Endpoint } from "./tasks.ts";

/** D, unless the cluster's times are shorter. */
const LEASE_MS = 3000;
/** Left between the end of a lease and the peer's takeover: the keeper needs it to take a hung node down. */
const LEASE_MARGIN_MS = 500;

/** The core's settings of one module on one node. */
export function settingsOf(cluster: ClusterConfig, config: ModuleConfig, node: string): Settings {
  const peer = config.nodes.find((name) => name !== node);
  if (peer === undefined || !config.nodes.includes(node)) {
    throw new Error(
      `Cannot run module "${config.name}" on "${node}": its nodes are ${config.nodes.join(" and ")}`,
    );
  }
  const { arbiter } = cluster;
  return {
    module: config.name,
    node,
    peer,
    arbiter: arbiter.kind === "ping" ? { kind: "ping", mode: arbiter.mode } : { kind: "none" },
    timings: timingsOf(cluster, config),
    automatic: config.failover.automatic,
    prefer: config.failover.prefer,
    vips: config.virtualIps.length > 0,
  };
}

/** The core's times of one module. */
export function timingsOf(cluster: ClusterConfig, config: ModuleConfig): Timings {
  const { heartbeatMs, deadMs, witnessMs, watchdogMs } = cluster.timings;
  const times = {
    heartbeatMs,
    deadMs,
    witnessMs,
    watchdogMs,
    peerMs: config.peerTimeoutMs,
    leaseMs: LEASE_MS,
  };
  return { ...times, leaseMs: Math.min(LEASE_MS, promoteAfterMs(times) - LEASE_MARGIN_MS) };
}

/** The networks both nodes of a module are on, the module's own first. */
export function networksOf(cluster: ClusterConfig, config: ModuleConfig): readonly string[] {
  const nodes = cluster.nodes.filter(({ name }) => config.nodes.includes(name));
  const shared = cluster.networks.filter((network) =>
    nodes.every(({ addresses }) => addresses[network] !== undefined)
  );
  return inOrder(shared, config.network);
}

/** A node as the replication channel reaches it: one network first, the others as a way out. */
export function endpointOf(
  cluster: ClusterConfig,
  config: ModuleConfig,
  name: string,
  network: string = config.network,
): Endpoint {
  const node = cluster.nodes.find((one) => one.name === name);
  if (node === undefined) {
    throw new Error(`Cannot run module "${config.name}": "${name}" is no node of cluster.yaml`);
  }
  const addresses = inOrder(networksOf(cluster, config), network).map((network) => node.addresses[network])
    .filter((address) => address !== undefined);
  return { name, addresses };
}
