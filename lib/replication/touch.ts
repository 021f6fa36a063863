/**
 * What a mutation makes active: see `lib/journal/activity.ts`.
 *
 * @module
 */

import { DiskFullError, OP } from "../journal/mod.ts";
import type { Mutation } from "./mutation.ts";

/** The durable set of objects that may differ after a power cut. */
export interface Activity {
  touch(id: number, offset?: number, length?: number): boolean;
}

/** Makes what a mutation touches active; false when the disk has no room to note it. */
export function touchAll(activity: Activity, mutation: Mutation): boolean {
  try {
    touchParts(activity, mutation);
    return true;
  } catch (error) {
    if (error instanceof DiskFullError) return false;
    throw error;
  }
}

/** Notes every object a mutation changes, before it is changed. Throws `DiskFullError`. */
export function touchParts(activity: Activity, mutation: Mutation): void {
  if (mutation.op === OP.write || mutation.op === OP.copy) {
    activity.touch(mutation.id, mutation.a, mutation.b);
  } else if (mutation.id > 0) activity.touch(mutation.id);
  if (mutation.op > OP.rename) return;
  activity.touch(mutation.c);
  if (mutation.op !== OP.rename) return;
  activity.touch(mutation.a);
  if (mutation.displaced !== 0) activity.touch(mutation.displaced);
}
