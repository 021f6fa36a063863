/**
 * A file system in memory behind the seam of the real one: inodes with generations, names as bytes, links, xattrs, holes
 * (`inodes.ts`), objects that live on without a name while a descriptor is open, −errno as ext4 answers it. A test moves its
 * clock, lets one call fail, or ends the process in front of one.
 *
 * Stricter than ext4 in one point: an object without a name cannot be opened by its handle, since after a power cut it
 * could not.
 *
 * @module
 */

import type { Backing, Name } from "../../lib/system/backing.ts";
import { DIRENT64, type Dirents } from "../../lib/system/dirents.ts";
import type { FileHandle } from "../../lib/system/handle.ts";
import { AT, FALLOC, O, S_IF, S_IS, SEEK, UTIME, XATTR } from "../../lib/system/linux.ts";
import { STATFS, type Statfs, type Statx } from "../../lib/system/statx.ts";
import { E, type Inode, Inodes, latin1, SECOND, statOf, typeOf } from "./inodes.ts";
import { FileBytes } from "./file_bytes.ts";
import type { Memory } from "./memory.ts";

const SIZE_MAX = 2 ** 43;

interface Open {
  readonly inode: Inode;
  readonly flags: number;
  position: bigint;
  count: number;
}

/** Thrown in place of a call: the process ends here. */
export class Killed extends Error {
  override readonly name = "Killed";
}

/** The file system. */
export class MemoryBacking implements Backing {
  /** Blocks of 4096 bytes that files may take in all. */
  capacity: number = Number.MAX_SAFE_INTEGER;
  /** Every call by its name, before it is made. A number is its answer instead; a throw ends the process. */
  before: (call: string) => number | undefined = () => undefined;
  /** Every call by its name, after it was made; a throw ends the process. */
  after: (call: string) => void = () => {};
  /** How many bytes the next write or copy moves at most, once. */
  shorten: number = Number.MAX_SAFE_INTEGER;
  readonly #memory: Pick<Memory, "at" | "text">;
  #inodes = new Inodes();
  /** What the disk has for certain. */
  #durable: Inodes | null = null;
  readonly #firstFd: number;
  readonly #fds = new Map<number, Open>();

  constructor(memory: Pick<Memory, "at" | "text">, firstFd = 3) {
    this.#memory = memory;
    this.#firstFd = firstFd;
  }

  /** From here on power can be lost: what there is now is on disk. */
  mountDisk(): void {
    this.#durable = this.#inodes.clone((inode) => inode.content.clone());
  }

  /**
   * The journal of the file system commits: all names and attributes, and the content of what `synced` says. Of any other file the
   * disk has what it had, and each block written since as `flushed` says.
   */
  commit(synced: (inode: Inode) => boolean, flushed: () => boolean): void {
    const before = this.#durable;
    if (before === null) return;
    this.#durable = this.#inodes.clone((inode) => {
      if (synced(inode) || flushed()) return inode.content.clone();
      const old = before.get(inode.ino);
      if (old === undefined || old.generation !== inode.generation) return new FileBytes();
      return inode.content.mixed(old.content, flushed);
    });
  }

  /** Power is lost: descriptors are gone, and the disk has what it has. */
  cutPower(flushed: () => boolean): void {
    const before = this.#durable;
    if (before === null) throw new Error("no disk");
    const live = this.#inodes;
    this.#fds.clear();
    this.#inodes = before.clone((old) => {
      const inode = live.get(old.ino);
      if (inode === undefined || inode.generation !== old.generation) return old.content.clone();
      return inode.content.mixed(old.content, flushed);
    });
    this.#inodes.now = live.now;
    this.#inodes.reapAll();
    this.mountDisk();
  }

  /** Nanoseconds since 1970; what a change writes as mtime. */
  get now(): bigint {
    return this.#inodes.now;
  }
  set now(now: bigint) {
    this.#inodes.now = now;
  }

  /** The directory at the top. */
  get root(): Inode {
    return this.#inodes.root;
  }

  /** The object that a path leads to, from the root. */
  find(path: string): Inode | undefined {
    return this.#inodes.find(path);
  }

  /** Everything below the root that two copies must have alike, one line an object and name. */
  snapshot(): string {
    return this.#inodes.snapshot();
  }

  /** Lets exactly one call fail: the first of that name after `skip` others. */
  fail(call: string, errno: number, skip = 0): void {
    let left = skip;
    this.before = (name) => {
      if (name !== call || left-- > 0) return undefined;
      this.before = () => undefined;
      return -errno;
    };
  }

  /** A descriptor of the root, as the keeper opens it. */
  openRoot(): number {
    return this.#install(this.#inodes.root, O.RDONLY | O.DIRECTORY);
  }

  /** Descriptors open. */
  get openCount(): number {
    return this.#fds.size;
  }

  /** The process is gone: its descriptors close, but for those that another holds too. */
  killProcess(kept: ReadonlySet<number>): void {
    this.before = () => undefined;
    this.after = () => {};
    for (const fd of [...this.#fds.keys()]) if (!kept.has(fd)) this.close(fd);
  }

  openat(dirfd: number, name: Name, flags: number, mode: number): number {
    return this.#call("openat", () => this.#openat(dirfd, name, flags, mode));
  }

  reopen(fd: number, flags: number): number {
    return this.#call("reopen", () => {
      const inode = this.#fds.get(fd)?.inode;
      if (inode === undefined) return E.NOENT;
      return this.#openInode(inode, flags);
    });
  }

  openByHandle(mountFd: number, handle: FileHandle, flags: number): number {
    return this.#call("openByHandle", () => {
      const mount = this.#fds.get(mountFd);
      if (mount === undefined || (mount.flags & O.PATH) !== 0) return E.BADF;
      const view = new DataView(handle.bytes.buffer, handle.bytes.byteOffset, handle.bytes.byteLength);
      if (handle.length !== 8 || handle.type !== 1) return E.STALE;
      const inode = this.#inodes.get(view.getUint32(0, true));
      if (inode === undefined || inode.generation !== view.getUint32(4, true) || inode.nlink === 0) {
        return E.STALE;
      }
      return this.#openInode(inode, flags);
    });
  }

  nameToHandle(fd: number, handle: FileHandle): number {
    return this.#on("nameToHandle", fd, (inode) => {
      const bytes = new Uint8Array(8);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, inode.ino, true);
      view.setUint32(4, inode.generation, true);
      handle.set(1, bytes);
      return 0;
    });
  }

  dup(fd: number): number {
    return this.#call("dup", () => {
      const open = this.#fds.get(fd);
      if (open === undefined) return E.BADF;
      open.count++;
      return this.#number(open);
    });
  }

  close(fd: number): number {
    const open = this.#fds.get(fd);
    if (open === undefined) return E.BADF;
    this.#fds.delete(fd);
    if (--open.count > 0) return 0;
    open.inode.opens--;
    this.#inodes.reap(open.inode);
    return 0;
  }

  mkdirat(dirfd: number, name: Name, mode: number): number {
    return this.#make0("mkdirat", dirfd, name, S_IF.DIR | mode, 0, "");
  }

  mknodat(dirfd: number, name: Name, mode: number, rdev: number): number {
    return this.#make0("mknodat", dirfd, name, mode, rdev, "");
  }

  symlinkat(target: Name, dirfd: number, name: Name): number {
    const text = this.#text(target);
    if (text.length === 0) return E.NOENT;
    if (text.length > 4095) return E.NAMETOOLONG;
    return this.#make0("symlinkat", dirfd, name, S_IF.LNK | 0o777, 0, text);
  }

  readlink(fd: number, address: number, size: number): number {
    return this.#on("readlink", fd, (inode) => {
      if (typeOf(inode) !== S_IF.LNK) return E.INVAL;
      const bytes = latin1(inode.target).subarray(0, size);
      this.#memory.at(address, bytes.length).set(bytes);
      return bytes.length;
    });
  }

  link(fd: number, dirfd: number, name: Name): number {
    return this.#on("link", fd, (inode) =>
      this.#inDirectory(dirfd, name, (directory, text) => {
        if (typeOf(inode) === S_IF.DIR) return E.PERM;
        if (inode.nlink === 0 || directory.nlink === 0) return E.NOENT;
        if (directory.entries.has(text)) return E.EXIST;
        this.#inodes.enter(directory, text, inode);
        inode.nlink++;
        inode.ctime = this.now;
        return 0;
      }));
  }

  unlinkat(dirfd: number, name: Name, flags: number): number {
    return this.#call("unlinkat", () =>
      this.#inDirectory(dirfd, name, (directory, text) => {
        const inode = directory.entries.get(text)?.inode;
        if (inode === undefined) return E.NOENT;
        const isDirectory = typeOf(inode) === S_IF.DIR;
        if (flags & AT.REMOVEDIR) {
          if (!isDirectory) return E.NOTDIR;
          if (inode.entries.size > 0) return E.NOTEMPTY;
        } else if (isDirectory) return E.ISDIR;
        this.#inodes.leave(directory, text, inode);
        return 0;
      }));
  }

  renameat2(oldDirfd: number, oldName: Name, newDirfd: number, newName: Name, flags: number): number {
    return this.#call(
      "renameat2",
      () =>
        this.#inDirectory(
          oldDirfd,
          oldName,
          (from, name) =>
            this.#inDirectory(newDirfd, newName, (to, other) =>
              this.#inodes.rename(from, name, to, other, flags)),
        ),
    );
  }

  pread(fd: number, address: number, count: number, offset: number): number {
    return this.#io("pread", fd, false, (inode) => {
      const length = Math.max(0, Math.min(count, inode.content.size - offset));
      if (length > 0) inode.content.read(offset, this.#memory.at(address, length));
      return length;
    });
  }

  pwrite(fd: number, address: number, count: number, offset: number): number {
    return this.#io("pwrite", fd, true, (inode) => {
      if (offset >= SIZE_MAX) return E.FBIG;
      return this.#write(inode, this.#memory.at(address, count), offset);
    });
  }

  ftruncate(fd: number, size: number): number {
    return this.#io("ftruncate", fd, true, (inode) => this.#truncate(inode, size));
  }

  truncate(fd: number, size: number): number {
    return this.#on(
      "truncate",
      fd,
      (inode) => typeOf(inode) === S_IF.REG ? this.#truncate(inode, size) : E.INVAL,
    );
  }

  fallocate(fd: number, mode: number, offset: number, length: number): number {
    return this.#io("fallocate", fd, true, (inode) => {
      if (length <= 0) return E.INVAL;
      const end = offset + length;
      if (end > SIZE_MAX) return E.FBIG;
      const kind = mode & ~FALLOC.KEEP_SIZE;
      if (kind === FALLOC.PUNCH_HOLE && (mode & FALLOC.KEEP_SIZE) !== 0) inode.content.punch(offset, end);
      else if (kind === 0 || kind === FALLOC.ZERO_RANGE) {
        if (kind === FALLOC.ZERO_RANGE) inode.content.punch(offset, end);
        if (this.#used() + inode.content.missing(offset, end) > this.capacity) return E.NOSPC;
        inode.content.allocate(offset, end);
        if ((mode & FALLOC.KEEP_SIZE) === 0) inode.content.size = Math.max(inode.content.size, end);
      } else return E.OPNOTSUPP;
      inode.mtime = inode.ctime = this.now;
      return 0;
    });
  }

  copyFileRange(fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number): number {
    return this.#io("copyFileRange", fdIn, false, (source) => {
      const open = this.#fds.get(fdOut);
      if (open === undefined || (open.flags & O.ACCMODE) === 0) return E.BADF;
      const count = Math.max(0, Math.min(length, source.content.size - offsetIn));
      if (open.inode === source && offsetIn < offsetOut + length && offsetOut < offsetIn + length) {
        return E.INVAL;
      }
      if (count === 0) return 0;
      const bytes = new Uint8Array(count);
      source.content.read(offsetIn, bytes);
      return this.#write(open.inode, bytes, offsetOut);
    });
  }

  lseek(fd: number, offset: number, whence: number): number {
    return this.#io("lseek", fd, false, (inode) => inode.content.seek(offset, whence === SEEK.DATA));
  }

  fsync(fd: number): number {
    return this.#on("fsync", fd, (inode) => this.#sync(inode));
  }

  fdatasync(fd: number): number {
    return this.#on("fdatasync", fd, (inode) => this.#sync(inode));
  }

  #sync(inode: Inode): number {
    this.commit((one) => one === inode, () => false);
    return 0;
  }

  /** `syncfs(2)`. */
  syncfs(_fd: number): number {
    this.commit(() => true, () => true);
    return 0;
  }
  prefetch(): void {}
  readAhead(): void {}

  dropCache(): number {
    return 0;
  }

  chmod(fd: number, mode: number): number {
    return this.#on("chmod", fd, (inode) => {
      if (typeOf(inode) === S_IF.LNK) return E.OPNOTSUPP;
      inode.mode = typeOf(inode) | (mode & 0o7777);
      inode.ctime = this.now;
      return 0;
    });
  }

  chown(fd: number, uid: number, gid: number): number {
    return this.#on("chown", fd, (inode) => {
      if (uid >>> 0 !== 0xffffffff) inode.uid = uid >>> 0;
      if (gid >>> 0 !== 0xffffffff) inode.gid = gid >>> 0;
      if (typeOf(inode) !== S_IF.DIR && typeOf(inode) !== S_IF.LNK) {
        inode.mode &= ~S_IS.UID;
        if (inode.mode & 0o10) inode.mode &= ~S_IS.GID;
      }
      inode.ctime = this.now;
      return 0;
    });
  }

  utimens(fd: number, atimeSec: number, atimeNsec: number, mtimeSec: number, mtimeNsec: number): number {
    return this.#on("utimens", fd, (inode) => {
      inode.atime = this.#time(inode.atime, atimeSec, atimeNsec);
      inode.mtime = this.#time(inode.mtime, mtimeSec, mtimeNsec);
      inode.ctime = this.now;
      return 0;
    });
  }

  statx(fd: number, into: Statx): number {
    return this.#on("statx", fd, (inode) => statOf(inode, into));
  }

  statxAt(dirfd: number, name: Name, into: Statx): number {
    return this.#call("statxAt", () =>
      this.#inDirectory(dirfd, name, (directory, text) => {
        const inode = directory.entries.get(text)?.inode;
        return inode === undefined ? E.NOENT : statOf(inode, into);
      }));
  }

  fstatfs(fd: number, into: Statfs): number {
    return this.#on("fstatfs", fd, () => {
      into.view.setBigUint64(STATFS.bsize, 4096n, true);
      into.view.setBigUint64(STATFS.frsize, 4096n, true);
      for (const field of [STATFS.blocks, STATFS.bfree, STATFS.bavail]) {
        into.view.setBigUint64(field, 1n << 30n, true);
      }
      into.view.setBigUint64(STATFS.namelen, 255n, true);
      return 0;
    });
  }

  inodeFlags(fd: number): number {
    return this.#on("inodeFlags", fd, () => 0);
  }

  getdents(fd: number, into: Dirents): number {
    return this.#call("getdents", () => {
      const open = this.#fds.get(fd);
      into.filled(0);
      if (open === undefined || (open.flags & O.PATH) !== 0) return E.BADF;
      if (typeOf(open.inode) !== S_IF.DIR) return E.NOTDIR;
      const used = fillDirents(open, into);
      into.filled(used);
      return used;
    });
  }

  seekdir(fd: number, off: bigint): number {
    return this.#call("seekdir", () => {
      const open = this.#fds.get(fd);
      if (open === undefined) return E.BADF;
      open.position = off;
      return 0;
    });
  }

  getxattr(fd: number, name: Name, address: number, size: number): number {
    return this.#on("getxattr", fd, (inode) => {
      const value = inode.xattrs.get(this.#text(name));
      if (value === undefined) return E.NODATA;
      if (size === 0) return value.length;
      if (value.length > size) return E.RANGE;
      this.#memory.at(address, value.length).set(value);
      return value.length;
    });
  }

  setxattr(fd: number, name: Name, address: number, size: number, flags: number): number {
    return this.#on("setxattr", fd, (inode) => {
      const text = this.#text(name);
      const type = typeOf(inode);
      if (text.startsWith("user.") && type !== S_IF.REG && type !== S_IF.DIR) return E.PERM;
      if (text.length === 0 || text.length > 255) return E.RANGE;
      if (flags === XATTR.CREATE && inode.xattrs.has(text)) return E.EXIST;
      if (flags === XATTR.REPLACE && !inode.xattrs.has(text)) return E.NODATA;
      inode.xattrs.set(text, size === 0 ? new Uint8Array(0) : this.#memory.at(address, size).slice());
      inode.ctime = this.now;
      return 0;
    });
  }

  fgetxattr(fd: number, name: Name, address: number, size: number): number {
    return this.getxattr(fd, name, address, size);
  }

  flistxattr(fd: number, address: number, size: number): number {
    return this.listxattr(fd, address, size);
  }

  listxattr(fd: number, address: number, size: number): number {
    return this.#on("listxattr", fd, (inode) => {
      const bytes = latin1([...inode.xattrs.keys()].map((name) => `${name}\0`).join(""));
      if (size === 0) return bytes.length;
      if (bytes.length > size) return E.RANGE;
      this.#memory.at(address, bytes.length).set(bytes);
      return bytes.length;
    });
  }

  removexattr(fd: number, name: Name): number {
    return this.#on("removexattr", fd, (inode) => inode.xattrs.delete(this.#text(name)) ? 0 : E.NODATA);
  }

  umask(_mask: number): number {
    return 0;
  }

  #call(name: string, action: () => number): number {
    const answer = this.before(name) ?? action();
    this.after(name);
    return answer;
  }

  #on(name: string, fd: number, action: (inode: Inode) => number): number {
    return this.#call(name, () => {
      const open = this.#fds.get(fd);
      return open === undefined ? E.BADF : action(open.inode);
    });
  }

  #io(name: string, fd: number, writes: boolean, action: (inode: Inode) => number): number {
    return this.#call(name, () => {
      const open = this.#fds.get(fd);
      if (open === undefined || (open.flags & O.PATH) !== 0) return E.BADF;
      if (typeOf(open.inode) === S_IF.DIR) return E.ISDIR;
      if (typeOf(open.inode) !== S_IF.REG) return E.INVAL;
      return writes && (open.flags & O.ACCMODE) === 0 ? E.BADF : action(open.inode);
    });
  }

  #inDirectory(fd: number, name: Name, action: (directory: Inode, name: string) => number): number {
    const directory = this.#fds.get(fd)?.inode;
    if (directory === undefined) return E.BADF;
    if (typeOf(directory) !== S_IF.DIR) return E.NOTDIR;
    const text = this.#text(name);
    if (text.length === 0) return E.NOENT;
    if (text.length > 255) return E.NAMETOOLONG;
    if (text.includes("/") || text === "." || text === "..") return E.INVAL;
    return action(directory, text);
  }

  #openat(dirfd: number, name: Name, flags: number, mode: number): number {
    const directory = this.#fds.get(dirfd)?.inode;
    if (directory !== undefined && typeOf(directory) === S_IF.DIR && this.#text(name) === "..") {
      return this.#openInode(directory.parent ?? directory, flags);
    }
    return this.#inDirectory(dirfd, name, (directory, text) => {
      const found = directory.entries.get(text)?.inode;
      if (found !== undefined) {
        if ((flags & (O.CREAT | O.EXCL)) === (O.CREAT | O.EXCL)) return E.EXIST;
        return this.#openInode(found, flags);
      }
      if ((flags & O.CREAT) === 0) return E.NOENT;
      const inode = this.#inodes.born(directory, text, S_IF.REG | mode, 0, "");
      return inode === null ? E.NOENT : this.#install(inode, flags);
    });
  }

  #openInode(inode: Inode, flags: number): number {
    const type = typeOf(inode);
    if ((flags & O.DIRECTORY) !== 0 && type !== S_IF.DIR) return E.NOTDIR;
    if ((flags & O.PATH) === 0) {
      if (type === S_IF.LNK) return E.LOOP;
      if (type === S_IF.DIR && (flags & O.ACCMODE) !== 0) return E.ISDIR;
    }
    return this.#install(inode, flags);
  }

  #make0(call: string, dirfd: number, name: Name, mode: number, rdev: number, target: string): number {
    return this.#call(call, () =>
      this.#inDirectory(dirfd, name, (directory, text) => {
        if (directory.entries.has(text)) return E.EXIST;
        return this.#inodes.born(directory, text, mode, rdev, target) === null ? E.NOENT : 0;
      }));
  }

  #write(inode: Inode, bytes: Uint8Array, offset: number): number {
    let count = Math.min(bytes.length, this.shorten);
    this.shorten = Number.MAX_SAFE_INTEGER;
    const used = this.#used();
    while (count > 0 && used + inode.content.missing(offset, offset + count) > this.capacity) {
      count = Math.max(0, Math.floor((offset + count - 1) / 4096) * 4096 - offset);
    }
    if (count === 0 && bytes.length > 0) return E.NOSPC;
    inode.content.write(offset, bytes.subarray(0, count));
    inode.mtime = inode.ctime = this.now;
    return count;
  }

  #truncate(inode: Inode, size: number): number {
    if (size > SIZE_MAX) return E.FBIG;
    inode.content.truncate(size);
    inode.mtime = inode.ctime = this.now;
    return 0;
  }

  #used(): number {
    return this.capacity === Number.MAX_SAFE_INTEGER ? 0 : this.#inodes.blocks;
  }

  #time(before: bigint, seconds: number, nanoseconds: number): bigint {
    if (nanoseconds === UTIME.OMIT) return before;
    return nanoseconds === UTIME.NOW ? this.now : BigInt(seconds) * SECOND + BigInt(nanoseconds);
  }

  #text(name: Name): string {
    const bytes = typeof name === "number" ? this.#memory.text(name) : name;
    const end = bytes.indexOf(0);
    return String.fromCharCode(...(end < 0 ? bytes : bytes.subarray(0, end)));
  }

  #install(inode: Inode, flags: number): number {
    inode.opens++;
    return this.#number({ inode, flags, position: 0n, count: 1 });
  }

  #number(open: Open): number {
    let fd = this.#firstFd;
    while (this.#fds.has(fd)) fd++;
    this.#fds.set(fd, open);
    return fd;
  }
}

function fillDirents(open: Open, into: Dirents): number {
  const view = new DataView(into.bytes.buffer);
  let at = 0;
  const put = (name: string, off: bigint, inode: Inode): boolean => {
    if (off <= open.position) return true;
    const length = (DIRENT64.name + name.length + 1 + 7) & ~7;
    if (at + length > into.bytes.length) return false;
    into.bytes.fill(0, at, at + length);
    view.setBigUint64(at + DIRENT64.ino, BigInt(inode.ino), true);
    view.setBigInt64(at + DIRENT64.off, off, true);
    view.setUint16(at + DIRENT64.reclen, length, true);
    view.setUint8(at + DIRENT64.type, typeOf(inode) >> 12);
    into.bytes.set(latin1(name), at + DIRENT64.name);
    at += length;
    open.position = off;
    return true;
  };
  if (!put(".", 1n, open.inode) || !put("..", 2n, open.inode.parent ?? open.inode)) return at;
  const entries = [...open.inode.entries].sort(([, a], [, b]) => a.off < b.off ? -1 : 1);
  for (const [name, { inode, off }] of entries) if (!put(name, off, inode)) break;
  return at;
}
