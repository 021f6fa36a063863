/**
 * Failed calls whose reason was lost.
 *
 * `errno` is the thread's, and the thread is V8's as well: between a call of ours and the look at `errno` it may collect
 * garbage or take a lock, and a contended lock is a `futex(2)` that leaves EAGAIN there. Seen once in a test, on a busy machine: a
 * call on a directory answered EAGAIN, which no call on files and directories does. An application would be told so in place of ENOENT, and
 * a secondary would take it for a difference.
 *
 * A call that failed did nothing, so it is made again, and says it again.
 *
 * @module
 */

/** What a lock leaves: EINTR, EAGAIN, ETIMEDOUT. */
const OF_LOCKS: readonly number[] = [-4, -11, -110];
/** Whatever says so once more is believed. */
const TRIES = 4;
const EIO = 5;

/**
 * The same call, made again while it fails for a reason that locks have and files have not.
 *
 * @param call answers `>= 0` or −errno, takes five parameters at most, and does nothing where it fails.
 */
export function repeated<F extends (...parameters: never[]) => number>(call: F): F {
  const made = call as unknown as (a: unknown, b: unknown, c: unknown, d: unknown, e: unknown) => number;
  const again = (a: unknown, b: unknown, c: unknown, d: unknown, e: unknown): number => {
    let result = made(a, b, c, d, e);
    for (let tries = 1; result < 0 && tries < TRIES && OF_LOCKS.includes(result); tries++) {
      result = made(a, b, c, d, e);
    }
    return result;
  };
  return again as unknown as F;
}

/**
 * The same call, never made again: one that forgets why it failed (`fsync(2)` says EIO once). A lost reason counts as EIO, the worst.
 *
 * @param call answers `>= 0` or −errno.
 */
export function once(call: (fd: number) => number): (fd: number) => number {
  return (fd) => {
    const result = call(fd);
    return OF_LOCKS.includes(result) ? -EIO : result;
  };
}
