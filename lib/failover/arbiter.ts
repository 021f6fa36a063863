/**
 * Who may serve when the peer is silent: the rules of scheme P as one function per side, without a state.
 *
 * A witness that only answers can veto; it never proves that the peer is dead.
 *
 * @module
 */

import type { Arbiter, Findings, Timings } from "./types.ts";

/** What a secondary knows at the instant T_promote has passed. */
export interface TakeoverCase {
  readonly arbiter: Arbiter;
  readonly automatic: boolean;
  readonly maintenance: boolean;
  /** The copy had everything at the last contact, in one uninterrupted sequence, as a member. */
  readonly inStep: boolean;
  /** The module has virtual IPs a rival could answer for. */
  readonly vips: boolean;
  readonly findings: Findings;
}

/** Answer, with every reason against, in words. */
export interface Verdict {
  readonly promote: boolean;
  readonly reasons: readonly string[];
}

/** Decides whether a secondary takes over from a silent primary. Any doubt means no. */
export function judgeTakeover(of: TakeoverCase): Verdict {
  const reasons: string[] = [];
  if (!of.inStep) {
    reasons.push("this copy was not in step with the primary, without interruption, when it was last heard");
  }
  if (!of.automatic) reasons.push("automatic failover is off for this module");
  if (of.maintenance) reasons.push("maintenance is on");
  if (of.arbiter.kind === "none") {
    reasons.push("there is no arbiter: a person decides");
  } else {
    if (of.arbiter.mode === "strict") {
      reasons.push("the arbiter is strict: a silent peer is no proof of its death");
    }
    if (of.findings.witness !== true) {
      reasons.push("the witness does not answer: this node may be the isolated one");
    }
    if (of.findings.peer !== false) reasons.push("the primary's host still answers: it may be serving");
    if (of.vips && of.findings.vip !== false) reasons.push("somebody still answers for the virtual IP");
  }
  return { promote: reasons.length === 0, reasons };
}

/** What a primary with a silent member knows. */
export interface SilenceCase {
  readonly arbiter: Arbiter;
  readonly findings: Findings;
  readonly vips: boolean;
  /** T_dead + T_wit have passed since the last contact. */
  readonly overdue: boolean;
}

/** `solo`: go on without the peer. `isolated`: stop serving. `ask`: ask again. */
export type SilenceVerdict = "solo" | "isolated" | "ask";

/** Decides what a primary does about a silent secondary that is a member. */
export function judgeSilence(of: SilenceCase): SilenceVerdict {
  if (of.arbiter.kind === "none") return "solo";
  // A rival on the virtual IP means the peer has taken over already: two servers are worse than none.
  if (of.vips && of.findings.vip === true) return "isolated";
  if (of.findings.witness === true) return "solo";
  return of.overdue ? "isolated" : "ask";
}

/** T_promote: any primary that lost everything has stopped, or was reset, before this much silence has passed. */
export function promoteAfterMs(timings: Timings): number {
  return Math.ceil((timings.deadMs + timings.witnessMs + timings.watchdogMs) * 1.01 + 500);
}
