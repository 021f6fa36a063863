/**
 * A node that serves: keeps its authority, parts from a peer that is gone, pairs with one that has caught up.
 *
 * @module
 */

import { judgeSilence } from "./arbiter.ts";
import { settleConflict } from "./election.ts";
import { FORGIVEN, mayReturn, observe } from "./readmission.ts";
import { demote, goSolo, nextEpoch, surrender } from "./transitions.ts";
import { NEVER, type Turn } from "./turn.ts";
import type { Findings, Report } from "./types.ts";
import { reportOf } from "./view.ts";

/** A peer that takes longer than this share of what would drop it does not hold up. */
const STEADY_SHARE = 1 / 3;
/** Between two tries to tell the replicator that it is alone. */
const AGAIN_MS = 100;

/** A tick, a heartbeat or news of the channel, while serving. */
export function serveOn(turn: Turn): void {
  const { peer, record } = turn;
  if (peer !== null) clearSilence(turn);
  if (peer !== null && rival(turn, peer)) return resolveRivals(turn, peer);
  if (record.members.length === 2) watchMember(turn, peer);
  else if (peer !== null) welcome(turn, peer);
  goOnAgain(turn);
  watchWitness(turn);
  renewAuthority(turn);
}

/** What the replicator did not learn it is told again. */
function goOnAgain(turn: Turn): void {
  const { phase, record } = turn;
  if (phase.kind !== "serving" || phase.change !== 0 || phase.againAt === undefined) return;
  if (turn.at < phase.againAt || record.members.length !== 1) return;
  turn.become({ ...phase, change: turn.work("data", [{ do: "solo", epoch: record.epoch }]) });
}

function clearSilence(turn: Turn): void {
  if (turn.state.silence === null) return;
  turn.set({ silence: null });
  turn.info("Hears its peer again", `${turn.settings.peer} answers`);
}

/** Authority ends on its own: a node that hangs, or hears nothing, has stopped serving when its peer takes over. */
export function renewAuthority(turn: Turn): void {
  const { phase, record, settings, state } = turn;
  if (phase.kind !== "serving" && phase.kind !== "promoting" && phase.kind !== "demoting") return;
  if (phase.kind === "promoting" && phase.step === "closing") return;
  const { leaseMs, witnessMs } = settings.timings;
  // Withdrawn on purpose: a demotion that began by a surrender never gets it back.
  if (phase.kind === "demoting" && state.authorityUntil === 0) return;
  if (settings.arbiter.kind === "none" || record.members.length === 1) {
    const proven = settings.arbiter.kind === "none" || turn.at >= state.provenUntil || turn.peer !== null;
    turn.extend(proven ? turn.at + leaseMs : state.witnessAt + witnessMs + leaseMs);
    return;
  }
  // Before the first heartbeat of this agent's life nothing has been echoed: the authority in the file must do.
  if (state.peer.report !== null) turn.extend(Math.max(state.peer.echoedAt, state.witnessAt) + leaseMs);
}

function watchMember(turn: Turn, peer: Report | null): void {
  const { phase, record, settings, state } = turn;
  if (phase.kind !== "serving") return;
  // A promise as high as the membership: it was given while we wrote that down, and the peer will never take it up.
  if (peer !== null && peer.promised >= record.epoch) {
    return goSolo(turn, {
      epoch: Math.max(record.epoch + 1, state.proposal),
      confirmed: true,
      why: `${settings.peer} says that its copy is no longer uptodate`,
    });
  }
  if (peer !== null && repair(turn, peer)) return;
  if (peer !== null) return watchChannel(turn, peer);
  if (turn.silentMs < settings.timings.deadMs) return;
  // Without an arbiter there is nobody to ask and no authority to keep alive meanwhile.
  if (settings.arbiter.kind !== "none" || partsNow(turn)) judgeSilentMember(turn);
}

/** Heartbeats may pause while an agent restarts: as long as the peer's copy takes the writes nothing needs to change. */
function partsNow(turn: Turn): boolean {
  const { deadMs, peerMs } = turn.settings.timings;
  return turn.silentMs >= (turn.channel.connected ? Math.max(peerMs, deadMs) : deadMs);
}

/** The agent stopped between writing the membership and telling the peer where it begins: pairing again is harmless. */
function repair(turn: Turn, peer: Report): boolean {
  const { phase, state, channel, record } = turn;
  if (phase.kind !== "serving" || phase.change !== 0 || state.pairedAt !== NEVER) return false;
  if (peer.name !== "secondary" || peer.copy === "uptodate" || !channel.connected || !channel.caughtUp) {
    return false;
  }
  turn.become({ ...phase, change: turn.work("data", [{ do: "pair", epoch: record.epoch }]) });
  return true;
}

/** Channel gone, heartbeats alive: the peer must first write down that it is outdated, or it could take over later. */
function watchChannel(turn: Turn, peer: Report): void {
  const { channel, record, settings, state, phase } = turn;
  if (phase.kind !== "serving") return;
  const asked = state.proposal > record.epoch;
  if (asked && peer.promised >= state.proposal) {
    return goSolo(turn, { epoch: state.proposal, confirmed: true, why: `${settings.peer} stands back` });
  }
  if (asked && channel.connected && peer.promised < state.proposal && phase.change === 0) {
    // It came back in time; a promise that arrives later still parts us, which is safe.
    return turn.set({ proposal: 0 });
  }
  // Applications have waited for the whole bound already when it was the peer that did not answer.
  const overdue = !channel.connected && (channel.late || turn.at - channel.since >= settings.timings.peerMs);
  if (!asked && overdue) {
    turn.set({ proposal: nextEpoch(turn) });
    const why = channel.late ? "answers too late" : "is gone for too long";
    turn.warn("Asks its peer to stand back", `the replication channel to ${settings.peer} ${why}`);
    turn.send();
  }
}

function judgeSilentMember(turn: Turn): void {
  const { settings, state, phase } = turn;
  if (phase.kind !== "serving") return;
  const { arbiter, timings, peer } = settings;
  if (arbiter.kind === "none") {
    return goSolo(turn, { epoch: nextEpoch(turn), confirmed: false, why: `${peer} is silent` });
  }
  const silence = state.silence ?? { since: turn.at, round: 0, judged: false };
  if (state.silence === null) {
    turn.warn("Its peer is silent", `asks the witness whether ${settings.node} is isolated`);
  }
  const fresh = turn.at - state.witnessAt < tryMs(timings.witnessMs);
  if (silence.round !== 0 || (fresh && !partsNow(turn))) return turn.set({ silence });
  const round = turn.probe({ witness: true, peer: false, vip: settings.vips }, tryMs(timings.witnessMs));
  turn.set({ silence: { ...silence, round } });
}

/** Three tries fit in the time the witness may need. */
function tryMs(witnessMs: number): number {
  return Math.max(100, Math.floor(witnessMs / 3));
}

/** The witness answered, or did not, a node that serves. */
export function onProbedServing(turn: Turn, round: number, findings: Findings): void {
  const { state, settings, phase, record } = turn;
  if (phase.kind !== "serving" || state.silence?.round !== round) return;
  const { since } = state.silence;
  turn.set({
    silence: { ...state.silence, round: 0 },
    witnessAt: findings.witness === true ? turn.at : state.witnessAt,
  });
  if (turn.peer !== null) return turn.set({ silence: null });
  const overdue = turn.at - since >= settings.timings.witnessMs;
  // Once alone, a rival's address says only that both took over: the first heartbeat settles who stays.
  const vips = settings.vips && record.members.length === 2;
  const verdict = judgeSilence({ arbiter: settings.arbiter, findings, vips, overdue });
  if (record.members.length === 2 && verdict !== "solo" && !partsNow(turn)) {
    // The channel to the peer stands: this node is not isolated, whatever the witness says.
    serveOn(turn);
  } else if (verdict === "isolated") {
    surrender(turn, "isolated", `${settings.peer} is silent and this node is isolated: ${findings.words}`);
  } else if (verdict === "ask") {
    serveOn(turn);
  } else if (record.members.length === 2 && !partsNow(turn)) {
    renewAuthority(turn);
  } else if (record.members.length === 2) {
    const why = `${settings.peer} is silent and the witness answers`;
    goSolo(turn, { epoch: nextEpoch(turn), confirmed: false, why });
  } else {
    turn.set({ silence: null });
    renewAuthority(turn);
  }
}

/** Alone because of a silence: until the peer has decided, an isolated node must notice that it is one. */
function watchWitness(turn: Turn): void {
  const { settings, state, record, phase } = turn;
  if (phase.kind !== "serving" || settings.arbiter.kind !== "ping") return;
  if (record.members.length === 2 || turn.peer !== null || turn.at >= state.provenUntil) return;
  if (state.silence !== null && state.silence.round !== 0) return;
  const third = tryMs(settings.timings.witnessMs);
  if (state.silence === null && turn.at - state.witnessAt < third) return;
  const round = turn.probe({ witness: true, peer: false, vip: settings.vips }, third);
  turn.set({ silence: { since: state.silence?.since ?? turn.at, round, judged: false } });
}

/** A peer that is no member shows whether it would hold up as one. */
export function watchDropped(turn: Turn): void {
  const { phase, record, channel, settings, state } = turn;
  if (phase.kind !== "serving" || record.members.length === 2) return;
  turn.set({
    readmission: observe(state.readmission, {
      at: turn.at,
      live: channel.connected && channel.caughtUp,
      sequence: channel.sequence,
      acknowledged: channel.acknowledged,
      boundMs: Math.floor(settings.timings.peerMs * STEADY_SHARE),
    }),
  });
}

/** The peer has caught up: it is waited for from here, and told only after (I5). */
function welcome(turn: Turn, peer: Report): void {
  const { phase, record, settings, channel } = turn;
  // Stopping and starting it again is a person's way to have it back at once.
  // It was stopped by a person, or its server has started again: no link that flaps.
  if (peer.name === "stopped" || peer.name === "waiting") turn.set({ readmission: FORGIVEN });
  if (phase.kind !== "serving" || phase.change !== 0) return;
  const follows = peer.name === "secondary" && peer.epoch === record.epoch && peer.primary === settings.node;
  if (!follows || !channel.connected || !channel.caughtUp) return;
  if (!mayReturn(turn.state.readmission, turn.at)) return;
  const epoch = nextEpoch(turn);
  turn.persist({ epoch, members: [settings.node, settings.peer], confirmed: false, memberAt: epoch });
  turn.set({ pairedAt: NEVER, proposal: 0 });
  turn.become({ ...phase, change: turn.work("data", [{ do: "pair", epoch }]) });
}

/** The replicator waits for the peer from `sequence` on. */
export function onPaired(turn: Turn, sequence: bigint | null): void {
  const { phase, record, settings, channel } = turn;
  if (phase.kind !== "serving") return;
  const { againAt: _, ...settled } = phase;
  turn.become({ ...settled, change: 0 });
  if (record.members.length === 1) return;
  turn.set({ pairedAt: sequence ?? channel.sequence });
  turn.info(`Is paired as epoch ${record.epoch}`, `${settings.peer} has caught up`);
  turn.send();
}

/** Pairing failed: the peer is asked to stand back before anything is acknowledged without it. */
export function onChangeFailed(turn: Turn, reason: string): void {
  const { phase, record, settings } = turn;
  if (phase.kind !== "serving") return;
  turn.become({ ...phase, change: 0 });
  if (record.members.length === 1) {
    // Alone on disk but the replicator did not learn it: repeating is safe. One that is being started needs a moment.
    turn.become({ ...phase, change: 0, againAt: turn.at + AGAIN_MS });
    if (phase.againAt === undefined) turn.alarm("Could not go on alone; tries again", reason);
    return;
  }
  turn.warn(`Could not pair with ${settings.peer}`, reason);
  turn.set({ proposal: nextEpoch(turn), pairedAt: NEVER });
  turn.send();
}

function rival(turn: Turn, peer: Report): boolean {
  return peer.serving && peer.primary === turn.settings.peer;
}

/** Both serve: contact came back after each took the other for dead. One stops, nothing is discarded. */
function resolveRivals(turn: Turn, peer: Report): void {
  const { settings, record, phase } = turn;
  if (phase.kind !== "serving") return;
  const mine = { node: settings.node, report: reportOf(turn.state) };
  const outcome = settleConflict(mine, { node: settings.peer, report: peer });
  const winner = outcome.leader ?? keeper(turn, peer);
  if (winner !== settings.node) {
    const then = outcome.leader === null ? "person" : "elect";
    return demote(turn, then, `${settings.peer} serves too: ${outcome.why}`);
  }
  if (peer.epoch >= record.epoch) {
    // The one that stays must be above what the other one's replicator has accepted, or it could not follow.
    const epoch = peer.epoch + 1;
    turn.persist({ epoch, members: [settings.node], memberAt: epoch });
    turn.become({ ...phase, change: turn.work("data", [{ do: "solo", epoch }]) });
    turn.alarm("Both nodes serve", `stays primary as epoch ${epoch}: ${outcome.why}`);
    turn.send();
  }
  renewAuthority(turn);
}

/** Both were written: the one that was primary before stays. Both nodes answer alike, also after one raised its epoch. */
function keeper(turn: Turn, peer: Report): string {
  const { settings, record } = turn;
  if (record.took !== peer.took) return record.took ? settings.peer : settings.node;
  if (record.epoch !== peer.epoch) return record.epoch > peer.epoch ? settings.node : settings.peer;
  return settings.node < settings.peer ? settings.node : settings.peer;
}
