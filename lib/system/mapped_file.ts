/**
 * A range of a file as memory (`mmap(2)`, shared). Its blocks are allocated first: a store into a hole on a full disk
 * would be a SIGBUS.
 *
 * @module
 */

import type { Mapping } from "../journal/storage.ts";
import { DiskFullError } from "../journal/storage.ts";
import { addressOf, cstring, errno, memoryAt, openLibrary } from "./libc.ts";

const SYMBOLS = {
  /** `int open(const char *path, int flags, mode_t mode)` */
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
  /** `int fallocate(int fd, int mode, off_t offset, off_t len)` */
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  /** `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)` */
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "i64" },
  /** `int munmap(void *addr, size_t length)` */
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** `int msync(void *addr, size_t length, int flags)` */
  msync: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int fsync(int fd)` */
  fsync: { parameters: ["i32"], result: "i32" },
  /** `int fdatasync(int fd)` */
  fdatasync: { parameters: ["i32"], result: "i32" },
  /** `int ftruncate(int fd, off_t length)` */
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  /** `off_t lseek(int fd, off_t offset, int whence)` */
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["i32", "usize", "usize"], result: "i64" },
  /** `int flock(int fd, int operation)` */
  flock: { parameters: ["i32", "i32"], result: "i32" },
  /** `char *strerror(int errnum)` */
  strerror: { parameters: ["i32"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The calls files need. */
const files = openLibrary("libc.so.6", SYMBOLS);

/** Values of `fcntl.h`, `mman.h`, `falloc.h`, `sys/file.h` and `errno.h`, the same on x86-64 and aarch64. */
const C = {
  O_RDONLY: 0,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_CLOEXEC: 0o2000000,
  PROT_READ: 1,
  PROT_WRITE: 2,
  MAP_SHARED: 1,
  MAP_POPULATE: 0x8000,
  MS_SYNC: 4,
  FALLOC_KEEP_SIZE: 1,
  FALLOC_PUNCH_HOLE: 2,
  LOCK_EX: 2,
  LOCK_NB: 4,
  SEEK_END: 2,
  EINTR: 4,
  EWOULDBLOCK: 11,
  ENOSPC: 28,
  EDQUOT: 122,
} as const;

/** Makes the error for a call that just failed: `Cannot <what>: <why>`. */
function failure(what: string, code: number = errno()): Error {
  const text = files.strerror(code);
  const why = text === null ? `error ${code}` : Deno.UnsafePointerView.getCString(text);
  const message = `Cannot ${what}: ${why}`;
  return code === C.ENOSPC || code === C.EDQUOT ? new DiskFullError(message) : new Error(message);
}

/** Calls again while a signal came between. */
function retried(call: () => number): number {
  for (;;) {
    const result = call();
    if (result !== -1 || errno() !== C.EINTR) return result;
  }
}

/** An open file, by number, with the few calls that storage needs. Throws `Cannot <what>: <why>`. */
export class NativeFile {
  readonly path: string;
  #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /** Opens for reading and writing; creates it, mode 0600, when asked. */
  static open(path: string, options: { create: boolean }): NativeFile {
    const flags = C.O_RDWR | C.O_CLOEXEC | (options.create ? C.O_CREAT : 0);
    const fd = retried(() => files.open(cstring(path), flags, 0o600));
    if (fd === -1) throw failure(`open ${path}`);
    return new NativeFile(path, fd);
  }

  /** Opens a directory, to sync its names. */
  static openDirectory(path: string): NativeFile {
    const fd = retried(() => files.open(cstring(path), C.O_RDONLY | C.O_CLOEXEC, 0));
    if (fd === -1) throw failure(`open ${path}`);
    return new NativeFile(path, fd);
  }

  /** Takes the file for this process alone; false when another has it. Ends with the process. */
  lock(): boolean {
    if (retried(() => files.flock(this.#fd, C.LOCK_EX | C.LOCK_NB)) === 0) return true;
    if (errno() === C.EWOULDBLOCK) return false;
    throw failure(`lock ${this.path}`);
  }

  /** Bytes in the file. */
  size(): number {
    const size = Number(files.lseek(this.#fd, 0n, C.SEEK_END));
    if (size === -1) throw failure(`measure ${this.path}`);
    return size;
  }

  /** Gives a range its disk blocks, extending the file with zeros. What was there stays. */
  allocate(offset: number, length: number): void {
    if (retried(() => files.fallocate(this.#fd, 0, BigInt(offset), BigInt(length))) === -1) {
      throw failure(`allocate ${length} bytes for ${this.path}`);
    }
  }

  /** Takes a range's disk blocks away; it reads as zeros. */
  punch(offset: number, length: number): void {
    const mode = C.FALLOC_KEEP_SIZE | C.FALLOC_PUNCH_HOLE;
    if (retried(() => files.fallocate(this.#fd, mode, BigInt(offset), BigInt(length))) === -1) {
      throw failure(`free ${length} bytes of ${this.path}`);
    }
  }

  /** Cuts the file to a length. */
  truncate(length: number): void {
    if (retried(() => files.ftruncate(this.#fd, BigInt(length))) === -1) throw failure(`cut ${this.path}`);
  }

  /** Writes all of it, where the file stands. */
  writeAll(bytes: Uint8Array): void {
    const address = addressOf(bytes);
    let done = 0;
    while (done < bytes.length) {
      const from = done;
      const count = retried(() =>
        Number(files.write(this.#fd, BigInt(address + from), BigInt(bytes.length - from)))
      );
      if (count === -1) throw failure(`write ${this.path}`);
      done += count;
    }
  }

  /** Returns when content and size survive a power cut. */
  syncData(): void {
    if (retried(() => files.fdatasync(this.#fd)) === -1) throw failure(`sync ${this.path}`);
  }

  /** Returns when everything about it survives a power cut. For a directory: its names. */
  sync(): void {
    if (retried(() => files.fsync(this.#fd)) === -1) throw failure(`sync ${this.path}`);
  }

  /** Maps a range that has its blocks. `populate`: no page of it is waited for later. */
  map(offset: number, length: number, options: { readonly populate?: boolean } = {}): Mapping {
    const flags = C.MAP_SHARED | (options.populate === true ? C.MAP_POPULATE : 0);
    const address = Number(
      files.mmap(0n, BigInt(length), C.PROT_READ | C.PROT_WRITE, flags, this.#fd, BigInt(offset)),
    );
    if (address === -1) throw failure(`map ${this.path}`);
    return new NativeMapping(this.path, address, length);
  }

  /** Closes it; mappings stay. */
  close(): void {
    if (this.#fd === -1) return;
    files.close(this.#fd);
    this.#fd = -1;
  }

  /** So that `using` closes it. */
  [Symbol.dispose](): void {
    this.close();
  }
}

class NativeMapping implements Mapping {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #path: string;
  readonly #address: number;
  #open = true;

  constructor(path: string, address: number, length: number) {
    this.#path = path;
    this.#address = address;
    this.bytes = new Uint8Array(memoryAt(address, length));
  }

  sync(): void {
    this.#live();
    const length = BigInt(this.bytes.length);
    if (retried(() => files.msync(BigInt(this.#address), BigInt(length), C.MS_SYNC)) === -1) {
      throw failure(`sync ${this.#path}`);
    }
  }

  close(): void {
    this.#live();
    this.#open = false;
    if (files.munmap(BigInt(this.#address), BigInt(this.bytes.length)) === -1) {
      throw failure(`unmap ${this.#path}`);
    }
  }

  #live(): void {
    if (!this.#open) throw new Error(`Cannot use the mapping of ${this.#path}: it is closed`);
  }
}

/**
 * Maps a range of a file, creating the file and allocating the range as needed.
 *
 * @throws {DiskFullError} with the file as it was.
 */
export function mapFile(path: string, length: number, offset: number): Mapping {
  using file = NativeFile.open(path, { create: true });
  const before = file.size();
  try {
    file.allocate(offset, length);
  } catch (error) {
    // ext4 and xfs may have extended the file by what they found room for.
    if (file.size() > before) file.truncate(before);
    throw error;
  }
  return file.map(offset, length);
}
