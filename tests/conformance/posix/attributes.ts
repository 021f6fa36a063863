/** Checks on attributes: modes, owners, times, extended attributes, ACLs, the file system itself. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { ERRNO } from "../../../lib/fuse/errno.ts";
import { backing } from "../../../lib/system/backing.ts";
import { AT, FALLOC, O, S_IF, UTIME, XATTR } from "../../../lib/system/linux.ts";
import { Statfs } from "../../../lib/system/statx.ts";
import { type Check, type Checks, fails, type Ground, must, utf8, withUmask } from "./ground.ts";

const path = (g: Ground, name: string): number => g.open(name, O.PATH | O.NOFOLLOW);

/** Whether a change to `name` moves the mtime of `touched`, seen from a time long ago. */
function moves(touched: string, change: (g: Ground) => void, expected = true): Check {
  return (g) => {
    must(backing.mkdirat(g.dir, utf8("dir"), 0o755));
    g.file("dir/file", "content");
    must(backing.mkdirat(g.dir, utf8("dir/sub"), 0o755));
    g.age("dir/file");
    g.age("dir");
    change(g);
    assertEquals(!g.aged(touched), expected);
  };
}

const inDir = (g: Ground): number => g.open("dir", O.DIRECTORY);

/** Checks by name. */
export const ATTRIBUTES: Checks = {
  "chmod: all bits, on files, directories, FIFOs; not on symbolic links"(g) {
    g.file("file");
    must(backing.mkdirat(g.dir, utf8("dir"), 0o700));
    must(backing.mknodat(g.dir, utf8("fifo"), S_IF.IFO | 0o600, 0));
    must(backing.symlinkat(utf8("file"), g.dir, utf8("link")));
    for (const name of ["file", "dir", "fifo"]) {
      must(backing.chmod(path(g, name), 0o7531));
      assertEquals(g.mode(name), 0o7531, name);
    }
    fails(backing.chmod(path(g, "link"), 0o600), ERRNO.EOPNOTSUPP);
  },
  "chmod: another user's file is refused"(g) {
    return refusedToOthers(g);
  },
  "chown: owner and group apart, on symbolic links too"(g) {
    must(backing.symlinkat(utf8("x"), g.dir, utf8("link")));
    must(backing.chown(path(g, "link"), 1234, -1));
    must(backing.chown(path(g, "link"), -1, 4_294_967_294));
    assertEquals([g.stat("link").uid, g.stat("link").gid], [1234, 4_294_967_294]);
  },
  "chown: clears setuid, and setgid of programs"(g) {
    for (const [name, mode, after] of [["a", 0o6755, 0o755], ["b", 0o2644, 0o2644]] as const) {
      g.file(name);
      must(backing.chmod(path(g, name), mode));
      must(backing.chown(path(g, name), 1, 1));
      assertEquals(g.mode(name), after, name);
    }
  },
  "write by another user clears setuid and setgid"(g) {
    return killPrivileges(g, "printf y >> a");
  },
  "truncate by another user clears setuid and setgid"(g) {
    return killPrivileges(g, "truncate -s 1 a");
  },
  "opening with O_TRUNC by another user clears setuid and setgid"(g) {
    return killPrivileges(g, ": > a");
  },
  "write clears file capabilities"(g) {
    const fd = g.file("a", "x");
    // VFS_CAP_REVISION_2 with cap_net_bind_service: see linux/capability.h.
    const capability = "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    must(g.setxattr(fd, "security.capability", capability));
    g.write(fd, "y", 0);
    assertEquals(g.getxattr(fd, "security.capability"), -ERRNO.ENODATA);
  },
  "utimens: nanoseconds, past and future, now and omit"(g) {
    g.file("a");
    must(backing.utimens(path(g, "a"), 1, 2, 4_000_000_000, 999_999_999));
    assertEquals([g.stat("a").atime, g.stat("a").mtime], [1_000_000_002n, 4_000_000_000_999_999_999n]);
    must(backing.utimens(path(g, "a"), 0, UTIME.OMIT, 0, UTIME.NOW));
    assertEquals(g.stat("a").atime, 1_000_000_002n);
    const mtime = g.stat("a").mtime;
    assert(mtime > 1_700_000_000_000_000_000n && mtime < 4_000_000_000_000_000_000n, `${mtime}`);
  },
  "utimens: on a symbolic link, and before 1970"(g) {
    must(backing.symlinkat(utf8("x"), g.dir, utf8("link")));
    must(backing.utimens(path(g, "link"), -5, 1, -7, 3));
    assertEquals([g.stat("link").atime, g.stat("link").mtime], [-4_999_999_999n, -6_999_999_997n]);
  },
  "utimens: a time set is not overwritten by closing or reading"(g) {
    const fd = g.file("a", "x");
    must(backing.utimens(fd, 5, 5, 6, 6));
    g.close(fd);
    assertEquals(g.content("a"), "x");
    assertEquals(g.stat("a").mtime, 6_000_000_006n);
  },
  "mtime: write moves the file's": moves("dir/file", (g) => g.write(g.open("dir/file", O.RDWR), "x", 0)),
  "mtime: truncate moves the file's": moves(
    "dir/file",
    (g) => void must(backing.ftruncate(g.open("dir/file", O.RDWR), 1)),
  ),
  "mtime: O_TRUNC moves the file's": moves("dir/file", (g) => void g.open("dir/file", O.RDWR | O.TRUNC)),
  "mtime: fallocate that changes bytes moves the file's": moves(
    "dir/file",
    (g) =>
      void must(backing.fallocate(g.open("dir/file", O.RDWR), FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, 0, 4096)),
  ),
  "mtime: reading leaves the file's": moves("dir/file", (g) => void g.content("dir/file"), false),
  "mtime: chmod, chown, link, xattr leave the file's": moves("dir/file", (g) => {
    const fd = path(g, "dir/file");
    must(backing.chmod(fd, 0o600));
    must(backing.chown(fd, 1, 1));
    must(backing.link(fd, g.dir, utf8("linked")));
    must(g.setxattr(fd, "user.a", "x"));
  }, false),
  "mtime: writing a file leaves the directory's": moves(
    "dir",
    (g) => g.write(g.open("dir/file", O.RDWR), "x", 0),
    false,
  ),
  "mtime: create moves the directory's": moves("dir", (g) => void g.file("dir/new")),
  "mtime: mkdir moves the directory's": moves(
    "dir",
    (g) => void must(backing.mkdirat(inDir(g), utf8("d"), 0o700)),
  ),
  "mtime: unlink moves the directory's": moves(
    "dir",
    (g) => void must(backing.unlinkat(inDir(g), utf8("file"), 0)),
  ),
  "mtime: rmdir moves the directory's": moves(
    "dir",
    (g) => void must(backing.unlinkat(inDir(g), utf8("sub"), AT.REMOVEDIR)),
  ),
  "mtime: link moves the directory's": moves(
    "dir",
    (g) => void must(backing.link(path(g, "dir/file"), inDir(g), utf8("linked"))),
  ),
  "mtime: symlink moves the directory's": moves(
    "dir",
    (g) => void must(backing.symlinkat(utf8("x"), inDir(g), utf8("link"))),
  ),
  "mtime: rename moves both directories', and leaves the file's"(g) {
    for (const name of ["from", "to"]) must(backing.mkdirat(g.dir, utf8(name), 0o755));
    g.file("from/file");
    for (const name of ["from/file", "from", "to"]) g.age(name);
    must(backing.renameat2(g.dir, utf8("from/file"), g.dir, utf8("to/file"), 0));
    assertEquals([g.aged("from"), g.aged("to"), g.aged("to/file")], [false, false, true]);
  },
  "mtime: a failing create leaves the directory's": moves(
    "dir",
    (g) => fails(g.tryOpen("dir/file", O.CREAT | O.EXCL | O.RDWR), ERRNO.EEXIST),
    false,
  ),
  "xattr: set, replace, list, remove, with their errors"(g) {
    const fd = g.file("a");
    must(g.setxattr(fd, "user.one", "1", XATTR.CREATE));
    fails(g.setxattr(fd, "user.one", "1", XATTR.CREATE), ERRNO.EEXIST);
    fails(g.setxattr(fd, "user.two", "2", XATTR.REPLACE), ERRNO.ENODATA);
    must(g.setxattr(fd, "user.two", ""));
    must(g.setxattr(fd, "user.one", "replaced\0byte", XATTR.REPLACE));
    assertEquals([g.getxattr(fd, "user.one"), g.getxattr(fd, "user.two")], ["replaced\0byte", ""]);
    assertEquals(g.listxattr(fd), ["user.one", "user.two"]);
    must(backing.removexattr(fd, utf8("user.one")));
    assertEquals(g.getxattr(fd, "user.one"), -ERRNO.ENODATA);
    fails(backing.removexattr(fd, utf8("user.one")), ERRNO.ENODATA);
    assertEquals(g.listxattr(fd), ["user.two"]);
  },
  "xattr: a buffer too small is ERANGE, size 0 asks for the length"(g) {
    const fd = g.file("a");
    must(g.setxattr(fd, "user.one", "12345"));
    assertEquals(backing.getxattr(fd, utf8("user.one"), 0, 0), 5);
    assertEquals(backing.listxattr(fd, 0, 0), 9);
  },
  "xattr: on directories, and trusted ones on symbolic links"(g) {
    must(g.setxattr(g.dir, "user.dir", "d"));
    assertEquals(g.getxattr(g.dir, "user.dir"), "d");
    must(backing.symlinkat(utf8("x"), g.dir, utf8("link")));
    const link = path(g, "link");
    must(g.setxattr(link, "trusted.a", "l"));
    assertEquals([g.getxattr(link, "trusted.a"), g.listxattr(link)], ["l", ["trusted.a"]]);
    fails(g.setxattr(link, "user.a", "l"), ERRNO.EPERM);
  },
  "xattr: 2,000 bytes of value and names of 255 bytes"(g) {
    const fd = g.file("a");
    must(g.setxattr(fd, "user.long", "v".repeat(2000)));
    assertEquals(g.getxattr(fd, "user.long"), "v".repeat(2000));
    must(g.setxattr(fd, `user.${"n".repeat(250)}`, "x"));
    fails(g.setxattr(fd, `user.${"n".repeat(251)}`, "x"), ERRNO.ERANGE);
  },
  "xattr: go with the file through rename and stay with it through chmod"(g) {
    const fd = g.file("a");
    must(g.setxattr(fd, "user.a", "kept"));
    must(backing.renameat2(g.dir, utf8("a"), g.dir, utf8("b"), 0));
    must(backing.chmod(fd, 0o600));
    assertEquals(g.getxattr(path(g, "b"), "user.a"), "kept");
  },
  "ACL: grants a named user what the mode does not"(g) {
    return aclGrants(g);
  },
  "ACL: chmod sets the mask"(g) {
    return aclMask(g);
  },
  "ACL: a default ACL is inherited and replaces the umask"(g) {
    return aclDefault(g);
  },
  "ACL: setting one updates the mode"(g) {
    return aclMode(g);
  },
  "statfs: sane and 255 bytes of name"(g) {
    const statfs = new Statfs();
    must(backing.fstatfs(g.dir, statfs));
    assertEquals(statfs.namelen, 255);
    assert(statfs.bsize >= 512 && statfs.frsize >= 512);
    assert(statfs.blocks > 0 && statfs.bavail <= statfs.bfree && statfs.bfree <= statfs.blocks);
    assert(statfs.ffree <= statfs.files);
  },
  "statfs: a big file takes room"(g) {
    const before = new Statfs();
    must(backing.fstatfs(g.dir, before));
    must(backing.fallocate(g.file("a"), 0, 0, 8 << 20));
    const after = new Statfs();
    must(backing.fstatfs(g.dir, after));
    // Others may free room meanwhile, but hardly 4 MiB.
    assert((before.bfree - after.bfree) * before.frsize > 4 << 20);
  },
};

async function refusedToOthers(g: Ground): Promise<void> {
  must(backing.chmod(g.dir, 0o777));
  g.file("a", "x");
  assertEquals((await g.run("chmod 777 a", 1234)).code, 1);
  assertEquals((await g.run("chown 1234 a", 1234)).code, 1);
  assertEquals(g.mode("a"), 0o644);
}

async function killPrivileges(g: Ground, command: string): Promise<void> {
  must(backing.chmod(g.dir, 0o777));
  g.file("a", "xx");
  must(backing.chmod(path(g, "a"), 0o6777));
  await g.shell(command, 1234);
  assertEquals(g.mode("a"), 0o777);
}

async function aclGrants(g: Ground): Promise<void> {
  must(backing.chmod(g.dir, 0o755));
  g.file("a", "secret", 0o600);
  assertEquals((await g.run("cat a", 1234)).code, 1);
  await g.shell("setfacl -m u:1234:r a");
  assertEquals(await g.shell("cat a", 1234), "secret");
  assertEquals((await g.run("cat a", 1235)).code, 1);
  await g.shell("setfacl -b a");
  assertEquals((await g.run("cat a", 1234)).code, 1);
}

async function aclMask(g: Ground): Promise<void> {
  must(backing.chmod(g.dir, 0o755));
  g.file("a", "x", 0o660);
  await g.shell("setfacl -m u:1234:rw a");
  must(backing.chmod(path(g, "a"), 0o600));
  assertEquals(g.mode("a"), 0o600);
  assertMatch(await g.shell("getfacl -nE a"), /mask::---/);
  assertEquals((await g.run("cat a", 1234)).code, 1);
}

async function aclDefault(g: Ground): Promise<void> {
  await g.shell("mkdir dir && setfacl -d -m u::rwx,g::rx,o::---,u:1234:rwx dir");
  withUmask(0o077, () => {
    g.open("dir/file", O.CREAT | O.WRONLY, 0o666);
    must(backing.mkdirat(g.dir, utf8("dir/sub"), 0o777));
  });
  const file = await g.shell("getfacl -ncE dir/file");
  assertMatch(file, /user:1234:rwx/);
  assertMatch(file, /mask::rw-/);
  assertEquals(g.mode("dir/file"), 0o660);
  assertMatch(await g.shell("getfacl -ncE dir/sub"), /default:user:1234:rwx/);
  assertEquals(g.mode("dir/sub"), 0o770);
}

async function aclMode(g: Ground): Promise<void> {
  g.file("a", "x", 0o600);
  await g.shell("setfacl -m u::rwx,g::r-x,o::--x a");
  assertEquals(g.mode("a"), 0o751);
  await g.shell("setfacl -m u:1234:rwx a");
  assertEquals(g.mode("a"), 0o771);
}
