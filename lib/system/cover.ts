/** Covering a directory before there is a keeper. */
import { objection } from "./keeper_world.ts";
import { FUSE_TYPE, mountCover, readMounts } from "./mount.ts";
import { ownLayers } from "./mountinfo.ts";

/**
 * Lays a read-only mount over a directory, which the keeper takes for its own later.
 *
 * @returns false: something of ours lies there already.
 * @throws {Error} when it cannot be replicated as it is.
 */
export function coverDirectory(path: string): boolean {
  const { fuse, cover } = ownLayers(readMounts(), path, FUSE_TYPE);
  if (fuse !== undefined || cover !== undefined) return false;
  const why = objection(path);
  if (why !== null) throw new Error(`Cannot cover "${path}": ${why}`);
  mountCover(path);
  return true;
}
