/**
 * What the POSIX checks stand on: one fresh directory each, system calls with exact errno, memory with an address.
 *
 * The checks use the program's own binding of the system calls, proved on a plain disk by `lib/system/backing_test.ts`;
 * they must run in another process than the one that serves the mount.
 */

import { assert, assertEquals } from "@std/assert";
import { errnoName } from "../../../lib/fuse/errno.ts";
import { backing, type Name } from "../../../lib/system/backing.ts";
import { Dirents } from "../../../lib/system/dirents.ts";
import { addressOf, errno, openLibrary } from "../../../lib/system/libc.ts";
import { AT, O } from "../../../lib/system/linux.ts";
import { Statx } from "../../../lib/system/statx.ts";

/** One promise of POSIX or Linux, over a fresh directory. */
export type Check = (ground: Ground) => void | Promise<void>;
/** Checks by name: a sentence. */
export type Checks = Readonly<Record<string, Check>>;

/** Bytes of a text. */
export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
/** Text of bytes. */
export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

const SYMBOLS = {
  /** `int flock(int fd, int operation)` */
  flock: { parameters: ["i32", "i32"], result: "i32" },
  /** `int fcntl(int fd, int cmd, struct flock *lock)` */
  fcntl: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  /** `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)` */
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "i64" },
  /** `int msync(void *addr, size_t length, int flags)` */
  msync: { parameters: ["usize", "usize", "i32"], result: "i32" },
  /** `int munmap(void *addr, size_t length)` */
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** `int ioctl(int fd, unsigned long request, void *argument)` */
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  /** `ssize_t write(int fd, const void *buf, size_t count)` */
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Further system calls, which answer −1 and set errno. */
export const c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] = openLibrary("libc.so.6", SYMBOLS);

/** Turns the −1 of {@link c} into −errno. */
export function answer(result: number): number {
  return result < 0 ? -errno() : result;
}

/** The result of a call that must succeed. */
export function must(result: number): number {
  assert(result >= 0, `failed with ${errnoName(result)}`);
  return result;
}

/** A call that must fail, and how. */
export function fails(result: number, expected: number): void {
  assert(result < 0, `should fail with ${errnoName(expected)} but answered ${result}`);
  assertEquals(errnoName(result), errnoName(expected));
}

/** A fresh directory, and calls relative to it. Descriptors it opened are closed at its end. */
export class Ground {
  /** Its path. */
  readonly path: string;
  /** Its descriptor. */
  readonly dir: number;
  /** Memory for reads and writes. */
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(1 << 20);
  readonly #address = addressOf(this.buffer);
  readonly #open: number[] = [];

  constructor(path: string) {
    this.path = path;
    this.dir = this.keep(must(backing.openat(AT.FDCWD, utf8(path), O.RDONLY | O.DIRECTORY, 0)));
  }

  /** Closes a descriptor at the end. */
  keep(fd: number): number {
    this.#open.push(fd);
    return fd;
  }
  /** Opens what must open. */
  open(name: Name | string, flags: number, mode = 0o644): number {
    return this.keep(must(this.tryOpen(name, flags, mode)));
  }
  /** Opens what may fail; a descriptor is not kept. */
  tryOpen(name: Name | string, flags: number, mode = 0o644): number {
    return backing.openat(this.dir, typeof name === "string" ? utf8(name) : name, flags, mode);
  }
  /** A new file with content, open for reading and writing. */
  file(name: string, content = "", mode = 0o644): number {
    const fd = this.open(name, O.CREAT | O.EXCL | O.RDWR, mode);
    if (content !== "") this.write(fd, content, 0);
    return fd;
  }
  /** Closes early. */
  close(fd: number): void {
    must(backing.close(fd));
    this.#open.splice(this.#open.indexOf(fd), 1);
  }
  /** Writes all of a text at an offset. */
  write(fd: number, content: string | Uint8Array, offset: number): void {
    assertEquals(this.tryWrite(fd, content, offset), content.length);
  }
  /** Writes a text of ASCII; answers what the call answers. */
  tryWrite(fd: number, content: string | Uint8Array, offset: number): number {
    const bytes = typeof content === "string" ? utf8(content) : content;
    this.buffer.set(bytes);
    return backing.pwrite(fd, this.#address, bytes.length, offset);
  }
  /** Writes at the descriptor's own position, or at the end with `O_APPEND`. */
  append(fd: number, content: string): void {
    assertEquals(answer(c.write(fd, new Uint8Array(utf8(content)), BigInt(content.length))), content.length);
  }
  /** Reads up to `count` bytes at an offset, as text. */
  read(fd: number, count = 65536, offset = 0): string {
    return text(this.buffer.subarray(0, must(backing.pread(fd, this.#address, count, offset))));
  }
  /** Whole content of a name. */
  content(name: string): string {
    const fd = must(this.tryOpen(name, O.RDONLY));
    const content = this.read(fd);
    must(backing.close(fd));
    return content;
  }
  /** Attributes of a name (not followed) or of a descriptor, in a new object. */
  stat(what: string | number): Statx {
    const statx = new Statx();
    must(
      typeof what === "number" ? backing.statx(what, statx) : backing.statxAt(this.dir, utf8(what), statx),
    );
    return statx;
  }
  /** Permission bits of a name. */
  mode(name: string): number {
    return this.stat(name).mode & 0o7777;
  }
  /** Whether a name is there. */
  has(name: string): boolean {
    const result = backing.statxAt(this.dir, utf8(name), new Statx());
    assert(result === 0 || result === -2, `statx failed with ${errnoName(result)}`);
    return result === 0;
  }
  /** Names in a directory, sorted, without the two dots; the array buffer size makes several reads of it. */
  names(dir = this.dir, bufferSize = 4096): string[] {
    const entries = new Dirents(bufferSize);
    const names: string[] = [];
    must(backing.seekdir(dir, 0n));
    while (must(backing.getdents(dir, entries)) > 0) {
      while (entries.next()) if (!entries.isDot) names.push(text(entries.name));
    }
    return names.sort();
  }
  /** Sets an extended attribute. */
  setxattr(fd: number, name: string, value: string, flags = 0): number {
    this.buffer.set(utf8(value));
    return backing.setxattr(fd, utf8(name), this.#address, value.length, flags);
  }
  /** Reads an extended attribute; answers the text or −errno. */
  getxattr(fd: number, name: string): string | number {
    const length = backing.getxattr(fd, utf8(name), this.#address, 65536);
    return length < 0 ? length : text(this.buffer.subarray(0, length));
  }
  /** Names of extended attributes. */
  listxattr(fd: number): string[] {
    const length = must(backing.listxattr(fd, this.#address, 65536));
    return text(this.buffer.subarray(0, length)).split("\0").filter((name) => name !== "").sort();
  }
  /** Target of a symbolic link. */
  readlink(name: string): string {
    const fd = must(this.tryOpen(name, O.PATH | O.NOFOLLOW));
    const length = must(backing.readlink(fd, this.#address, 4096));
    must(backing.close(fd));
    return text(this.buffer.subarray(0, length));
  }
  /** Puts the mtime of a name far into the past, so that any change shows without waiting. */
  age(name: string): void {
    const fd = must(this.tryOpen(name, O.PATH | O.NOFOLLOW));
    must(backing.utimens(fd, 1000, 0, 1000, 0));
    must(backing.close(fd));
  }
  /** Whether the mtime of a name is still where {@link age} put it. */
  aged(name: string): boolean {
    return this.stat(name).mtime === 1_000_000_000_000n;
  }
  /** Runs a command in this directory, as another user if asked; answers exit code and output. */
  async run(command: string, uid?: number): Promise<{ readonly code: number; readonly output: string }> {
    const as = uid === undefined
      ? []
      : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
    const [program = "sh", ...args] = [...as, "sh", "-c", command];
    const { code, stdout, stderr } = await new Deno.Command(program, { args, cwd: this.path }).output();
    return { code, output: text(stdout) + text(stderr) };
  }
  /** Runs a command that must succeed; answers its output. */
  async shell(command: string, uid?: number): Promise<string> {
    const { code, output } = await this.run(command, uid);
    assertEquals(code, 0, `${command}: ${output}`);
    return output;
  }
  /** Closes everything. */
  [Symbol.dispose](): void {
    for (const fd of this.#open) backing.close(fd);
  }
}

/** Runs something under another umask. */
export function withUmask(mask: number, body: () => void): void {
  const former = backing.umask(mask);
  try {
    body();
  } finally {
    backing.umask(former);
  }
}
