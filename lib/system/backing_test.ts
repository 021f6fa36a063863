/** Every call of the backing file system on a real disk, as root: what succeeds, and which errno what fails. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { backing as real } from "./backing.ts";
import { Dirents, DT } from "./dirents.ts";
import { ERRNO } from "../fuse/errno.ts";
import { FileHandle } from "./handle.ts";
import { addressOf, cstring } from "./libc.ts";
import { AT, FALLOC, FS_FL, O, RENAME, S_IF, SEEK, UTIME, XATTR } from "./linux.ts";
import { deviceNumber, Statfs, Statx, STATX_BTIME } from "./statx.ts";

const { EPERM, ENOENT, ENXIO, EBADF, EEXIST, ENOTDIR, EISDIR, EINVAL, ENOTTY, ERANGE } = ERRNO;
const { ENAMETOOLONG, ENOTEMPTY, ELOOP, ENODATA, EOPNOTSUPP, ESTALE } = ERRNO;

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const string = (value: Uint8Array): string => new TextDecoder().decode(value);

/** A scratch directory on the disk, its descriptor, and a buffer with its address. */
class Place {
  readonly path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "backing-" });
  readonly dir = ok(real.openat(AT.FDCWD, text(this.path), O.DIRECTORY | O.RDONLY, 0));
  readonly buffer = new Uint8Array(65536);
  readonly address = addressOf(this.buffer);
  readonly statx = new Statx();
  readonly #open: number[] = [this.dir];

  /** Opens, to be closed at the end. */
  open(name: string, flags: number, mode = 0o644): number {
    return this.keep(ok(real.openat(this.dir, text(name), flags, mode)));
  }
  keep(fd: number): number {
    this.#open.push(fd);
    return fd;
  }
  file(name: string, content = ""): number {
    const fd = this.open(name, O.CREAT | O.EXCL | O.RDWR);
    assertEquals(this.write(fd, content, 0), text(content).length);
    return fd;
  }
  write(fd: number, content: string, offset: number): number {
    const bytes = text(content);
    this.buffer.set(bytes);
    return real.pwrite(fd, this.address, bytes.length, offset);
  }
  read(fd: number, count: number, offset: number): string {
    return string(this.buffer.subarray(0, ok(real.pread(fd, this.address, count, offset))));
  }
  stat(fd: number): Statx {
    ok(real.statx(fd, this.statx));
    return this.statx;
  }
  names(): string[] {
    const entries = new Dirents();
    const found: string[] = [];
    ok(real.seekdir(this.dir, 0n));
    while (ok(real.getdents(this.dir, entries)) > 0) {
      while (entries.next()) if (!entries.isDot) found.push(string(entries.name));
    }
    return found.sort();
  }
  [Symbol.dispose](): void {
    for (const fd of this.#open) real.close(fd);
    Deno.removeSync(this.path, { recursive: true });
  }
}

function ok(result: number): number {
  assert(result >= 0, `failed with errno ${-result}`);
  return result;
}

Deno.test("openat() creates once with O_EXCL, then says EEXIST", () => {
  using place = new Place();
  real.umask(0);
  const fd = place.open("a", O.CREAT | O.EXCL | O.RDWR, 0o666);
  assertEquals(place.stat(fd).mode, S_IF.REG | 0o666);
  assertEquals(real.openat(place.dir, text("a"), O.CREAT | O.EXCL | O.RDWR, 0o600), -EEXIST);
});

Deno.test("openat() says what is wrong with a name", () => {
  using place = new Place();
  place.file("file");
  assertEquals(real.openat(place.dir, text("missing"), O.RDONLY, 0), -ENOENT);
  assertEquals(real.openat(place.dir, text("file/x"), O.RDONLY, 0), -ENOTDIR);
  assertEquals(real.openat(place.dir, text("file"), O.DIRECTORY, 0), -ENOTDIR);
  assertEquals(real.openat(place.dir, text("."), O.RDWR, 0), -EISDIR);
  assertEquals(real.openat(place.dir, new Uint8Array(256).fill(0x61), O.RDONLY, 0), -ENAMETOOLONG);
  assertEquals(real.openat(place.dir, new Uint8Array(5000).fill(0x61), O.RDONLY, 0), -ENAMETOOLONG);
  assertEquals(real.openat(-1, text("file"), O.RDONLY, 0), -EBADF);
  ok(real.symlinkat(text("file"), place.dir, text("link")));
  assertEquals(real.openat(place.dir, text("link"), O.NOFOLLOW | O.RDONLY, 0), -ELOOP);
});

Deno.test("openat() refuses a name with NUL inside instead of opening another object", () => {
  using place = new Place();
  place.file("a");
  assertEquals(real.openat(place.dir, text("a\0b"), O.RDONLY, 0), -EINVAL);
  place.keep(ok(real.openat(place.dir, text("a\0"), O.RDONLY, 0)));
});

Deno.test("openat() takes a name by its address", () => {
  using place = new Place();
  place.file("by-address");
  const name = cstring("by-address");
  place.keep(ok(real.openat(place.dir, addressOf(name), O.RDONLY, 0)));
});

Deno.test("openat() does not wait for the other end of a FIFO", () => {
  using place = new Place();
  ok(real.mknodat(place.dir, text("fifo"), S_IF.IFO | 0o600, 0));
  assertEquals(real.openat(place.dir, text("fifo"), O.WRONLY, 0), -ENXIO);
  place.open("fifo", O.RDONLY);
  place.open("fifo", O.WRONLY);
});

Deno.test("openat() closes its descriptors on exec", () => {
  using place = new Place();
  const flags = (fd: number): string =>
    Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`).match(/flags:\s+(\d+)/)?.[1] ?? "";
  for (const fd of [place.file("a"), place.open("a", O.PATH), place.keep(ok(real.dup(place.dir)))]) {
    assertEquals(parseInt(flags(fd), 8) & O.CLOEXEC, O.CLOEXEC);
  }
});

Deno.test("names of 255 bytes and names that are not UTF-8 live through create, list, rename, unlink", () => {
  using place = new Place();
  const long = new Uint8Array(255).fill(0x6e);
  const odd = Uint8Array.of(0xff, 0xfe, 0x0a, 0x20, 0x80);
  for (const name of [long, odd]) {
    place.keep(ok(real.openat(place.dir, name, O.CREAT | O.EXCL | O.WRONLY, 0o600)));
    const entries = new Dirents();
    ok(real.seekdir(place.dir, 0n));
    ok(real.getdents(place.dir, entries));
    const seen: Uint8Array[] = [];
    while (entries.next()) if (!entries.isDot) seen.push(entries.name.slice());
    assertEquals(seen, [name]);
    const other = name.toReversed();
    ok(real.renameat2(place.dir, name, place.dir, other, 0));
    ok(real.unlinkat(place.dir, other, 0));
  }
  assertEquals(place.names(), []);
});

Deno.test("reopen() makes an O_PATH descriptor readable and writable", () => {
  using place = new Place();
  place.file("a", "hello");
  const path = place.open("a", O.PATH);
  assertEquals(real.pread(path, place.address, 5, 0), -EBADF);
  const fd = place.keep(ok(real.reopen(path, O.RDWR)));
  assertEquals(place.read(fd, 5, 0), "hello");
  ok(real.unlinkat(place.dir, text("a"), 0));
  place.keep(ok(real.reopen(path, O.RDONLY)));
});

Deno.test("close() says EBADF the second time", () => {
  using place = new Place();
  const fd = ok(real.dup(place.dir));
  assertEquals(real.close(fd), 0);
  assertEquals(real.close(fd), -EBADF);
});

Deno.test("nameToHandle() and openByHandle() find every kind of object again, also after a rename", () => {
  using place = new Place();
  place.file("file", "content");
  ok(real.mkdirat(place.dir, text("dir"), 0o755));
  ok(real.symlinkat(text("nowhere"), place.dir, text("link")));
  ok(real.mknodat(place.dir, text("fifo"), S_IF.IFO | 0o600, 0));
  for (const name of ["file", "dir", "link", "fifo"]) {
    const fd = place.open(name, O.PATH | O.NOFOLLOW);
    const ino = place.stat(fd).ino;
    const handle = new FileHandle();
    assertEquals(real.nameToHandle(fd, handle), 0);
    assert(handle.length > 0);
    const kept = { type: handle.type, bytes: handle.bytes.slice() };
    ok(real.renameat2(place.dir, text(name), place.dir, text(`${name}-moved`), 0));
    const again = new FileHandle();
    again.set(kept.type, kept.bytes);
    const found = place.keep(ok(real.openByHandle(place.dir, again, O.PATH)));
    assertEquals(place.stat(found).ino, ino, name);
  }
});

Deno.test("openByHandle() says ESTALE when the object is gone, EBADF when the mount descriptor is O_PATH", () => {
  using place = new Place();
  const fd = ok(real.openat(place.dir, text("a"), O.CREAT | O.RDWR, 0o600));
  const handle = new FileHandle();
  ok(real.nameToHandle(fd, handle));
  const path = place.open(".", O.PATH);
  assertEquals(real.openByHandle(path, handle, O.PATH), -EBADF);
  ok(real.unlinkat(place.dir, text("a"), 0));
  ok(real.close(fd));
  assertEquals(real.openByHandle(place.dir, handle, O.PATH), -ESTALE);
});

Deno.test("mkdirat(), unlinkat() say EEXIST, ENOTEMPTY, EISDIR, ENOTDIR", () => {
  using place = new Place();
  ok(real.mkdirat(place.dir, text("dir"), 0o2750));
  assertEquals(place.stat(place.open("dir", O.PATH)).mode & 0o777, 0o750);
  place.file("file");
  place.keep(ok(real.openat(place.dir, text("dir/inside"), O.CREAT | O.WRONLY, 0o600)));
  assertEquals(real.mkdirat(place.dir, text("dir"), 0o755), -EEXIST);
  assertEquals(real.unlinkat(place.dir, text("dir"), AT.REMOVEDIR), -ENOTEMPTY);
  assertEquals(real.unlinkat(place.dir, text("dir"), 0), -EISDIR);
  assertEquals(real.unlinkat(place.dir, text("file"), AT.REMOVEDIR), -ENOTDIR);
  ok(real.unlinkat(place.dir, text("dir/inside"), 0));
  ok(real.unlinkat(place.dir, text("dir"), AT.REMOVEDIR));
});

Deno.test("mknodat() keeps device numbers, FIFOs and sockets", () => {
  using place = new Place();
  const rdev = deviceNumber(7, 0x12345);
  ok(real.mknodat(place.dir, text("device"), S_IF.CHR | 0o600, rdev));
  ok(real.mknodat(place.dir, text("socket"), S_IF.SOCK | 0o600, 0));
  const device = place.stat(place.open("device", O.PATH));
  assertEquals([device.mode, device.rdev], [S_IF.CHR | 0o600, rdev]);
  assertEquals(place.stat(place.open("socket", O.PATH)).mode, S_IF.SOCK | 0o600);
  assertEquals(real.mknodat(place.dir, text("socket"), S_IF.SOCK, 0), -EEXIST);
});

Deno.test("symlinkat() and readlink() keep any bytes, to the longest target every file system has", () => {
  using place = new Place();
  const target = new Uint8Array(1023).fill(0xfe);
  ok(real.symlinkat(target, place.dir, text("link")));
  const fd = place.open("link", O.PATH | O.NOFOLLOW);
  assertEquals(real.readlink(fd, place.address, 65536), 1023);
  assertEquals(place.buffer.slice(0, 1023), target);
  assertEquals(real.symlinkat(new Uint8Array(4096).fill(0x61), place.dir, text("more")), -ENAMETOOLONG);
  assertEquals(real.readlink(place.open(".", O.PATH), place.address, 10), -ENOENT);
});

Deno.test("link() names files, symbolic links and objects without a name, from a descriptor", () => {
  using place = new Place();
  place.file("file", "x");
  ok(real.symlinkat(text("file"), place.dir, text("link")));
  ok(real.link(place.open("file", O.PATH), place.dir, text("file2")));
  ok(real.link(place.open("link", O.PATH | O.NOFOLLOW), place.dir, text("link2")));
  const nameless = place.keep(ok(real.openat(place.dir, text("."), O.TMPFILE | O.RDWR, 0o600)));
  ok(real.link(nameless, place.dir, text("named")));
  assertEquals(place.stat(place.open("file2", O.PATH)).nlink, 2);
  assertEquals(place.stat(place.open("link2", O.PATH | O.NOFOLLOW)).mode & S_IF.MT, S_IF.LNK);
  assertEquals(place.stat(nameless).nlink, 1);
  assertEquals(real.link(nameless, place.dir, text("named")), -EEXIST);
  assertEquals(real.link(place.dir, place.dir, text("hard")), -EPERM);
});

Deno.test("renameat2() replaces, refuses to replace, exchanges", () => {
  using place = new Place();
  const a = place.stat(place.file("a", "a")).ino;
  const b = place.stat(place.file("b", "b")).ino;
  const ino = (name: string): number => {
    ok(real.statxAt(place.dir, text(name), place.statx));
    return place.statx.ino;
  };
  assertEquals(real.renameat2(place.dir, text("a"), place.dir, text("b"), RENAME.NOREPLACE), -EEXIST);
  ok(real.renameat2(place.dir, text("a"), place.dir, text("b"), RENAME.EXCHANGE));
  assertEquals([ino("a"), ino("b")], [b, a]);
  ok(real.renameat2(place.dir, text("a"), place.dir, text("b"), 0));
  assertEquals([place.names(), ino("b")], [["b"], b]);
  assertEquals(real.renameat2(place.dir, text("a"), place.dir, text("b"), 0), -ENOENT);
  assertEquals(real.renameat2(place.dir, text("b"), place.dir, text("x"), 0x80), -EINVAL);
});

Deno.test("pread() and pwrite() work at offsets past 4 GiB and leave a hole", () => {
  using place = new Place();
  const fd = place.file("big");
  const far = 6 * 2 ** 30 + 1;
  assertEquals(place.write(fd, "far", far), 3);
  assertEquals(place.read(fd, 100, far), "far");
  assertEquals(place.stat(fd).size, far + 3);
  assert(place.statx.blocks < 100);
  assertEquals(real.lseek(fd, 0, SEEK.DATA), Math.floor(far / 4096) * 4096);
  assertEquals(real.lseek(fd, 0, SEEK.HOLE), 0);
  assertEquals(real.lseek(fd, far + 3, SEEK.DATA), -ENXIO);
  assertEquals(real.lseek(fd, -1, SEEK.SET), -EINVAL);
});

Deno.test("pwrite() writes all of what is longer than one piece", () => {
  using place = new Place();
  const fd = place.file("long");
  const sent = new Uint8Array(300_001).map((_, index) => index % 251);
  const received = new Uint8Array(sent.length);
  assertEquals(real.pwrite(fd, addressOf(sent), sent.length, 5), sent.length);
  assertEquals(place.stat(fd).size, sent.length + 5);
  assertEquals(real.pread(fd, addressOf(received), received.length, 5), sent.length);
  assertEquals(received, sent);
  assertEquals(real.pwrite(fd, addressOf(sent), 0, 0), 0);
});

Deno.test("pwrite() says EBADF on a descriptor for reading, pread() answers 0 at the end", () => {
  using place = new Place();
  place.file("a", "abc");
  const fd = place.open("a", O.RDONLY);
  assertEquals(place.write(fd, "x", 0), -EBADF);
  assertEquals(real.pread(fd, place.address, 10, 3), 0);
  assertEquals(real.pread(fd, place.address, 10, -1), -EINVAL);
});

Deno.test("ftruncate() and truncate() set the size, the second through O_PATH", () => {
  using place = new Place();
  const fd = place.file("a", "abcdef");
  ok(real.ftruncate(fd, 3));
  assertEquals(place.read(fd, 10, 0), "abc");
  ok(real.truncate(place.open("a", O.PATH), 5 * 2 ** 32));
  assertEquals(place.stat(fd).size, 5 * 2 ** 32);
  assertEquals(real.ftruncate(fd, -1), -EINVAL);
  assertEquals(real.truncate(place.open(".", O.PATH), 0), -EISDIR);
});

Deno.test("fallocate() reserves, keeps the size, punches holes", () => {
  using place = new Place();
  const fd = place.file("a", "x".repeat(8192));
  ok(real.fallocate(fd, FALLOC.KEEP_SIZE, 0, 1 << 20));
  assertEquals(place.stat(fd).size, 8192);
  assert(place.statx.blocks >= 2048);
  ok(real.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, 0, 4096));
  assertEquals(place.read(fd, 1, 4095), "\0");
  ok(real.fallocate(fd, 0, 0, 2 << 20));
  assertEquals(place.stat(fd).size, 2 << 20);
  assertEquals(real.fallocate(fd, FALLOC.PUNCH_HOLE, 0, 4096), -EOPNOTSUPP);
  assertEquals(real.fallocate(fd, 0, 0, 0), -EINVAL);
});

Deno.test("copyFileRange() copies within one file system and answers short at the end", () => {
  using place = new Place();
  const from = place.file("from", "0123456789");
  const to = place.file("to");
  assertEquals(real.copyFileRange(from, 4, to, 2, 100), 6);
  assertEquals(place.read(to, 100, 0), "\0\x00456789");
  assertEquals(real.copyFileRange(from, 10, to, 0, 100), 0);
  assertEquals(real.copyFileRange(from, 0, place.open("to", O.RDONLY), 0, 1), -EBADF);
});

Deno.test("fsync() and fdatasync() work on files and directories", () => {
  using place = new Place();
  const fd = place.file("a", "a");
  assertEquals([real.fsync(fd), real.fdatasync(fd), real.fsync(place.dir)], [0, 0, 0]);
  assertEquals([real.fsync(-1), real.fdatasync(place.open("a", O.PATH))], [-EBADF, -EBADF]);
});

Deno.test("chmod() reaches files, FIFOs and directories through O_PATH, and refuses symbolic links", () => {
  using place = new Place();
  place.file("file");
  ok(real.mknodat(place.dir, text("fifo"), S_IF.IFO | 0o600, 0));
  ok(real.mkdirat(place.dir, text("dir"), 0o700));
  ok(real.symlinkat(text("file"), place.dir, text("link")));
  for (const name of ["file", "fifo", "dir"]) {
    const fd = place.open(name, O.PATH);
    ok(real.chmod(fd, 0o6751));
    assertEquals(place.stat(fd).mode & 0o7777, 0o6751, name);
  }
  assertEquals(real.chmod(place.open("link", O.PATH | O.NOFOLLOW), 0o600), -EOPNOTSUPP);
});

Deno.test("chown() reaches the object itself and leaves what is −1", () => {
  using place = new Place();
  place.file("file");
  ok(real.symlinkat(text("file"), place.dir, text("link")));
  const link = place.open("link", O.PATH | O.NOFOLLOW);
  ok(real.chown(link, 1234, 4_000_000_000));
  ok(real.chown(link, -1, -1));
  assertEquals([place.stat(link).uid, place.statx.gid], [1234, 4_000_000_000]);
  const file = place.open("file", O.PATH);
  assertEquals([place.stat(file).uid, place.statx.gid], [0, 0]);
  ok(real.chmod(file, 0o6755));
  ok(real.chown(file, 0xffff_ffff, 5));
  assertEquals([place.stat(file).uid, place.statx.gid, place.statx.mode & 0o7777], [0, 5, 0o755]);
});

Deno.test("utimens() sets nanoseconds, before 1970 too, on symbolic links too, and can leave or take now", () => {
  using place = new Place();
  ok(real.symlinkat(text("nowhere"), place.dir, text("link")));
  const link = place.open("link", O.PATH | O.NOFOLLOW);
  ok(real.utimens(link, -2, 5, 4_294_967_296, 999_999_999));
  assertEquals([place.stat(link).atime, place.statx.mtime], [-1_999_999_995n, 4_294_967_296_999_999_999n]);
  ok(real.utimens(link, 0, UTIME.OMIT, 7, 8));
  assertEquals([place.stat(link).atime, place.statx.mtime], [-1_999_999_995n, 7_000_000_008n]);
  ok(real.utimens(link, 0, UTIME.NOW, 0, UTIME.OMIT));
  assert(place.stat(link).atime > 1_700_000_000_000_000_000n);
  assertEquals(place.statx.mtime, 7_000_000_008n);
  assertEquals(real.utimens(link, 0, 1_000_000_000, 0, 0), -EINVAL);
});

Deno.test("statx() agrees with what the runtime sees", () => {
  using place = new Place();
  const fd = place.file("a", "hello");
  const seen = Deno.statSync(`${place.path}/a`);
  const got = place.stat(fd);
  assertEquals([got.size, got.ino, got.nlink, got.mode, got.blocks, got.blksize], [
    seen.size,
    seen.ino,
    seen.nlink,
    seen.mode,
    seen.blocks,
    seen.blksize,
  ]);
  assertEquals(Number(got.mtime / 1_000_000n), seen.mtime?.getTime());
  assert(got.mask & STATX_BTIME);
  assertEquals(Number(got.btime / 1_000_000n), seen.birthtime?.getTime());
  assertEquals(got.dev, deviceNumber(...majorMinor(seen.dev)));
  assertEquals(real.statx(-1, place.statx), -EBADF);
  assertEquals(real.statxAt(place.dir, text("missing"), place.statx), -ENOENT);
});

/** Splits glibc's `dev_t`. */
function majorMinor(dev: number): [number, number] {
  return [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)];
}

Deno.test("fstatfs() knows the file system", async () => {
  using place = new Place();
  const statfs = new Statfs();
  assertEquals(real.fstatfs(place.dir, statfs), 0);
  const { stdout } = await new Deno.Command("stat", { args: ["-f", "-c", "%t %l %S %b %c", place.path] })
    .output();
  const expected = string(stdout).trim().split(" ");
  assertEquals([
    statfs.type.toString(16),
    String(statfs.namelen),
    String(statfs.frsize),
    String(statfs.blocks),
    String(statfs.files),
  ], expected);
  assert(statfs.bavail <= statfs.bfree && statfs.bfree <= statfs.blocks && statfs.ffree <= statfs.files);
  assertEquals(real.fstatfs(-1, statfs), -EBADF);
});

Deno.test("inodeFlags() sees an append-only file", async () => {
  using place = new Place();
  const fd = place.file("a");
  assertEquals(ok(real.inodeFlags(fd)) & (FS_FL.APPEND | FS_FL.IMMUTABLE), 0);
  const set = await new Deno.Command("chattr", { args: ["+a", `${place.path}/a`] }).output();
  if (set.success) {
    assertEquals(ok(real.inodeFlags(fd)) & FS_FL.APPEND, FS_FL.APPEND);
    await new Deno.Command("chattr", { args: ["-a", `${place.path}/a`] }).output();
  }
  assertEquals(real.inodeFlags(place.open("a", O.PATH)), -EBADF);
  const device = place.keep(ok(real.openat(AT.FDCWD, text("/dev/null"), O.RDONLY, 0)));
  assertEquals(real.inodeFlags(device), -ENOTTY);
});

Deno.test("getdents() gives every entry once through a small buffer, seekdir() continues behind any", () => {
  using place = new Place();
  for (let i = 0; i < 300; i++) real.close(ok(real.openat(place.dir, text(`entry-${i}`), O.CREAT, 0o600)));
  ok(real.mkdirat(place.dir, text("sub"), 0o700));
  const entries = new Dirents(512);
  const order: { name: string; off: bigint; type: number }[] = [];
  while (ok(real.getdents(place.dir, entries)) > 0) {
    while (entries.next()) {
      assertEquals(BigInt(entries.offHigh) << 32n | BigInt(entries.offLow), BigInt.asUintN(64, entries.off));
      order.push({ name: string(entries.name), off: entries.off, type: entries.type });
    }
  }
  assertEquals(new Set(order.map((entry) => entry.name)).size, 303);
  assertEquals(order.length, 303);
  assertEquals(order.find((entry) => entry.name === "sub")?.type, DT.DIR);
  for (const at of [0, 1, 150, 301]) {
    ok(real.seekdir(place.dir, order[at]?.off ?? 0n));
    ok(real.getdents(place.dir, entries));
    entries.next();
    assertEquals(string(entries.name), order[at + 1]?.name);
  }
});

Deno.test("getdents() says ENOTDIR on a file and leaves no stale entries", () => {
  using place = new Place();
  const entries = new Dirents();
  ok(real.getdents(place.dir, entries));
  assertEquals(real.getdents(place.file("a"), entries), -ENOTDIR);
  assertEquals(entries.next(), false);
});

Deno.test("extended attributes live on every kind of object held by O_PATH", () => {
  using place = new Place();
  place.file("file");
  ok(real.mkdirat(place.dir, text("dir"), 0o700));
  ok(real.symlinkat(text("file"), place.dir, text("link")));
  ok(real.mknodat(place.dir, text("fifo"), S_IF.IFO | 0o600, 0));
  const value = (fd: number, name: string): Uint8Array =>
    place.buffer.slice(0, ok(real.getxattr(fd, text(name), place.address, 65536)));
  for (const name of ["file", "dir", "link", "fifo"]) {
    const fd = place.open(name, O.PATH | O.NOFOLLOW);
    place.buffer.set([0, 255, 1]);
    assertEquals(real.setxattr(fd, text("trusted.binome.id"), place.address, 3, XATTR.CREATE), 0, name);
    assertEquals(value(fd, "trusted.binome.id"), Uint8Array.of(0, 255, 1));
    assertEquals(real.setxattr(fd, text("trusted.binome.id"), place.address, 3, XATTR.CREATE), -EEXIST);
    assertEquals(real.setxattr(fd, text("trusted.other"), place.address, 3, XATTR.REPLACE), -ENODATA);
    assertEquals(real.getxattr(fd, text("trusted.binome.id"), place.address, 0), 3);
    assertEquals(real.getxattr(fd, text("trusted.binome.id"), place.address, 2), -ERANGE);
    const listed = ok(real.listxattr(fd, place.address, 65536));
    assertMatch(string(place.buffer.subarray(0, listed)), /(^|\0)trusted\.binome\.id\0/);
    assertEquals(real.removexattr(fd, text("trusted.binome.id")), 0);
    assertEquals(real.getxattr(fd, text("trusted.binome.id"), place.address, 10), -ENODATA);
    assertEquals(real.removexattr(fd, text("trusted.binome.id")), -ENODATA);
  }
  // The link's target has none: the calls went to the link itself.
  assertEquals(
    real.getxattr(place.open("file", O.PATH), text("trusted.binome.id"), place.address, 10),
    -ENODATA,
  );
});

Deno.test("setxattr() of user attributes is refused on symbolic links and FIFOs, as everywhere", () => {
  using place = new Place();
  ok(real.symlinkat(text("x"), place.dir, text("link")));
  const fd = place.open("link", O.PATH | O.NOFOLLOW);
  assertEquals(real.setxattr(fd, text("user.a"), place.address, 1, 0), -EPERM);
  assertEquals(real.setxattr(place.file("file"), text("nonsense"), place.address, 1, 0), -EOPNOTSUPP);
  assertEquals(real.setxattr(place.dir, text("user.empty"), place.address, 0, 0), 0);
  assertEquals(real.getxattr(place.dir, text("user.empty"), place.address, 10), 0);
});

Deno.test("calls through /proc/self/fd tell descriptors apart by all their digits", () => {
  using place = new Place();
  const fds: number[] = [];
  for (let i = 0; i < 120; i++) fds.push(place.file(`f${i}`));
  for (const [i, fd] of fds.entries()) ok(real.chmod(fd, i));
  for (const [i, fd] of fds.entries()) assertEquals(place.stat(fd).mode & 0o777, i);
});

Deno.test("calls through /proc/self/fd refuse descriptors that are not open", () => {
  using place = new Place();
  for (const fd of [-1, -9, 1_000_000]) {
    assertEquals([real.chmod(fd, 0), real.truncate(fd, 0), real.reopen(fd, O.RDONLY)], [
      -ENOENT,
      -ENOENT,
      -ENOENT,
    ]);
    assertEquals(real.setxattr(fd, text("user.a"), place.address, 1, 0), -ENOENT);
    assertEquals(real.link(fd, place.dir, text("a")), -ENOENT);
  }
  assertEquals(place.names(), []);
});

Deno.test("umask() answers the former mask and holds for the whole process", () => {
  using place = new Place();
  const former = real.umask(0o027);
  const fd = place.open("a", O.CREAT | O.RDWR, 0o666);
  assertEquals(real.umask(former), 0o027);
  assertEquals(place.stat(fd).mode & 0o777, 0o640);
});
