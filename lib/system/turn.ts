/**
 * Taking turns: of several processes started for the same thing, one does it, the others wait, loaded and ready.
 *
 * The turn is an `flock(2)` on a file of the tmpfs. The kernel gives it on the moment its holder dies, however it dies.
 *
 * @module
 */

import { cstring, errno, libc, openLibrary } from "./libc.ts";

const c = openLibrary("libc.so.6", {
  /** `int flock(int fd, int operation)`, waiting on a thread of its own: the result alone counts, no errno is needed */
  flock: { parameters: ["i32", "i32"], result: "i32", nonblocking: true },
  /** The same, for what does not wait. */
  flockNow: { name: "flock", parameters: ["i32", "i32"], result: "i32" },
  /** `int prctl(int option, unsigned long arg2, …)` */
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
});

const O_RDWR_CREAT_CLOEXEC = 0o2 | 0o100 | 0o2000000;
const LOCK_EX = 2;
const LOCK_NB = 4;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/**
 * Waits for the turn; it lasts until this process ends. While it waits, the process ends with its parent: a keeper that
 * is gone does not know it any more.
 *
 * @throws when the file cannot be opened.
 */
export async function takeTurn(path: string): Promise<void> {
  const lock = openLock(path);
  c.prctl(PR_SET_PDEATHSIG, BigInt(SIGKILL), 0n, 0n, 0n);
  await lock.wait();
  c.prctl(PR_SET_PDEATHSIG, 0n, 0n, 0n, 0n);
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
