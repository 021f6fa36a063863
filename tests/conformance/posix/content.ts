/** Checks on what files hold: reads and writes, sizes, holes, copies, shared memory, locks. */

import { assert, assertEquals } from "@std/assert";
import { ERRNO } from "../../../lib/fuse/errno.ts";
import { backing } from "../../../lib/system/backing.ts";
import { memoryAt } from "../../../lib/system/libc.ts";
import { AT, FALLOC, O, SEEK } from "../../../lib/system/linux.ts";
import { answer, c, type Checks, fails, type Ground, must, text, utf8 } from "./ground.ts";

const PAGE = 4096;
const MAP = { PROT_READ: 1, PROT_WRITE: 2, SHARED: 1, PRIVATE: 2, MS_SYNC: 4 } as const;
const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** Maps a file, hands out its memory, unmaps. */
function mapped(
  fd: number,
  length: number,
  protection: number,
  flags: number,
  body: (memory: Uint8Array, address: bigint) => void,
): void {
  const address = c.mmap(0n, BigInt(length), protection, flags, fd, 0n);
  must(answer(address === -1n ? -1 : 0));
  try {
    body(new Uint8Array(memoryAt(Number(address), length)), address);
  } finally {
    must(answer(c.munmap(address, BigInt(length))));
  }
}

/** `struct flock`: short type, whence; 64-bit start, length; int pid. */
function lock(fd: number, type: number, start: number, length: number): number {
  const view = new DataView(new ArrayBuffer(32));
  view.setInt16(0, type, true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return answer(c.fcntl(fd, F_OFD_SETLK, new Uint8Array(view.buffer)));
}

/** Repeatable bytes without a pattern of page length. */
function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = 12345;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Checks by name. */
export const CONTENT: Checks = {
  "write: 1 MiB and odd pieces read back as written"(g) {
    const bytes = noise(1 << 20);
    const fd = g.file("a");
    g.write(fd, bytes, 0);
    g.write(fd, bytes.subarray(0, 5000), (1 << 20) + 4095);
    must(backing.fsync(fd));
    const other = g.open("a", O.RDONLY);
    g.buffer.fill(0);
    assertEquals(g.read(other, 1 << 20).length > 0, true);
    assertEquals(g.buffer, bytes);
    assertEquals(g.stat("a").size, (1 << 20) + 4095 + 5000);
    assertEquals(g.read(other, 4095, 1 << 20), "\0".repeat(4095));
  },
  "write: what one descriptor writes another reads at once"(g) {
    const a = g.file("a");
    const b = g.open("a", O.RDWR);
    g.write(a, "one", 0);
    assertEquals(g.read(b), "one");
    g.write(b, "two", 1);
    assertEquals(g.read(a), "otwo");
    assertEquals(g.stat("a").size, 4);
  },
  "write: descriptors keep to how they were opened"(g) {
    g.file("a", "x");
    fails(g.tryWrite(g.open("a", O.RDONLY), "y", 0), ERRNO.EBADF);
    fails(backing.pread(g.open("a", O.WRONLY), 0, 1, 0), ERRNO.EBADF);
    fails(g.tryOpen(".", O.RDWR), ERRNO.EISDIR);
  },
  "O_APPEND: two descriptors append by turns, and pwrite appends too"(g) {
    g.file("a", "start ");
    const one = g.open("a", O.WRONLY | O.APPEND);
    const two = g.open("a", O.WRONLY | O.APPEND);
    g.append(one, "one ");
    g.append(two, "two ");
    g.append(one, "three ");
    // pwrite(2), BUGS: with O_APPEND Linux ignores the offset.
    g.write(two, "four", 0);
    assertEquals(g.content("a"), "start one two three four");
  },
  "O_APPEND: four processes lose no line"(g) {
    return appenders(g);
  },
  "O_TRUNC: empties, keeps the inode, needs write permission"(g) {
    const fd = g.file("a", "content");
    const ino = g.stat(fd).ino;
    g.open("a", O.WRONLY | O.TRUNC);
    assertEquals([g.stat("a").size, g.stat("a").ino, g.read(fd)], [0, ino, ""]);
  },
  "O_TRUNC: with O_CREAT on a new and on an old file"(g) {
    g.write(g.open("a", O.RDWR | O.CREAT | O.TRUNC), "first", 0);
    g.write(g.open("a", O.RDWR | O.CREAT | O.TRUNC), "2", 0);
    assertEquals(g.content("a"), "2");
  },
  "O_DIRECT: aligned writes and reads agree with cached ones"(g) {
    const fd = g.tryOpen("a", O.RDWR | O.CREAT | O.DIRECT);
    // Not every file system has it; then nothing is promised.
    if (fd === -ERRNO.EINVAL) return;
    g.keep(must(fd));
    // The buffer of the ground is not aligned to sectors: page-aligned memory comes from mmap.
    const scratch = g.file("scratch");
    must(backing.ftruncate(scratch, PAGE));
    mapped(scratch, PAGE, MAP.PROT_READ | MAP.PROT_WRITE, MAP.PRIVATE, (memory, address) => {
      memory.fill(0x64);
      assertEquals(must(backing.pwrite(fd, Number(address), PAGE, 0)), PAGE);
      assertEquals(g.content("a"), "d".repeat(PAGE));
      memory.fill(0);
      assertEquals(must(backing.pread(fd, Number(address), PAGE, 0)), PAGE);
      assertEquals(memory[PAGE - 1], 0x64);
    });
  },
  "O_SYNC and O_DSYNC: writes succeed and are there"(g) {
    g.write(g.open("a", O.RDWR | O.CREAT | O.SYNC), "sync", 0);
    g.write(g.open("b", O.RDWR | O.CREAT | O.DSYNC), "dsync", 0);
    assertEquals([g.content("a"), g.content("b")], ["sync", "dsync"]);
  },
  "truncate: shortens, lengthens with zeros, never shows old bytes"(g) {
    const fd = g.file("a", "secret".repeat(1000));
    must(backing.ftruncate(fd, 10));
    must(backing.ftruncate(fd, 6000));
    assertEquals(g.read(fd), "secretsecr" + "\0".repeat(5990));
    must(backing.truncate(g.open("a", O.PATH), 3));
    assertEquals([g.stat(fd).size, g.read(fd)], [3, "sec"]);
  },
  "truncate: negative, read-only, directory are refused"(g) {
    fails(backing.ftruncate(g.file("a"), -1), ERRNO.EINVAL);
    fails(backing.ftruncate(g.open("a", O.RDONLY), 0), ERRNO.EINVAL);
    fails(backing.truncate(g.dir, 0), ERRNO.EISDIR);
  },
  "holes: read as zeros and take no room"(g) {
    const fd = g.file("a");
    g.write(fd, "end", 5 * 2 ** 30);
    assertEquals(g.stat(fd).size, 5 * 2 ** 30 + 3);
    assert(g.stat(fd).blocks < 256);
    assertEquals(g.read(fd, 10, 2 ** 30), "\0".repeat(10));
    assertEquals(g.read(fd, 10, 5 * 2 ** 30 - 2), "\0\0end");
  },
  "lseek: SEEK_DATA and SEEK_HOLE find what is there"(g) {
    const written = g.file("a");
    g.write(written, "x".repeat(PAGE), 1 << 20);
    g.close(written);
    const fd = g.open("a", O.RDONLY);
    assertEquals(must(backing.lseek(fd, 0, SEEK.DATA)), 1 << 20);
    assertEquals(must(backing.lseek(fd, 0, SEEK.HOLE)), 0);
    assertEquals(must(backing.lseek(fd, 1 << 20, SEEK.HOLE)), (1 << 20) + PAGE);
    fails(backing.lseek(fd, (1 << 20) + PAGE, SEEK.DATA), ERRNO.ENXIO);
    assertEquals(must(backing.lseek(fd, 0, SEEK.END)), (1 << 20) + PAGE);
  },
  "lseek: never takes what was just written for a hole"(g) {
    const fd = g.file("a", "x");
    g.write(fd, "y".repeat(PAGE), 1 << 20);
    const data = backing.lseek(fd, PAGE, SEEK.DATA);
    // A file system whose pages are elsewhere may say that it cannot tell.
    if (data < 0) return fails(data, ERRNO.EINVAL);
    assert(data >= PAGE && data <= 1 << 20, `data at ${data}`);
    assertEquals(must(backing.lseek(fd, 1 << 20, SEEK.HOLE)), (1 << 20) + PAGE);
  },
  "fallocate: reserves, grows, keeps the size when told"(g) {
    const fd = g.file("a", "content");
    must(backing.fallocate(fd, FALLOC.KEEP_SIZE, 0, 1 << 20));
    assertEquals(g.stat(fd).size, 7);
    assert(g.stat(fd).blocks >= 2048);
    must(backing.fallocate(fd, 0, 0, 1 << 20));
    assertEquals([g.stat(fd).size, g.read(fd, 9)], [1 << 20, "content\0\0"]);
  },
  "fallocate: punches holes and zeroes ranges, cached pages included"(g) {
    const fd = g.file("a");
    g.write(fd, "x".repeat(4 * PAGE), 0);
    assertEquals(g.read(fd, 1, PAGE), "x");
    must(backing.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, PAGE, PAGE));
    assertEquals(g.read(fd, 2 * PAGE, PAGE - 1).slice(0, 3), "x\0\0");
    must(backing.fallocate(fd, FALLOC.ZERO_RANGE, 3 * PAGE, 2 * PAGE));
    assertEquals([g.stat(fd).size, g.read(fd, 1, 3 * PAGE)], [5 * PAGE, "\0"]);
    fails(backing.fallocate(fd, 0, 0, 0), ERRNO.EINVAL);
  },
  "copy_file_range: copies between two files and within one"(g) {
    const from = g.file("from", "0123456789");
    const to = g.file("to", "abcdefghij");
    assertEquals(must(backing.copyFileRange(from, 2, to, 5, 3)), 3);
    assertEquals(g.read(to), "abcde234ij");
    assertEquals(must(backing.copyFileRange(from, 8, to, 9, 100)), 2);
    assertEquals([g.read(to), g.stat("to").size], ["abcde234i89", 11]);
    assertEquals(must(backing.copyFileRange(to, 0, to, 20, 3)), 3);
    assertEquals(g.read(to, 10, 19), "\0abc");
    fails(backing.copyFileRange(to, 0, to, 1, 5), ERRNO.EINVAL);
  },
  "O_TMPFILE: has no name until it is given one"(g) {
    const fd = g.tryOpen(".", O.TMPFILE | O.RDWR, 0o600);
    if (fd === -ERRNO.EOPNOTSUPP) throw new Error("O_TMPFILE is not supported");
    g.keep(must(fd));
    g.write(fd, "nameless", 0);
    assertEquals([g.names(), g.stat(fd).nlink], [[], 0]);
    must(backing.link(fd, g.dir, utf8("named")));
    assertEquals([g.content("named"), g.stat("named").ino, g.stat(fd).nlink], [
      "nameless",
      g.stat(fd).ino,
      1,
    ]);
  },
  "O_TMPFILE: with O_EXCL it never gets a name"(g) {
    const fd = g.keep(must(g.tryOpen(".", O.TMPFILE | O.RDWR | O.EXCL, 0o600)));
    fails(backing.link(fd, g.dir, utf8("named")), ERRNO.ENOENT);
  },
  "fsync: works on files, directories, unlinked files"(g) {
    const fd = g.file("a", "x");
    must(backing.fsync(fd));
    must(backing.fdatasync(fd));
    must(backing.fsync(g.dir));
    must(backing.unlinkat(g.dir, utf8("a"), 0));
    must(backing.fsync(fd));
  },
  "mmap: shared writes are seen by read, and writes by the mapping"(g) {
    const fd = g.file("a", "x".repeat(2 * PAGE));
    mapped(fd, 2 * PAGE, MAP.PROT_READ | MAP.PROT_WRITE, MAP.SHARED, (memory, address) => {
      memory.set(utf8("mapped"), PAGE - 3);
      assertEquals(g.read(fd, 6, PAGE - 3), "mapped");
      g.write(fd, "written", 10);
      assertEquals(text(memory.slice(10, 17)), "written");
      must(answer(c.msync(address, BigInt(2 * PAGE), MAP.MS_SYNC)));
    });
    assertEquals(g.content("a").slice(PAGE - 3, PAGE + 3), "mapped");
  },
  "mmap: another process sees shared writes after msync"(g) {
    return mmapAcross(g);
  },
  "mmap: a private mapping changes nothing"(g) {
    const fd = g.file("a", "x".repeat(PAGE));
    mapped(fd, PAGE, MAP.PROT_READ | MAP.PROT_WRITE, MAP.PRIVATE, (memory) => memory.fill(0x79));
    assertEquals(g.content("a"), "x".repeat(PAGE));
  },
  "mmap: sees the file grow and shrink"(g) {
    const fd = g.file("a", "x".repeat(PAGE));
    mapped(fd, 2 * PAGE, MAP.PROT_READ, MAP.SHARED, (memory) => {
      g.write(fd, "yz", PAGE);
      assertEquals([memory[PAGE], memory[PAGE + 2]], [0x79, 0]);
      must(backing.ftruncate(fd, PAGE + 1));
      must(backing.ftruncate(fd, 2 * PAGE));
      assertEquals([memory[PAGE], memory[PAGE + 1]], [0x79, 0]);
    });
  },
  "flock: shared beside shared, exclusive alone, gone with the descriptor"(g) {
    const a = g.file("a");
    const b = g.open("a", O.RDWR);
    must(answer(c.flock(a, LOCK.SH | LOCK.NB)));
    must(answer(c.flock(b, LOCK.SH | LOCK.NB)));
    fails(answer(c.flock(b, LOCK.EX | LOCK.NB)), ERRNO.EAGAIN);
    g.close(a);
    must(answer(c.flock(b, LOCK.EX | LOCK.NB)));
  },
  "fcntl locks: ranges exclude each other, and only where they overlap"(g) {
    const a = g.file("a", "0123456789");
    const b = g.open("a", O.RDWR);
    must(lock(a, F_WRLCK, 0, 5));
    fails(lock(b, F_WRLCK, 4, 1), ERRNO.EAGAIN);
    must(lock(b, F_WRLCK, 5, 5));
    must(lock(a, F_UNLCK, 0, 0));
    must(lock(a, F_RDLCK, 0, 5));
    must(lock(b, F_RDLCK, 0, 5));
    fails(lock(b, F_WRLCK, 0, 1), ERRNO.EAGAIN);
  },
  "fcntl locks: exclude another process"(g) {
    return lockAcross(g);
  },
  "execute: a program runs from here, and is not written meanwhile"(g) {
    return execute(g);
  },
};

async function appenders(g: Ground): Promise<void> {
  await g.shell(
    "for p in 1 2 3 4; do (i=0; while [ $i -lt 200 ]; do echo line-$p-$i; i=$((i+1)); done >> log) & done; wait",
  );
  const lines = g.content("log").trim().split("\n");
  assertEquals([lines.length, new Set(lines).size], [800, 800]);
}

async function mmapAcross(g: Ground): Promise<void> {
  const fd = g.file("a", "x".repeat(PAGE));
  const address = c.mmap(0n, BigInt(PAGE), MAP.PROT_READ | MAP.PROT_WRITE, MAP.SHARED, fd, 0n);
  must(answer(address === -1n ? -1 : 0));
  try {
    new Uint8Array(memoryAt(Number(address), PAGE)).set(utf8("shared"));
    must(answer(c.msync(address, BigInt(PAGE), MAP.MS_SYNC)));
    assertEquals(await g.shell("head -c 6 a"), "shared");
  } finally {
    must(answer(c.munmap(address, BigInt(PAGE))));
  }
}

async function lockAcross(g: Ground): Promise<void> {
  const fd = g.file("a", "x");
  must(answer(c.flock(fd, LOCK.EX | LOCK.NB)));
  assertEquals((await g.run("flock -n a true")).code, 1);
  must(answer(c.flock(fd, LOCK.UN)));
  await g.shell("flock -n a true");
}

async function execute(g: Ground): Promise<void> {
  await g.shell("cp /bin/sleep program && chmod 755 program");
  const child = new Deno.Command("./program", { args: ["30"], cwd: g.path }).spawn();
  try {
    // The kernel reports ETXTBSY from the moment spawn() returned: exec has happened.
    fails(g.tryOpen("program", O.WRONLY), ERRNO.ETXTBSY);
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
  must(backing.unlinkat(g.dir, utf8("program"), 0));
  fails(backing.unlinkat(AT.FDCWD, utf8(`${g.path}/program`), 0), ERRNO.ENOENT);
}
