/**
 * Control groups, version 2: each service is one group, so that all its processes can be counted and killed at once.
 *
 * @module
 */

import { parseMountinfo } from "./mountinfo.ts";

const POLL_MS = 10;

/**
 * The folder beneath which our groups are made: `$BINOME_CGROUP`, else `binome` in the first cgroup v2 hierarchy that
 * is mounted. Null when there is none that we may write to.
 */
export function findCgroups(): string | null {
  const given = Deno.env.get("BINOME_CGROUP");
  const mounts = given !== undefined ? [given] : parseMountinfo(Deno.readTextFileSync("/proc/self/mountinfo"))
    .filter(({ type, root }) => type === "cgroup2" && root === "/")
    .map(({ point }) => point);
  for (const mount of mounts) {
    try {
      Deno.mkdirSync(`${mount}/binome`, { recursive: true });
      // Linux 5.14; without it a group that forks fast cannot be killed for certain.
      Deno.statSync(`${mount}/binome/cgroup.kill`);
      return `${mount}/binome`;
    } catch {
      continue; // read-only in a container, or an old kernel: the next one, or none
    }
  }
  return null;
}

/** Makes a group, unless it is there. */
export function makeGroup(path: string): void {
  Deno.mkdirSync(path, { recursive: true });
}

/** Removes an empty group. One that is not empty stays. */
export function removeGroup(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) && groupExists(path) && !populated(path)) throw error;
  }
}

/** Pids of a group, those of its sub-groups not included. */
export function groupPids(path: string): number[] {
  try {
    return Deno.readTextFileSync(`${path}/cgroup.procs`).split("\n").filter((line) => line !== "").map(
      Number,
    );
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Whether any process lives in a group or beneath it. A group that does not exist has none. */
export function populated(path: string): boolean {
  try {
    return /^populated 1$/m.test(Deno.readTextFileSync(`${path}/cgroup.events`));
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/**
 * Kills every process of a group and waits until none is left.
 *
 * @throws when some are left after `limitMs`: they wait for a disk or a mount, which no signal ends.
 */
export async function killGroup(path: string, limitMs: number): Promise<void> {
  if (!groupExists(path)) return;
  await Deno.writeTextFile(`${path}/cgroup.kill`, "1", { create: false });
  if (await emptyWithin(path, limitMs)) return;
  const left = groupPids(path).join(", ");
  throw new Error(`Cannot kill group "${path}": processes ${left} do not end within ${limitMs} ms`);
}

/** Waits until a group is empty. False: it is not, after that time. */
export async function emptyWithin(path: string, limitMs: number): Promise<boolean> {
  const until = performance.now() + limitMs;
  while (populated(path)) {
    if (performance.now() >= until) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return true;
}

function groupExists(path: string): boolean {
  try {
    // A folder that is no group would be written to as if it were one.
    return Deno.statSync(`${path}/cgroup.kill`).isFile;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** `ENODEV` is what a group answers that is being removed. */
function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound ||
    error instanceof Error && /os error 19\)/.test(error.message);
}
