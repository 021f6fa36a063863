/**
 * When setgid goes from a file whose group may not execute it.
 *
 * FUSE says of what it asks to be killed (`FUSE_HANDLE_KILLPRIV_V2`): setuid, and setgid where the group may execute. The kernel
 * itself takes more from a file on a disk since Linux 6.2 (`setattr_should_drop_sgid`): setgid in any case, unless whoever
 * changes the file is of its group or has CAP_FSETID. It decides so too before it writes, and sends a SETATTR of nothing; for
 * a truncation and a chown it leaves it to us, and names one group of the caller only.
 *
 * @module
 */

import { S_IF, S_IS } from "../system/linux.ts";
import type { Statx } from "../system/statx.ts";
import type { Request } from "./request.ts";

const GROUP_EXECUTES = 0o010;
/** To do what only the owner may: bit of a set of capabilities, linux/capability.h. */
export const CAP_FOWNER = 3n;
const CAP_FSETID = 4n;

/** `/proc/PID/status` of a process of the kernel's own view; null: it cannot be seen from here. */
export type StatusOf = (pid: number) => string | null;

/** Whether a file has setgid that {@link modeWithout} may have to take. */
export function isSetgidAlone(mode: number): boolean {
  return (mode & S_IF.MT) === S_IF.REG && (mode & S_IS.GID) !== 0 && (mode & GROUP_EXECUTES) === 0;
}

/** The mode a file gets by a change of the one who asks, where FUSE's own rule would leave setgid; −1: it does not. */
export function modeWithout(request: Request, stat: Statx, statusOf: StatusOf): number {
  const { mode, gid } = stat;
  if (!isSetgidAlone(mode) || request.gid === gid) return -1;
  const status = statusOf(request.pid);
  // Of a process that cannot be seen nobody knows the groups: then FUSE's rule is all there is.
  if (status === null || isOf(status, gid)) return -1;
  return mode & 0o7777 & ~(S_IS.UID | S_IS.GID);
}

/** Whether a process, by its status, is of a group, or may do as if (`in_group_or_capable`). */
export function isOf(status: string, gid: number): boolean {
  if (hasCapability(status, CAP_FSETID)) return true;
  // The fourth number is that for files.
  return field(status, "Groups").includes(String(gid)) || field(status, "Gid")[3] === String(gid);
}

/** Whether a process, by its status, has a capability now. */
export function hasCapability(status: string, bit: bigint): boolean {
  const [effective = "0"] = field(status, "CapEff");
  return (BigInt(`0x${effective}`) >> bit & 1n) === 1n;
}

function field(status: string, name: string): readonly string[] {
  return new RegExp(`^${name}:(.*)$`, "m").exec(status)?.[1]?.trim().split(/\s+/) ?? [];
}
