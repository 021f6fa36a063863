/**
 * The clocks and timers of the control road.
 *
 * `CLOCK_BOOTTIME` runs on while the host is suspended (clock_gettime(2)), so that a node that slept knows it did.
 *
 * @module
 */

import { libc } from "./libc.ts";

const CLOCK_BOOTTIME = 7;
const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Whole milliseconds since boot, suspension included. */
export function boottimeMs(): number {
  libc.clock_gettime(CLOCK_BOOTTIME, timespecBytes);
  return Number(timespec[0] ?? 0n) * 1000 + Math.floor(Number(timespec[1] ?? 0n) / 1e6);
}

/** The agent's clock. */
export const clock = {
  now: boottimeMs,
  /** ISO 8601, UTC. */
  wall: (): string => new Date().toISOString(),
  /** Milliseconds since 1970. */
  wallMs: (): number => Date.now(),
} as const;

/** The agent's timers. Each answers the function that stops it. */
export const timers = {
  every(ms: number, run: () => void): () => void {
    const id = setInterval(run, ms);
    return () => clearInterval(id);
  },
  after(ms: number, run: () => void): () => void {
    const id = setTimeout(run, ms);
    return () => clearTimeout(id);
  },
} as const;

/** A random 64-bit number, not 0. */
export function randomIncarnation(): bigint {
  const words = crypto.getRandomValues(new BigUint64Array(1));
  return (words[0] ?? 0n) | 1n;
}
