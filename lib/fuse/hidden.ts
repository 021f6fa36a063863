/**
 * Names in the root that are not the application's.
 *
 * @module
 */

import { cbytes, sameBytes } from "../replication/bytes.ts";
import { LIMBO_NAME, NAMELESS } from "../replication/own_names.ts";

const HIDDEN: readonly Uint8Array[] = [
  cbytes(LIMBO_NAME),
  NAMELESS,
  // What `mke2fs` puts into the root of a file system; it belongs to each node's own disk.
  cbytes("lost+found"),
];

/** Whether a name of the root, with its NUL, is hidden. */
export function isHidden(name: Uint8Array): boolean {
  return HIDDEN.some((hidden) => sameBytes(name, hidden));
}
