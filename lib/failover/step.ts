/**
 * The failover core: one event in, the next state and the effects out.
 *
 * No clock, no chance, no I/O: the same state and event give the same decision, in the agent and in the simulator.
 *
 * @module
 */

import { onCommand, onPeerRequest } from "./commands.ts";
import { elect } from "./election.ts";
import {
  onChangeFailed,
  onPaired,
  onProbedServing,
  renewAuthority,
  serveOn,
  watchDropped,
} from "./primary.ts";
import { followOn, onProbedFollowing, refollow } from "./secondary.ts";
import { begin, demote, openAsPrimary, standBack, startService, surrender } from "./transitions.ts";
import { Turn, wait } from "./turn.ts";
import {
  type AfterDemotion,
  type Decision,
  type Event,
  INCONSISTENT,
  type Report,
  type State,
  STORE_FULL,
} from "./types.ts";
import { reportOf, unreachable } from "./view.ts";
import { noteCopy, noteInconsistent } from "./copy.ts";
import { consider, onProbedWaiting } from "./waiting.ts";

/** How long a stopping node waits for the other to say that it has taken the role. */
const HANDOVER_WAIT_MS = 5000;

/**
 * Decides the next state. Same state and event, same decision, always.
 *
 * @returns effects in the order they must be done: the role is on disk before the mount and the address are claimed.
 */
export function step(state: State, event: Event): Decision {
  const turn = new Turn(state, event.at);
  switch (event.kind) {
    case "boot":
      onBoot(turn, event);
      break;
    case "tick":
      onTick(turn);
      break;
    case "heard":
      onHeard(turn, event);
      break;
    case "channel":
      onChannel(turn, event);
      break;
    case "diverged":
      onDiverged(turn, event.detail);
      break;
    case "copy-failed":
      onCopyFailed(turn, event.reason);
      break;
    case "fenced":
      onFenced(turn, event.reason);
      break;
    case "done":
      onDone(turn, event.work, event.sequence);
      break;
    case "failed":
      onFailed(turn, event);
      break;
    case "probed":
      onProbed(turn, event);
      break;
    case "command":
      onCommand(turn, event);
      break;
    default:
      unreachable(event);
  }
  return turn.decision();
}

function onProbed(turn: Turn, event: Extract<Event, { kind: "probed" }>): void {
  const { round, findings } = event;
  if (turn.phase.kind === "following") onProbedFollowing(turn, round, findings);
  else if (turn.phase.kind === "serving") onProbedServing(turn, round, findings);
  else if (turn.phase.kind === "waiting") onProbedWaiting(turn, round, findings);
}

function onBoot(turn: Turn, event: Extract<Event, { kind: "boot" }>): void {
  const { record, settings } = turn;
  const rebooted = record.bootId !== event.bootId;
  if (rebooted) noteReboot(turn, event.bootId);
  const mine = record.primary === settings.node && !record.handover;
  if (!rebooted && record.started && event.serving && mine) {
    // Nothing changes for the application: address and service are only made sure of.
    turn.info("Resumes as primary", "the agent was restarted; the module kept running");
    const work = turn.work("service", [{ do: "vip-add" }, { do: "service-start" }]);
    // The agent may have ended between writing that it is alone and saying so; saying it twice is harmless.
    const change = record.members.length === 1 ? turn.work("data", [{ do: "solo", epoch: record.epoch }]) : 0;
    turn.become({ kind: "serving", service: "starting", work, change, why: "" });
    turn.set({ provenUntil: record.confirmed ? 0 : turn.at });
    renewAuthority(turn);
  } else if (!rebooted && record.started && event.following && record.primary === settings.peer) {
    turn.info("Resumes as secondary", "the agent was restarted; the module kept running");
    turn.become({ kind: "following", work: 0, primary: settings.peer });
  } else if (record.started) {
    const why = rebooted ? "started with the node" : "the agent was restarted";
    turn.info("Starts", why);
    begin(turn, why);
  } else if (record.copy !== "none") {
    // A directory that was never started belongs to its owner: it stays writable until then.
    turn.work("data", [{ do: "cover" }]);
  }
}

/** A power cut may have taken what was applied and not synced; and the primary may have gone on alone meanwhile. */
function noteReboot(turn: Turn, bootId: string): void {
  const { record, settings } = turn;
  const crashed = record.running;
  turn.persist({ bootId, intact: record.intact && !crashed, memberAt: crashed ? 0 : record.memberAt });
  if (!crashed) return;
  turn.warn(
    "The node went down without a clean stop",
    `it was ${record.primary === settings.node ? "primary" : "secondary"}`,
  );
  if (record.primary === settings.peer && record.copy === "uptodate") {
    standBack(turn, record.epoch + 1, `restarted; ${settings.peer} may have gone on alone`);
  }
}

function onTick(turn: Turn): void {
  const { phase } = turn;
  switch (phase.kind) {
    case "stopped":
      return;
    case "waiting":
      return consider(turn);
    case "following":
      return followOn(turn);
    case "promoting":
    case "demoting":
      return renewAuthority(turn);
    case "serving":
      return serveOn(turn);
    case "stopping":
      return phase.step === "handover" ? awaitHandover(turn) : undefined;
    default:
      unreachable(phase);
  }
}

/** What an event shows, whatever is decided about it: a peer that was heard was heard. */
export function learn(state: State, event: Event): State {
  if (event.kind === "heard") {
    const echoedAt = Math.max(state.peer.echoedAt, event.echoedAt ?? 0);
    return { ...state, peer: { report: event.report, heardAt: event.at, echoedAt } };
  }
  if (event.kind !== "channel") return state;
  const since = event.channel.connected === state.channel.connected ? state.channel.since : event.at;
  return { ...state, channel: { ...event.channel, since } };
}

function onHeard(turn: Turn, event: Extract<Event, { kind: "heard" }>): void {
  const { report } = event;
  const first = turn.state.peer.report === null;
  turn.set(learn(turn.state, event));
  if (turn.peer === null) return;
  onProposal(turn, report);
  onHandoverTaken(turn, report);
  onPeerRequest(turn, report, first);
  onTick(turn);
}

/** The peer asks for our word that we stand back; given only when it is the one that may lead. */
function onProposal(turn: Turn, peer: Report): void {
  const { record, settings, phase } = turn;
  if (peer.proposal <= record.promised) return;
  if (phase.kind === "serving" || phase.kind === "promoting" || phase.kind === "demoting") return;
  const mine = { node: settings.node, report: reportOf(turn.state) };
  const leads = elect(mine, { node: settings.peer, report: peer }).leader === settings.peer;
  if (!leads && !(peer.primary === settings.peer && record.copy === "none")) return;
  turn.persist({
    promised: peer.proposal,
    ...(record.copy === "uptodate"
      ? { copy: "outdated", copyReason: `stood back for epoch ${peer.proposal} of ${settings.peer}` }
      : {}),
  });
  turn.set({ inStep: false });
  turn.info("Stands back", `${settings.peer} asked, for epoch ${peer.proposal}`);
  turn.send();
}

/** The peer has taken the role we gave away: from here this copy is behind. */
function onHandoverTaken(turn: Turn, peer: Report): void {
  const { record, settings } = turn;
  if (!record.handover || peer.primary !== settings.peer || peer.epoch < record.epoch) return;
  turn.persist({
    handover: false,
    copy: record.copy === "uptodate" ? "outdated" : record.copy,
    copyReason: `${settings.peer} is primary since epoch ${peer.epoch}`,
    promised: Math.max(record.promised, peer.epoch),
  });
}

function onChannel(turn: Turn, event: Extract<Event, { kind: "channel" }>): void {
  const { channel } = event;
  turn.set(learn(turn.state, event));
  noteCopy(turn);
  watchDropped(turn);
  const { phase, record } = turn;
  const lost = channel.alive && channel.role === "idle";
  if (lost && phase.kind === "serving" && phase.change === 0) {
    // A new replicator process that does not know what it is: nothing was decided, so nothing changes.
    const members = record.members.length === 2 ? 2 : 1;
    turn.become({ ...phase, change: turn.work("data", [{ do: "serve", epoch: record.epoch, members }]) });
  } else if (lost && phase.kind === "following" && phase.work === 0) {
    refollow(turn);
  }
  onTick(turn);
}

function onDiverged(turn: Turn, detail: string): void {
  const { phase, settings } = turn;
  if (phase.kind !== "following" && phase.kind !== "waiting") return;
  const why =
    `both copies were written apart (${detail}): \`start --as secondary ${settings.module}\` here gives way to ` +
    `${settings.peer} (what is lost is kept in quarantine), or stop ${settings.peer} and \`force-primary\` here`;
  // The replicator asks again and again; nothing is new until the answer is.
  if (phase.kind === "waiting" && phase.why === why) return;
  turn.alarm("Both copies were written apart", detail);
  wait(turn, "not-ready", why, "person");
}

function onCopyFailed(turn: Turn, reason: string): void {
  if (turn.phase.kind !== "following") return turn.alarm("The replicator reports a failure", reason);
  turn.alarm("Cannot keep its copy", reason);
  standBack(turn, turn.record.epoch + 1, `cannot apply what it receives: ${reason}`);
  turn.persist({ copyReason: `cannot apply what it receives: ${reason}`, memberAt: 0 });
}

/** The mount is gone already; what is left is to leave in order and to find out who leads. */
function onFenced(turn: Turn, reason: string): void {
  const { phase } = turn;
  if (phase.kind === "serving") surrender(turn, "elect", `the keeper stopped the module: ${reason}`);
}

function onDone(turn: Turn, work: number, sequence: bigint | null): void {
  const { phase } = turn;
  switch (phase.kind) {
    case "promoting":
      if (phase.work !== work) return;
      return phase.step === "closing" ? openAsPrimary(turn) : startService(turn);
    case "serving":
      if (phase.change === work) return onPaired(turn, sequence);
      if (phase.work !== work) return;
      turn.become({ ...phase, service: "running", why: "" });
      turn.info(
        phase.service === "restarting" ? "Service restarted" : "Serves",
        "address and service are up",
      );
      return turn.send();
    case "demoting":
      if (phase.work === work) onDemoted(turn);
      return;
    case "stopping":
      if (phase.work === work) onStopped(turn);
      return;
    case "following":
      if (phase.work === work) turn.become({ ...phase, work: 0 });
      return;
    case "waiting":
    case "stopped":
      return;
    default:
      unreachable(phase);
  }
}

function onDemoted(turn: Turn): void {
  const { phase, record, settings } = turn;
  if (phase.kind !== "demoting") return;
  if (phase.step === "service") {
    const drained = turn.state.authorityUntil !== 0;
    const work = turn.work(
      "data",
      drained ? [{ do: "demote" }, { do: "unmount" }, { do: "cover" }] : [{ do: "cover" }],
    );
    return turn.become({ ...phase, step: "data", work });
  }
  turn.withdraw();
  const then = stillThen(turn, phase.then);
  switch (then) {
    case "handover":
    case "handover-stop": {
      const { peer } = settings;
      const epoch = Math.max(record.epoch, record.promised, turn.state.peer.report?.promised ?? 0) + 1;
      turn.persist({
        epoch,
        primary: peer,
        members: [peer],
        handover: true,
        started: then === "handover",
      });
      turn.info("Hands over", `${peer} is to be primary of epoch ${epoch}`);
      turn.send();
      if (then === "handover") return wait(turn, "transient", `hands over to ${peer}`, "none");
      return turn.become({ kind: "stopping", step: "handover", work: 0, since: turn.at });
    }
    case "stop":
      turn.persist({ started: false });
      return retire(turn);
    case "elect":
      wait(turn, "transient", phase.why, "none");
      return consider(turn);
    case "isolated":
      return wait(turn, "not-ready", phase.why, "isolated");
    case "person":
      return wait(turn, "not-ready", phase.why, "person");
    default:
      unreachable(then);
  }
}

/** A peer that has stood back while this node was leaving service cannot take the role: nobody would have it. */
function stillThen(turn: Turn, then: AfterDemotion): AfterDemotion {
  const { report } = turn.state.peer;
  if (!then.startsWith("handover") || report === null || report.copy === "uptodate") return then;
  turn.warn("Does not hand over", `the copy of ${turn.settings.peer} is ${report.copy} by now`);
  return then === "handover" ? "elect" : "stop";
}

function awaitHandover(turn: Turn): void {
  const { phase, record, settings } = turn;
  if (phase.kind !== "stopping") return;
  const late = turn.at - phase.since >= HANDOVER_WAIT_MS;
  if (record.handover && !late) return;
  if (record.handover) turn.warn("Stops without a confirmed hand-over", `${settings.peer} has not answered`);
  retire(turn);
}

/** The last step of a stop: everything on disk, marked clean. */
export function retire(turn: Turn): void {
  const work = turn.work("data", [{ do: "cover" }, { do: "retire" }, { do: "replicator-stop" }]);
  turn.become({ kind: "stopping", step: "data", work, since: turn.at });
  turn.send();
}

function onStopped(turn: Turn): void {
  turn.persist({ running: false, started: turn.state.halting });
  turn.become({ kind: "stopped" });
  turn.info("Is stopped", "cleanly");
  turn.send();
}

function onFailed(turn: Turn, event: Extract<Event, { kind: "failed" }>): void {
  const { phase } = turn;
  const { work, task, reason, code } = event;
  const why = `${task}: ${reason}`;
  switch (phase.kind) {
    case "promoting":
      if (phase.work !== work) return;
      if (phase.step === "closing" && code === INCONSISTENT) return onCopyRefused(turn, reason);
      if (phase.step === "closing" && code === STORE_FULL) return onUnwritten(turn, reason);
      turn.alarm("Cannot become primary", why);
      return demote(turn, "person", `could not become primary: ${why}; put it right, then \`start\` again`);
    case "serving":
      if (phase.change === work) return onChangeFailed(turn, why);
      if (phase.work !== work) return;
      turn.alarm("The service is not up", why);
      turn.become({
        ...phase,
        service: "failed",
        why: `the service is not up (${why}): put it right, then \`restart\``,
      });
      return turn.send();
    case "demoting":
      if (phase.work !== work) return;
      turn.alarm("Could not leave service in order", why);
      return onDemotionFailed(turn, why);
    case "stopping":
      if (phase.work !== work) return;
      turn.alarm("Did not stop in order", why);
      return onStoppedByForce(turn);
    case "following":
      if (phase.work !== work) return;
      turn.become({ ...phase, work: 0 });
      return turn.warn("Cannot follow yet", why);
    case "waiting":
    case "stopped":
      return turn.alarm("Cannot prepare the module", why);
    default:
      unreachable(phase);
  }
}

/** The replicator knows better than our record what the copy is worth: nothing was opened, so the records decide again. */
function onCopyRefused(turn: Turn, reason: string): void {
  turn.alarm("Does not become primary", reason);
  noteInconsistent(turn, reason);
  wait(turn, "transient", reason, "none");
}

/** The membership cannot be written, and by the time it can the reasons for it may be gone: it is decided anew. */
function onUnwritten(turn: Turn, reason: string): void {
  turn.alarm("Does not become primary", reason);
  wait(turn, "transient", reason, "none");
}

/** What was not drained is not handed over: the directory is taken away by force and the records decide. */
function onDemotionFailed(turn: Turn, why: string): void {
  const { phase } = turn;
  if (phase.kind !== "demoting") return;
  if (phase.step === "service") return onDemoted(turn);
  if (phase.then === "person") return wait(turn, "not-ready", `${phase.why}; ${why}`, "person");
  turn.withdraw();
  const then = phase.then === "stop" || phase.then === "handover-stop"
    ? "stop"
    : phase.then === "handover"
    ? "elect"
    : phase.then;
  const work = turn.work("data", [{ do: "unmount" }, { do: "cover" }], true);
  // A second failure ends with a person: a mount that cannot be taken away must not be claimed again.
  turn.become({
    ...phase,
    work,
    then: then === "stop" ? "stop" : then === "elect" ? "elect" : "person",
    why,
  });
}

/** Stopped all the same; `running` stays, so that the next start treats this as a crash. */
function onStoppedByForce(turn: Turn): void {
  turn.persist({ started: false });
  turn.become({ kind: "stopped" });
  turn.send();
}
