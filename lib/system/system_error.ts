/**
 * Errors of system calls, in the C library's own words.
 *
 * @module
 */

import { errno, openLibrary } from "./libc.ts";

const c = openLibrary("libc.so.6", {
  /** `char *strerror(int errnum)` */
  strerror: { parameters: ["i32"], result: "pointer" },
});

/** Numbers that callers of this folder tell apart; the same on x86-64 and arm64. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EBADF: 9,
  EAGAIN: 11,
  EACCES: 13,
  EEXIST: 17,
  EINVAL: 22,
  EADDRNOTAVAIL: 99,
  ECONNABORTED: 103,
  ENOTCONN: 107,
  ECONNREFUSED: 111,
} as const;

/** A system call failed. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  constructor(readonly action: string, readonly errno: number) {
    super(`Cannot ${action}: ${describe(errno)}`);
  }
}

/** `No such file or directory` for 2. */
export function describe(number: number): string {
  const text = c.strerror(number);
  return text === null ? `errno ${number}` : new Deno.UnsafePointerView(text).getCString();
}

/**
 * The result of a call, unless it failed. `action` completes "Cannot …".
 *
 * @throws {SystemError}
 */
export function check(result: number | bigint, action: string): number {
  if (result >= 0) return Number(result);
  throw new SystemError(action, errno());
}
