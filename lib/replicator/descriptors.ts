/**
 * The descriptors that the keeper holds for a module.
 *
 * @module
 */

import type { ModuleConfig } from "../config.ts";
import { ORPHAN_PREFIX } from "../replication/orphan_key.ts";
import type { KeptOrphan, Mount } from "../replication/mounts.ts";
import { backing } from "../system/backing.ts";
import { boottimeMs } from "../system/clock.ts";
import { copyDescriptor, openPidfd } from "../system/pidfd.ts";
import { delay } from "../system/replicator_host.ts";
import { RpcClient, RpcError } from "../system/rpc.ts";

/** How long the keeper may need. */
const KEEPER_MS = 5000;
const AGAIN_MS = 20;

/** Copies, the caller's to close. */
export interface Descriptors {
  /** As `replicate` names the directories, in that order. */
  readonly mounts: Mount[];
  readonly kept: KeptOrphan[];
}

/** Whose descriptors, and where the keeper listens. */
export interface DescriptorsOf {
  readonly run: string;
  readonly module: string;
  readonly replicate: ModuleConfig["replicate"];
}

/**
 * Copies of the descriptors the keeper holds.
 *
 * @param patienceMs how long to wait for a keeper that is being restarted too.
 * @throws {RpcError} when the keeper does not answer, an `Error` when it does not hold a directory.
 */
export async function takeDescriptors(of: DescriptorsOf, patienceMs = 0): Promise<Descriptors> {
  const until = boottimeMs() + patienceMs;
  for (;;) {
    try {
      return await askKeeper(of);
    } catch (error) {
      if (!(error instanceof RpcError) || boottimeMs() >= until) throw error;
      await delay(AGAIN_MS);
    }
  }
}

async function askKeeper({ run, module, replicate }: DescriptorsOf): Promise<Descriptors> {
  const keeper = await RpcClient.connect(`${run}/keeper.sock`);
  try {
    const list = await keeper.call("list", { module }, { timeoutMs: KEEPER_MS }) as {
      pid: number;
      mounts: readonly { path: string; backing: number; fuse: number | null }[];
      kept: readonly { key: string; fd: number }[];
    };
    const pidfd = openPidfd(list.pid);
    try {
      const mounts = replicate.map(({ path, durability, require, exclude }) => {
        const found = list.mounts.find((mount) => mount.path === path);
        if (found === undefined) throw new Error(`Cannot take over ${path}: the keeper does not hold it`);
        return {
          path,
          backing: copyDescriptor(pidfd, found.backing),
          fuse: found.fuse === null ? null : copyDescriptor(pidfd, found.fuse),
          durability,
          require,
          exclude,
        };
      });
      const kept = list.kept.filter(({ key }) => key.startsWith(ORPHAN_PREFIX)).map(({ key, fd }) => ({
        id: Number(key.slice(ORPHAN_PREFIX.length)),
        fd: copyDescriptor(pidfd, fd),
      }));
      return { mounts, kept };
    } finally {
      backing.close(pidfd);
    }
  } finally {
    keeper.close();
  }
}
