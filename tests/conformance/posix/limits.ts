/** Checks at a file system's limits: what is too much is refused whole, and what is just within is kept. */

import type { Checks } from "./ground.ts";
import { program } from "./programs.ts";

/** Checks by name. */
export const LIMITS: Checks = {
  "utimens: times to the year 2262 are kept, beyond they are kept or cut to the last there is": program(`
fd = new("a")
for second in (-(2**31) + 1, -1, 0, 2**31 - 1, 2**31, 2**32, 2**33, 2**63 // 10**9 - 1):
    os.utime(fd, ns=(second * 10**9 + 1, second * 10**9 + 123456789))
    assert os.stat("a").st_mtime_ns == second * 10**9 + 123456789, (second, os.stat("a").st_mtime_ns)
for far in (13569465600, 2**36):
    os.utime(fd, ns=(0, far * 10**9))
    os.fsync(fd)
    assert 2**63 - 10**9 < os.stat("a").st_mtime_ns <= far * 10**9, os.stat("a").st_mtime_ns
`),
  "truncate: to the same length succeeds, and ftruncate moves the mtime": program(`
fd = new("a", b"12345")
os.utime("a", ns=(0, 0))
os.ftruncate(fd, 5)
assert os.stat("a").st_mtime_ns > 0 and content("a") == b"12345"
`),
  "xattr: a value of 64 KiB is kept or refused whole, one byte more is E2BIG": program(`
fd = new("a")
os.setxattr(fd, "user.a", b"old")
refused(errno.E2BIG, os.setxattr, fd, "user.a", bytes(65537))
for size in (4000, 5000, 30000, 65536):
    value = os.urandom(size)
    before = os.getxattr(fd, "user.a")
    try: os.setxattr(fd, "user.a", value)
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.E2BIG, errno.EDQUOT), error
        value = before
    assert os.getxattr("a", "user.a") == value, size
`),
  "xattr: 100 on one file, all listed; the one that has no room leaves the others": program(`
fd = new("a")
names = []
for i in range(100):
    try: os.setxattr(fd, "user.%d" % i, b"%d" % i)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        break
    names.append("user.%d" % i)
assert len(names) > 50 and sorted(os.listxattr("a")) == sorted(names), len(names)
assert all(os.getxattr("a", name) == name[5:].encode() for name in names)
for name in names: os.removexattr(fd, name)
assert os.listxattr("a") == []
`),
  "write: past the largest file is EFBIG, and changes nothing": program(`
fd = new("a", b"x")
refused((errno.EFBIG, errno.EINVAL), os.pwrite, fd, b"y", 2**63 - 1)
refused((errno.EFBIG, errno.EINVAL), os.ftruncate, fd, 2**63 - 1)
assert content("a") == b"x"
`),
  "write: past RLIMIT_FSIZE is cut short, then EFBIG and SIGXFSZ": program(`
fd = new("a")
def body():
    told = []
    signal.signal(signal.SIGXFSZ, lambda *_: told.append(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
    assert os.pwrite(fd, b"x" * 20000, 0) == 10000
    refused(errno.EFBIG, os.pwrite, fd, b"y", 10000)
    refused(errno.EFBIG, os.ftruncate, fd, 10001)
    assert len(told) == 2, told
assert ended(child(body)) == 0
os.fsync(fd)
assert content("a") == b"x" * 10000
`),
  "names: 255 bytes at each end of rename and link, as target and as xattr": program(`
long, other = b"\\xff" * 255, b"\\x01" * 255
os.close(os.open(long, os.O_CREAT | os.O_WRONLY))
os.link(long, other)
os.rename(other, b"n" * 255)
assert sorted(os.listdir(b".")) == [b"n" * 255, long]
refused(errno.ENAMETOOLONG, os.rename, long, b"n" * 256)
refused(errno.ENAMETOOLONG, os.link, long, b"n" * 256)
refused(errno.ENAMETOOLONG, os.symlink, b"x", b"n" * 256)
refused(errno.ENAMETOOLONG, os.mkdir, b"n" * 256)
refused(errno.ENAMETOOLONG, os.stat, b"n" * 256)
refused(errno.ENAMETOOLONG, os.unlink, b"n" * 256)
`),
  "symbolic links: 40 are followed, 41 are ELOOP, one to itself too": program(`
new("0", b"end")
for i in range(1, 42): os.symlink("%d" % (i - 1), "%d" % i)
assert content("40") == b"end"
refused(errno.ELOOP, os.open, "41", os.O_RDONLY)
os.symlink("me", "me")
refused(errno.ELOOP, os.stat, "me")
`),
  "symbolic links: a target of 4,095 bytes is kept or refused whole": program(`
for length in (59, 60, 1023, 1024, 4000, 4095):
    try: os.symlink("t" * length, "l%d" % length)
    except OSError as error: assert error.errno == errno.ENAMETOOLONG, error
    else:
        assert os.readlink("l%d" % length) == "t" * length
        assert os.lstat("l%d" % length).st_size == length
assert len(os.listdir(".")) >= 4
`),
  "setgid: cleared by who sets an ACL and is not of the group": program(`
import subprocess
os.chmod(".", 0o777)
new("a"); os.chown("a", 1234, 4321); os.chmod("a", 0o2755)
subprocess.run(["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--",
    "setfacl", "-m", "u::rwx,g::rwx,o::rwx", "a"], check=True)
assert os.stat("a").st_mode & 0o7777 == 0o777, oct(os.stat("a").st_mode)
`),
  "fallocate and copy_file_range by another user clear setuid": program(`
os.chmod(".", 0o777)
new("from", b"x" * 100)
def changes(name, change):
    os.close(new(name, b"y" * 100)); os.chmod(name, 0o6777)
    def body():
        os.setgroups([]); os.setgid(1234); os.setuid(1234)
        change(os.open(name, os.O_RDWR))
    assert ended(child(body)) == 0
    assert os.stat(name).st_mode & 0o7777 == 0o777, (name, oct(os.stat(name).st_mode))
changes("a", lambda fd: call(c.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(10000))))
changes("b", lambda fd: call(c.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(50))))
changes("c", lambda fd: os.copy_file_range(os.open("from", os.O_RDONLY), fd, 50))
`),
  "chown of nothing by a stranger takes setuid from no file, and setgid from no directory": program(`
os.chmod(".", 0o777)
os.close(new("a")); os.chmod("a", 0o6755)
os.mkdir("d"); os.chmod("d", 0o2777)
def body():
    os.setgroups([]); os.setgid(1234); os.setuid(1234)
    for name in ("a", "d"):
        try: os.chown(name, -1, -1)
        except PermissionError: pass
assert ended(child(body)) == 0
assert os.stat("a").st_mode & 0o7777 == 0o6755, oct(os.stat("a").st_mode)
assert os.stat("d").st_mode & 0o7777 == 0o2777, oct(os.stat("d").st_mode)
`),
  "sticky directory: its owner and the file's may rename and remove, root too": program(`
os.mkdir("d"); os.chown("d", 1000, 1000); os.chmod("d", 0o1777)
for name in ("a", "b", "c", "e"): os.close(new("d/" + name)); os.chown("d/" + name, 1001, 1001)
def become(uid, body):
    def run():
        os.setgroups([]); os.setgid(uid); os.setuid(uid)
        body()
    assert ended(child(run)) == 0
become(1002, lambda: refused(errno.EPERM, os.unlink, "d/a"))
become(1002, lambda: refused(errno.EPERM, os.rename, "d/a", "d/z"))
become(1002, lambda: (os.close(new("d/mine")), refused(errno.EPERM, os.rename, "d/mine", "d/a"), os.unlink("d/mine")))
become(1000, lambda: os.unlink("d/a"))
become(1001, lambda: os.rename("d/b", "d/c"))
os.unlink("d/c"); os.unlink("d/e")
assert os.listdir("d") == []
`),
  "statvfs: inodes are counted, and the flags are a directory's that is written": program(`
before = os.statvfs(".")
for i in range(20): os.close(new("f%d" % i))
after = os.statvfs(".")
assert after.f_files > 0 and before.f_ffree - after.f_ffree > 0, (before, after)
assert not after.f_flag & os.ST_RDONLY
`),
  "holes: a block that is punched in part keeps the rest, behind the end nothing changes": program(`
fd = new("a", b"x" * 3 * P)
punch = lambda at, length: call(c.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(length)))
punch(100, 2 * P)
punch(3 * P - 50, 10 * P)
assert content("a") == b"x" * 100 + bytes(2 * P) + b"x" * (P - 150) + bytes(50)
punch(10 * P, P)
assert os.stat("a").st_size == 3 * P
call(c.fallocate(fd, 0x11, ctypes.c_long(2 * P), ctypes.c_long(5 * P)))
assert os.stat("a").st_size == 3 * P and content("a")[2 * P:] == bytes(P)
`),
};
