/**
 * How services run on this host: control groups where there are any, else a mark in the environment.
 *
 * @module
 */

import type { Command, RunningCommand, ServiceGroups, ServiceWorld } from "../effects/service.ts";
import { findCgroups, groupPids, makeGroup, populated } from "./cgroup.ts";
import { libc } from "./libc.ts";
import { openPidfd, signalPidfd } from "./pidfd.ts";
import { Poller } from "./poller.ts";
import { atOrdinaryPriority } from "./priority.ts";
import { capLog, isGone, ownEnvironment, reap, SIGNAL, spawn } from "./process.ts";

/** A service's log is cut when it has grown past this, at each start, stop and look. */
const LOG_MAX = 8 << 20;
/** Bytes at the end of a log that are read for its last lines. */
const TAIL_BYTES = 4096;
/** Tells the processes of a service where there are no cgroups. */
const MARK = "BINOME_SERVICE";

/** The real world of services. `state`: logs go to its `log` folder. */
export function openServiceWorld(state: string): ServiceWorld {
  const base = findCgroups();
  const groups = base === null ? markedGroups() : controlGroups(base);
  const poller = new Poller();
  const log = (module: string) => `${state}/log/service-${module}.log`;
  Deno.mkdirSync(`${state}/log`, { recursive: true, mode: 0o700 });
  return {
    groups,
    warnings: base !== null ? [] : [
      "There is no cgroup v2 here that may be written to: a service's processes are found by their environment, and one that hides it is not stopped; mount one and name it in BINOME_CGROUP",
    ],
    systemd: () => exists("/run/systemd/system"),
    run(command) {
      capLog(log(command.module), LOG_MAX);
      return run(poller, command, base, log(command.module));
    },
    tail: (module, lines) => tail(log(module), lines),
    note(module, line) {
      Deno.writeTextFileSync(log(module), `binome: ${line}\n`, { append: true, mode: 0o600 });
    },
    delay: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    nowMs: () => performance.now(),
  };
}

function run(poller: Poller, command: Command, base: string | null, output: string): RunningCommand {
  const group = command.member && base !== null ? `${base}/${command.module}` : null;
  if (group !== null) makeGroup(group);
  // Into the group before it is the service: from its first instruction on, nothing of it can escape the count.
  const join = group === null ? "" : 'echo 0 > "$0" && ';
  // We are spared when memory is short. A service is not: its memory is what must be given back.
  const enter = ["sh", "-c", `echo 0 > /proc/self/oom_score_adj; ${join}exec "$@"`];
  enter.push(group === null ? "sh" : `${group}/cgroup.procs`);
  const mark = command.member ? { [MARK]: command.module } : {};
  const environment = { ...ownEnvironment(), ...command.environment, ...mark };
  const pid = atOrdinaryPriority(() =>
    spawn({ argv: [...enter, ...command.argv], environment, output, directory: "/" })
  );
  const pidfd = openPidfd(pid);
  let open = true;
  const ended = (async () => {
    while (!await poller.ready({ fd: pidfd, for: "read" }));
    open = false;
    libc.close(pidfd);
    const exit = reap(pid);
    return exit !== null && "code" in exit ? exit.code : null;
  })();
  return {
    ended,
    kill() {
      if (open) signalPidfd(pidfd, SIGNAL.KILL);
    },
  };
}

function controlGroups(base: string): ServiceGroups {
  const path = (module: string) => `${base}/${module}`;
  return {
    path,
    populated: (module) => populated(path(module)),
    pids: (module) => groupPids(path(module)),
    terminate: (module) => signalAll(groupPids(path(module)), SIGNAL.TERM),
    kill: (module) => Deno.writeTextFileSync(`${path(module)}/cgroup.kill`, "1", { create: false }),
  };
}

function markedGroups(): ServiceGroups {
  return {
    path: () => null,
    populated: (module) => marked(module).length > 0,
    pids: marked,
    terminate: (module) => signalAll(marked(module), SIGNAL.TERM),
    // Until none is left: one may fork while we look. What does not end is told apart by its caller.
    kill(module) {
      for (let round = 0; round < 10; round++) signalAll(marked(module), SIGNAL.KILL);
    },
  };
}

/** Processes whose environment carries a module's mark. */
function marked(module: string): number[] {
  const wanted = `${MARK}=${module}`;
  const pids: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/environ`).split("\0").includes(wanted)) pids.push(pid);
    } catch (error) {
      if (!isGone(error) && !(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return pids;
}

function signalAll(pids: readonly number[], signal: number): void {
  for (const pid of pids) {
    let pidfd: number;
    try {
      pidfd = openPidfd(pid);
    } catch {
      continue; // it has ended since it was listed
    }
    try {
      signalPidfd(pidfd, signal);
    } finally {
      libc.close(pidfd);
    }
  }
}

/** The last lines of a file, joined by ` | `. */
function tail(path: string, lines: number): string {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
  using open = file;
  const { size } = open.statSync();
  open.seekSync(Math.max(0, size - TAIL_BYTES), Deno.SeekMode.Start);
  const buffer = new Uint8Array(TAIL_BYTES);
  const got = open.readSync(buffer) ?? 0;
  return new TextDecoder().decode(buffer.subarray(0, got)).trim().split("\n").slice(-lines).join(" | ");
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
