/**
 * Who leads when both nodes are in contact and none serves: a function both nodes compute alike from the two records.
 *
 * @module
 */

import type { Report } from "./types.ts";

/** What the election needs to know of one node. */
export interface Candidate {
  readonly node: string;
  readonly report: Pick<
    Report,
    | "epoch"
    | "primary"
    | "members"
    | "promised"
    | "copy"
    | "intact"
    | "handover"
    | "memberAt"
    | "started"
    | "serving"
    | "history"
  >;
}

/** The node that leads, or why nobody may. */
export type Election =
  | { readonly leader: string; readonly why: string }
  | { readonly leader: null; readonly why: string; readonly diverged: boolean };

/** Elects. `elect(a, b)` and `elect(b, a)` name the same node. */
export function elect(a: Candidate, b: Candidate): Election {
  for (const one of [a, b]) {
    if (one.report.serving) return { leader: one.node, why: `${one.node} serves` };
  }
  if (a.report.copy === "none" && b.report.copy === "none") {
    return nobody(
      "neither node has been primary yet: say `start --as primary` on the node that holds the data",
    );
  }
  if (conflicting(a, b)) return settleConflict(a, b);
  const newest = later(a, b);
  return leaderOf(newest, newest === a ? b : a);
}

/** The higher epoch is the later membership. On equal epochs its primary wrote it, the other only heard of it. */
function later(a: Candidate, b: Candidate): Candidate {
  if (a.report.epoch !== b.report.epoch) return a.report.epoch > b.report.epoch ? a : b;
  const authors = [a, b].filter((one) => one.report.primary === one.node);
  const [only] = authors;
  if (only !== undefined && authors.length === 1) return only;
  return a.node < b.node ? a : b;
}

/** Both name themselves, and the older membership had already left the other out: neither follows from the other. */
function conflicting(a: Candidate, b: Candidate): boolean {
  if (a.report.primary !== a.node || b.report.primary !== b.node) return false;
  const [older, newer] = a.report.epoch <= b.report.epoch ? [a, b] : [b, a];
  return !older.report.members.includes(newer.node);
}

/** A side that wrote nothing of its own yields; two that did are for a person. */
export function settleConflict(a: Candidate, b: Candidate): Election {
  const [first, second] = a.node < b.node ? [a, b] : [b, a];
  const firstWrote = wroteApart(first, second);
  const secondWrote = wroteApart(second, first);
  if (firstWrote && secondWrote) {
    return {
      leader: null,
      diverged: true,
      why: `${a.node} and ${b.node} were both written apart from each other: choose the copy to keep, ` +
        "`force-primary` there, `start --as secondary` on the other (what it loses is kept in quarantine)",
    };
  }
  return secondWrote
    ? { leader: second.node, why: `${first.node} wrote nothing of its own` }
    : { leader: first.node, why: `${second.node} wrote nothing of its own` };
}

/** Has a newest generation the other one does not know. */
function wroteApart(one: Candidate, other: Candidate): boolean {
  const [newest] = one.report.history;
  return newest !== undefined && !other.report.history.includes(newest);
}

function leaderOf(newest: Candidate, other: Candidate): Election {
  const membership = newest.report;
  const primary = [newest, other].find((one) => one.node === membership.primary);
  const secondary = [newest, other].find((one) => one.node !== membership.primary);
  if (primary === undefined || secondary === undefined) {
    return nobody(`the membership names ${String(membership.primary)}, which is none of the two nodes`);
  }
  if (membership.handover && newest.node !== membership.primary && other.report.epoch < membership.epoch) {
    return handedOver(newest, other);
  }
  const primaryUsable = usable(primary);
  if (primaryUsable && primary.report.intact) return lead(primary, "it was the last primary");
  // After a power cut a disk may lack what was applied and not synced; a member that stayed up has it.
  if (hasEverything(secondary, membership)) {
    return lead(
      secondary,
      `it has everything and ${primary.node} ${primary.report.started ? "lost power" : "is stopped"}`,
    );
  }
  if (primaryUsable) return lead(primary, "it was the last primary");
  return nobody(reasonAgainst(primary));
}

/** The old primary gave the role away: the receiver leads, unless it has promised to stand back before it learned so. */
function handedOver(giver: Candidate, receiver: Candidate): Election {
  const able = usable(receiver) && receiver.report.copy === "uptodate";
  if (able && receiver.report.promised < giver.report.epoch) {
    return lead(receiver, `${giver.node} handed over`);
  }
  if (receiver.report.promised >= giver.report.epoch && giver.report.started) {
    return lead(giver, `${receiver.node} could not take over`);
  }
  return nobody(
    `${giver.node} handed over, ${receiver.node} is not able to serve: ${reasonAgainst(receiver)}`,
  );
}

/**
 * A member with all that was acknowledged. One that marked itself outdated because the primary might have gone on alone
 * counts too: the primary's record, durable before it acknowledges anything alone, says that it did not.
 */
function hasEverything(secondary: Candidate, membership: Candidate["report"]): boolean {
  const { started, copy, promised, memberAt, intact } = secondary.report;
  if (!started || !membership.members.includes(secondary.node)) return false;
  const standing = copy === "uptodate" && promised <= membership.epoch;
  return standing || (intact && copy === "outdated" && memberAt === membership.epoch);
}

function usable(one: Candidate): boolean {
  return one.report.started && one.report.copy === "uptodate";
}

function reasonAgainst(one: Candidate): string {
  if (!one.report.started) {
    return `${one.node}, which holds the last writes, is stopped or waits for a person: start it there`;
  }
  if (one.report.copy === "none") return `${one.node} was the last primary and its data is gone`;
  return `the copy of ${one.node} is ${one.report.copy}`;
}

function lead(one: Candidate, why: string): Election {
  return { leader: one.node, why };
}

function nobody(why: string): Election {
  return { leader: null, why, diverged: false };
}
