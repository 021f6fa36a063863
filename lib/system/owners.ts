/**
 * Whether an owner's number means on this node what it means on the other.
 *
 * Owners travel as numbers. In a user namespace, or on a mount that maps ids, the number that is seen is not the one on the
 * disk, and one without a mapping cannot be written at all: the copies would differ, or the first `chown` would end the
 * replication.
 *
 * @module
 */

import { FUSE_TYPE } from "./mount.ts";
import { type Mount, mountBeneath, ownLayers } from "./mountinfo.ts";

/** All ids, each as itself: the map of a process that is in no user namespace but the first (user_namespaces(7)). */
const IDENTITY = "0 0 4294967295";

/** What is wrong with the ids of the directory at `path`, to follow "Cannot replicate it: ". Null: nothing. */
export function objectionToOwners(path: string, mounts: readonly Mount[]): string | null {
  for (const kind of ["uid", "gid"] as const) {
    const why = objectionToMap(kind, Deno.readTextFileSync(`/proc/self/${kind}_map`));
    if (why !== null) return why;
  }
  return objectionToMount(path, mounts);
}

/** The same of a map as `/proc/PID/uid_map` shows it. */
export function objectionToMap(kind: "uid" | "gid", map: string): string | null {
  const lines = map.trim().split("\n").map((line) => line.trim().split(/\s+/).join(" "));
  if (lines.length === 1 && lines[0] === IDENTITY) return null;
  return `Binome runs in a user namespace here (its ${kind}_map is "${
    lines.join(", ")
  }"), so that owners are other numbers ` +
    "than on the disk and on the other node; run it on the host, or in a container whose ids are the host's";
}

/** The same of the mount that a directory is on, ours not counted. */
export function objectionToMount(path: string, mounts: readonly Mount[]): string | null {
  const mount = mountBeneath(mounts, path, ownLayers(mounts, path, FUSE_TYPE).count);
  if (mount?.idmapped !== true) return null;
  return `"${mount.point}" is an id-mapped mount: owners are other numbers there than on the disk and on the other node; ` +
    "mount it without a map of ids";
}
