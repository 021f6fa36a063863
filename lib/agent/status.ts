/**
 * What an operator sees of a module.
 *
 * @module
 */

import type { ModuleStatus, NodeModuleStatus } from "../agent_control.ts";
import { type State, viewOf } from "../failover/mod.ts";
import type { ModuleRunner } from "./module_runner.ts";
import { resyncOf } from "./replicator_status.ts";

/** The status of one module, this node's view first. */
export function moduleStatus(runner: ModuleRunner, generation: number, at: number): ModuleStatus {
  const { config, state, status } = runner;
  return {
    module: config.name,
    kind: config.kind,
    generation,
    nodes: [ownStatus(state), peerStatus(state, at)],
    peerConnected: state.channel.connected,
    resync: status === null ? null : resyncOf(status),
    vip: { addresses: config.virtualIps.map((vip) => `${vip.address}/${vip.prefix}`), set: runner.vipsSet },
    service: {
      configured: config.service !== null,
      state: config.service === null ? "none" : serviceState(state),
    },
    maintenance: state.record.maintenance,
    replicator: status,
  };
}

function ownStatus(state: State): NodeModuleStatus {
  const view = viewOf(state);
  const { record, settings } = state;
  return {
    node: settings.node,
    heard: true,
    state: view.name,
    readiness: view.readiness,
    copy: record.copy,
    epoch: record.epoch,
    role: roleName(view.name),
    members: record.members,
    sequence: state.channel.sequence.toString(),
    reason: view.reason,
  };
}

function peerStatus(state: State, at: number): NodeModuleStatus {
  const { report, heardAt } = state.peer;
  const heard = report !== null && at - heardAt < state.settings.timings.deadMs;
  return {
    node: state.settings.peer,
    heard,
    state: report?.name ?? "stopped",
    readiness: report?.readiness ?? "not-ready",
    copy: report?.copy ?? "none",
    epoch: report?.epoch ?? 0,
    role: roleName(report?.name ?? "stopped"),
    members: report?.members ?? [],
    sequence: (report?.sequence ?? 0n).toString(),
    reason: report === null ? "nothing heard from it yet" : heard ? "" : `silent for ${at - heardAt} ms`,
  };
}

function roleName(name: string): "primary" | "secondary" | "none" {
  if (name === "primary" || name === "alone") return "primary";
  return name === "secondary" ? "secondary" : "none";
}

function serviceState(state: State): ModuleStatus["service"]["state"] {
  const { phase } = state;
  if (phase.kind === "demoting" && phase.step === "service") return "stopping";
  if (phase.kind === "promoting") return "starting";
  if (phase.kind !== "serving") return "none";
  return phase.service === "restarting" ? "starting" : phase.service;
}
