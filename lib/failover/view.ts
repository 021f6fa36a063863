/**
 * What others see of a module: the state an operator reads and the report in every heartbeat.
 *
 * @module
 */

import { HISTORY_MAX, type Readiness, type Report, type State, type StateName } from "./types.ts";

/** State, readiness and the reason, in words. */
export interface View {
  readonly name: StateName;
  readonly readiness: Readiness;
  readonly reason: string;
}

/** The state an operator sees. */
export function viewOf(state: State): View {
  const { phase, record } = state;
  switch (phase.kind) {
    case "stopped":
      return { name: "stopped", readiness: "not-ready", reason: record.copyReason };
    case "stopping":
      return { name: "waiting", readiness: "transient", reason: "stopping" };
    case "waiting":
      return { name: "waiting", readiness: phase.ready, reason: phase.why };
    case "following":
      return viewFollowing(state);
    case "promoting":
      return { name: "alone", readiness: "transient", reason: `taking over as epoch ${phase.epoch}` };
    case "serving":
      return { name: pairName(state), readiness: serviceReadiness(phase.service), reason: phase.why };
    case "demoting":
      return { name: pairName(state), readiness: "transient", reason: phase.why };
    default:
      return unreachable(phase);
  }
}

function viewFollowing(state: State): View {
  const { record, channel, silence } = state;
  const readiness = record.copy === "uptodate" && silence === null && channel.connected
    ? "ready"
    : "transient";
  if (silence !== null) {
    return {
      name: "secondary",
      readiness,
      reason: `${state.settings.peer} is silent; judging whether to take over`,
    };
  }
  const progress = channel.resync ?? record.copyReason;
  return { name: "secondary", readiness, reason: readiness === "ready" ? "" : progress };
}

/** Primary only with a secondary that has said itself that it is uptodate under this membership. */
function pairName(state: State): "primary" | "alone" {
  if (state.record.members.length < 2) return "alone";
  const { report } = state.peer;
  if (report === null) return "primary";
  return report.copy === "uptodate" && report.epoch === state.record.epoch ? "primary" : "alone";
}

function serviceReadiness(service: "starting" | "running" | "restarting" | "failed"): Readiness {
  if (service === "running") return "ready";
  return service === "failed" ? "not-ready" : "transient";
}

/** What this node says in its heartbeats. */
export function reportOf(state: State): Report {
  const { record, channel } = state;
  const view = viewOf(state);
  return {
    name: view.name,
    readiness: view.readiness,
    epoch: record.epoch,
    primary: record.primary,
    members: record.members,
    copy: record.copy,
    promised: record.promised,
    intact: record.intact,
    handover: record.handover,
    memberAt: record.memberAt,
    took: record.took,
    // A module on its way to stopped, or that a person must look at, does not stand for election.
    started: record.started && state.phase.kind !== "stopped" && state.phase.kind !== "stopping" &&
      !(state.phase.kind === "waiting" &&
        (state.phase.hold === "secondary" || state.phase.hold === "person")),
    serving: isServing(state),
    proposal: state.proposal,
    sequence: channel.sequence,
    pairedAt: state.pairedAt,
    history: channel.history.slice(0, HISTORY_MAX),
    request: state.request,
    requestTaken: state.requestTaken,
  };
}

/** From the first claim on the mount until it is released: a peer must not elect anyone meanwhile. */
export function isServing(state: State): boolean {
  const { phase } = state;
  return phase.kind === "serving" || phase.kind === "demoting" ||
    (phase.kind === "promoting" && phase.step === "opening");
}

/** Closes a `switch` over a union: leaving a case out does not compile. */
export function unreachable(value: never): never {
  throw new Error(`Cannot decide: the case ${JSON.stringify(value)} is not known`);
}
