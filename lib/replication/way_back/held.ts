/**
 * An object of which nothing but a descriptor is known.
 *
 * @module
 */

import type { Held } from "../objects.ts";

/** An object as `object_state.ts` wants it, held by nothing but a descriptor. */
export function heldOf(fd: number, type: number): Held {
  return {
    id: 0,
    root: 0,
    type,
    path: fd,
    io: -1,
    lookups: 0,
    opens: 0,
    orphan: false,
    kept: false,
    defaultAcl: -1,
    childGroup: -2,
    bare: false,
  };
}
