/**
 * The directory beneath, as whoever writes in an inconsistent stretch sees it: the same, but what a call is about to change
 * is noted first, and what would be gone for good goes to the graveyard instead, where nobody sees it.
 *
 * So that no writer can forget it, and none need know of it, it stands behind the seam that all of them use. Every call is
 * written out: one that is added to the seam does not compile before somebody has said what it changes.
 *
 * @module
 */

import type { Backing, Name } from "../../system/backing.ts";
import { Dirents } from "../../system/dirents.ts";
import { AT, FALLOC, O, RENAME, S_IF } from "../../system/linux.ts";
import { Statfs, STATX, Statx } from "../../system/statx.ts";
import type { WayBack } from "./way_back.ts";

const ENOENT = 2;
const EXDEV = 18;
const ESTALE = 116;
/** ENOSPC and EDQUOT. */
const FULL: readonly number[] = [-28, -122];
const TO_END = Number.MAX_SAFE_INTEGER;

/** A {@link Backing} that has everything noted while a stretch is recorded. */
export function notedBacking(raw: Backing, way: WayBack): Backing {
  return new Noting(raw, way).backing();
}

/**
 * The directory beneath for a quarantine: while a way back is kept nothing is moved out of the tree, but copied, since it may
 * have to be put back. Where there is no room for both the way back is given up.
 */
export function keepingBacking(raw: Backing, way: WayBack): Backing {
  const stat = new Statx();
  const statfs = new Statfs();
  return {
    ...raw,
    renameat2: (oldDirfd, oldName, newDirfd, newName, flags) => {
      if (way.recording && raw.statxAt(oldDirfd, oldName, stat) >= 0) {
        const { blocks } = stat;
        const told = raw.fstatfs(newDirfd, statfs);
        if (told >= 0 && blocks * 512 < statfs.bfree * statfs.frsize / 2) return -EXDEV;
        way.giveUp("there is no room for it beside the quarantine");
      }
      return raw.renameat2(oldDirfd, oldName, newDirfd, newName, flags);
    },
  };
}

class Noting {
  readonly #raw: Backing;
  readonly #way: WayBack;
  readonly #stat = new Statx();
  readonly #other = new Statx();
  readonly #entries = new Dirents(512);

  constructor(raw: Backing, way: WayBack) {
    this.#raw = raw;
    this.#way = way;
  }

  backing(): Backing {
    const raw = this.#raw;
    const way = this.#way;
    return {
      // What only reads.
      reopen: (fd, flags) => raw.reopen(fd, flags),
      nameToHandle: (fd, handle) => raw.nameToHandle(fd, handle),
      dup: (fd) => raw.dup(fd),
      close: (fd) => raw.close(fd),
      readlink: (fd, address, size) => raw.readlink(fd, address, size),
      pread: (fd, address, count, offset) => raw.pread(fd, address, count, offset),
      lseek: (fd, offset, whence) => raw.lseek(fd, offset, whence),
      fsync: (fd) => raw.fsync(fd),
      fdatasync: (fd) => raw.fdatasync(fd),
      dropCache: (fd, offset, length) => raw.dropCache(fd, offset, length),
      prefetch: (fd, offset, length) => raw.prefetch(fd, offset, length),
      readAhead: (fd, offset, length) => raw.readAhead(fd, offset, length),
      fstatfs: (fd, into) => raw.fstatfs(fd, into),
      inodeFlags: (fd) => raw.inodeFlags(fd),
      getdents: (fd, into) => raw.getdents(fd, into),
      seekdir: (fd, off) => raw.seekdir(fd, off),
      getxattr: (fd, name, address, size) => raw.getxattr(fd, name, address, size),
      fgetxattr: (fd, name, address, size) => raw.fgetxattr(fd, name, address, size),
      listxattr: (fd, address, size) => raw.listxattr(fd, address, size),
      flistxattr: (fd, address, size) => raw.flistxattr(fd, address, size),
      umask: (mask) => raw.umask(mask),

      openat: (dirfd, name, flags, mode) => {
        if (!way.recording || (flags & O.CREAT) === 0) return raw.openat(dirfd, name, flags, mode);
        return this.#make(dirfd, name, () => raw.openat(dirfd, name, flags, mode));
      },
      mkdirat: (dirfd, name, mode) => this.#make(dirfd, name, () => raw.mkdirat(dirfd, name, mode)),
      mknodat: (dirfd, name, mode, rdev) =>
        this.#make(dirfd, name, () => raw.mknodat(dirfd, name, mode, rdev)),
      symlinkat: (target, dirfd, name) => this.#make(dirfd, name, () => raw.symlinkat(target, dirfd, name)),
      link: (fd, dirfd, name) => this.#link(fd, dirfd, name),
      unlinkat: (dirfd, name, flags) => this.#unlink(dirfd, name, flags),
      renameat2: (oldDirfd, oldName, newDirfd, newName, flags) =>
        this.#rename({ dirfd: oldDirfd, name: oldName }, { dirfd: newDirfd, name: newName }, flags),
      pwrite: (fd, address, count, offset) =>
        this.#write(fd, offset, count, () => raw.pwrite(fd, address, count, offset)),
      ftruncate: (fd, size) => this.#write(fd, size, TO_END - size, () => raw.ftruncate(fd, size)),
      truncate: (fd, size) => this.#write(fd, size, TO_END - size, () => raw.truncate(fd, size)),
      fallocate: (fd, mode, offset, length) => {
        // All that follows is moved by some; allocating alone shows no other content.
        const keeps = (mode & ~FALLOC.KEEP_SIZE) === 0;
        const moves = (mode & ~(FALLOC.KEEP_SIZE | FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE)) !== 0;
        const changed = keeps ? 0 : moves ? TO_END - offset : length;
        return this.#write(fd, offset, changed, () => raw.fallocate(fd, mode, offset, length));
      },
      copyFileRange: (fdIn, offsetIn, fdOut, offsetOut, length) =>
        this.#write(
          fdOut,
          offsetOut,
          length,
          () => raw.copyFileRange(fdIn, offsetIn, fdOut, offsetOut, length),
        ),
      chmod: (fd, mode) => this.#change(fd, () => raw.chmod(fd, mode)),
      chown: (fd, uid, gid) => this.#change(fd, () => raw.chown(fd, uid, gid)),
      utimens: (fd, atimeSec, atimeNsec, mtimeSec, mtimeNsec) =>
        this.#change(fd, () => raw.utimens(fd, atimeSec, atimeNsec, mtimeSec, mtimeNsec)),
      setxattr: (fd, name, address, size, flags) =>
        this.#change(fd, () => raw.setxattr(fd, name, address, size, flags)),
      removexattr: (fd, name) => this.#change(fd, () => raw.removexattr(fd, name)),
      openByHandle: (mountFd, handle, flags) => {
        const fd = raw.openByHandle(mountFd, handle, flags);
        if (fd < 0 || !this.#gone(fd)) return fd;
        raw.close(fd);
        return -ESTALE;
      },
      statx: (fd, into, mask) => this.#hideGrave(raw.statx(fd, into, mask), into),
      statxAt: (dirfd, name, into) => this.#hideGrave(raw.statxAt(dirfd, name, into), into),
    };
  }

  /** What is in the graveyard has no name that counts. */
  #hideGrave(result: number, into: Statx): number {
    if (result < 0 || !this.#way.isBuried(into)) return result;
    const directory = (into.mode & S_IF.MT) === S_IF.DIR;
    into.view.setUint32(STATX.nlink, directory ? 0 : Math.max(0, into.nlink - 1), true);
    return result;
  }

  /** Whether it would be gone but for the graveyard. */
  #gone(fd: number): boolean {
    if (this.#raw.statx(fd, this.#stat) < 0 || !this.#way.isBuried(this.#stat)) return false;
    return (this.#stat.mode & S_IF.MT) === S_IF.DIR || this.#stat.nlink <= 1;
  }

  /** Makes room where what is only a favour takes it. */
  #do(call: () => number): number {
    const result = call();
    if (!FULL.includes(result) || !this.#way.recording) return result;
    this.#way.giveUp("the disk is full");
    return call();
  }

  #change(fd: number, call: () => number): number {
    if (!this.#way.recording) return call();
    this.#way.object(fd);
    this.#way.settle();
    return this.#do(call);
  }

  #write(fd: number, offset: number, length: number, call: () => number): number {
    if (!this.#way.recording) return call();
    if (length > 0) this.#way.content(fd, offset, length);
    else this.#way.object(fd);
    this.#way.settle();
    return this.#do(call);
  }

  #make(dirfd: number, name: Name, call: () => number): number {
    const way = this.#way;
    if (!way.recording) return call();
    const bytes = bytesOfName(name);
    const there = this.#raw.statxAt(dirfd, bytes, this.#stat) >= 0;
    way.name(dirfd, bytes);
    way.settle();
    const made = this.#do(call);
    if (made < 0 || there) return made;
    const fd = this.#look(dirfd, bytes);
    if (fd < 0) return made;
    way.made(fd);
    this.#raw.close(fd);
    return made;
  }

  #link(fd: number, dirfd: number, name: Name): number {
    const call = (): number => this.#raw.link(fd, dirfd, name);
    if (!this.#way.recording) return call();
    if (this.#gone(fd)) return -ENOENT;
    this.#way.object(fd);
    this.#way.name(dirfd, bytesOfName(name));
    this.#way.settle();
    return this.#do(call);
  }

  #unlink(dirfd: number, name: Name, flags: number): number {
    const call = (): number => this.#raw.unlinkat(dirfd, name, flags);
    if (!this.#way.recording) return call();
    const bytes = bytesOfName(name);
    const fd = this.#look(dirfd, bytes);
    if (fd < 0) return call();
    try {
      this.#way.name(dirfd, bytes);
      this.#way.settle();
      const removable = this.#isDirectory(fd) === ((flags & AT.REMOVEDIR) !== 0);
      if (!removable || !this.#wouldBeLost(fd)) return this.#do(call);
      const buried = this.#way.bury(dirfd, bytes, fd);
      if (buried >= 0) return 0;
      this.#way.giveUp(`what would be deleted could not be kept (errno ${-buried})`);
      return call();
    } finally {
      this.#raw.close(fd);
    }
  }

  #rename(
    from: { readonly dirfd: number; readonly name: Name },
    to: { readonly dirfd: number; readonly name: Name },
    flags: number,
  ): number {
    const call = (): number => this.#raw.renameat2(from.dirfd, from.name, to.dirfd, to.name, flags);
    if (!this.#way.recording) return call();
    const name = bytesOfName(from.name);
    const other = bytesOfName(to.name);
    const source = this.#look(from.dirfd, name);
    const target = this.#look(to.dirfd, other);
    try {
      if (source < 0) return call();
      this.#way.name(from.dirfd, name);
      this.#way.name(to.dirfd, other);
      this.#way.object(source);
      this.#way.settle();
      if (target < 0 || !this.#displaces(source, target, flags)) return this.#do(call);
      const buried = this.#way.bury(to.dirfd, other, target);
      if (buried < 0) this.#way.giveUp(`what would be replaced could not be kept (errno ${-buried})`);
      const renamed = this.#do(call);
      if (renamed < 0) this.#way.unearth(to.dirfd, other, target);
      return renamed;
    } finally {
      if (source >= 0) this.#raw.close(source);
      if (target >= 0) this.#raw.close(target);
    }
  }

  /** Whether a rename takes the last name of what is in its way. */
  #displaces(source: number, target: number, flags: number): boolean {
    if ((flags & (RENAME.EXCHANGE | RENAME.NOREPLACE)) !== 0) return false;
    if (this.#raw.statx(source, this.#stat) < 0 || this.#raw.statx(target, this.#other) < 0) return false;
    const same = this.#stat.ino === this.#other.ino && this.#stat.dev === this.#other.dev;
    // Two names of one object: rename(2) does nothing.
    if (same || this.#isDirectory(source) !== this.#isDirectory(target)) return false;
    return this.#wouldBeLost(target);
  }

  #wouldBeLost(fd: number): boolean {
    if (!this.#way.mustStay(fd)) return false;
    if (!this.#isDirectory(fd)) return this.#raw.statx(fd, this.#stat) >= 0 && this.#stat.nlink === 1;
    return this.#isEmpty(fd);
  }

  #isDirectory(fd: number): boolean {
    return this.#raw.statx(fd, this.#stat) >= 0 && (this.#stat.mode & S_IF.MT) === S_IF.DIR;
  }

  #isEmpty(fd: number): boolean {
    const listing = this.#raw.reopen(fd, O.RDONLY | O.DIRECTORY);
    if (listing < 0) return false;
    try {
      while (this.#raw.getdents(listing, this.#entries) > 0) {
        while (this.#entries.next()) if (!this.#entries.isDot) return false;
      }
      return true;
    } finally {
      this.#raw.close(listing);
    }
  }

  #look(dirfd: number, name: Uint8Array): number {
    return this.#raw.openat(dirfd, name, O.PATH | O.NOFOLLOW, 0);
  }
}

/** On a secondary names are bytes; an address stands in a request of the kernel, which only a primary has. */
function bytesOfName(name: Name): Uint8Array {
  if (typeof name === "number") throw new TypeError("Cannot note a name by its address");
  return name;
}
