/**
 * The dead man's switch: takes a module down when whoever decides has fallen silent.
 *
 * Order (design, "Never wedge the host"): the replicator refuses by itself once the authority has lapsed; here the
 * connection is aborted first, because a task that waits on it cannot be killed; then the addresses go, then the
 * service's processes.
 *
 * @module
 */

import type { Guard, KeeperWorld } from "./world.ts";

/** When the agent has not said otherwise. */
const GRACE_MS = 5_000;

/** What the switch knows of one module. */
export interface Watch {
  guard: Guard | null;
  /** When `mount` was answered: an authority from before is another promotion's. 0: adopted, no telling. */
  mountedAtMs: number;
  /** An authority for this mount has been seen: before the first one there is nothing to lose. */
  armed: boolean;
  /** Taken down; everything that was to be done is done. */
  fenced: boolean;
  /** Had to be taken down, and something of it is still up. */
  failing: boolean;
}

/** A new watch, for a module mounted at that time. */
export function newWatch(mountedAtMs: number, guard: Guard | null): Watch {
  return { guard, mountedAtMs, armed: false, fenced: false, failing: false };
}

/** What to do about a module now. */
export type Verdict = { readonly act: false } | { readonly act: true; readonly lateMs: number };

/**
 * Decides whether the authority has lapsed for too long.
 *
 * @param deadlineMs of the authority; 0 when there is none.
 */
export function judge(watch: Watch, deadlineMs: number, nowMs: number): Verdict {
  if (watch.fenced) return { act: false };
  if (deadlineMs > watch.mountedAtMs) watch.armed = true;
  if (!watch.armed) return { act: false };
  // A file emptied or removed after it was there is no authority: it counts from the mount on.
  const lateMs = nowMs - Math.max(deadlineMs, watch.mountedAtMs);
  return lateMs > (watch.guard?.graceMs ?? GRACE_MS) ? { act: true, lateMs } : { act: false };
}

/**
 * Takes a module down. Every step is tried, whatever becomes of the others.
 *
 * @param abort ends the module's FUSE connections.
 * @returns what failed, in words; empty when the module is down.
 */
export async function takeDown(world: KeeperWorld, watch: Watch, abort: () => void): Promise<string[]> {
  const failures: string[] = [];
  const attempt = async (step: () => void | Promise<void>) => {
    try {
      await step();
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  };
  await attempt(abort);
  for (const vip of watch.guard?.vips ?? []) await attempt(() => world.fence.removeVip(vip));
  for (const group of watch.guard?.cgroups ?? []) await attempt(() => world.fence.killGroup(group));
  return failures;
}
