/**
 * Records whose fate is unknown, since the process that made them was killed.
 *
 * As a rule the last one. A write that the peer had before this node's disk refused it is settled only when what amends it
 * stands behind it: a process killed in between leaves it with a few records after it.
 *
 * @module
 */

import { type Journal, RecordView, STATE } from "../journal/mod.ts";

/** A write is amended by three records; whoever is killed while it amends again adds as many. */
const LOOK_BACK = 256;

/** Positions of the intentions at the end of the log, the oldest first. */
export function inDoubt(journal: Journal): number[] {
  const found: number[] = [];
  const view = new RecordView();
  for (
    let sequence = Math.max(journal.first, journal.last + 1 - LOOK_BACK);
    sequence <= journal.last;
    sequence++
  ) {
    const position = journal.positionOf(sequence);
    if (position === undefined) continue;
    if (journal.at(position, view)?.state === STATE.intention) found.push(position);
  }
  return found;
}
