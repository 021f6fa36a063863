/**
 * As much of a replicator as the keeper sees: fetches descriptors with `list`, answers `descriptors`.
 *
 * Arguments: RUN, module.
 *
 * @module
 */

import type { KeeperList } from "../../keeper/types.ts";
import { copyDescriptor, openPidfd } from "../pidfd.ts";
import { RpcClient, serveRpc } from "../rpc.ts";

const [run = "", module = ""] = Deno.args;
let held: KeeperList = { pid: 0, mounts: [], kept: [] };

async function fetchDescriptors(): Promise<void> {
  const keeper = await RpcClient.connect(`${run}/keeper.sock`);
  const list = await keeper.call("list", { module }) as KeeperList;
  keeper.close();
  const pidfd = openPidfd(list.pid);
  held = {
    pid: Deno.pid,
    mounts: list.mounts.map(({ path, backing, fuse }) => ({
      path,
      backing: copyDescriptor(pidfd, backing),
      fuse: fuse === null ? null : copyDescriptor(pidfd, fuse),
    })),
    kept: list.kept.map(({ key, fd }) => ({ key, fd: copyDescriptor(pidfd, fd) })),
  };
}

/**
 * As a thread does that must have an answer of the keeper before it goes on: it tells nobody what it holds meanwhile. What it
 * asks to be kept is among that afterwards.
 */
async function keepFirst(): Promise<KeeperList> {
  const fd = held.mounts[0]?.backing ?? -1;
  for (;;) {
    try {
      const keeper = await RpcClient.connect(`${run}/keeper.sock`);
      await keeper.call("keep", { module, key: "asked", pid: Deno.pid, fd });
      keeper.close();
      return { ...held, kept: [...held.kept, { key: "asked", fd }] };
    } catch {
      // Away, or not ready: asked again.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
let asks = false;

await serveRpc(`${run}/${module}.sock`, {
  descriptors: () => asks ? keepFirst() : held,
  ask: () => void (asks = true),
  fetch: fetchDescriptors,
  retire: () => void setTimeout(() => Deno.exit(0), 5),
});
