/**
 * Directories of the root that are Binome's own. What is in them has numbers for names, which we gave: no pattern of a person
 * (`exclude: ["[0-9]*"]`) is about those.
 *
 * @module
 */

import { cbytes, sameBytes, withoutNul } from "./bytes.ts";

/** Where files without a name are; see `../fuse/nameless.ts`. */
export const NAMELESS: Uint8Array = cbytes(".binome-nameless");
/** Where what waits is, hidden by the mount: for a new name (`limbo_directory.ts`), or for a way back (`way_back/graveyard.ts`). */
export const LIMBO_NAME = ".binome";
/** The same, without a NUL. Whatever name begins so is Binome's own, such as {@link NAMELESS}. */
export const OWN_PREFIX: Uint8Array = withoutNul(cbytes(LIMBO_NAME));

/** How many levels beneath a name of the root, without NUL, have names that we gave. */
export function ownLevels(name: Uint8Array): number {
  if (sameBytes(name, withoutNul(NAMELESS))) return 1;
  return sameBytes(name, OWN_PREFIX) ? 2 : 0;
}
