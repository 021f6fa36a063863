/**
 * Who may reach an object whose content is not yet the source's.
 *
 * Owner, mode, ACL and capabilities say whom a content is for, or with whose rights it runs. Until the source's is there, the
 * source's may not be set: old content under a new setuid bit is anybody's program run as root.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { S_IF } from "../system/linux.ts";
import { type Mutation, SETATTR, SETATTR_BITS } from "./mutation.ts";
import type { ObjectState } from "./object_state.ts";
import { nameKey } from "./limbo.ts";

/** With NUL they are as in frames; these are keys. */
const RIGHTS_XATTRS: readonly string[] = ["security.capability", "system.posix_acl_access"];
const { mode: MODE, uid: UID, gid: GID } = SETATTR_BITS;

/** Whether an xattr gives rights. The name ends with NUL. */
export function givesRights(name: Uint8Array): boolean {
  return RIGHTS_XATTRS.includes(nameKey(name));
}

/**
 * What an object may be while its content or its names are not the source's: root's alone. A directory has what new objects
 * inherit from it all the same: group, setgid bit, default ACL.
 */
export function concealed(wanted: ObjectState): ObjectState {
  const xattrs = wanted.xattrs.filter(({ name }) => !givesRights(name));
  const type = wanted.mode & S_IF.MT;
  if (type === S_IF.DIR) return { ...wanted, uid: 0, mode: concealedMode(type, wanted.mode), xattrs };
  return { ...wanted, uid: 0, gid: 0, mode: concealedMode(type, wanted.mode), xattrs };
}

/**
 * The part of a live mutation that may be done to a file or directory whose last frame is still to come: null when there
 * is none. Answers the mutation itself where it gives no rights.
 */
export function withoutRights(mutation: Mutation, type: number): { a: number; name: Uint8Array } | null {
  const { a, name } = mutation;
  if (type !== S_IF.REG && type !== S_IF.DIR) return { a, name };
  if (mutation.op === OP.setxattr || mutation.op === OP.removexattr) {
    return givesRights(name) ? null : { a, name };
  }
  if (mutation.op !== OP.setattr || (a & (MODE | UID | GID)) === 0) return { a, name };
  if (type === S_IF.REG) {
    const left = a & ~(MODE | UID | GID);
    return left === 0 ? null : { a: left, name };
  }
  const concealing = name.slice();
  const view = new DataView(concealing.buffer);
  view.setUint32(SETATTR.mode, concealedMode(type, view.getUint32(SETATTR.mode, true)), true);
  return { a: a & ~UID, name: concealing };
}

function concealedMode(type: number, mode: number): number {
  return type === S_IF.DIR ? S_IF.DIR | (mode & 0o7000) | 0o700 : type | 0o600;
}
