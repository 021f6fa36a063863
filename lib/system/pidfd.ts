/**
 * Processes held by descriptor: no pid can be mistaken for a later process of the same number.
 *
 * @module
 */

import { libc } from "./libc.ts";
import { check, ERRNO, SystemError } from "./system_error.ts";

/** The same on every architecture since Linux 5.1 (`asm-generic/unistd.h`). */
const SYS = { pidfd_send_signal: 424, pidfd_open: 434, pidfd_getfd: 438 } as const;

/** A process that exists now. The descriptor is close-on-exec, and readable once the process has ended. */
export function openPidfd(pid: number): number {
  return check(libc.syscall(SYS.pidfd_open, pid, 0, 0, 0), `watch process ${pid}`);
}

/** Copies a descriptor out of another process; the copy is close-on-exec and shares the open file. */
export function copyDescriptor(pidfd: number, fd: number): number {
  return check(libc.syscall(SYS.pidfd_getfd, pidfd, fd, 0, 0), `copy descriptor ${fd} of another process`);
}

/** Sends a signal. False: the process has ended already. */
export function signalPidfd(pidfd: number, signal: number): boolean {
  try {
    check(libc.syscall(SYS.pidfd_send_signal, pidfd, signal, 0, 0), `send signal ${signal}`);
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.errno === ERRNO.ESRCH) return false;
    throw error;
  }
}

/**
 * Sends a signal to a process that is known by its number. False: it has ended already.
 *
 * @param still whether it is that process yet, asked once its number cannot become another's.
 */
export function signalProcess(pid: number, signal: number, still: () => boolean = () => true): boolean {
  let pidfd: number;
  try {
    pidfd = openPidfd(pid);
  } catch (error) {
    if (error instanceof SystemError && error.errno === ERRNO.ESRCH) return false;
    throw error;
  }
  try {
    return still() && signalPidfd(pidfd, signal);
  } finally {
    libc.close(pidfd);
  }
}
