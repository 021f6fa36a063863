/** Checks on names: create, link, rename, unlink, directories, symbolic links. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { ERRNO } from "../../../lib/fuse/errno.ts";
import { backing } from "../../../lib/system/backing.ts";
import { Dirents } from "../../../lib/system/dirents.ts";
import { AT, O, RENAME, S_IF } from "../../../lib/system/linux.ts";
import { type Checks, fails, type Ground, must, text, utf8, withUmask } from "./ground.ts";

const rename = (g: Ground, from: string, to: string, flags = 0): number =>
  backing.renameat2(g.dir, utf8(from), g.dir, utf8(to), flags);
const mkdir = (g: Ground, name: string, mode = 0o755): number => backing.mkdirat(g.dir, utf8(name), mode);
const unlink = (g: Ground, name: string): number => backing.unlinkat(g.dir, utf8(name), 0);
const rmdir = (g: Ground, name: string): number => backing.unlinkat(g.dir, utf8(name), AT.REMOVEDIR);
const symlink = (g: Ground, target: string, name: string): number =>
  backing.symlinkat(utf8(target), g.dir, utf8(name));
const link = (g: Ground, from: string, to: string): number =>
  backing.link(g.open(from, O.PATH | O.NOFOLLOW), g.dir, utf8(to));

/** Checks by name. */
export const NAMES: Checks = {
  "create: O_EXCL succeeds once"(g) {
    g.file("a");
    fails(g.tryOpen("a", O.CREAT | O.EXCL | O.RDWR), ERRNO.EEXIST);
  },
  "create: O_EXCL does not follow a dangling symbolic link"(g) {
    must(symlink(g, "nowhere", "link"));
    fails(g.tryOpen("link", O.CREAT | O.EXCL | O.RDWR), ERRNO.EEXIST);
    assertEquals(g.has("nowhere"), false);
  },
  "create: O_CREAT opens what is there and leaves its mode"(g) {
    g.file("a", "content", 0o600);
    assertEquals(g.read(g.open("a", O.CREAT | O.RDWR, 0o777)), "content");
    assertEquals(g.mode("a"), 0o600);
  },
  "create: mode 0 still gives the creator a writable descriptor"(g) {
    g.write(g.open("a", O.CREAT | O.EXCL | O.RDWR, 0), "x", 0);
    assertEquals([g.mode("a"), g.stat("a").size], [0, 1]);
  },
  "create: in a directory that was removed fails with ENOENT"(g) {
    must(mkdir(g, "dir"));
    const dir = g.open("dir", O.DIRECTORY);
    must(rmdir(g, "dir"));
    fails(backing.openat(dir, utf8("a"), O.CREAT | O.WRONLY, 0o600), ERRNO.ENOENT);
    fails(backing.mkdirat(dir, utf8("a"), 0o700), ERRNO.ENOENT);
  },
  "umask: takes bits from files, directories, FIFOs"(g) {
    withUmask(0o027, () => {
      g.open("file", O.CREAT | O.WRONLY, 0o666);
      must(mkdir(g, "dir", 0o777));
      must(backing.mknodat(g.dir, utf8("fifo"), S_IF.IFO | 0o666, 0));
    });
    assertEquals([g.mode("file"), g.mode("dir"), g.mode("fifo")], [0o640, 0o750, 0o640]);
  },
  "names: 255 bytes are taken, 256 are refused"(g) {
    const longest = "n".repeat(255);
    g.file(longest);
    assertEquals(g.names(), [longest]);
    fails(g.tryOpen(`${longest}n`, O.CREAT | O.WRONLY), ERRNO.ENAMETOOLONG);
    fails(mkdir(g, `${longest}n`), ERRNO.ENAMETOOLONG);
    must(rename(g, longest, "m".repeat(255)));
    must(unlink(g, "m".repeat(255)));
  },
  "names: any bytes but slash and NUL"(g) {
    const odd = Uint8Array.of(0xff, 0x0a, 0x80, 0x20, 0x01);
    g.open(odd, O.CREAT | O.EXCL | O.WRONLY);
    const entries = new Dirents();
    must(backing.getdents(g.dir, entries));
    const seen: Uint8Array[] = [];
    while (entries.next()) if (!entries.isDot) seen.push(entries.name.slice());
    assertEquals(seen, [odd]);
    must(backing.unlinkat(g.dir, odd, 0));
  },
  "names: lookups of a missing name see it once it is there"(g) {
    assertEquals(g.has("a"), false);
    g.file("a");
    assertEquals(g.has("a"), true);
    must(unlink(g, "a"));
    assertEquals(g.has("a"), false);
  },
  "mkdir and rmdir: EEXIST, ENOTEMPTY, ENOTDIR, link counts"(g) {
    const before = g.stat(g.dir).nlink;
    must(mkdir(g, "dir"));
    assertEquals(g.stat(g.dir).nlink, before + 1);
    assertEquals(g.stat("dir").nlink, 2);
    fails(mkdir(g, "dir"), ERRNO.EEXIST);
    must(mkdir(g, "dir/sub"));
    fails(rmdir(g, "dir"), ERRNO.ENOTEMPTY);
    must(rmdir(g, "dir/sub"));
    g.file("file");
    fails(rmdir(g, "file"), ERRNO.ENOTDIR);
    fails(unlink(g, "dir"), ERRNO.EISDIR);
    must(rmdir(g, "dir"));
    assertEquals(g.stat(g.dir).nlink, before);
  },
  "setgid directory: gives its group to files and directories, and setgid to directories"(g) {
    must(mkdir(g, "dir"));
    const dir = g.open("dir", O.DIRECTORY);
    must(backing.chown(dir, -1, 4321));
    must(backing.chmod(dir, 0o2775));
    must(mkdir(g, "dir/sub"));
    g.file("dir/file");
    must(backing.mknodat(dir, utf8("fifo"), S_IF.IFO | 0o600, 0));
    must(backing.symlinkat(utf8("x"), dir, utf8("link")));
    for (const name of ["sub", "file", "fifo", "link"]) assertEquals(g.stat(`dir/${name}`).gid, 4321, name);
    assertEquals([g.mode("dir/sub"), g.mode("dir/file")], [0o2755, 0o644]);
  },
  "setgid directory: a stranger's file loses setgid"(g) {
    return strangersSetgid(g);
  },
  "owner: what a user creates is his"(g) {
    return usersFiles(g);
  },
  "sticky directory: nobody removes another's file"(g) {
    return sticky(g);
  },
  "rename: replaces a file, and the replaced one lives on while open"(g) {
    const a = g.stat(g.file("a", "new")).ino;
    const old = g.file("b", "old");
    must(rename(g, "a", "b"));
    assertEquals([g.names(), g.stat("b").ino, g.content("b")], [["b"], a, "new"]);
    assertEquals([g.read(old), g.stat(old).nlink], ["old", 0]);
  },
  "rename: two names of one file is nothing"(g) {
    g.file("a");
    must(link(g, "a", "b"));
    must(rename(g, "a", "b"));
    assertEquals([g.names(), g.stat("a").nlink], [["a", "b"], 2]);
  },
  "rename: a directory replaces only an empty directory"(g) {
    for (const name of ["from", "empty", "full", "full/x"]) must(mkdir(g, name));
    g.file("file");
    // rename(2) allows both.
    assert([-ERRNO.ENOTEMPTY, -ERRNO.EEXIST].includes(rename(g, "from", "full")));
    fails(rename(g, "from", "file"), ERRNO.ENOTDIR);
    fails(rename(g, "file", "from"), ERRNO.EISDIR);
    must(rename(g, "from", "empty"));
    assertEquals(g.names(), ["empty", "file", "full"]);
  },
  "rename: a directory cannot go into itself"(g) {
    must(mkdir(g, "a"));
    must(mkdir(g, "a/b"));
    fails(rename(g, "a", "a/b/c"), ERRNO.EINVAL);
    assert([-ERRNO.ENOTEMPTY, -ERRNO.EEXIST].includes(rename(g, "a/b", "a")));
  },
  "rename: a directory takes its content and its .. along"(g) {
    for (const name of ["x", "y", "x/dir"]) must(mkdir(g, name));
    g.file("x/dir/file", "inside");
    const [x, y] = [g.stat("x").nlink, g.stat("y").nlink];
    must(rename(g, "x/dir", "y/dir"));
    assertEquals(g.content("y/dir/file"), "inside");
    assertEquals(g.stat("y/dir/..").ino, g.stat("y").ino);
    assertEquals([g.stat("x").nlink, g.stat("y").nlink], [x - 1, y + 1]);
  },
  "rename: NOREPLACE refuses what is there"(g) {
    g.file("a", "a");
    g.file("b", "b");
    fails(rename(g, "a", "b", RENAME.NOREPLACE), ERRNO.EEXIST);
    must(rename(g, "a", "c", RENAME.NOREPLACE));
    assertEquals([g.names(), g.content("c")], [["b", "c"], "a"]);
  },
  "rename: EXCHANGE swaps a file and a directory"(g) {
    g.file("file", "content");
    must(mkdir(g, "dir"));
    must(mkdir(g, "dir/sub"));
    must(rename(g, "file", "dir", RENAME.EXCHANGE));
    assertEquals(g.content("dir"), "content");
    assertEquals(g.has("file/sub"), true);
    fails(rename(g, "file", "missing", RENAME.EXCHANGE), ERRNO.ENOENT);
    fails(rename(g, "file", "dir", RENAME.EXCHANGE | RENAME.NOREPLACE), ERRNO.EINVAL);
  },
  "rename: a missing source is ENOENT"(g) {
    fails(rename(g, "a", "b"), ERRNO.ENOENT);
  },
  "link: counts, same inode, EEXIST, no directories"(g) {
    const fd = g.file("a", "x");
    must(link(g, "a", "b"));
    assertEquals([g.stat(fd).nlink, g.stat("b").ino], [2, g.stat(fd).ino]);
    fails(link(g, "a", "b"), ERRNO.EEXIST);
    must(mkdir(g, "dir"));
    fails(link(g, "dir", "dir2"), ERRNO.EPERM);
    must(unlink(g, "a"));
    assertEquals([g.stat("b").nlink, g.content("b")], [1, "x"]);
  },
  "link: content and attributes are one under all names"(g) {
    g.file("a");
    must(link(g, "a", "b"));
    g.write(g.open("b", O.RDWR), "through b", 0);
    must(backing.chmod(g.open("b", O.PATH), 0o604));
    assertEquals([g.content("a"), g.mode("a"), g.stat("a").size], ["through b", 0o604, 9]);
  },
  "link: a symbolic link can be linked"(g) {
    must(symlink(g, "target", "a"));
    must(link(g, "a", "b"));
    assertEquals([g.readlink("b"), g.stat("b").nlink], ["target", 2]);
  },
  "unlink: an open file lives until it is closed, and no trace is listed"(g) {
    const fd = g.file("a", "before");
    must(unlink(g, "a"));
    assertEquals([g.names(), g.stat(fd).nlink], [[], 0]);
    g.write(fd, "after ", 0);
    must(backing.ftruncate(fd, 5));
    must(backing.chmod(fd, 0o604));
    assertEquals([g.read(fd), g.stat(fd).mode & 0o777], ["after", 0o604]);
    g.file("a", "another");
    assertEquals(g.read(fd), "after");
  },
  "unlink: the directory can be removed while its unlinked file is open"(g) {
    must(mkdir(g, "dir"));
    const fd = g.file("dir/a", "x");
    must(unlink(g, "dir/a"));
    must(rmdir(g, "dir"));
    g.write(fd, "y", 0);
    assertEquals(g.read(fd), "y");
  },
  "symlink: keeps any target to 1,023 bytes, is followed, loops end"(g) {
    // XFS takes no longer one; Linux itself 4095.
    must(symlink(g, "t".repeat(1023), "long"));
    assertEquals(g.readlink("long"), "t".repeat(1023));
    assertEquals(g.stat("long").size, 1023);
    g.file("file", "x");
    must(symlink(g, "file", "link"));
    assertEquals(g.content("link"), "x");
    assertEquals(g.stat("link").mode, S_IF.LNK | 0o777);
    must(symlink(g, "loop", "loop"));
    fails(g.tryOpen("loop", O.RDONLY), ERRNO.ELOOP);
    fails(g.tryOpen("link", O.RDONLY | O.NOFOLLOW), ERRNO.ELOOP);
    fails(symlink(g, "x", "link"), ERRNO.EEXIST);
  },
  "symlink: a name can become another link and be read anew"(g) {
    must(symlink(g, "one", "link"));
    assertEquals(g.readlink("link"), "one");
    must(unlink(g, "link"));
    must(symlink(g, "two", "link"));
    assertEquals(g.readlink("link"), "two");
  },
  "inode numbers: distinct, stable over rename and reopening"(g) {
    const a = g.stat(g.file("a")).ino;
    const b = g.stat(g.file("b")).ino;
    assertNotEquals(a, b);
    must(rename(g, "a", "c"));
    assertEquals([g.stat("c").ino, g.stat(g.open("c", O.RDONLY)).ino], [a, a]);
  },
  "readdir: 1,000 entries, each once, inode numbers as stat says"(g) {
    for (let i = 0; i < 1000; i++) g.close(g.file(`entry-${i}`));
    assertEquals(new Set(g.names(g.dir, 512)).size, 1000);
    const entries = new Dirents();
    must(backing.seekdir(g.dir, 0n));
    must(backing.getdents(g.dir, entries));
    for (let i = 0; i < 20 && entries.next(); i++) {
      if (!entries.isDot) assertEquals(entries.ino, g.stat(text(entries.name)).ino);
    }
  },
  "readdir: while names come and go, the others are seen exactly once"(g) {
    for (let i = 0; i < 400; i++) g.close(g.file(`stays-${i}`));
    for (let i = 0; i < 100; i++) g.close(g.file(`goes-${i}`));
    const entries = new Dirents(512);
    const seen: string[] = [];
    let gone = 0;
    must(backing.seekdir(g.dir, 0n));
    while (must(backing.getdents(g.dir, entries)) > 0) {
      while (entries.next()) seen.push(text(entries.name));
      if (gone < 100) {
        must(unlink(g, `goes-${gone}`));
        g.close(g.file(`comes-${gone++}`));
      }
    }
    const stayed = seen.filter((name) => name.startsWith("stays-"));
    assertEquals([stayed.length, new Set(stayed).size], [400, 400]);
  },
  "readdir: removing what was listed empties the directory"(g) {
    for (let i = 0; i < 500; i++) g.close(g.file(`entry-${i}`));
    const entries = new Dirents(1024);
    must(backing.seekdir(g.dir, 0n));
    while (must(backing.getdents(g.dir, entries)) > 0) {
      while (entries.next()) if (!entries.isDot) must(backing.unlinkat(g.dir, entries.name, 0));
    }
    assertEquals(g.names(), []);
  },
  "readdir: seeking back gives the same entries again"(g) {
    for (let i = 0; i < 50; i++) g.close(g.file(`entry-${i}`));
    const entries = new Dirents(1024);
    must(backing.getdents(g.dir, entries));
    entries.next();
    const off = entries.off;
    entries.next();
    const second = text(entries.name);
    while (must(backing.getdents(g.dir, entries)) > 0);
    must(backing.seekdir(g.dir, off));
    must(backing.getdents(g.dir, entries));
    assert(entries.next());
    assertEquals(text(entries.name), second);
  },
  "FIFO, socket, device: created, kept, removed"(g) {
    must(backing.mknodat(g.dir, utf8("fifo"), S_IF.IFO | 0o640, 0));
    must(backing.mknodat(g.dir, utf8("socket"), S_IF.SOCK | 0o600, 0));
    must(backing.mknodat(g.dir, utf8("null"), S_IF.CHR | 0o666, (1 << 8) | 3));
    assertEquals(g.stat("fifo").mode & S_IF.MT, S_IF.IFO);
    assertEquals(g.stat("socket").mode & S_IF.MT, S_IF.SOCK);
    assertEquals([g.stat("null").mode & S_IF.MT, g.stat("null").rdev], [S_IF.CHR, (1 << 8) | 3]);
    for (const name of ["fifo", "socket", "null"]) must(unlink(g, name));
  },
  "FIFO: carries bytes between two processes"(g) {
    return fifo(g);
  },
  "socket: a server can be reached by its path"(g) {
    return socket(g);
  },
};

async function strangersSetgid(g: Ground): Promise<void> {
  must(mkdir(g, "dir"));
  const dir = g.open("dir", O.DIRECTORY);
  must(backing.chown(dir, -1, 4321));
  must(backing.chmod(dir, 0o2777));
  await g.shell("umask 0; : > dir/file; chmod 2775 dir/file", 65534);
  // chmod by one who is not in the file's group drops the bit.
  assertEquals([g.mode("dir/file"), g.stat("dir/file").gid, g.stat("dir/file").uid], [0o775, 4321, 65534]);
}

async function usersFiles(g: Ground): Promise<void> {
  must(backing.chmod(g.dir, 0o777));
  await g.shell("umask 022; : > file; mkdir dir; ln -s x link; mkfifo fifo", 1234);
  for (const name of ["file", "dir", "link", "fifo"]) {
    assertEquals([g.stat(name).uid, g.stat(name).gid], [1234, 1234], name);
  }
  g.file("private", "secret", 0o600);
  assertNotEquals((await g.run("cat private", 1234)).code, 0);
}

async function sticky(g: Ground): Promise<void> {
  must(backing.chmod(g.dir, 0o1777));
  await g.shell(": > mine", 1234);
  assertNotEquals((await g.run("rm -f mine", 1235)).code, 0);
  await g.shell("rm mine", 1234);
}

async function fifo(g: Ground): Promise<void> {
  await g.shell("mkfifo fifo; timeout 10 sh -c 'echo through > fifo & cat fifo' > out");
  assertEquals(g.content("out"), "through\n");
}

async function socket(g: Ground): Promise<void> {
  // The path may be longer than a socket address: connect by the working directory.
  const former = Deno.cwd();
  Deno.chdir(g.path);
  try {
    using listener = Deno.listen({ transport: "unix", path: "socket" });
    const [server, client] = await Promise.all([
      listener.accept(),
      Deno.connect({ transport: "unix", path: "socket" }),
    ]);
    await client.write(utf8("hello"));
    const buffer = new Uint8Array(16);
    assertEquals(await server.read(buffer), 5);
    assertEquals(g.stat("socket").mode & S_IF.MT, S_IF.SOCK);
    server.close();
    client.close();
  } finally {
    Deno.chdir(former);
  }
}
