/**
 * One version-2 control group per host of the lab: killed, frozen and counted as a whole.
 *
 * @module
 */
import { until } from "./process.ts";

/** Where the version-2 hierarchy is mounted: alone, or beside the version-1 controllers. */
export function hierarchy(mounts: string = Deno.readTextFileSync("/proc/mounts")): string {
  const line = mounts.split("\n").map((text) => text.split(" ")).find((fields) => fields[2] === "cgroup2");
  if (line?.[1] === undefined) {
    throw new Error(
      "Cannot run a lab: no cgroup2 hierarchy is mounted; try mount -t cgroup2 none /sys/fs/cgroup",
    );
  }
  return line[1];
}

/** One value of a `key value` file such as `cgroup.events`. */
function event(path: string, key: string): string | undefined {
  const text = Deno.readTextFileSync(`${path}/cgroup.events`);
  return text.split("\n").find((line) => line.startsWith(`${key} `))?.slice(key.length + 1);
}

/** Whether any process lives in the group or below. A group that is gone has none. */
export function populated(path: string): boolean {
  try {
    return event(path, "populated") === "1";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function command(path: string, file: string, text: string): void {
  Deno.writeTextFileSync(`${path}/${file}`, text);
}

/** SIGKILL for every process of the group and below, in one step of the kernel. */
export function killAll(path: string): void {
  command(path, "cgroup.kill", "1");
}

/** Stops or resumes every process of the group and below. */
export async function setFrozen(path: string, frozen: boolean): Promise<void> {
  command(path, "cgroup.freeze", frozen ? "1" : "0");
  const want = frozen ? "1" : "0";
  const end = performance.now() + 500;
  // A task that waits in the kernel for a frozen FUSE server runs nothing either, but the kernel does not count it
  // as frozen: the group may never say so.
  while (event(path, "frozen") !== want && performance.now() < end) {
    await new Promise((r) => setTimeout(r, 2));
  }
}

/** The processes of the group and below, by their numbers in this PID namespace. */
export function processes(path: string): number[] {
  const own = Deno.readTextFileSync(`${path}/cgroup.procs`).split("\n").filter(Boolean).map(Number);
  const below = [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory);
  return [...own, ...below.flatMap((entry) => processes(`${path}/${entry.name}`))];
}

/** Removes a group and those below; they must hold no process. */
export function removeTree(path: string): void {
  try {
    for (const entry of Deno.readDirSync(path)) if (entry.isDirectory) removeTree(`${path}/${entry.name}`);
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Waits until no process is left; says which ones are stuck, and where in the kernel, when they do not go. */
export async function emptied(path: string, timeoutMs: number): Promise<void> {
  try {
    await until(`the end of every process in ${path}`, () => !populated(path), { timeoutMs, everyMs: 2 });
  } catch (error) {
    const stuck = processes(path).map((pid) => {
      try {
        const status = Deno.readTextFileSync(`/proc/${pid}/status`).split("\n").slice(0, 3).join(" ");
        return `${pid} ${status} ${Deno.readTextFileSync(`/proc/${pid}/wchan`)}`;
      } catch {
        return `${pid} is gone by now`;
      }
    });
    throw new Error(`${error instanceof Error ? error.message : error}\n${stuck.join("\n")}`, {
      cause: error,
    });
  }
}
