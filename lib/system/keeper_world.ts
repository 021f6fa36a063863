/**
 * The keeper's world, as it is.
 *
 * @module
 */

import type { DirectoryWorld, Held, KeeperWorld, Remembered } from "../keeper/world.ts";
import type { ReplicatorDescriptors } from "../keeper/types.ts";
import { killGroup } from "./cgroup.ts";
import { libc } from "./libc.ts";
import { abortAndDetach, abortConnection, detach, FUSE_TYPE, mountCover, mountFuse } from "./mount.ts";
import { openDirectory, readMounts } from "./mount.ts";
import { objectionToOwners } from "./owners.ts";
import { isWithin, ownLayers } from "./mountinfo.ts";
import { describeFinding, findOpen } from "./open_files.ts";
import { copyDescriptor, openPidfd, signalPidfd } from "./pidfd.ts";
import { Poller } from "./poller.ts";
import { capLog, ownEnvironment, reap, selfCommand, SIGNAL, spawn, startTime } from "./process.ts";
import { sweepPrograms } from "./program.ts";
import { RpcClient } from "./rpc.ts";
import { listLinks, removeAddress } from "./rtnetlink.ts";
import { KEEPER_PID, whoHas } from "./turn.ts";
import { bootNanoseconds } from "./worker_io.ts";

/** A replicator's log is cut when it grows past this. */
const LOG_MAX = 8 << 20;
const DESCRIPTORS_MS = 2_000;
const KILL_MS = 1_000;
/** Mount sources of ours: `binome:MODULE`. */
const SOURCE = "binome:";

/** Where the keeper works. */
export interface KeeperWorldOptions {
  readonly state: string;
  readonly run: string;
  /** Program and arguments of a replicator, without the module's name. */
  readonly replicator?: readonly string[];
  /** Open watchdog device, or null. */
  readonly watchdog?: Watchdog | null;
  readonly log: (line: string) => void;
}

/** What is told that we are well. */
export interface Watchdog {
  pat(): void;
}

/** The real world. */
export function openKeeperWorld(options: KeeperWorldOptions): KeeperWorld {
  const { state, run, log } = options;
  const poller = new Poller();
  Deno.mkdirSync(`${state}/log`, { recursive: true, mode: 0o700 });
  sweepPrograms({ state, run });
  return {
    pid: Deno.pid,
    log,
    time: {
      bootMs: () => bootNanoseconds() / 1e6,
      delay: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    },
    directories: directoryWorld(run),
    descriptors: {
      copy(pid, fd) {
        const pidfd = openPidfd(pid);
        try {
          return copyDescriptor(pidfd, fd);
        } finally {
          libc.close(pidfd);
        }
      },
      close: (fd) => void libc.close(fd),
    },
    processes: {
      start(module) {
        const output = `${state}/log/replicator-${module}.log`;
        capLog(output, LOG_MAX);
        const argv = [...(options.replicator ?? selfCommand(["replicator"])), module];
        const environment = { ...ownEnvironment(), [KEEPER_PID]: String(Deno.pid) };
        const pid = spawn({ argv, environment, output, directory: "/" });
        return hold(poller, pid, true);
      },
      atWork: (module) => whoHas(`${run}/${module}.turn`),
      adopt(pid, start) {
        return startTime(pid) === start ? hold(poller, pid, false) : null;
      },
      adoptAtWork(module) {
        const pid = whoHas(`${run}/${module}.turn`);
        return pid === null ? null : hold(poller, pid, false);
      },
      descriptors: (module) => askDescriptors(`${run}/${module}.sock`),
    },
    memory: {
      modules: () =>
        [...Deno.readDirSync(run)].map(({ name }) => name).filter((name) => name.endsWith(".keeper"))
          .map((name) => name.slice(0, -".keeper".length)),
      recall: (module) => recall(`${run}/${module}.keeper`, log),
      remember(module, what) {
        // By rename: killed half way, the old one stays.
        const path = `${run}/${module}.keeper`;
        Deno.writeTextFileSync(`${path}~`, JSON.stringify(what), { mode: 0o600 });
        Deno.renameSync(`${path}~`, path);
      },
      forget: (module) => ignoreMissing(() => Deno.removeSync(`${run}/${module}.keeper`)),
    },
    fence: {
      authorityMs: (module) => readAuthority(`${run}/${module}.authority`),
      removeVip(vip) {
        const link = listLinks().find(({ name }) => name === vip.interface);
        // Without its interface the address is gone as well.
        if (link !== undefined) {
          removeAddress({ index: link.index, address: vip.address, prefix: vip.prefix });
        }
      },
      killGroup: (cgroup) => killGroup(cgroup, KILL_MS),
      pat() {
        options.watchdog?.pat();
        capLogs(`${state}/log`);
      },
    },
  };
}

/** Watches a process from now on; a child of ours is also reaped. */
function hold(poller: Poller, pid: number, child: boolean): Held {
  const start = startTime(pid) ?? "";
  const pidfd = openPidfd(pid);
  let open = true;
  const ended = (async () => {
    // Readable once it has ended (pidfd_open(2)).
    while (!await poller.ready({ fd: pidfd, for: "read" }));
    open = false;
    libc.close(pidfd);
    const exit = child ? reap(pid) : null;
    return exit !== null && "code" in exit ? exit.code : null;
  })();
  return {
    pid,
    start,
    ended,
    signal(kind) {
      if (open) signalPidfd(pidfd, kind === "kill" ? SIGNAL.KILL : SIGNAL.TERM);
    },
  };
}

function directoryWorld(run: string): DirectoryWorld {
  const layers = (path: string) => {
    const { fuse, dead, cover } = ownLayers(readMounts(), path, FUSE_TYPE);
    return {
      fuse: fuse === undefined
        ? null
        : { minor: Number(fuse.device.split(":")[1]), module: fuse.source.slice(SOURCE.length) },
      dead: dead.length,
      covered: cover !== undefined,
    };
  };
  return {
    layers,
    objection,
    async openBeneath(path, except) {
      return (await findOpen(path, except)).map(describeFinding);
    },
    open: openDirectory,
    cover: mountCover,
    mount: (path, module) => mountFuse(path, `${SOURCE}${module}`),
    abort(path) {
      const { fuse } = layers(path);
      if (fuse === null) return;
      if (!abortConnection(fuse.minor, `${run}/fusectl`)) abortAndDetach(path);
    },
    detach,
  };
}

/** Why a directory cannot be replicated. Looks at names and mounts only, never into the directory. */
export function objection(path: string): string | null {
  const mounts = readMounts();
  const owners = objectionToOwners(path, mounts);
  if (owners !== null) return owners;
  const nested = mounts.find((mount) => mount.point !== path && isWithin(mount.point, path));
  if (nested !== undefined) {
    return `"${nested.point}" is a mount of its own beneath it (${nested.type}); unmount it, or replicate each separately`;
  }
  // A dead FUSE mount of ours answers nothing: what is beneath it is looked at once it is taken away.
  if (ownLayers(mounts, path, FUSE_TYPE).fuse !== undefined) return null;
  try {
    const real = Deno.realPathSync(path);
    if (real !== path) {
      return `it is a symbolic link, or lies behind one; write "${real}" in the configuration`;
    }
    return Deno.statSync(path).isDirectory ? null : "it is not a directory; only directories are replicated";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return "it does not exist; create it on this node, empty, first";
    }
    return error instanceof Error ? error.message : String(error);
  }
}

async function askDescriptors(path: string): Promise<ReplicatorDescriptors> {
  const client = await RpcClient.connect(path);
  try {
    return await client.call("descriptors", {}, { timeoutMs: DESCRIPTORS_MS }) as ReplicatorDescriptors;
  } finally {
    client.close();
    await client.closed;
  }
}

function recall(path: string, log: (line: string) => void): Remembered | null {
  try {
    const { paths, replicator, guard } = JSON.parse(Deno.readTextFileSync(path)) as Remembered;
    return { paths, replicator, guard };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    log(
      `Cannot read "${path}": ${
        error instanceof Error ? error.message : error
      }; what it named is not taken over`,
    );
    return null;
  }
}

function readAuthority(path: string): number {
  try {
    const bytes = Deno.readFileSync(path);
    if (bytes.length < 8) return 0;
    return Number(new DataView(bytes.buffer).getBigUint64(0, true)) / 1e6;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

let lastCap = 0;

/** Cuts the replicators' logs, which they append to themselves: once a minute, on the keeper's own tick. */
function capLogs(folder: string): void {
  const now = performance.now();
  if (now - lastCap < 60_000) return;
  lastCap = now;
  for (const { name } of Deno.readDirSync(folder)) {
    if (name.endsWith(".log")) capLog(`${folder}/${name}`, LOG_MAX);
  }
}

function ignoreMissing(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
