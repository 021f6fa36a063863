/**
 * The moves from one phase to the next, used by every part of the core.
 *
 * @module
 */

import { promoteAfterMs } from "./arbiter.ts";
import { afterDrop, dropsInWords, FORGIVEN, pauseMs, spanInWords } from "./readmission.ts";
import { NEVER, type Turn, wait } from "./turn.ts";
import type { AfterDemotion, Report } from "./types.ts";

/** Number of extra seconds a silence must be over before a lone primary stops asking its witness. */
const DECISION_MARGIN_MS = 1000;

/** Begins to serve: old epochs are refused first (I2), then the membership is written, then the mount appears. */
export function promote(
  turn: Turn,
  options: {
    readonly epoch: number;
    readonly confirmed: boolean;
    readonly took?: boolean;
    /** A person's word: also a copy that is part of a resync. */
    readonly force?: boolean;
    readonly why: string;
  },
): void {
  const { epoch, confirmed, took = false, force = false } = options;
  turn.info(`Becomes primary of epoch ${epoch}`, options.why);
  const work = turn.work("data", [{ do: "replicator-start" }, { do: "close", epoch, force }]);
  turn.become({ kind: "promoting", step: "closing", work, epoch, confirmed, took });
  turn.set({ silence: null, inStep: false, proposal: 0, overwrite: false });
  turn.send();
}

/** The replicator has refused the old epochs: writes the membership and opens the directory. */
export function openAsPrimary(turn: Turn): void {
  const { phase, settings } = turn;
  if (phase.kind !== "promoting") return;
  turn.persist({
    epoch: phase.epoch,
    primary: settings.node,
    members: [settings.node],
    copy: "uptodate",
    copyReason: "",
    running: true,
    intact: true,
    handover: false,
    confirmed: phase.confirmed,
    took: phase.took,
    memberAt: phase.epoch,
    started: true,
  });
  turn.extend(turn.at + settings.timings.leaseMs);
  turn.set({
    pairedAt: NEVER,
    readmission: FORGIVEN,
    provenUntil: phase.confirmed ? 0 : turn.at + promoteAfterMs(settings.timings) + DECISION_MARGIN_MS,
    witnessAt: turn.at,
  });
  const work = turn.work("data", [{ do: "mount" }, { do: "serve", epoch: phase.epoch, members: 1 }]);
  turn.become({ ...phase, step: "opening", work });
  turn.send();
}

/** The directory is open: address and service follow. */
export function startService(turn: Turn): void {
  const work = turn.work("service", [{ do: "vip-add" }, { do: "service-start" }]);
  turn.become({ kind: "serving", service: "starting", work, change: 0, why: "" });
  turn.send();
}

/** Leaves service in order: address, service, drain, mount. */
export function demote(turn: Turn, then: AfterDemotion, why: string): void {
  const work = turn.work("service", [{ do: "vip-remove" }, { do: "service-stop" }], true);
  turn.become({ kind: "demoting", step: "service", work, then, why });
  turn.set({ proposal: 0, silence: null });
  turn.send();
}

/** Leaves service at once: nothing is acknowledged from here, whatever hangs. */
export function surrender(turn: Turn, then: AfterDemotion, why: string): void {
  turn.alarm("Stops serving at once", why);
  turn.withdraw();
  // Requests that wait on the mount are answered EIO first: a task that waits there cannot be killed.
  turn.work("data", [{ do: "unmount" }], true);
  demote(turn, then, why);
}

/** The peer is no longer a member (I4, I5): written, then what waited for it is answered. */
export function goSolo(
  turn: Turn,
  options: { readonly epoch: number; readonly confirmed: boolean; readonly why: string },
): void {
  const { phase, settings } = turn;
  if (phase.kind !== "serving") return;
  const { epoch, confirmed, why } = options;
  // A peer that leaves by a person's word has not failed.
  const failed = turn.record.members.length === 2 && turn.peer?.started !== false;
  if (failed) turn.set({ readmission: afterDrop(turn.state.readmission, turn.at) });
  turn.persist({ epoch, members: [settings.node], confirmed, memberAt: epoch });
  turn.extend(turn.at + settings.timings.leaseMs);
  turn.set({
    proposal: 0,
    silence: null,
    pairedAt: NEVER,
    provenUntil: confirmed ? 0 : turn.at + promoteAfterMs(settings.timings) + DECISION_MARGIN_MS,
    witnessAt: turn.at,
  });
  const change = turn.work("data", [{ do: "solo", epoch }]);
  turn.become({ ...phase, change });
  turn.warn(`Goes on alone as epoch ${epoch}`, `${why}${failed ? conditions(turn) : ""}`);
  turn.send();
}

/** What a peer that keeps failing must do to come back. */
function conditions(turn: Turn): string {
  const { readmission } = turn.state;
  const pause = pauseMs(readmission, turn.at);
  if (pause === 0) return "";
  return `; ${dropsInWords(readmission, turn.at)}, so it must hold up for ${
    spanInWords(pause)
  } before it is taken in`;
}

/** Becomes, or stays, the secondary of a serving peer. */
export function follow(turn: Turn, peer: Report): void {
  const { settings, record } = turn;
  // A membership that counts on this copy must learn that it cannot: the promise reaches above it.
  const promised = peer.members.includes(settings.node) ? peer.epoch + 1 : peer.epoch;
  const behind = record.copy === "none" || record.copy === "inconsistent";
  turn.persist({
    epoch: Math.max(record.epoch, peer.epoch),
    primary: settings.peer,
    members: peer.members.filter((member) => member !== settings.node),
    promised: Math.max(record.promised, promised),
    copy: behind ? "inconsistent" : "outdated",
    copyReason: behind ? `first copy from ${settings.peer}` : `catching up with ${settings.peer}`,
    running: true,
    handover: false,
    confirmed: false,
    took: false,
    memberAt: 0,
  });
  const overwrite = turn.state.overwrite;
  const work = turn.work("data", [
    { do: "replicator-start" },
    { do: "cover" },
    { do: "follow", epoch: peer.epoch, primary: settings.peer, overwrite },
  ]);
  turn.become({ kind: "following", work, primary: settings.peer });
  turn.set({ inStep: false, silence: null, proposal: 0 });
  turn.info("Follows", `${settings.peer} serves as epoch ${peer.epoch}`);
  turn.send();
}

/** Writes down that this copy is no longer what a primary may count on (the only way back is a resync, or a person). */
export function standBack(turn: Turn, epoch: number, why: string): void {
  const { record } = turn;
  turn.set({ inStep: false });
  if (record.promised >= epoch && record.copy !== "uptodate") return;
  const outdated = record.copy === "uptodate";
  turn.persist({
    promised: Math.max(record.promised, epoch),
    ...(outdated ? { copy: "outdated", copyReason: why } : {}),
  });
  if (outdated) turn.warn("Marks its copy outdated", why);
  turn.send();
}

/** Prepares a started module: covered directory, replicator, no leftover service or address. */
export function begin(turn: Turn, why: string): void {
  turn.work("service", [{ do: "vip-remove" }, { do: "service-stop" }]);
  turn.work("data", [{ do: "replicator-start" }, { do: "cover" }]);
  wait(turn, "transient", why, "none");
}

/** An epoch above all this node has heard of or promised. */
export function nextEpoch(turn: Turn): number {
  const peer = turn.state.peer.report;
  return Math.max(turn.record.epoch, turn.record.promised, peer?.epoch ?? 0, peer?.promised ?? 0) + 1;
}
