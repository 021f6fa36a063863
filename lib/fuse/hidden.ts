/**
 * Names in the root that are not the application's.
 *
 * @module
 */

import { cbytes } from "../replication/bytes.ts";
import { LIMBO_NAME } from "../replication/objects.ts";

/** Where files without a name are; see `nameless.ts`. */
export const NAMELESS: Uint8Array = cbytes(".binome-nameless");

const HIDDEN: readonly Uint8Array[] = [
  cbytes(LIMBO_NAME),
  NAMELESS,
  // What `mke2fs` puts into the root of a file system; it belongs to each node's own disk.
  cbytes("lost+found"),
];

/** Whether a name of the root, with its NUL, is hidden. */
export function isHidden(name: Uint8Array): boolean {
  return HIDDEN.some((hidden) => sameName(name, hidden));
}

/** Whether two names are the same bytes. */
export function sameName(name: Uint8Array, other: Uint8Array): boolean {
  if (name.length !== other.length) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== other[i]) return false;
  return true;
}
