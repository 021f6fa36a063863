/**
 * Records whose fate is unknown, since the process that made them was killed.
 *
 * As a rule the last one. A write that the peer had before this node's disk refused it is settled only when what amends it
 * stands behind it: a process killed in between leaves it with a few records after it.
 *
 * @module
 */

import { eachOfLast, type Journal, OP, STATE } from "../journal/mod.ts";
import type { Backing } from "../system/backing.ts";
import type { Mutation } from "./mutation.ts";
import type { Objects } from "./objects.ts";
import type { Tree } from "./tree.ts";

const ENODATA = 61;
/** `AT_REMOVEDIR` of unlinkat(2). */
const AT_REMOVEDIR = 0x200;

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

/**
 * Whether a mutation whose fate is unknown was executed. What can be repeated is repeated; of what cannot, the tree says
 * whether it happened.
 */
export function hasHappened(
  mutation: Mutation,
  { objects, backing, tree }: { readonly objects: Objects; readonly backing: Backing; readonly tree: Tree },
): boolean {
  switch (mutation.op) {
    case OP.fsync:
    case OP.release:
    case OP.reserve:
      return true;
    case OP.setattr:
    case OP.fallocate:
      return tree.execute(mutation) >= 0;
    case OP.setxattr:
      // Made only where it was not: whether it is there now because of us, nobody can tell, and it is there.
      mutation.a = 0;
      return tree.execute(mutation) >= 0;
    case OP.removexattr: {
      const result = tree.execute(mutation);
      return result >= 0 || result === -ENODATA;
    }
    default:
      return namesSay(mutation, objects, backing);
  }
}

/** Whether the names in the tree show that a mutation of names was executed. Finishes a creation that was cut short. */
function namesSay(mutation: Mutation, objects: Objects, backing: Backing): boolean {
  const parent = objects.get(mutation.op === OP.rename ? mutation.a : mutation.c);
  if (parent === undefined) return false;
  const name = mutation.op === OP.rename ? mutation.other : mutation.name;
  const id = objects.idAt(parent, name);
  switch (mutation.op) {
    case OP.unlink:
    case OP.rmdir:
      return id !== mutation.id;
    case OP.link:
    case OP.rename:
      return id === mutation.id;
    default:
      // Looked up, so that it can be found by its id: that is noted last.
      if (id === mutation.id) return typeof objects.lookup(parent, name) !== "number";
      // Made, but without its id and its owner yet: nobody was told. It is taken away and made again.
      if (id === 0) backing.unlinkat(parent.path, name, mutation.op === OP.mkdir ? AT_REMOVEDIR : 0);
      return false;
  }
}
