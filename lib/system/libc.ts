/**
 * The C library, called synchronously. Every symbol's C declaration stands beside it.
 *
 * A call that fails answers −1 and leaves its reason in `errno`, read by {@link errno} at once, on the same thread.
 *
 * Our own functions take addresses and lengths as numbers (user addresses are below 2^47) and convert where they call:
 * a 64-bit parameter given as a number sends the whole call down Deno's slow road, twice the cost of the fast
 * one; given as `BigInt(number)`, or declared with 32 bits, it stays on the fast one (`scripts/bench-ffi`). A typed
 * array as "buffer" costs the same as its address.
 *
 * @module
 */

import { addressOf } from "./address.ts";

export { addressOf };

const SYMBOLS = {
  /** `int *__errno_location(void)` */
  __errno_location: { parameters: [], result: "pointer" },
  /** `int open(const char *path, int flags, mode_t mode)` */
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  /** `int openat(int dirfd, const char *path, int flags, mode_t mode)` */
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
  /** `ssize_t read(int fd, void *buf, size_t count)` */
  read: { parameters: ["i32", "usize", "usize"], result: "i64" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["i32", "usize", "usize"], result: "i64" },
  /** `int dup(int fd)` */
  dup: { parameters: ["i32"], result: "i32" },
  /** `int fcntl(int fd, int cmd, int arg)` */
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int poll(struct pollfd *fds, nfds_t nfds, int timeout)` */
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  /** `int eventfd(unsigned int initval, int flags)` */
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  /** `int clock_gettime(clockid_t clockid, struct timespec *tp)` */
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  /** `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)` */
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "i64" },
  /** `int munmap(void *addr, size_t length)` */
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** `long syscall(long number, ...)`, four arguments */
  syscall: { parameters: ["i64", "i64", "i64", "i64", "i64"], result: "i64" },
} as const satisfies Deno.ForeignLibraryInterface;

/**
 * Deno declares 64-bit parameters as `bigint` but takes numbers as well, slower: for calls that are rare. What is on the
 * way of a write or an entry converts.
 */
export type Symbols<S extends Deno.ForeignLibraryInterface> = {
  readonly [Name in keyof S]: Deno.DynamicLibrary<S>["symbols"][Name] extends
    (...parameters: infer P) => infer R
    ? (...parameters: { [I in keyof P]: bigint extends P[I] ? number | bigint : P[I] }) => R
    : never;
};

/** The C library. Each module that needs more symbols opens its own with {@link openLibrary}. */
export const libc: Symbols<typeof SYMBOLS> = openLibrary("libc.so.6", SYMBOLS);

/** Opens further symbols of a shared library, typed by their table. */
export function openLibrary<const S extends Deno.ForeignLibraryInterface>(
  name: string,
  symbols: S,
): Symbols<S> {
  return Deno.dlopen(name, symbols).symbols as unknown as Symbols<S>;
}

const location = libc.__errno_location();
if (location === null) throw new Error("Cannot use the C library: it has no errno");
/** A plain look into memory: a call in between could change what is looked for. */
const errnoWord = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(location, 4));

/**
 * The reason of the last failed call on this thread (`errno(3)`). It is the thread's, not the call's: what the runtime does
 * between a call and this look may leave its own there, see `certain_errno.ts`.
 */
export function errno(): number {
  return errnoWord[0] ?? 0;
}

const encoder = new TextEncoder();

/** A NUL-terminated C string. */
export function cstring(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length * 3 + 1);
  const { written } = encoder.encodeInto(text, bytes);
  return bytes.subarray(0, written + 1);
}

const lasting: ArrayBufferView<ArrayBufferLike>[] = [];

/**
 * The address of memory used until this thread ends, as C takes it. A constant of a module is no reference: V8 frees an
 * array that no function mentions any more, and the next call would write into somebody else's memory.
 */
export function lastingAddress(bytes: ArrayBufferView<ArrayBufferLike>): bigint {
  lasting.push(bytes);
  return BigInt(addressOf(bytes));
}

/** Memory outside V8's heap (for instance of `mmap`) as an array buffer. The caller keeps it mapped. */
export function memoryAt(address: number, length: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(BigInt(address) as unknown as bigint);
  if (pointer === null) throw new TypeError("Cannot map memory: the address is null");
  return Deno.UnsafePointerView.getArrayBuffer(pointer, length);
}
