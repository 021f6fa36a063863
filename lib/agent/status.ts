/**
 * What an operator sees of a module.
 *
 * @module
 */

import type { ModuleStatus, NodeModuleStatus } from "../agent_control.ts";
import { dropsInWords, pauseMs, returnAt, spanInWords, type State, viewOf } from "../failover/mod.ts";
import type { ModuleRunner } from "./module_runner.ts";
import { resyncOf, verificationOf } from "./replicator_status.ts";

/** One moment, as `CLOCK_BOOTTIME` milliseconds and as ISO 8601. */
export interface Now {
  readonly at: number;
  readonly wall: string;
}

/** The status of one module, this node's view first. */
export function moduleStatus(runner: ModuleRunner, generation: number, now: Now): ModuleStatus {
  const { config, state, status } = runner;
  return {
    module: config.name,
    kind: config.kind,
    generation,
    nodes: [ownStatus(state), peerStatus(state, now)],
    peerConnected: state.channel.connected,
    network: { preferred: config.network, used: runner.network },
    resync: status === null ? null : resyncOf(status),
    verification: status === null ? null : verificationOf(status),
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

function peerStatus(state: State, now: Now): NodeModuleStatus {
  const { at } = now;
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
    reason: report === null
      ? "nothing heard from it yet"
      : heard
      ? readmissionOf(state, now)
      : `silent for ${at - heardAt} ms`,
  };
}

/** Why a peer that is there is not taken in yet. */
function readmissionOf(state: State, { at, wall }: Now): string {
  const { readmission, phase, record } = state;
  const pause = pauseMs(readmission, at);
  if (phase.kind !== "serving" || record.members.length === 2 || pause === 0) return "";
  const why = dropsInWords(readmission, at);
  const until = returnAt(readmission, at);
  if (until === null) return `is taken in once it has held up for ${spanInWords(pause)}: ${why}`;
  const time = new Date(Date.parse(wall) + until - at).toISOString().slice(11, 19);
  return `waits until ${time} UTC before it is taken in: ${why}`;
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
