/**
 * Records whose fate is unknown, since the process that made them was killed.
 *
 * As a rule the last one. A write that the peer had before this node's disk refused it is settled only when what amends it
 * stands behind it: a process killed in between leaves it with a few records after it.
 *
 * @module
 */

import { eachOfLast, type Journal, STATE } from "../journal/mod.ts";

/** A write is amended by three records; whoever is killed while it amends again adds as many. */
const LOOK_BACK = 256;

/** Positions of the intentions at the end of the log, the oldest first. */
export function inDoubt(journal: Journal): number[] {
  const sequences: number[] = [];
  eachOfLast(journal, LOOK_BACK, (record) => {
    if (record.state === STATE.intention) sequences.push(record.sequence);
  });
  return sequences.map((sequence) => journal.positionOf(sequence)).filter((position) =>
    position !== undefined
  );
}
