/**
 * Waiting for sockets without blocking the event loop: one `poll(2)` on a helper thread for everything that waits.
 *
 * While nothing waits there is no thread and no timer; while only a listening socket waits, one thread sleeps in the
 * kernel. A change of what is waited for wakes it through an eventfd.
 *
 * @module
 */

import { libc, openLibrary } from "./libc.ts";

const SYMBOLS = {
  /** `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`: its errno is not needed, so another thread may call it. */
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  /** `int eventfd_write(int fd, eventfd_t value)` */
  eventfd_write: { parameters: ["i32", "u64"], result: "i32" },
  /** `int eventfd_read(int fd, eventfd_t *value)` */
  eventfd_read: { parameters: ["i32", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const c = openLibrary("libc.so.6", SYMBOLS);

const POLLIN = 1;
const POLLOUT = 4;
const EFD_NONBLOCK_CLOEXEC = 0o2004000;
/** Every wait is bounded: an idle poll comes up for air once in this time. */
const IDLE_MS = 60_000;
/** Entries one poller watches at most; beyond, something above forgot its own limit. */
const WAITING_MAX = 256;

/** What to wait for. */
export interface Wait {
  readonly fd: number;
  readonly for: "read" | "write";
  /** When to give up: `performance.now()` milliseconds. Left out: wait until aborted. */
  readonly until?: number;
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly wait: Wait;
  readonly settle: (outcome: boolean) => void;
}

/** One poll for many sockets. Main thread only. */
export class Poller {
  readonly #wake: number;
  readonly #waiting = new Set<Waiter>();
  #loop: Promise<void> | null = null;
  #closed = false;

  constructor() {
    this.#wake = libc.eventfd(0, EFD_NONBLOCK_CLOEXEC);
    if (this.#wake < 0) throw new Error("Cannot make an eventfd: too many open files in this process");
  }

  /**
   * Resolves to true once the socket is ready, or has failed (the next call on it says how), and to false at `until`.
   * Rejects with the signal's reason. The caller keeps `fd` open meanwhile.
   */
  ready(wait: Wait): Promise<boolean> {
    const { signal } = wait;
    if (this.#closed) return Promise.reject(new Error("Cannot wait for a socket: the poller is closed"));
    if (this.#waiting.size >= WAITING_MAX) {
      return Promise.reject(new Error(`Cannot wait for a socket: ${WAITING_MAX} are waited for already`));
    }
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        wait,
        settle: (outcome) => {
          this.#waiting.delete(waiter);
          signal?.removeEventListener("abort", abort);
          resolve(outcome);
        },
      };
      const abort = () => {
        this.#waiting.delete(waiter);
        this.#interrupt();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.add(waiter);
      if (this.#loop === null) this.#loop = this.#run();
      else this.#interrupt();
    });
  }

  /** Gives up all waits (they resolve to false) and ends the helper thread. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of [...this.#waiting]) waiter.settle(false);
    this.#interrupt();
    await this.#loop;
    libc.close(this.#wake);
  }

  #interrupt(): void {
    if (this.#loop !== null) c.eventfd_write(this.#wake, 1n);
  }

  async #run(): Promise<void> {
    const drained = new Uint8Array(8);
    while (this.#waiting.size > 0) {
      const waiters = [...this.#waiting];
      const fds = this.#table(waiters);
      await c.poll(fds, BigInt(waiters.length + 1), timeoutOf(waiters));
      c.eventfd_read(this.#wake, drained);
      const view = new DataView(fds.buffer);
      const now = performance.now();
      waiters.forEach((waiter, index) => {
        // One that was aborted meanwhile may have lost its descriptor to a stranger: only who still waits is told.
        if (!this.#waiting.has(waiter)) return;
        if (view.getUint16((index + 1) * 8 + 6, true) !== 0) waiter.settle(true);
        else if (waiter.wait.until !== undefined && now >= waiter.wait.until) waiter.settle(false);
      });
    }
    this.#loop = null;
  }

  /** `struct pollfd`: fd (4), events (2), revents (2). */
  #table(waiters: readonly Waiter[]): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array((waiters.length + 1) * 8);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, this.#wake, true);
    view.setUint16(4, POLLIN, true);
    waiters.forEach(({ wait }, index) => {
      view.setInt32((index + 1) * 8, wait.fd, true);
      view.setUint16((index + 1) * 8 + 4, wait.for === "read" ? POLLIN : POLLOUT, true);
    });
    return bytes;
  }
}

function timeoutOf(waiters: readonly Waiter[]): number {
  const now = performance.now();
  let timeout = IDLE_MS;
  for (const { wait } of waiters) {
    if (wait.until !== undefined) timeout = Math.min(timeout, Math.ceil(wait.until - now));
  }
  return Math.max(0, timeout);
}
