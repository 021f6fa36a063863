/**
 * What a worker that blocks in system calls needs: poll over a few descriptors, eventfds, raw reads and writes, and the
 * authority to answer. Everything is preallocated.
 *
 * @module
 */

import { addressOf, cstring, errno, lastingAddress, libc, memoryAt, openLibrary } from "./libc.ts";

/** Bits of `revents`. */
export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 16, NVAL: 32 } as const;
const EINTR = 4;
const EAGAIN = 11;
const EFD_CLOEXEC_NONBLOCK = 0o2004000;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

const raw = openLibrary("libc.so.6", {
  /** `ssize_t read(int fd, void *buf, size_t count)`; counts stay below 2^31 */
  read: { parameters: ["i32", "usize", "usize"], result: "i32" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["i32", "usize", "usize"], result: "i32" },
  /** `int poll(struct pollfd *fds, nfds_t nfds, int timeout)`; `nfds_t` has 64 bits, of which ours needs few */
  poll: { parameters: ["buffer", "u32", "i32"], result: "i32" },
  /** `int usleep(useconds_t usec)` */
  usleep: { parameters: ["u32"], result: "i32" },
});

/** Reads; answers bytes or −errno. */
export function readTo(fd: number, address: number, count: number): number {
  const result = raw.read(fd, BigInt(address), BigInt(count));
  return result < 0 ? -errno() : result;
}

/** Writes; answers bytes or −errno. */
export function writeFrom(fd: number, address: number, count: number): number {
  const result = raw.write(fd, BigInt(address), BigInt(count));
  return result < 0 ? -errno() : result;
}

/** Makes reads and writes of a descriptor answer EAGAIN in place of waiting. */
export function setNonblocking(fd: number): void {
  libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

/** A descriptor by which one thread wakes another. */
export function makeEventfd(): number {
  const fd = libc.eventfd(0, EFD_CLOEXEC_NONBLOCK);
  if (fd < 0) throw new Error(`Cannot make an eventfd: errno ${errno()}`);
  return fd;
}

/** What wakes: an eventfd counts up by 1. Drained counts go elsewhere, so that this stays 1. */
const oneAddress = lastingAddress(new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]));
const drainedAddress = lastingAddress(new Uint8Array(8));

/** Wakes whoever polls the eventfd. */
export function wake(fd: number): void {
  raw.write(fd, oneAddress, 8n);
}

/** Takes what woke us, so that the next poll waits. */
export function drainWake(fd: number): void {
  raw.read(fd, drainedAddress, 8n);
}

/** Waits without an event: only where a ring is full and the other thread must get on. Microseconds. */
export function pause(microseconds: number): void {
  raw.usleep(microseconds);
}

/** A set of descriptors to wait for. */
export class PollSet {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #count = 0;

  /** @param max how many descriptors there can be. */
  constructor(max = 64) {
    this.#bytes = new Uint8Array(max * 8);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Replaces the set; all wait for input. */
  assign(fds: readonly number[]): void {
    if (fds.length * 8 > this.#bytes.length) {
      throw new RangeError(`Cannot wait for ${fds.length} descriptors`);
    }
    this.#count = fds.length;
    fds.forEach((fd, index) => {
      this.#view.setInt32(index * 8, fd, true);
      this.#view.setInt16(index * 8 + 4, POLL.IN, true);
      this.#view.setInt16(index * 8 + 6, 0, true);
    });
  }

  /** Waits at most `timeoutMs` (0: looks only). Answers how many are ready, 0 also when interrupted. */
  wait(timeoutMs: number): number {
    const ready = raw.poll(this.#bytes, this.#count, timeoutMs);
    if (ready >= 0) return ready;
    if (errno() === EINTR || errno() === EAGAIN) return 0;
    throw new Error(`Cannot wait for descriptors: errno ${errno()}`);
  }

  /** What the last {@link wait} found for the descriptor at `index`. */
  ready(index: number): number {
    return this.#view.getInt16(index * 8 + 6, true);
  }
}

const CLOCK_BOOTTIME = 7;
const timespec = new Uint8Array(16);
const timespecView = new DataView(timespec.buffer);

/** `CLOCK_BOOTTIME` in nanoseconds; exact to 2 ns, which no lease needs. It goes on while the machine sleeps. */
export function bootNanoseconds(): number {
  libc.clock_gettime(CLOCK_BOOTTIME, timespec);
  const seconds = timespecView.getUint32(0, true) + timespecView.getUint32(4, true) * 0x1_0000_0000;
  return seconds * 1e9 + timespecView.getUint32(8, true);
}

/**
 * The authority to answer: a deadline the agent writes into `RUN/NAME.authority`.
 *
 * | offset | size | field    | meaning                        |
 * |      0 |    8 | deadline | `CLOCK_BOOTTIME`, nanoseconds  |
 * |      8 |    8 | epoch    | of the membership it is for    |
 */
export class Authority {
  readonly #view: DataView;

  constructor(path: string) {
    const fd = libc.open(cstring(path), 0o2 | 0o100 | 0o2000000, 0o600);
    if (fd < 0) {
      throw new Error(`Cannot open authority "${path}": errno ${errno()}; is RUN a directory we may write?`);
    }
    const zero = new Uint8Array(16);
    // A file that is shorter than its map would end the process at the first look.
    if (libc.read(fd, addressOf(zero), 16) < 16n) libc.write(fd, addressOf(new Uint8Array(16)), 16);
    const address = Number(libc.mmap(0, 4096, 1, 1, fd, 0));
    libc.close(fd);
    if (address <= 0) throw new Error(`Cannot map authority "${path}": errno ${errno()}`);
    this.#view = new DataView(memoryAt(address, 16));
  }

  /** Until when answers may be given. */
  get deadline(): number {
    return this.#view.getUint32(0, true) + this.#view.getUint32(4, true) * 0x1_0000_0000;
  }

  /** Whether an answer may be given now. */
  get valid(): boolean {
    return bootNanoseconds() < this.deadline;
  }
}
