/**
 * A node that waits: finds out who leads, or says what it needs.
 *
 * @module
 */

import { type Candidate, elect } from "./election.ts";
import { follow, nextEpoch, promote } from "./transitions.ts";
import { type Turn, wait } from "./turn.ts";
import type { Findings, Hold, Report } from "./types.ts";
import { reportOf } from "./view.ts";

/** Looks again at what a waiting node, or a follower whose primary no longer serves, should do. */
export function consider(turn: Turn): void {
  const { phase, peer } = turn;
  const hold = phase.kind === "waiting" ? phase.hold : "none";
  if (hold === "person") return;
  if (peer !== null) considerTogether(turn, peer, hold);
  else if (phase.kind === "waiting") considerAlone(turn, hold);
}

function considerTogether(turn: Turn, peer: Report, hold: Hold): void {
  const { settings } = turn;
  if (peer.serving) {
    // A primary that is still on its way in, or out, is not ready for a follower.
    if (peer.name === "alone" || peer.name === "primary") follow(turn, peer);
    return;
  }
  const mine: Candidate = { node: settings.node, report: reportOf(turn.state) };
  const election = elect(mine, { node: settings.peer, report: peer });
  if (election.leader === null) {
    turn.set({ proposal: 0 });
    // A divergence stays until a person has chosen: another heartbeat must not undo the verdict.
    wait(turn, "not-ready", election.why, hold);
  } else if (election.leader === settings.peer) {
    turn.set({ proposal: 0 });
    wait(turn, "transient", `${settings.peer} is to be primary: ${election.why}`, hold);
  } else {
    leadWithPromise(turn, peer, election.why, hold);
  }
}

/** Leads once the other has written down that it will not (I1: a membership changes by both nodes' word). */
function leadWithPromise(turn: Turn, peer: Report, why: string, hold: Hold): void {
  const { record, settings } = turn;
  const alone = record.primary === settings.node && !record.members.includes(settings.peer);
  const handed = peer.handover && peer.primary === settings.node;
  const epoch = Math.max(nextEpoch(turn), turn.state.proposal);
  if (handed && peer.epoch > record.promised) {
    promote(turn, { epoch: peer.epoch, confirmed: true, why });
  } else if (alone || (turn.state.proposal > 0 && peer.promised >= turn.state.proposal)) {
    promote(turn, { epoch: Math.max(epoch, turn.state.proposal), confirmed: true, why });
  } else if (turn.state.proposal === 0) {
    turn.set({ proposal: epoch });
    wait(turn, "transient", `asks ${settings.peer} to stand back: ${why}`, hold);
    turn.send();
  }
}

/** Without contact only a node that nobody can have overtaken starts by itself. */
function considerAlone(turn: Turn, hold: Hold): void {
  const { phase, record, settings } = turn;
  if (phase.kind !== "waiting") return;
  if (turn.at - phase.since < settings.timings.deadMs) return;
  turn.set({ proposal: 0 });
  const reason = reasonToWait(turn);
  if (hold === "secondary") {
    wait(turn, "not-ready", `was started as secondary and ${settings.peer} does not answer`, hold);
  } else if (reason !== null) {
    wait(turn, "not-ready", reason, hold);
  } else if (record.confirmed || settings.arbiter.kind === "none") {
    promote(turn, {
      epoch: nextEpoch(turn),
      confirmed: record.confirmed,
      why: `${settings.peer} does not answer, and this node is the only member`,
    });
  } else {
    askBeforeResuming(turn);
  }
}

/** Null when this copy is the only one that may serve. */
function reasonToWait(turn: Turn): string | null {
  const { record, settings } = turn;
  const { peer, module } = settings;
  const force = `if ${peer} is lost for good: \`force-primary ${module}\``;
  if (record.copy === "none") {
    return `no node has been primary yet and ${peer} does not answer: say \`start --as primary ${module}\` on the node that holds the data`;
  }
  if (record.copy !== "uptodate") {
    return `the copy is ${record.copy} (${record.copyReason}): waits for ${peer}; ${force}, which loses what is missing here`;
  }
  if (record.handover) {
    return `the role was handed to ${peer}, which does not answer; ${force}`;
  }
  if (record.primary !== settings.node || record.members.includes(peer)) {
    return `${peer} may hold later writes and does not answer: waits for it; ${force}`;
  }
  return null;
}

/** The peer was left out because it was silent, not because it agreed: the witness must see us, and no rival. */
function askBeforeResuming(turn: Turn): void {
  const { settings, state } = turn;
  if (state.silence !== null && state.silence.round !== 0) return;
  const round = turn.probe({ witness: true, peer: false, vip: settings.vips }, settings.timings.witnessMs);
  turn.set({ silence: { since: turn.at, round, judged: false } });
}

/** The answer to the question of a lone node that wants to resume. */
export function onProbedWaiting(turn: Turn, round: number, findings: Findings): void {
  const { state, settings, phase } = turn;
  if (phase.kind !== "waiting" || state.silence?.round !== round) return;
  turn.set({ silence: null });
  if (turn.peer !== null) return;
  if (findings.witness !== true) {
    wait(
      turn,
      "not-ready",
      `the witness does not answer (${findings.words}): this node may be isolated`,
      phase.hold,
    );
  } else if (settings.vips && findings.vip === true) {
    wait(turn, "not-ready", `somebody answers for the virtual IP (${findings.words})`, phase.hold);
  } else {
    promote(turn, {
      epoch: nextEpoch(turn),
      confirmed: false,
      why: `${settings.peer} does not answer, this node was alone when it last ran, and the witness sees it`,
    });
  }
}
