/**
 * What the replicator says of the copy, and the record that follows it.
 *
 * A comparison may begin, and be cut short, while no agent looks: a record that still says uptodate, or names an epoch
 * at which the copy had everything, would let a state that never was be elected.
 *
 * @module
 */

import type { Turn } from "./turn.ts";

/** News of the replicator: the record must not claim more of the copy than the replicator does. */
export function noteCopy(turn: Turn): void {
  const { record, channel, phase } = turn;
  if (!channel.alive || channel.role === "primary") return;
  // Once it leads, the word of the one who let it (`close`, or a person) counts.
  if (phase.kind === "promoting" || phase.kind === "serving" || phase.kind === "demoting") return;
  if (channel.copy === "inconsistent") {
    return noteInconsistent(turn, channel.resync ?? "its resync is not finished");
  }
  if (channel.copy !== "uptodate" || record.copy !== "inconsistent" || phase.kind !== "following") return;
  // Whole again, and no member yet: a state that was, which a person may choose to serve knowing its date.
  turn.persist({ copy: "outdated", copyReason: `catching up with ${turn.settings.peer}` });
}

/** Part of a resync, durably: only the end of it, or a person, makes more of this copy. */
export function noteInconsistent(turn: Turn, why: string): void {
  const { record, settings } = turn;
  if (record.copy !== "outdated" && record.copy !== "uptodate") return;
  const counted = record.copy === "uptodate";
  turn.persist({
    copy: "inconsistent",
    copyReason: `resync from ${settings.peer} under way`,
    // A membership that counts on this copy, or hands the role to it, learns by the promise that it cannot.
    promised: Math.max(record.promised, record.epoch + (counted ? 1 : 0)),
    memberAt: 0,
  });
  turn.set({ inStep: false });
  if (counted) turn.warn("Its copy is part of a resync", why);
  turn.send();
}
