/**
 * A node that follows: becomes a member when the primary says so, judges a silence once, never twice.
 *
 * @module
 */

import { judgeTakeover, promoteAfterMs } from "./arbiter.ts";
import { promote, standBack } from "./transitions.ts";
import type { Turn } from "./turn.ts";
import type { Findings, Report } from "./types.ts";
import { consider } from "./waiting.ts";

/** How long the last questions before a takeover may take: nothing on a local network needs more. */
const PROBE_MS = 300;

/** A tick, a heartbeat or news of the channel, while following. */
export function followOn(turn: Turn): void {
  const { peer } = turn;
  // Just after the agent's start nothing was heard yet: that is no silence before it has lasted as long as one.
  if (peer === null) return turn.silentMs < turn.settings.timings.deadMs ? undefined : watchSilence(turn);
  clearSilence(turn);
  if (handedOver(turn, peer)) {
    return promote(turn, { epoch: peer.epoch, confirmed: true, why: `${turn.settings.peer} handed over` });
  }
  if (!peer.serving) return onPrimaryGone(turn, peer);
  if (peer.primary !== turn.settings.peer) return;
  if (peer.epoch > turn.record.epoch) onNewEpoch(turn, peer);
  adopt(turn, peer);
  watchChannel(turn, peer);
}

function clearSilence(turn: Turn): void {
  const { silence } = turn.state;
  if (silence === null) return;
  turn.set({ silence: null });
  turn.info("Hears its primary again", `${turn.settings.peer} answers`);
}

function handedOver(turn: Turn, peer: Report): boolean {
  const { record, settings } = turn;
  return peer.handover && peer.primary === settings.node && peer.epoch > record.epoch &&
    peer.epoch > record.promised && record.copy === "uptodate";
}

/** The primary is there and does not serve: it rebooted, stopped or lost its authority. The records decide. */
function onPrimaryGone(turn: Turn, peer: Report): void {
  if (peer.name === "waiting" || peer.name === "stopped") consider(turn);
}

/** The membership changed without us: what we hold is a past state until {@link adopt} has checked that it is not. */
function onNewEpoch(turn: Turn, peer: Report): void {
  const { record, settings } = turn;
  const dropped = record.copy === "uptodate";
  turn.persist({
    epoch: peer.epoch,
    primary: settings.peer,
    members: [settings.peer],
    ...(dropped
      ? { copy: "outdated", copyReason: `${settings.peer} goes on alone since epoch ${peer.epoch}` }
      : {}),
  });
  if (dropped) {
    turn.set({ inStep: false });
    turn.warn("Marks its copy outdated", `${settings.peer} goes on alone since epoch ${peer.epoch}`);
  }
  turn.send();
}

/** Becomes a member: only at an epoch above every promise, with everything applied that was answered without us. */
function adopt(turn: Turn, peer: Report): void {
  const { record, settings, channel } = turn;
  const named = peer.members.includes(settings.node) && peer.epoch > record.promised;
  const current = channel.connected && channel.role === "secondary" && channel.caughtUp;
  const applied = current && channel.copy !== "inconsistent" && channel.sequence >= peer.pairedAt;
  if (record.copy === "uptodate" || !named || !applied) return;
  turn.persist({
    epoch: peer.epoch,
    members: peer.members,
    copy: "uptodate",
    copyReason: "",
    intact: true,
    memberAt: peer.epoch,
  });
  turn.set({ overwrite: false });
  turn.info("Is uptodate", `member of epoch ${peer.epoch}`);
  turn.send();
}

/** Channel gone while heartbeats live: the primary may go on without us at any moment. */
function watchChannel(turn: Turn, peer: Report): void {
  const { channel, record, settings } = turn;
  const gone = !channel.connected && turn.at - channel.since >= settings.timings.peerMs;
  if (gone && record.copy === "uptodate") {
    standBack(turn, record.epoch + 1, `the replication channel to ${settings.peer} is gone while it lives`);
  }
  const member = record.copy === "uptodate" && record.members.includes(settings.node);
  turn.set({ inStep: member && peer.epoch === record.epoch && !gone });
}

function watchSilence(turn: Turn): void {
  const { state, settings, record } = turn;
  const { timings } = settings;
  if (state.silence === null) {
    turn.set({ silence: { since: turn.at - turn.silentMs, round: 0, judged: false } });
    turn.warn("Its primary is silent", `${settings.peer} was heard ${turn.silentMs} ms ago`);
    return;
  }
  const { silence } = state;
  if (silence.judged || silence.round !== 0) return;
  if (record.copy !== "uptodate") {
    turn.set({ silence: { ...silence, judged: true } });
    return turn.alarm(
      "Does not take over",
      `this copy is ${record.copy}: ${record.copyReason}; waits for ${settings.peer}`,
    );
  }
  if (turn.silentMs < promoteAfterMs(timings) - PROBE_MS) return;
  const ask = settings.arbiter.kind === "none" ? { witness: false, peer: false, vip: false } : {
    witness: true,
    peer: true,
    vip: settings.vips,
  };
  turn.set({ silence: { ...silence, round: turn.probe(ask, PROBE_MS) } });
}

/** T_promote has passed: all conditions hold at this instant, or this copy is outdated until a resync. */
export function onProbedFollowing(turn: Turn, round: number, findings: Findings): void {
  const { state, settings, record } = turn;
  if (state.silence?.round !== round || turn.peer !== null) return;
  turn.set({ silence: { ...state.silence, judged: true } });
  const verdict = judgeTakeover({
    arbiter: settings.arbiter,
    automatic: settings.automatic,
    maintenance: record.maintenance,
    inStep: state.inStep,
    vips: settings.vips,
    findings,
  });
  if (verdict.promote) {
    return promote(turn, {
      epoch: record.epoch + 1,
      confirmed: false,
      took: true,
      why: `${settings.peer} is silent on every path (${findings.words}) and this copy is in step`,
    });
  }
  const reasons = verdict.reasons.join("; ");
  turn.alarm("Does not take over", `${reasons} (${findings.words})`);
  standBack(turn, record.epoch + 1, `${settings.peer} fell silent and may have gone on alone: ${reasons}`);
}

/**
 * The replicator lost its place (a new process, a refusal): it is told again what we are. No record changes for that. What was
 * open beneath the directory when it was to be covered may be closed by now.
 */
export function refollow(turn: Turn): void {
  const { phase, record, settings, state } = turn;
  if (phase.kind !== "following") return;
  const task = {
    do: "follow",
    epoch: record.epoch,
    primary: settings.peer,
    overwrite: state.overwrite,
  } as const;
  turn.become({ ...phase, work: turn.work("data", [{ do: "cover" }, task]) });
}
