/**
 * The replicated directories of a module, as a role holds them.
 *
 * @module
 */

import type { Durability } from "../config/types.ts";
import type { Granted } from "../fuse/init.ts";
import { backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { FileHandle } from "../system/handle.ts";
import { addressOf } from "../system/libc.ts";
import { Statfs, Statx } from "../system/statx.ts";
import { borderOf } from "./border.ts";
import type { Copy } from "./copy.ts";
import { checkFileSystem, type FileSystem, fileSystemOf, type FileSystemWorld } from "./file_system.ts";
import type { RootDirectory } from "./objects.ts";
import { checkRequired, checkRoot } from "./root_mark.ts";

/** One replicated directory, as this process holds it. */
export interface Mount {
  readonly path: string;
  /** The directory beneath. */
  readonly backing: number;
  /** `/dev/fuse`; null for a secondary. */
  readonly fuse: number | null;
  readonly durability: Durability;
  /** A file without which nothing is started; null: none. */
  readonly require: string | null;
  /** Patterns of what stays on the node. */
  readonly exclude: readonly string[];
}

/** A descriptor of an orphan that a former process held. */
export interface KeptOrphan {
  readonly id: number;
  readonly fd: number;
}

/** What was granted at INIT, kept where a later process finds it. */
export interface KeptGrant {
  readonly flags: string;
  readonly minor: number;
  readonly maxWrite: number;
  readonly maxRead: number;
  readonly tellsCloses?: boolean;
}

/** {@link KeptGrant} of what INIT granted. */
export function keptGrant(granted: Granted): KeptGrant {
  return {
    flags: String(granted.flags),
    minor: granted.minor,
    maxWrite: granted.maxWrite,
    maxRead: granted.maxRead,
    tellsCloses: granted.tellsCloses,
  };
}

/** The directories beneath, with what stays on this node. */
export function rootsOf(mounts: readonly Mount[]): RootDirectory[] {
  return mounts.map((mount) => ({ fd: mount.backing, border: borderOf(mount.exclude) }));
}

/** Why a directory could not be marked, in words. `result`: −errno. */
export function rootRefused(result: number): string {
  if (result === -17) {
    return "Cannot serve: a replicated directory carries the mark of another one; was it moved, or another file system mounted?";
  }
  return `Cannot serve: a replicated directory cannot be marked (errno ${-result}); the file system must have trusted xattrs (ext4, xfs, btrfs)`;
}

/** Refuses directories that are not the ones that were replicated. */
export function checkRoots(mounts: readonly Mount[], copy: Copy): void {
  mounts.forEach((mount, index) => {
    const mark = `${copy.meta.value.clusterId}/${copy.meta.value.module}/${index}`;
    const { path, require } = mount;
    const world = { backing, addressOf };
    // First: what lacks it must not be marked as ours.
    if (require !== null && copy.mustBeWhole) checkRequired({ path, fd: mount.backing, require }, world);
    checkRoot({ path, fd: mount.backing, mark, fresh: copy.fresh }, world);
  });
}

/** Refuses directories on file systems that cannot be replicated. Before anything is written into them. */
export function checkFileSystems(mounts: readonly Mount[]): void {
  const world = fileSystemWorld();
  for (const { path, backing: fd } of mounts) checkFileSystem({ path, fd }, world);
}

/** What the file systems of the directories can hold, in their order. */
export function fileSystemsOf(mounts: readonly Mount[]): FileSystem[] {
  const world = fileSystemWorld();
  return mounts.map(({ path, backing: fd }) => fileSystemOf({ path, fd }, world));
}

function fileSystemWorld(): FileSystemWorld {
  return {
    backing,
    statx: new Statx(),
    statfs: new Statfs(),
    handle: new FileHandle(),
    entries: new Dirents(),
  };
}
