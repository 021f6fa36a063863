/**
 * Directories of the root that are Binome's own. What is in them has numbers for names, which we gave: no pattern of a person
 * (`exclude: ["[0-9]*"]`) is about those.
 *
 * @module
 */

import { cbytes, sameBytes } from "./bytes.ts";

/** Where files without a name are; see `../fuse/nameless.ts`. */
export const NAMELESS: Uint8Array = cbytes(".binome-nameless");
/** Where what waits is: for a new name (`limbo_directory.ts`), or for a way back (`way_back/graveyard.ts`). */
const LIMBO = cbytes(".binome").subarray(0, -1);

/** How many levels beneath a name of the root, without NUL, have names that we gave. */
export function ownLevels(name: Uint8Array): number {
  if (sameBytes(name, NAMELESS.subarray(0, -1))) return 1;
  return sameBytes(name, LIMBO) ? 2 : 0;
}
