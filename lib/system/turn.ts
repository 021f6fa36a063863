/**
 * Taking turns: of several processes started for the same thing, one does it, the others wait, loaded and ready.
 *
 * The turn is an `flock(2)` on a file of the tmpfs. The kernel gives it on the moment its holder dies, however it dies.
 *
 * @module
 */

import { cstring, errno, libc, openLibrary } from "./libc.ts";
import { startTime } from "./process.ts";

const c = openLibrary("libc.so.6", {
  /** `int flock(int fd, int operation)`, waiting on a thread of its own: the result alone counts, no errno is needed */
  flock: { parameters: ["i32", "i32"], result: "i32", nonblocking: true },
  /** The same, for what does not wait. */
  flockNow: { name: "flock", parameters: ["i32", "i32"], result: "i32" },
  /** `int prctl(int option, unsigned long arg2, …)` */
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  /** `pid_t getppid(void)` */
  getppid: { parameters: [], result: "i32" },
});

/** Environment: where a replicator finds the number of the keeper that started it. */
export const KEEPER_PID = "BINOME_KEEPER_PID";

const O_RDWR_CREAT_CLOEXEC = 0o2 | 0o100 | 0o2000000;
const LOCK_EX = 2;
const LOCK_NB = 4;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/**
 * Waits for the turn; it lasts until this process ends. The file then names this process. While it waits, the process ends with its parent: a keeper that
 * is gone does not know it any more.
 *
 * @param parent the process that started this one, where that is known.
 * @throws when the file cannot be opened, or the parent was gone before the end with it was agreed.
 */
export async function takeTurn(path: string, parent?: number): Promise<void> {
  const lock = openLock(path);
  c.prctl(PR_SET_PDEATHSIG, BigInt(SIGKILL), 0n, 0n, 0n);
  if (!lock.now()) {
    if (parent !== undefined && c.getppid() !== parent) {
      throw new Error(`Cannot wait for a turn: process ${parent}, which would know of it, is gone`);
    }
    nameWaiting(path);
    await lock.wait();
  }
  writeName(path);
  c.prctl(PR_SET_PDEATHSIG, 0n, 0n, 0n, 0n);
}

/** Says in a file beside the lock that this process waits for it. */
export function nameWaiting(path: string): void {
  writeName(`${path}.next`);
}

/** The process that waits for a turn, as it said last; null when none does any more. */
export function whoWaits(path: string): number | null {
  const process = readName(`${path}.next`);
  return process === null || !isAlive(process) ? null : process.pid;
}

/** The process that has a turn, as it said; null when it is gone. */
export function whoHas(path: string): number | null {
  const process = readName(path);
  return process === null || !isAlive(process) ? null : process.pid;
}

/** A process as a file names it: with its start, so that no later process of the same number is taken for it. */
export interface Named {
  readonly pid: number;
  readonly start: string;
}

/** Names this process in a file. */
export function writeName(file: string): void {
  // In place: the file may be the lock.
  Deno.writeTextFileSync(file, `${Deno.pid} ${startTime(Deno.pid)}\n`, { mode: 0o600 });
}

/** The process a file names; null when it names none. */
export function readName(file: string): Named | null {
  let text: string;
  try {
    text = Deno.readTextFileSync(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
  const [pid, start] = text.trim().split(" ");
  return start === undefined ? null : { pid: Number(pid), start };
}

/** Whether that very process lives. */
export function isAlive({ pid, start }: Named): boolean {
  return startTime(pid) === start;
}

/** A lock file. What is taken is held until {@link Lock.close}, or until this process ends. */
export interface Lock {
  /** Takes it, unless another process has it. */
  now(): boolean;
  /** Takes it once no other process has it. */
  wait(): Promise<void>;
  /** Gives it up. */
  close(): void;
}

/**
 * Opens a lock file; nothing is taken yet.
 *
 * @throws when the file cannot be opened.
 */
export function openLock(path: string): Lock {
  const fd = libc.open(cstring(path), O_RDWR_CREAT_CLOEXEC, 0o600);
  if (fd < 0) throw new Error(`Cannot open ${path}: errno ${errno()}`);
  return {
    now: () => c.flockNow(fd, LOCK_EX | LOCK_NB) === 0,
    async wait() {
      // A signal may interrupt the wait; there is nothing else that makes it fail.
      while (await c.flock(fd, LOCK_EX) !== 0);
    },
    close: () => void libc.close(fd),
  };
}
