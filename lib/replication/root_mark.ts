/**
 * I7: "missing" is not "deleted". A replicated directory carries a mark that says whose it is. A directory without it, or
 * with another's, is not the one that was replicated: an empty mount point, a disk that was exchanged, a restored folder.
 * It is refused, since serving it would replace the other node's data by nothing.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { O, XATTR } from "../system/linux.ts";
import { cbytes } from "./bytes.ts";

/** On the root of each replicated directory, the same on both nodes; the mount hides it. */
export const ROOT_XATTR = "trusted.binome.root";

const NAME = cbytes(ROOT_XATTR);
const ENODATA = 61;
const MARK_MAX = 512;

/** A directory, and what its mark must say. */
export interface RootMark {
  readonly path: string;
  /** The directory beneath. */
  readonly fd: number;
  /** `cluster/module/number of the directory`. */
  readonly mark: string;
  /** This node never had a copy: a directory without a mark is right, and gets one. */
  readonly fresh: boolean;
}

/** What looks at marks needs. */
export interface MarkWorld {
  readonly backing: Pick<Backing, "fsync" | "getxattr" | "setxattr">;
  readonly addressOf: (bytes: Uint8Array) => number;
}

/**
 * Looks for the file that a person named (`require`). The mark tells one file system from another; this also tells a new copy's
 * disk from the empty folder where it should be mounted.
 */
export function checkRequired(
  root: { readonly path: string; readonly fd: number; readonly require: string },
  world: { readonly backing: Pick<Backing, "openat" | "close"> },
): void {
  const { backing } = world;
  const open: number[] = [];
  try {
    for (const part of root.require.split("/")) {
      const fd = backing.openat(open.at(-1) ?? root.fd, cbytes(part), O.PATH | O.NOFOLLOW, 0);
      if (fd >= 0) open.push(fd);
      else {
        throw new Error(
          `Cannot use ${root.path}: "${root.require}" is missing in it (errno ${-fd}); is its file system mounted? ` +
            "The module's configuration requires that file on both nodes: create it, or remove the line",
        );
      }
    }
  } finally {
    for (const fd of open) backing.close(fd);
  }
}

/** Looks at a directory's mark, or sets it on a new copy. Throws when the directory is not the one that was replicated. */
export function checkRoot(root: RootMark, world: MarkWorld): void {
  const found = new Uint8Array(MARK_MAX);
  const length = world.backing.getxattr(root.fd, NAME, world.addressOf(found), found.length);
  if (length >= 0) {
    const mark = new TextDecoder().decode(found.subarray(0, length));
    if (mark === root.mark) return root.fresh ? bringToDisk(root, world) : undefined;
    throw new Error(
      `Cannot use ${root.path}: it belongs to "${mark}", expected "${root.mark}"; mount the right file system there`,
    );
  }
  if (length !== -ENODATA) {
    throw new Error(
      `Cannot use ${root.path}: its file system has no trusted xattrs (errno ${-length}); use ext4, xfs or btrfs`,
    );
  }
  if (!root.fresh) {
    throw new Error(
      `Cannot use ${root.path}: it is not the directory that was replicated, its mark is missing; is its file system ` +
        `mounted? If the disk was exchanged on purpose, remove this node's log folder of the module and start it as secondary`,
    );
  }
  const bytes = new TextEncoder().encode(root.mark);
  const set = world.backing.setxattr(root.fd, NAME, world.addressOf(bytes), bytes.length, XATTR.CREATE);
  if (set < 0) throw new Error(`Cannot mark ${root.path}: errno ${-set}`);
  bringToDisk(root, world);
}

/** Before the copy is a new one no more: after a power cut a directory without its mark would not be the one that was replicated. */
function bringToDisk(root: RootMark, world: MarkWorld): void {
  const synced = world.backing.fsync(root.fd);
  if (synced < 0) throw new Error(`Cannot mark ${root.path}: the disk refused a sync (errno ${-synced})`);
}
