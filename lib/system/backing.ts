/**
 * The backing file system: the directory beneath the mount, reached by descriptors and single names, never by paths.
 *
 * Every call is synchronous and answers what the system call answers, or −errno: the data road passes that number on
 * to the application as it is. Nothing here throws, retries or allocates per call.
 *
 * An object is usually held by an `O_PATH` descriptor, which opens anything (symbolic links, FIFOs, devices) without
 * touching it. Calls that refuse such descriptors go through `/proc/self/fd/N`, which leads to the very object, even
 * when that is a symbolic link, and needs no name. For a descriptor that is not open these answer −ENOENT, not −EBADF.
 *
 * @module
 */

import { addressOf, errno, lastingAddress, openLibrary } from "./libc.ts";
import { once, repeated } from "./certain_errno.ts";
import { atIdlePriority } from "./io_priority.ts";
import type { Dirents } from "./dirents.ts";
import type { FileHandle } from "./handle.ts";
import { AT, FS_IOC_GETFLAGS, O, PATH_MAX } from "./linux.ts";
import { type Statfs, type Statx, STATX_MASK } from "./statx.ts";

/**
 * A name: any bytes but "/" and NUL. A number is the address of a NUL-terminated one, as names stand in FUSE requests;
 * an array holds the bytes, with or without the NUL.
 */
export type Name = number | Uint8Array;

/** What the data road may do to the directory beneath. All answers are `>= 0` or −errno. */
export interface Backing {
  /**
   * Opens `name` in a directory; the answer is a descriptor, close-on-exec. Without `O.PATH` the open never waits
   * (`O_NONBLOCK`): a FIFO in the place of a file must not stop the data road.
   */
  openat(dirfd: number, name: Name, flags: number, mode: number): number;
  /** Opens the object of a descriptor again, with other flags: how an `O.PATH` descriptor becomes readable. */
  reopen(fd: number, flags: number): number;
  /**
   * Opens an object by its handle. `mountFd` is any descriptor on that file system opened *without* `O.PATH`.
   * −ESTALE when the object is gone.
   */
  openByHandle(mountFd: number, handle: FileHandle, flags: number): number;
  /** Fills `handle` for the object of a descriptor, symbolic links included. */
  nameToHandle(fd: number, handle: FileHandle): number;
  /** A second descriptor of the same open file, close-on-exec. */
  dup(fd: number): number;
  /** Closes. After −EIO the descriptor is closed all the same. */
  close(fd: number): number;

  /** Makes a directory; setgid is inherited by the file system, the umask applies. */
  mkdirat(dirfd: number, name: Name, mode: number): number;
  /** `mode` carries the type; `rdev` is encoded as in FUSE requests. */
  mknodat(dirfd: number, name: Name, mode: number, rdev: number): number;
  /** `target` is any bytes up to 4095. */
  symlinkat(target: Name, dirfd: number, name: Name): number;
  /** Reads the target of the symbolic link held by an `O.PATH` descriptor; answers its length. No NUL is written. */
  readlink(fd: number, address: number, size: number): number;
  /** Gives the object of a descriptor another name: also a symbolic link, also an `O.TMPFILE` one without any. */
  link(fd: number, dirfd: number, name: Name): number;
  /** `flags`: 0 or `AT.REMOVEDIR`. */
  unlinkat(dirfd: number, name: Name, flags: number): number;
  /** `flags`: `RENAME.…`. */
  renameat2(oldDirfd: number, oldName: Name, newDirfd: number, newName: Name, flags: number): number;

  /** Reads at an offset into memory at an address; fewer bytes only at the end of the file. */
  pread(fd: number, address: number, count: number, offset: number): number;
  /** Writes at an offset; with `O.APPEND` on the descriptor Linux ignores the offset. */
  pwrite(fd: number, address: number, count: number, offset: number): number;
  /** Sets the size of a file open for writing. */
  ftruncate(fd: number, size: number): number;
  /** Truncates the regular file of an `O.PATH` descriptor. */
  truncate(fd: number, size: number): number;
  /** `mode`: 0 or `FALLOC.…`. */
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  /** Answers the bytes copied: fewer than asked is no error. */
  copyFileRange(fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number): number;
  /** With `SEEK.DATA` and `SEEK.HOLE`: the next data or hole, −ENXIO past the end. */
  lseek(fd: number, offset: number, whence: number): number;
  /** Returns once content and attributes are on the disk. After −EIO the dirty pages are lost: never try again. */
  fsync(fd: number): number;
  /** As {@link fsync}, without attributes that reading does not need. */
  fdatasync(fd: number): number;
  /**
   * Has what the disk holds of a file read from there next time: what is clean leaves memory (`posix_fadvise(2)`). All of it, or
   * `length` bytes from `offset` on.
   */
  dropCache(fd: number, offset?: number, length?: number): number;
  /** As {@link readAhead}, as urgently as the reads that follow at once. */
  prefetch(fd: number, offset: number, length: number): void;
  /**
   * Has a range read from the disk soon, without waiting for it and after whatever others want from the disk (the idle
   * class of `ioprio_set(2)`). Advice: where it cannot be followed, the read itself waits.
   */
  readAhead(fd: number, offset: number, length: number): void;

  /** Sets permission bits by `/proc/self/fd`. −EOPNOTSUPP for a symbolic link, which has none. */
  chmod(fd: number, mode: number): number;
  /** Sets owner and group; −1 (or 0xffffffff) leaves one as it is. Clears setuid and setgid of files, as `chown` does. */
  chown(fd: number, uid: number, gid: number): number;
  /** Sets times: whole seconds (negative before 1970) and nanoseconds, or `UTIME.NOW`, `UTIME.OMIT` as nanoseconds. */
  utimens(fd: number, atimeSec: number, atimeNsec: number, mtimeSec: number, mtimeNsec: number): number;
  /** Attributes of the object of a descriptor; all of them, or those of `mask` (`STATX_…`). */
  statx(fd: number, into: Statx, mask?: number): number;
  /** Attributes of a name in a directory; a symbolic link is not followed. */
  statxAt(dirfd: number, name: Name, into: Statx): number;
  /** The file system of a descriptor. */
  fstatfs(fd: number, into: Statfs): number;
  /** `FS_IOC_GETFLAGS`: the inode's flags. Needs a descriptor without `O.PATH`; −ENOTTY where there are none. */
  inodeFlags(fd: number): number;

  /** Reads the next entries of a directory opened for reading; answers bytes, 0 at the end. */
  getdents(fd: number, into: Dirents): number;
  /** Continues a directory at an entry's `off`; 0n is the start. */
  seekdir(fd: number, off: bigint): number;

  /** Answers the length of the value; with `size` 0 only that. −ERANGE when it does not fit. */
  getxattr(fd: number, name: Name, address: number, size: number): number;
  /** {@link getxattr} of a descriptor opened without `O.PATH`: no path is looked up for it. */
  fgetxattr(fd: number, name: Name, address: number, size: number): number;
  /** `flags`: 0 or `XATTR.…`. */
  setxattr(fd: number, name: Name, address: number, size: number, flags: number): number;
  /** Answers the length of all names, each with its NUL; with `size` 0 only that. */
  listxattr(fd: number, address: number, size: number): number;
  /** {@link listxattr} of a descriptor opened without `O.PATH`. */
  flistxattr(fd: number, address: number, size: number): number;
  /** −ENODATA when there is none. */
  removexattr(fd: number, name: Name): number;

  /** Sets the mask of the whole process and answers the former one: 0 for a server, since requests bring their own. */
  umask(mask: number): number;
}

/**
 * No call moves more than 0x7ffff000 bytes (`MAX_RW_COUNT`), so that `ssize_t` is declared as 32 bits here: 64-bit
 * results would each cost a bigint, on the way of every write.
 */
const SYMBOLS = {
  /** `int openat(int dirfd, const char *path, int flags, mode_t mode)` */
  openat: { parameters: ["i32", "usize", "i32", "u32"], result: "i32" },
  /** `int open_by_handle_at(int mount_fd, struct file_handle *handle, int flags)` */
  open_by_handle_at: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  /** `int name_to_handle_at(int dirfd, const char *path, struct file_handle *handle, int *mount_id, int flags)` */
  name_to_handle_at: { parameters: ["i32", "usize", "buffer", "buffer", "i32"], result: "i32" },
  /** `int fcntl(int fd, int cmd, int arg)` */
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
  /** `int mkdirat(int dirfd, const char *path, mode_t mode)` */
  mkdirat: { parameters: ["i32", "usize", "u32"], result: "i32" },
  /** `int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)` */
  mknodat: { parameters: ["i32", "usize", "u32", "u64"], result: "i32" },
  /** `int symlinkat(const char *target, int newdirfd, const char *linkpath)` */
  symlinkat: { parameters: ["usize", "i32", "usize"], result: "i32" },
  /** `ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t bufsiz)` */
  readlinkat: { parameters: ["i32", "usize", "usize", "usize"], result: "i32" },
  /** `int linkat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int flags)` */
  linkat: { parameters: ["i32", "usize", "i32", "usize", "i32"], result: "i32" },
  /** `int unlinkat(int dirfd, const char *path, int flags)` */
  unlinkat: { parameters: ["i32", "usize", "i32"], result: "i32" },
  /** `int renameat2(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, unsigned int flags)` */
  renameat2: { parameters: ["i32", "usize", "i32", "usize", "u32"], result: "i32" },
  /** `ssize_t pread(int fd, void *buf, size_t count, off_t offset)` */
  pread: { parameters: ["i32", "usize", "usize", "i64"], result: "i32" },
  /** `ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)` */
  pwrite: { parameters: ["i32", "usize", "usize", "i64"], result: "i32" },
  /** `int ftruncate(int fd, off_t length)` */
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  /** `int truncate(const char *path, off_t length)` */
  truncate: { parameters: ["usize", "i64"], result: "i32" },
  /** `int fallocate(int fd, int mode, off_t offset, off_t len)` */
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  /** `ssize_t copy_file_range(int fd_in, off_t *off_in, int fd_out, off_t *off_out, size_t len, unsigned int flags)` */
  copy_file_range: { parameters: ["i32", "buffer", "i32", "buffer", "usize", "u32"], result: "i32" },
  /** `off_t lseek(int fd, off_t offset, int whence)` */
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  /** `int fsync(int fd)` */
  fsync: { parameters: ["i32"], result: "i32" },
  /** `int posix_fadvise(int fd, off_t offset, off_t len, int advice)`: answers the errno */
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
  /** `int fdatasync(int fd)` */
  fdatasync: { parameters: ["i32"], result: "i32" },
  /** `int chmod(const char *path, mode_t mode)` */
  chmod: { parameters: ["usize", "u32"], result: "i32" },
  /** `int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags)` */
  fchownat: { parameters: ["i32", "usize", "u32", "u32", "i32"], result: "i32" },
  /** `int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)` */
  utimensat: { parameters: ["i32", "usize", "buffer", "i32"], result: "i32" },
  /** `int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *statxbuf)` */
  statx: { parameters: ["i32", "usize", "i32", "u32", "buffer"], result: "i32" },
  /** `int fstatfs(int fd, struct statfs *buf)` */
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  /** `int ioctl(int fd, unsigned long request, void *argument)` */
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  /** `ssize_t getdents64(int fd, void *dirp, size_t count)` */
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  /** `ssize_t getxattr(const char *path, const char *name, void *value, size_t size)` */
  getxattr: { parameters: ["usize", "usize", "usize", "usize"], result: "i32" },
  /** `int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)` */
  setxattr: { parameters: ["usize", "usize", "usize", "usize", "i32"], result: "i32" },
  /** `ssize_t listxattr(const char *path, char *list, size_t size)` */
  listxattr: { parameters: ["usize", "usize", "usize"], result: "i32" },
  /** `ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)` */
  fgetxattr: { parameters: ["i32", "usize", "usize", "usize"], result: "i32" },
  /** `ssize_t flistxattr(int fd, char *list, size_t size)` */
  flistxattr: { parameters: ["i32", "usize", "usize"], result: "i32" },
  /** `int removexattr(const char *path, const char *name)` */
  removexattr: { parameters: ["usize", "usize"], result: "i32" },
  /** `mode_t umask(mode_t mask)` */
  umask: { parameters: ["u32"], result: "u32" },
} as const satisfies Deno.ForeignLibraryInterface;

const c = openLibrary("libc.so.6", SYMBOLS);

const ENAMETOOLONG = 36;
const EINVAL = 22;
const F_DUPFD_CLOEXEC = 1030;
/** `fcntl.h` */
const FADV_WILLNEED = 3;
const FADV_DONTNEED = 4;
/** `MAX_RW_COUNT` of the kernel: what one call moves at most. */
const COUNT_MAX = 0x7fff_f000;
/**
 * What one `pwrite` is given at most. Since Linux 6.16 ext4 keeps what came in one call as one folio, and walks all of
 * its blocks for every small write into it later: measured, 4 KiB overwrites of a file written by 1 MiB are 30 % slower.
 */
const PIECE = 128 * 1024;

/** Preallocated memory and its address; the array is kept so that V8 does not free it. */
function scratch(size: number): { readonly bytes: Uint8Array<ArrayBuffer>; readonly address: number } {
  const bytes = new Uint8Array(size);
  return { bytes, address: addressOf(bytes) };
}

const first = scratch(PATH_MAX + 1);
const second = scratch(PATH_MAX + 1);
const EMPTY = lastingAddress(new Uint8Array(1));
const proc = scratch(32);
const PROC = lastingAddress(proc.bytes);
const PROC_PREFIX = "/proc/self/fd/";
for (let i = 0; i < PROC_PREFIX.length; i++) proc.bytes[i] = PROC_PREFIX.charCodeAt(i);
let procFd = -1;

const mountIdBytes = new Uint8Array(4);
const inodeWord = new DataView(new ArrayBuffer(8));
const inodeWordBytes = new Uint8Array(inodeWord.buffer);
const times = new DataView(new ArrayBuffer(32));
const timesBytes = new Uint8Array(times.buffer);
const offsetIn = new DataView(new ArrayBuffer(8));
const offsetInBytes = new Uint8Array(offsetIn.buffer);
const offsetOut = new DataView(new ArrayBuffer(8));
const offsetOutBytes = new Uint8Array(offsetOut.buffer);

/** Turns −1 into −errno. */
function answer(result: number): number {
  return result < 0 ? -errno() : result;
}

/** The address of a NUL-terminated name, or −errno. An array is copied into `place`. */
function nameAddress(name: Name, place: typeof first): number {
  if (typeof name === "number") return name;
  const end = name.indexOf(0);
  const length = end < 0 ? name.length : end;
  // A NUL in the middle would name another object than the caller meant.
  if (end >= 0 && end !== name.length - 1) return -EINVAL;
  if (length >= PATH_MAX) return -ENAMETOOLONG;
  place.bytes.set(name);
  place.bytes[length] = 0;
  return place.address;
}

/** The address of "/proc/self/fd/N". Digits are written only when N is another than last time. */
function procPath(fd: number): bigint {
  if (fd < 0) return EMPTY; // "/proc/self/fd/" itself would be another object.
  if (fd === procFd) return PROC;
  let digits = 1;
  for (let rest = fd; rest >= 10; rest = Math.trunc(rest / 10)) digits++;
  let at = PROC_PREFIX.length + digits;
  proc.bytes[at] = 0;
  let rest = fd;
  do {
    proc.bytes[--at] = 0x30 + rest % 10;
    rest = Math.trunc(rest / 10);
  } while (rest > 0);
  procFd = fd;
  return PROC;
}

/** Writes a 64-bit two's complement number, exact up to 2^53 in size. */
function setI64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setInt32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Flags every open gets. With `O_PATH` the kernel ignores all but a few others. */
function openFlags(flags: number): number {
  return flags & O.PATH ? flags | O.CLOEXEC : flags | O.CLOEXEC | O.NONBLOCK | O.NOCTTY;
}

/** Each call as it is: what it answers where it failed may be somebody else's reason. */
const direct: Backing = {
  openat(dirfd, name, flags, mode) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.openat(dirfd, BigInt(at), openFlags(flags), mode));
  },
  reopen(fd, flags) {
    return answer(c.openat(AT.FDCWD, procPath(fd), openFlags(flags), 0));
  },
  openByHandle(mountFd, handle, flags) {
    return answer(c.open_by_handle_at(mountFd, handle.buffer, openFlags(flags)));
  },
  nameToHandle(fd, handle) {
    handle.makeRoom();
    return answer(
      c.name_to_handle_at(
        fd,
        EMPTY,
        handle.buffer,
        mountIdBytes,
        AT.EMPTY_PATH,
      ),
    );
  },
  dup(fd) {
    return answer(c.fcntl(fd, F_DUPFD_CLOEXEC, 0));
  },
  close(fd) {
    return answer(c.close(fd));
  },

  mkdirat(dirfd, name, mode) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.mkdirat(dirfd, BigInt(at), mode));
  },
  mknodat(dirfd, name, mode, rdev) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.mknodat(dirfd, BigInt(at), mode, BigInt(rdev)));
  },
  symlinkat(target, dirfd, name) {
    const from = nameAddress(target, first);
    const at = nameAddress(name, second);
    if (from < 0) return from;
    return at < 0 ? at : answer(c.symlinkat(BigInt(from), dirfd, BigInt(at)));
  },
  readlink(fd, address, size) {
    return answer(c.readlinkat(fd, EMPTY, BigInt(address), BigInt(size)));
  },
  link(fd, dirfd, name) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.linkat(AT.FDCWD, procPath(fd), dirfd, BigInt(at), AT.SYMLINK_FOLLOW));
  },
  unlinkat(dirfd, name, flags) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.unlinkat(dirfd, BigInt(at), flags));
  },
  renameat2(oldDirfd, oldName, newDirfd, newName, flags) {
    const from = nameAddress(oldName, first);
    const to = nameAddress(newName, second);
    if (from < 0) return from;
    return to < 0 ? to : answer(c.renameat2(oldDirfd, BigInt(from), newDirfd, BigInt(to), flags));
  },

  pread(fd, address, count, offset) {
    return answer(c.pread(fd, BigInt(address), BigInt(Math.min(count, COUNT_MAX)), BigInt(offset)));
  },
  pwrite(fd, address, count, offset) {
    let done = 0;
    do {
      const piece = Math.min(count - done, PIECE);
      const result = c.pwrite(fd, BigInt(address + done), BigInt(piece), BigInt(offset + done));
      if (result < 0) return done > 0 ? done : -errno();
      done += result;
      if (result < piece) break;
    } while (done < count);
    return done;
  },
  ftruncate(fd, size) {
    return answer(c.ftruncate(fd, BigInt(size)));
  },
  truncate(fd, size) {
    return answer(c.truncate(procPath(fd), BigInt(size)));
  },
  fallocate(fd, mode, offset, length) {
    return answer(c.fallocate(fd, mode, BigInt(offset), BigInt(length)));
  },
  copyFileRange(fdIn, fromOffset, fdOut, toOffset, length) {
    setI64(offsetIn, 0, fromOffset);
    setI64(offsetOut, 0, toOffset);
    return answer(
      c.copy_file_range(fdIn, offsetInBytes, fdOut, offsetOutBytes, BigInt(Math.min(length, COUNT_MAX)), 0),
    );
  },
  lseek(fd, offset, whence) {
    return answer(Number(c.lseek(fd, BigInt(offset), whence)));
  },
  fsync(fd) {
    return answer(c.fsync(fd));
  },
  fdatasync(fd) {
    return answer(c.fdatasync(fd));
  },
  dropCache(fd, offset = 0, length = 0) {
    return -c.posix_fadvise(fd, BigInt(offset), BigInt(length), FADV_DONTNEED);
  },
  prefetch(fd, offset, length) {
    c.posix_fadvise(fd, BigInt(offset), BigInt(length), FADV_WILLNEED);
  },
  readAhead(fd, offset, length) {
    atIdlePriority(() => c.posix_fadvise(fd, BigInt(offset), BigInt(length), FADV_WILLNEED));
  },

  chmod(fd, mode) {
    return answer(c.chmod(procPath(fd), mode));
  },
  chown(fd, uid, gid) {
    return answer(c.fchownat(fd, EMPTY, uid >>> 0, gid >>> 0, AT.EMPTY_PATH));
  },
  utimens(fd, atimeSec, atimeNsec, mtimeSec, mtimeNsec) {
    setI64(times, 0, atimeSec);
    setI64(times, 8, atimeNsec);
    setI64(times, 16, mtimeSec);
    setI64(times, 24, mtimeNsec);
    return answer(c.utimensat(fd, EMPTY, timesBytes, AT.EMPTY_PATH));
  },
  statx(fd, into, mask = STATX_MASK) {
    return answer(c.statx(fd, EMPTY, AT.EMPTY_PATH | AT.SYMLINK_NOFOLLOW, mask, into.bytes));
  },
  statxAt(dirfd, name, into) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.statx(dirfd, BigInt(at), AT.SYMLINK_NOFOLLOW, STATX_MASK, into.bytes));
  },
  fstatfs(fd, into) {
    return answer(c.fstatfs(fd, into.bytes));
  },
  inodeFlags(fd) {
    const result = answer(c.ioctl(fd, BigInt(FS_IOC_GETFLAGS), inodeWordBytes));
    return result < 0 ? result : inodeWord.getUint32(0, true);
  },

  getdents(fd, into) {
    const result = answer(c.getdents64(fd, into.bytes, BigInt(into.bytes.length)));
    into.filled(Math.max(0, result));
    return result;
  },
  seekdir(fd, off) {
    return c.lseek(fd, off, 0) < 0n ? -errno() : 0;
  },

  getxattr(fd, name, address, size) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.getxattr(procPath(fd), BigInt(at), BigInt(address), BigInt(size)));
  },
  fgetxattr(fd, name, address, size) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.fgetxattr(fd, BigInt(at), BigInt(address), BigInt(size)));
  },
  setxattr(fd, name, address, size, flags) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.setxattr(procPath(fd), BigInt(at), BigInt(address), BigInt(size), flags));
  },
  listxattr(fd, address, size) {
    return answer(c.listxattr(procPath(fd), BigInt(address), BigInt(size)));
  },
  flistxattr(fd, address, size) {
    return answer(c.flistxattr(fd, BigInt(address), BigInt(size)));
  },
  removexattr(fd, name) {
    const at = nameAddress(name, first);
    return at < 0 ? at : answer(c.removexattr(procPath(fd), BigInt(at)));
  },

  umask(mask) {
    return c.umask(mask);
  },
};

/** The real backing file system. */
export const backing: Backing = {
  openat: repeated(direct.openat),
  reopen: repeated(direct.reopen),
  openByHandle: repeated(direct.openByHandle),
  nameToHandle: repeated(direct.nameToHandle),
  dup: repeated(direct.dup),
  mkdirat: repeated(direct.mkdirat),
  mknodat: repeated(direct.mknodat),
  symlinkat: repeated(direct.symlinkat),
  readlink: repeated(direct.readlink),
  link: repeated(direct.link),
  unlinkat: repeated(direct.unlinkat),
  renameat2: repeated(direct.renameat2),
  pread: repeated(direct.pread),
  pwrite: repeated(direct.pwrite),
  ftruncate: repeated(direct.ftruncate),
  truncate: repeated(direct.truncate),
  fallocate: repeated(direct.fallocate),
  copyFileRange: repeated(direct.copyFileRange),
  lseek: repeated(direct.lseek),
  chmod: repeated(direct.chmod),
  chown: repeated(direct.chown),
  utimens: repeated(direct.utimens),
  statx: repeated(direct.statx),
  statxAt: repeated(direct.statxAt),
  fstatfs: repeated(direct.fstatfs),
  inodeFlags: repeated(direct.inodeFlags),
  getdents: repeated(direct.getdents),
  seekdir: repeated(direct.seekdir),
  getxattr: repeated(direct.getxattr),
  fgetxattr: repeated(direct.fgetxattr),
  setxattr: repeated(direct.setxattr),
  listxattr: repeated(direct.listxattr),
  flistxattr: repeated(direct.flistxattr),
  removexattr: repeated(direct.removexattr),
  // These answer no errno, or nothing.
  dropCache: direct.dropCache,
  prefetch: direct.prefetch,
  readAhead: direct.readAhead,
  umask: direct.umask,
  // The second of two closes may be somebody else's descriptor, and an error of a disk is told once.
  close: once(direct.close),
  fsync: once(direct.fsync),
  fdatasync: once(direct.fdatasync),
};
