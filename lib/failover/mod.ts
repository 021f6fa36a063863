/**
 * Decides who serves. Pure: see DESIGN.md for the tables.
 *
 * @module
 */

export * from "./types.ts";
export { initialState, newRecord, noChannel } from "./initial.ts";
export { learn, step } from "./step.ts";
export {
  judgeSilence,
  judgeTakeover,
  promoteAfterMs,
  type SilenceCase,
  type SilenceVerdict,
  type TakeoverCase,
  type Verdict,
} from "./arbiter.ts";
export { dropsInWords, pauseMs, type Readmission, returnAt, spanInWords } from "./readmission.ts";
export { type Candidate, elect, type Election } from "./election.ts";
export { isServing, reportOf, unreachable, type View, viewOf } from "./view.ts";
