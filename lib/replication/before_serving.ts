/**
 * What a primary looks for beneath its directories before it serves them: where a person has been at them, where the copy is
 * new to this node, and after a power cut.
 *
 * @module
 */

import { backing } from "../system/backing.ts";
import type { Copy } from "./copy.ts";
import { forgetForeignIds, rebuildMap } from "./ids_beneath.ts";
import type { Objects, RootDirectory } from "./objects.ts";

/** Brings object map, ids and log to what the disk has. Costs a walk of the directories, where there is anything to do. */
export function lookBeneath(copy: Copy, objects: Objects, roots: readonly RootDirectory[]): void {
  if (copy.edited || copy.fresh) {
    // An id that an object beneath has already is not given to another one.
    const { fresh, nextId } = copy;
    copy.reserve(forgetForeignIds(backing, objects, { roots, nextId, fresh }).nextId);
  }
  if (!copy.crashed) return;
  rebuildMap(backing, objects, roots);
  copy.servesMix();
}
