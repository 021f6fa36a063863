/**
 * Checks that take a program of their own: two processes, signals, calls without a binding here. Each is a few lines of
 * Python, run in the fresh directory; what it asserts is the promise.
 */

import { assert, assertEquals } from "@std/assert";
import type { Check, Checks, Ground } from "./ground.ts";

const PRELUDE = `import ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, struct, sys
c = ctypes.CDLL(None, use_errno=True)
P = 4096
def refused(code, call, *args):
    try: found = call(*args)
    except OSError as error: assert error.errno in (code if isinstance(code, tuple) else (code,)), error
    else: raise AssertionError("should fail with %s but answered %r" % (code, found))
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def new(name, content=b"", flags=0):
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | flags, 0o644)
    assert os.write(fd, content) == len(content)
    return fd
def content(name):
    with open(name, "rb") as file: return file.read()
def child(body):
    "Runs body in a child; answers its status as waitpid tells it."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException as error:
            print(repr(error), flush=True)
        finally: os._exit(code)
    return pid
def ended(pid):
    return os.waitpid(pid, 0)[1]
def lock(fd, kind, start, length, command=fcntl.F_SETLK):
    return fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, 0, start, length, 0))
`;
/** A program that hangs fails by itself. */
const LIMIT_S = 120;

/** Runs a program; it must end well. */
async function python(g: Ground, program: string): Promise<void> {
  // Debian's own, and it goes to the directory by itself: a wrapper would look for it by a path of this mount namespace.
  const args = ["-I", "-c", `${PRELUDE}os.chdir(sys.argv[1])\nsignal.alarm(${LIMIT_S})\n${program}`, g.path];
  const { code, stdout, stderr } = await new Deno.Command("/usr/bin/python3", { args }).output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(code, 0, `${out}${error}`);
  assert(error === "", error);
}

/** A check that is such a program. */
export const program = (text: string): Check => (g) => python(g, text);

/** Checks by name. */
export const PROGRAMS: Checks = {
  "O_APPEND: what two processes append in pieces of 10,000 bytes stays whole": program(`
new("log")
def append(byte):
    fd = os.open("log", os.O_WRONLY | os.O_APPEND)
    for i in range(50): assert os.write(fd, byte * 10000) == 10000
pids = [child(lambda byte=byte: append(byte)) for byte in (b"a", b"b")]
assert [ended(pid) for pid in pids] == [0, 0]
found = content("log")
pieces = [found[at:at + 10000] for at in range(0, len(found), 10000)]
assert len(found) == 1000000, len(found)
assert all(piece in (b"a" * 10000, b"b" * 10000) for piece in pieces)
`),
  "pwritev2: RWF_APPEND, RWF_DSYNC and many pieces in one call": program(`
fd = new("a", b"start")
assert os.pwritev(fd, [b" one", b" two"], 0, os.RWF_APPEND) == 8
assert os.pwritev(fd, [b"S"], 0, os.RWF_DSYNC) == 1
assert content("a") == b"Start one two", content("a")
many = [b"%04d" % i for i in range(1000)]
assert os.pwritev(fd, many, 100) == 4000
assert content("a")[100:] == b"".join(many)
`),
  "fcntl locks: exclude another process, name it, and go when any descriptor is closed": program(`
fd = new("a", b"0123456789")
lock(fd, fcntl.F_WRLCK, 2, 3)
def other():
    mine = os.open("a", os.O_RDWR)
    refused((errno.EAGAIN, errno.EACCES), lock, mine, fcntl.F_RDLCK, 4, 1)
    kind, _, start, length, pid = struct.unpack("hhqqi4x", lock(mine, fcntl.F_WRLCK, 0, 0, fcntl.F_GETLK))
    assert (kind, start, length, pid) == (fcntl.F_WRLCK, 2, 3, os.getppid()), (kind, start, length, pid)
    lock(mine, fcntl.F_WRLCK, 5, 0)
assert ended(child(other)) == 0
os.close(os.open("a", os.O_RDONLY))
def free(): lock(os.open("a", os.O_RDWR), fcntl.F_WRLCK, 0, 0)
assert ended(child(free)) == 0
`),
  "fcntl locks: who waits gets it when the holder ends, and a circle is EDEADLK": program(`
fd = new("a", b"0123456789")
ready, go = os.pipe(), os.pipe()
def holder():
    lock(os.open("a", os.O_RDWR), fcntl.F_WRLCK, 0, 1)
    os.write(ready[1], b"x")
    try: lock(os.open("a", os.O_RDWR), fcntl.F_WRLCK, 1, 1, fcntl.F_SETLKW)
    except OSError as error:
        assert error.errno == errno.EDEADLK
lock(fd, fcntl.F_WRLCK, 1, 1)
pid = child(holder)
os.read(ready[0], 1)
try: lock(fd, fcntl.F_WRLCK, 0, 1, fcntl.F_SETLKW)
except OSError as error:
    assert error.errno == errno.EDEADLK
    lock(fd, fcntl.F_UNLCK, 1, 1)
assert ended(pid) == 0
lock(fd, fcntl.F_WRLCK, 0, 0)
`),
  "OFD locks: belong to the open file, exclude another process, outlive a closed descriptor": program(`
OFD_SETLK = 37
fd = new("a", b"0123456789")
lock(fd, fcntl.F_WRLCK, 0, 5, OFD_SETLK)
os.close(os.open("a", os.O_RDWR))
refused(errno.EAGAIN, lock, os.open("a", os.O_RDWR), fcntl.F_WRLCK, 4, 1, OFD_SETLK)
def other():
    refused(errno.EAGAIN, lock, os.open("a", os.O_RDWR), fcntl.F_WRLCK, 4, 1, OFD_SETLK)
    lock(os.open("a", os.O_RDWR), fcntl.F_WRLCK, 5, 5, OFD_SETLK)
assert ended(child(other)) == 0
twin = os.dup(fd)
os.close(fd)
refused(errno.EAGAIN, lock, os.open("a", os.O_RDWR), fcntl.F_WRLCK, 4, 1, OFD_SETLK)
os.close(twin)
lock(os.open("a", os.O_RDWR), fcntl.F_WRLCK, 0, 0, OFD_SETLK)
`),
  "flock: a child shares it, and who waits gets it": program(`
fd = new("a")
fcntl.flock(fd, fcntl.LOCK_EX)
ready = os.pipe()
def waits():
    mine = os.open("a", os.O_RDWR)
    refused(errno.EAGAIN, fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.write(ready[1], b"x")
    os.close(fd)
    fcntl.flock(mine, fcntl.LOCK_EX)
pid = child(waits)
os.read(ready[0], 1)
fcntl.flock(fd, fcntl.LOCK_UN)
assert ended(pid) == 0
`),
  "leases: one is granted or refused, and broken by who opens": program(`
fd = new("a")
try: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
except OSError as error: assert error.errno in (errno.EINVAL, errno.EAGAIN), error
else:
    signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))
    assert ended(child(lambda: os.open("a", os.O_RDWR))) == 0
`),
  "inotify: create, modify, close, rename, attributes, delete are told with their names": program(`
fd = call(c.inotify_init1(os.O_NONBLOCK))
call(c.inotify_add_watch(fd, b".", 0xfff))
def told():
    found, data = set(), os.read(fd, 65536)
    while data:
        _, mask, _, length = struct.unpack("iIII", data[:16])
        found.add((mask & 0xfff, data[16:16 + length].rstrip(b"\\0").decode()))
        data = data[16 + length:]
    return found
one = new("a", b"x")
os.close(one)
found = told()
assert found >= {(0x100, "a"), (0x2, "a"), (0x8, "a")}, found
os.rename("a", "b")
os.chmod("b", 0o600)
os.link("b", "c")
os.unlink("b")
os.mkdir("d")
found = told()
assert found >= {(0x40, "a"), (0x80, "b"), (0x4, "b"), (0x100, "c"), (0x200, "b"), (0x100, "d")}, found
`),
  "sendfile: from file to file, to a pipe, to a socket, from an offset": program(`
data = bytes(range(256)) * 1000
source, target = new("a", data), new("b")
sent = 0
while sent < len(data): sent += os.sendfile(target, source, sent, len(data) - sent)
assert content("b") == data
read, write = os.pipe()
assert os.sendfile(write, source, 5, 100) == 100 and os.read(read, 200) == data[5:105]
one, two = socket.socketpair()
assert os.sendfile(one.fileno(), source, len(data) - 10, 100) == 10 and two.recv(100) == data[-10:]
`),
  "splice: between files and pipes, and tee": program(`
data = os.urandom(50000)
source, target, third = new("a", data), new("b"), new("c")
read, write = os.pipe()
twin_read, twin_write = os.pipe()
done = 0
def drain(pipe, fd, count, at):
    while count:
        moved = os.splice(pipe, fd, count, offset_dst=at)
        assert moved > 0
        count, at = count - moved, at + moved
while done < len(data):
    moved = os.splice(source, write, 30000, offset_src=done)
    assert moved > 0
    assert call(c.tee(read, twin_write, moved, 0)) == moved
    drain(read, target, moved, done)
    drain(twin_read, third, moved, done)
    done += moved
os.fsync(target)
assert content("b") == data and content("c") == data
`),
  "mmap: what lies behind the end of the file is SIGBUS, and zeros once it grows": program(`
fd = new("a", b"x" * 3 * P)
m = mmap.mmap(fd, 3 * P)
assert m[2 * P] == 120
os.ftruncate(fd, P + 10)
def touch(): m[2 * P]
def write(): m[2 * P] = 1
for body in (touch, write):
    pid = child(body)
    status = ended(pid)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS, status
assert m[P + 9] == 120 and m[P + 10:2 * P] == bytes(P - 10)
os.ftruncate(fd, 3 * P)
assert m[P + 10:] == bytes(2 * P - 10)
m[2 * P] = 121
m.flush()
assert content("a")[2 * P] == 121
`),
  "mmap: what is written behind the end in the last page is not in the file": program(`
fd = new("a", b"x" * P)
m = mmap.mmap(fd, P)
os.ftruncate(fd, 100)
m[200:210] = b"0123456789"
m.flush()
os.ftruncate(fd, P)
assert os.pread(fd, P, 0) == b"x" * 100 + bytes(P - 100)
m[50:60] = b"0123456789"
m.flush()
os.ftruncate(fd, 55)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert content("a") == b"x" * 50 + b"01234"
`),
  "mmap: two processes share one, also after the name and the descriptor are gone": program(`
fd = new("a", bytes(P * 4))
m = mmap.mmap(fd, P * 4)
os.unlink("a")
os.close(fd)
def body():
    for i in range(4): m[i * P] = i + 1
assert ended(child(body)) == 0
assert [m[i * P] for i in range(4)] == [1, 2, 3, 4]
m.flush()
`),
  "mmap: punching a hole is seen by the mapping": program(`
fd = new("a", b"x" * 4 * P)
m = mmap.mmap(fd, 4 * P)
assert m[P] == 120
call(c.fallocate(fd, 3, ctypes.c_long(P), ctypes.c_long(P)))
assert m[P:2 * P] == bytes(P) and m[2 * P] == 120
m[P] = 121
m.flush()
assert os.pread(fd, 2, P) == b"y\\0"
`),
  "mmap: a page that is written by copying from itself, mapped, is not a dead lock": program(`
fd = new("a", b"abcd" * P)
m = mmap.mmap(fd, 4 * P)
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
c.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert call(c.pwrite(fd, address, P, P)) == P
assert call(c.pwrite(fd, address + P, P, P)) == P
assert content("a") == b"abcd" * P
`),
  "fadvise: what is read anew after DONTNEED is what was written": program(`
fd = new("a", os.urandom(300000))
before = os.pread(fd, 300000, 0)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.pread(fd, 300000, 0) == before
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
assert content("a") == before
`),
  "rename: directories that two processes move into each other end in no circle": program(`
os.mkdir("a"); os.mkdir("b")
def mover(one, two):
    for i in range(200):
        try: os.rename(one, two + "/" + one)
        except OSError as error: assert error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTEMPTY), error
        try: os.rename(two + "/" + one, one)
        except OSError as error: assert error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EINVAL), error
pids = [child(lambda: mover("a", "b")), child(lambda: mover("b", "a"))]
assert [ended(pid) for pid in pids] == [0, 0]
found = sorted(name for _, folders, _ in os.walk(".") for name in folders)
assert found == ["a", "b"], found
`),
  "rename and create in two processes: no name is lost or doubled": program(`
os.mkdir("x"); os.mkdir("y")
for i in range(50): new("x/%d" % i, b"%d" % i)
def move(one, two):
    for turn in range(4):
        for i in range(50):
            try: os.rename("%s/%d" % (one, i), "%s/%d" % (two, i))
            except FileNotFoundError: pass
pids = [child(lambda: move("x", "y")), child(lambda: move("y", "x"))]
assert [ended(pid) for pid in pids] == [0, 0]
found = sorted(int(name) for folder in "xy" for name in os.listdir(folder))
assert found == list(range(50)), found
`),
  "unlink and create in four processes: O_EXCL is won by one at a time": program(`
os.mkdir("wins")
def race(me):
    for i in range(100):
        try: fd = os.open("lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError: continue
        new("wins/inside")
        os.unlink("wins/inside")
        os.unlink("lock")
        os.close(fd)
assert [ended(pid) for pid in [child(lambda me=me: race(me)) for me in range(4)]] == [0] * 4
assert os.listdir("wins") == []
`),
  "directory: one that was removed is empty, takes nothing, and has no way up": program(`
os.mkdir("d")
fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
os.rmdir("d")
assert os.listdir(fd) == []
refused(errno.ENOENT, lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
refused(errno.ENOENT, lambda: os.mkdir("x", dir_fd=fd))
assert os.fstat(fd).st_nlink == 0
os.fsync(fd)
`),
  "open: O_NOFOLLOW, O_DIRECTORY, O_PATH, a trailing slash, a name through a file": program(`
new("a", b"x"); os.mkdir("d"); os.symlink("a", "l"); os.symlink("d", "ld")
refused(errno.ELOOP, os.open, "l", os.O_RDONLY | os.O_NOFOLLOW)
refused(errno.ENOTDIR, os.open, "a", os.O_RDONLY | os.O_DIRECTORY)
refused(errno.ENOTDIR, os.open, "a/", os.O_RDONLY)
refused(errno.ENOTDIR, os.open, "a/b", os.O_RDONLY)
refused(errno.EISDIR, os.open, "new/", os.O_CREAT | os.O_WRONLY)
refused(errno.EISDIR, os.open, "d", os.O_CREAT | os.O_RDONLY)
refused(errno.EBADF, os.read, os.open("a", os.O_PATH), 1)
os.close(os.open("ld/", os.O_RDONLY | os.O_DIRECTORY))
refused(errno.ENOENT, os.stat, "")
`),
};
