/**
 * What `binome upgrade` touches of this machine.
 *
 * @module
 */

import { removeFile } from "./remove_file.ts";
import { messageOf } from "../message.ts";
import type { KeeperList, KeeperStatus } from "../keeper/types.ts";
import { HEAD_BYTES } from "../upgrade/candidate.ts";
import type { KeeperView, Processes } from "../upgrade/restart.ts";
import { HEADER_NAME, parseHeader } from "../replication/way_back/header.ts";
import type { Programs, UpgradeWorld } from "../upgrade/upgrade.ts";
import { boottimeMs } from "./clock.ts";
import { signalProcess } from "./pidfd.ts";
import { SIGNAL } from "./process.ts";
import { installedName, previousOf } from "./program.ts";
import { RpcClient } from "./rpc.ts";
import { isAlive, readName, whoHas, whoWaits } from "./turn.ts";

const CALL_MS = 2000;
/** A program of this size needs seconds to start on a busy machine. */
const VERSION_MS = 60_000;

/** This machine. */
export function openUpgradeWorld(options: {
  readonly state: string;
  readonly run: string;
  /** The installed program; found by what runs when left out. */
  readonly program: string | undefined;
  readonly say: (line: string) => void;
  readonly agentAnswers: () => Promise<boolean>;
}): UpgradeWorld {
  const { state, run, say, agentAnswers } = options;
  const installed = async () => options.program ?? await installedBy(run);
  return {
    root: Deno.uid() === 0,
    now: boottimeMs,
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    say,
    programs: { ...programs, installed },
    waysBack: () => waysBack(`${state}/modules`),
    processes: openProcesses(run, installed, agentAnswers),
  };
}

/** One that cannot be read counts: nobody knows where it leads. */
async function waysBack(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await namesIn(folder)) {
    try {
      const { state } = parseHeader(await Deno.readFile(`${folder}/${name}/way-back/${HEADER_NAME}`));
      if (state !== "given-up") found.push(name);
    } catch (error) {
      const none = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
      if (!none) found.push(name);
    }
  }
  return found.sort();
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** By the keeper that runs; where none does, by this very program. */
async function installedBy(run: string): Promise<string> {
  const keeper = await ask<KeeperStatus>(`${run}/keeper.sock`, "status", {});
  return installedName(await Deno.readLink(`/proc/${keeper?.pid ?? "self"}/exe`));
}

const programs: Omit<Programs, "installed"> = {
  previous: previousOf,
  async look(path) {
    try {
      using file = await Deno.open(path, { read: true });
      const { size, isFile } = await file.stat();
      if (!isFile) throw new Error("it is not a file");
      return { size, head: await readHead(file) };
    } catch (cause) {
      const why = cause instanceof Deno.errors.NotFound ? "there is no such file" : messageOf(cause);
      throw new Error(`Cannot upgrade to ${path}: ${why}`, { cause });
    }
  },
  async ownHead() {
    using file = await Deno.open("/proc/self/exe", { read: true });
    return await readHead(file);
  },
  async stage(file, program) {
    const staged = `${program}.new`;
    try {
      await Deno.copyFile(file, staged);
      await Deno.chmod(staged, 0o755);
      using copy = await Deno.open(staged, { read: true });
      await copy.sync();
      return staged;
    } catch (cause) {
      removeFile(staged);
      throw new Error(`Cannot copy ${file} to ${staged}: ${messageOf(cause)}`, { cause });
    }
  },
  discard: (staged) => Promise.resolve(removeFile(staged)),
  async versionOf(path) {
    const { success, stdout, stderr } = await new Deno.Command(path, {
      args: ["version", "--json"],
      stdin: "null",
      signal: AbortSignal.timeout(VERSION_MS),
    }).output();
    if (success) return new TextDecoder().decode(stdout);
    const words = new TextDecoder().decode(stderr).trim().split("\n")[0];
    throw new Error(`it does not run here: ${words || `no answer within ${VERSION_MS / 1000} s`}`);
  },
  async replace(program, staged) {
    const kept = `${program}.kept`;
    try {
      removeFile(kept);
      // A second name: the program is never away. Its processes find it by that, too.
      await Deno.link(program, kept);
      await Deno.rename(staged, program);
      await Deno.rename(kept, previousOf(program));
      using folder = await Deno.open(program.slice(0, program.lastIndexOf("/")) || "/", { read: true });
      await folder.sync();
    } catch (cause) {
      throw new Error(`Cannot put the new program in place of ${program}: ${messageOf(cause)}`, { cause });
    }
  },
};

function openProcesses(
  run: string,
  installed: () => Promise<string>,
  agentAnswers: () => Promise<boolean>,
): Processes {
  let program: string | null = null;
  return {
    agentAnswers,
    async keeper() {
      program ??= await installed();
      return await viewKeeper(run);
    },
    async replicator(module) {
      const status = await ask<{ pid: number; connected?: boolean }>(`${run}/${module}.sock`, "status", {});
      return status === null ? null : { pid: status.pid, connected: status.connected ?? false };
    },
    nextReplicator: (module) => whoWaits(`${run}/${module}.turn`),
    agent() {
      const serves = whoHas(`${run}/agent.turn`);
      const waits = whoWaits(`${run}/agent.turn`);
      const unit = readName(`${run}/agent.unit`);
      return {
        serves,
        // What has its turn now had waited for it.
        waits: waits === serves ? null : waits,
        supervised: unit !== null && isAlive(unit) ? unit.pid : null,
      };
    },
    runsInstalled(pid) {
      if (program === null) throw new Error("Cannot compare programs: the installed one is not known yet");
      try {
        const [one, other] = [Deno.statSync(`/proc/${pid}/exe`), Deno.statSync(program)];
        return one.dev === other.dev && one.ino === other.ino;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return false; // it has ended
        throw error;
      }
    },
    signal(pid, kind) {
      signalProcess(pid, kind === "kill" ? SIGNAL.KILL : SIGNAL.TERM);
    },
  };
}

async function viewKeeper(run: string): Promise<KeeperView | null> {
  const status = await ask<KeeperStatus>(`${run}/keeper.sock`, "status", {});
  if (status === null) return null;
  const modules = await Promise.all(status.modules.map(async ({ module, replicator }) => ({
    module,
    replicator: replicator?.pid ?? null,
    // It refuses while the replicator has not handed its descriptors over.
    taken: await ask<KeeperList>(`${run}/keeper.sock`, "list", { module }) !== null,
  })));
  return { pid: status.pid, modules };
}

/** What a local process answers; null when it does not, or refuses. */
async function ask<T>(path: string, method: string, params: unknown): Promise<T | null> {
  let client: RpcClient;
  try {
    client = await RpcClient.connect(path);
  } catch {
    return null; // nobody is there, or not yet
  }
  try {
    return await client.call(method, params, { timeoutMs: CALL_MS }) as T;
  } catch {
    return null; // it ended, or is not ready
  } finally {
    client.close();
    await client.closed;
  }
}

async function readHead(file: Deno.FsFile): Promise<Uint8Array> {
  const head = new Uint8Array(HEAD_BYTES);
  const read = await file.read(head);
  return head.subarray(0, read ?? 0);
}
