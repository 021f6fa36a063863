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

await serveRpc(`${run}/${module}.sock`, {
  descriptors: () => held,
  fetch: fetchDescriptors,
  retire: () => void setTimeout(() => Deno.exit(0), 5),
});
