/** Checks at the edges: longest paths, largest files, odd bytes, files without a name, what is refused. */

import { assert, assertEquals } from "@std/assert";
import { ERRNO } from "../../../lib/fuse/errno.ts";
import { backing } from "../../../lib/system/backing.ts";
import { AT, FALLOC, O, PATH_MAX, RENAME, S_IF, SEEK } from "../../../lib/system/linux.ts";
import { answer, c, type Check, type Checks, fails, type Ground, must, text, utf8 } from "./ground.ts";

const TIB = 2 ** 40;
/** `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`, and the immutable flag: see linux/fs.h. */
const FLAGS = { get: 0x8008_6601n, set: 0x4008_6602n, immutable: 0x10 } as const;

/** A file without a name, asked for in `directory`. */
function nameless(g: Ground, directory = ".", flags = 0): number {
  return g.keep(must(g.tryOpen(directory, O.TMPFILE | O.RDWR | flags, 0o660)));
}

/** Reads or sets the inode flags; answers them or −errno. */
function inodeFlags(fd: number, flags?: number): number {
  const word = new DataView(new ArrayBuffer(8));
  word.setUint32(0, flags ?? 0, true);
  const result = answer(
    c.ioctl(fd, flags === undefined ? FLAGS.get : FLAGS.set, new Uint8Array(word.buffer)),
  );
  return result < 0 ? result : word.getUint32(0, true);
}

/** A fallocate that moves what is behind: done right, or refused with nothing changed. */
function moves(mode: number, expected: string): Check {
  return (g) => {
    const fd = g.file("a", "1".repeat(4096) + "2".repeat(4096) + "3".repeat(4096));
    const result = backing.fallocate(fd, mode, 4096, 4096);
    const read = g.read(fd).replaceAll(/(.)\1{4095}/g, "$1").replaceAll("\0", "0");
    if (result < 0) fails(result, ERRNO.EOPNOTSUPP);
    assertEquals(read, result < 0 ? "123" : expected);
  };
}

/** Checks by name. */
export const EXTREMES: Checks = {
  "names: each byte but slash and NUL, alone and in one name of 253"(g) {
    const bytes = Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f);
    for (const byte of bytes) {
      // "." is the directory itself.
      const name = byte === 0x2e ? Uint8Array.of(byte, byte, byte) : Uint8Array.of(byte);
      g.close(g.open(name, O.CREAT | O.EXCL | O.WRONLY));
      must(backing.unlinkat(g.dir, name, 0));
    }
    const all = Uint8Array.from(bytes.slice(1));
    g.close(g.open(all, O.CREAT | O.EXCL | O.WRONLY));
    must(backing.renameat2(g.dir, all, g.dir, utf8("plain"), 0));
    assertEquals(g.names(), ["plain"]);
  },
  "paths: a tree deeper than PATH_MAX is made, read, moved and removed by relative calls"(g) {
    const name = utf8("d".repeat(250));
    const levels = Math.ceil(PATH_MAX / 250) + 3;
    const fds = [g.dir];
    for (let level = 0; level < levels; level++) {
      must(backing.mkdirat(fds[level] ?? -1, name, 0o755));
      fds.push(g.keep(must(backing.openat(fds[level] ?? -1, name, O.RDONLY | O.DIRECTORY, 0))));
    }
    const deepest = fds[levels] ?? -1;
    const file = g.keep(must(backing.openat(deepest, utf8("file"), O.CREAT | O.RDWR, 0o644)));
    g.write(file, "deep", 0);
    assertEquals(g.names(deepest), ["file"]);
    must(backing.renameat2(deepest, utf8("file"), g.dir, utf8("up"), 0));
    assertEquals(g.content("up"), "deep");
    for (let level = levels - 1; level >= 0; level--) {
      must(backing.unlinkat(fds[level] ?? -1, name, AT.REMOVEDIR));
    }
    assertEquals(g.names(), ["up"]);
  },
  "paths: one that is too long is ENAMETOOLONG, also as the target of a symbolic link"(g) {
    fails(g.tryOpen("./".repeat(PATH_MAX / 2), O.RDONLY), ERRNO.ENAMETOOLONG);
    fails(backing.symlinkat(utf8("t".repeat(PATH_MAX)), g.dir, utf8("link")), ERRNO.ENAMETOOLONG);
    assertEquals(g.names(), []);
  },
  "link: one file under names in many directories, each of which can go"(g) {
    g.file("0", "one");
    const held = g.open("0", O.PATH);
    for (let i = 1; i <= 100; i++) {
      must(backing.mkdirat(g.dir, utf8(`dir-${i}`), 0o755));
      must(backing.link(held, g.dir, utf8(`dir-${i}/name`)));
    }
    assertEquals(g.stat("0").nlink, 101);
    must(backing.renameat2(g.dir, utf8("dir-1/name"), g.dir, utf8("dir-2/other"), 0));
    g.write(g.open("dir-2/other", O.RDWR), "two", 0);
    assertEquals(g.content("dir-100/name"), "two");
    for (let i = 2; i <= 100; i++) must(backing.unlinkat(g.dir, utf8(`dir-${i}/name`), 0));
    must(backing.unlinkat(g.dir, utf8("0"), 0));
    assertEquals([g.stat("dir-2/other").nlink, g.content("dir-2/other")], [1, "two"]);
  },
  "rename: WHITEOUT leaves a whiteout or is refused, nothing in between"(g) {
    g.file("a", "x");
    const result = backing.renameat2(g.dir, utf8("a"), g.dir, utf8("b"), RENAME.WHITEOUT);
    if (result < 0) {
      fails(result, ERRNO.EINVAL);
      assertEquals(g.names(), ["a"]);
    } else {
      assertEquals([g.names(), g.stat("a").mode & S_IF.MT, g.stat("a").rdev], [["a", "b"], S_IF.CHR, 0]);
    }
  },
  "holes: a file of 8 TiB takes room for what is written, and says where that is"(g) {
    let fd = g.file("a");
    must(backing.ftruncate(fd, 8 * TIB));
    g.write(fd, "middle", 5 * TIB);
    g.write(fd, "end", 8 * TIB - 3);
    must(backing.fsync(fd));
    assertEquals(g.stat(fd).size, 8 * TIB);
    assert(g.stat(fd).blocks < 4096, `${g.stat(fd).blocks} blocks`);
    g.close(fd);
    fd = g.open("a", O.RDONLY);
    assertEquals(must(backing.lseek(fd, 0, SEEK.DATA)), 5 * TIB);
    assertEquals(must(backing.lseek(fd, 5 * TIB + 65536, SEEK.DATA)), 8 * TIB - 4096);
    fd = g.open("a", O.RDWR);
    assertEquals([g.read(fd, 6, 5 * TIB), g.read(fd, 10, 8 * TIB - 3)], ["middle", "end"]);
    must(backing.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, 5 * TIB, 4096));
    assertEquals(g.read(fd, 6, 5 * TIB), "\0".repeat(6));
    must(backing.ftruncate(fd, 0));
    assertEquals([g.stat(fd).size, g.stat(fd).blocks], [0, 0]);
  },
  "fallocate: COLLAPSE_RANGE is done right or refused": moves(FALLOC.COLLAPSE_RANGE, "13"),
  "fallocate: INSERT_RANGE is done right or refused": moves(FALLOC.INSERT_RANGE, "1023"),
  "O_TMPFILE: carries content, owner, mode, times and xattrs into its name"(g) {
    const fd = nameless(g);
    g.write(fd, "x".repeat(100_000), 1 << 20);
    must(backing.chown(fd, 12, 34));
    must(backing.chmod(fd, 0o4751));
    must(g.setxattr(fd, "user.a", "kept"));
    must(backing.utimens(fd, 1, 2, 3, 4));
    must(backing.link(fd, g.dir, utf8("named")));
    const { uid, gid, mode, mtime, size, nlink } = g.stat("named");
    assertEquals([uid, gid, mode & 0o7777, mtime, size, nlink], [
      12,
      34,
      0o4751,
      3_000_000_004n,
      (1 << 20) + 100_000,
      1,
    ]);
    assertEquals(g.getxattr(g.open("named", O.RDONLY), "user.a"), "kept");
  },
  "O_TMPFILE: a name that is taken is EEXIST, and another can be given"(g) {
    g.file("taken", "old");
    const fd = nameless(g);
    g.write(fd, "new", 0);
    fails(backing.link(fd, g.dir, utf8("taken")), ERRNO.EEXIST);
    assertEquals([g.content("taken"), g.stat(fd).nlink], ["old", 0]);
    must(backing.link(fd, g.dir, utf8("a")));
    must(backing.link(fd, g.dir, utf8("b")));
    assertEquals([g.names(), g.stat(fd).nlink, g.content("b")], [["a", "b", "taken"], 2, "new"]);
    must(backing.unlinkat(g.dir, utf8("a"), 0));
    must(backing.unlinkat(g.dir, utf8("b"), 0));
    assertEquals([g.read(fd), g.stat(fd).nlink], ["new", 0]);
  },
  "O_TMPFILE: leaves the directory's mtime, and lets it be removed"(g) {
    must(backing.mkdirat(g.dir, utf8("dir"), 0o755));
    g.age("dir");
    const fd = nameless(g, "dir");
    assertEquals([g.aged("dir"), g.names(g.open("dir", O.DIRECTORY))], [true, []]);
    must(backing.unlinkat(g.dir, utf8("dir"), AT.REMOVEDIR));
    g.write(fd, "on", 0);
    must(backing.link(fd, g.dir, utf8("named")));
    assertEquals(g.content("named"), "on");
  },
  "O_TMPFILE: takes group and default ACL from the directory"(g) {
    return inherits(g);
  },
  "O_TMPFILE: 300 at a time, each its own"(g) {
    const fds = Array.from({ length: 300 }, () => nameless(g));
    fds.forEach((fd, index) => g.write(fd, `${index}`, 0));
    fds.forEach((fd, index) => index % 3 === 0 && must(backing.link(fd, g.dir, utf8(`n${index}`))));
    assertEquals([g.names().length, g.content("n297"), g.read(fds[298] ?? -1)], [100, "297", "298"]);
  },
  "unlink: an open file that lost its name takes every kind of change"(g) {
    const fd = g.file("a", "content");
    must(g.setxattr(fd, "user.a", "1"));
    must(backing.unlinkat(g.dir, utf8("a"), 0));
    must(backing.fallocate(fd, 0, 0, 1 << 20));
    must(backing.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, 0, 3));
    must(backing.chown(fd, 5, 6));
    must(g.setxattr(fd, "user.a", "22"));
    must(backing.utimens(fd, 7, 0, 8, 0));
    must(backing.fsync(fd));
    assertEquals([g.read(fd, 7), g.getxattr(fd, "user.a")], ["\0\0\0tent", "22"]);
    assertEquals([g.stat(fd).uid, g.stat(fd).gid, g.stat(fd).mtime], [5, 6, 8_000_000_000n]);
    // It had a name once: linkat(2) gives it none again.
    fails(backing.link(fd, g.dir, utf8("again")), ERRNO.ENOENT);
  },
  "xattr: user, trusted and security ones side by side"(g) {
    const fd = g.file("a");
    for (const name of ["user.a", "trusted.a", "security.a"]) must(g.setxattr(fd, name, name));
    assertEquals(g.listxattr(fd), ["security.a", "trusted.a", "user.a"]);
    for (const name of ["user.a", "trusted.a", "security.a"]) assertEquals(g.getxattr(fd, name), name);
  },
  "inode flags: an immutable file is one, or the flag is refused"(g) {
    const fd = g.file("a", "x");
    const flags = must(inodeFlags(fd));
    assertEquals(flags & FLAGS.immutable, 0);
    const set = inodeFlags(fd, flags | FLAGS.immutable);
    if (set < 0) {
      // What a file system refuses with EOPNOTSUPP the kernel tells as ENOTTY, since Linux 6.17.
      if (set !== -ERRNO.ENOTTY) fails(set, ERRNO.EOPNOTSUPP);
      assertEquals(must(inodeFlags(fd)), flags);
      g.write(g.open("a", O.RDWR), "y", 0);
      return;
    }
    try {
      fails(g.tryOpen("a", O.WRONLY), ERRNO.EPERM);
      fails(backing.unlinkat(g.dir, utf8("a"), 0), ERRNO.EPERM);
    } finally {
      must(inodeFlags(fd, flags));
    }
  },
  "block device: created with its number, kept under another name"(g) {
    must(backing.mknodat(g.dir, utf8("loop"), S_IF.BLK | 0o640, (7 << 8) | 200));
    must(backing.renameat2(g.dir, utf8("loop"), g.dir, utf8("other"), 0));
    const { mode, rdev } = g.stat("other");
    assertEquals([mode, rdev], [S_IF.BLK | 0o640, (7 << 8) | 200]);
  },
};

async function inherits(g: Ground): Promise<void> {
  await g.shell("mkdir dir && chgrp 4321 dir && chmod 2775 dir");
  assertEquals(g.stat(nameless(g, "dir")).gid, 4321);
  await g.shell("setfacl -d -m u::rwx,g::rx,o::---,u:1234:rwx dir");
  must(backing.link(nameless(g, "dir"), g.dir, utf8("named")));
  const lines = text(utf8(await g.shell("getfacl -ncE named"))).trim().split("\n");
  assertEquals(lines, ["user::rw-", "user:1234:rwx", "group::r-x", "mask::rw-", "other::---"]);
}
