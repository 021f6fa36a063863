/**
 * The way back of a module on this node's disk.
 *
 * @module
 */

import { backing } from "../../system/backing.ts";
import { exists, FileStorage } from "../../system/durable_file.ts";
import { addressOf } from "../../system/libc.ts";
import { AT, O } from "../../system/linux.ts";
import { cloneRange } from "../../system/reflink.ts";
import { syncfs } from "../../system/syncfs.ts";
import { bootNanoseconds } from "../../system/worker_io.ts";
import { cbytes } from "../bytes.ts";
import { RoadWayBack, type RoadWayBackWorld } from "./road.ts";

/** Room set aside for its header, which must be written when it is given up for want of room. */
const RESERVE_BYTES = 64 << 10;

/** Nothing is read or made before it is needed. */
export function openWayBack(
  { directory, ...rest }: Pick<RoadWayBackWorld, "copy" | "maxBytes" | "say"> & {
    readonly directory: string;
  },
): RoadWayBack {
  return new RoadWayBack({
    ...rest,
    backing,
    addressOf,
    cloneRange,
    openStorage: () => {
      const storage = FileStorage.open(directory, RESERVE_BYTES);
      return { storage, fd: backing.openat(AT.FDCWD, cbytes(directory), O.RDONLY | O.DIRECTORY, 0) };
    },
    exists: () => exists(directory),
    sync: syncfs,
    now: bootNanoseconds,
  });
}
