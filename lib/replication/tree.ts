/**
 * Executes mutations on the directory beneath, by identity.
 *
 * The primary and the secondary run this same code with the same record, in the same order, so that they end with the
 * same tree. On the primary an error is the application's answer; on the secondary, where the primary succeeded, an
 * error means that the copies differ, and drops it from the set.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { AT, O, S_IF, S_IS, UTIME } from "../system/linux.ts";
import { nanosOf, secondsOf, Statx } from "../system/statx.ts";
import { u64 } from "./bytes.ts";
import { creates, type Mutation, RENAME_BITS, SETATTR, SETATTR_BITS } from "./mutation.ts";
import type { Held, Objects } from "./objects.ts";

const ENOENT = 2;
const EIO = 5;
const ESTALE = 116;
const EEXIST = 17;
const EINVAL = 22;
const ENOTEMPTY = 39;

/** What {@link Tree} needs. */
export interface TreeOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  /** Where a directory goes that holds nothing but what stays on this node: a secondary's. */
  readonly aside?: { put(parent: Held, name: Uint8Array, directory: Held): number };
}

/** The directory beneath, as mutations change it. */
export class Tree {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #aside: TreeOptions["aside"];
  readonly #stat = new Statx();
  readonly #born = new Statx();
  /** The object a creating mutation made, for the reply. */
  created: Held | undefined;
  /** Its attributes, once {@link measure} has read them; undefined where they could not be. */
  born: Statx | undefined;

  constructor(options: TreeOptions) {
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#aside = options.aside;
  }

  /** Executes a mutation. Answers what was done (bytes written, 0), or −errno with nothing changed. */
  execute(mutation: Mutation): number {
    switch (mutation.op) {
      case OP.write:
        return this.#write(mutation);
      case OP.create:
      case OP.mkdir:
      case OP.mknod:
      case OP.symlink:
        return this.#create(mutation);
      case OP.link:
        return this.#link(mutation);
      case OP.unlink:
      case OP.rmdir:
        return this.#unlink(mutation);
      case OP.rename:
        return this.#rename(mutation);
      case OP.setattr:
        return this.#setattr(mutation);
      case OP.fallocate:
        return this.#onFile(
          mutation.id,
          (fd) => this.#backing.fallocate(fd, mutation.c, mutation.a, mutation.b),
        );
      case OP.copy:
        return this.#copy(mutation);
      case OP.setxattr:
        return this.#setxattr(mutation);
      case OP.removexattr: {
        const held = this.#objects.get(mutation.id);
        return held === undefined
          ? -ESTALE
          : this.#forgetAcl(held, this.#backing.removexattr(held.path, mutation.name));
      }
      case OP.release:
        this.#objects.remove(mutation.id);
        return 0;
      case OP.fsync:
      case OP.reserve:
        return 0;
      default:
        return -EINVAL;
    }
  }

  /** Reads the resulting times into the mutation: the primary's, which the secondary then imposes. */
  measure(mutation: Mutation): void {
    if (mutation.op >= OP.create && mutation.op <= OP.rename) {
      mutation.time = this.mtime(mutation.c);
      if (creates(mutation.op)) mutation.timeOther = this.#measureBorn(mutation.id);
      else if (mutation.op === OP.rename) {
        mutation.timeOther = mutation.a === mutation.c ? mutation.time : this.mtime(mutation.a);
      }
      return;
    }
    if (mutation.op <= OP.copy) mutation.time = this.mtime(mutation.id);
  }

  #measureBorn(id: number): bigint {
    const held = this.#objects.get(id);
    const failed = held === undefined ? -ESTALE : this.#backing.statx(held.path, this.#born);
    this.born = failed < 0 ? undefined : this.#born;
    return this.born?.mtime ?? 0n;
  }

  /** Sets the times that the primary measured; a write's is told later, see `untold_times.ts`. */
  impose(mutation: Mutation): number {
    if (mutation.op >= OP.create && mutation.op <= OP.rename) {
      const first = this.#setMtime(mutation.c, mutation.time);
      if (first < 0) return first;
      if (creates(mutation.op)) return this.#setMtime(mutation.id, mutation.timeOther);
      return mutation.op === OP.rename && mutation.a !== mutation.c
        ? this.#setMtime(mutation.a, mutation.timeOther)
        : 0;
    }
    return mutation.op <= OP.copy && mutation.time !== 0n ? this.#setMtime(mutation.id, mutation.time) : 0;
  }

  /** The modification time of an object, nanoseconds; 0 when it cannot be told. */
  mtime(id: number): bigint {
    const held = this.#objects.get(id);
    return held === undefined || this.#backing.statx(held.path, this.#stat) < 0 ? 0n : this.#stat.mtime;
  }

  #setMtime(id: number, time: bigint): number {
    const held = this.#objects.get(id);
    if (held === undefined) return -ESTALE;
    return setMtime(this.#backing, held.path, time);
  }

  #write(mutation: Mutation): number {
    const held = this.#objects.get(mutation.id);
    if (held === undefined) return -ESTALE;
    const fd = this.#objects.io(held);
    if (fd < 0) return fd;
    if (mutation.c === 1) {
      const dropped = dropSuidgid(this.#backing, held.path, this.#stat);
      if (dropped < 0) return dropped;
    }
    return this.#backing.pwrite(fd, mutation.payloadAddress, mutation.payloadLength, mutation.a);
  }

  #create(mutation: Mutation): number {
    const parent = this.#objects.get(mutation.c);
    if (parent === undefined) return -ESTALE;
    this.created = undefined;
    const made = makeObject(this.#backing, parent.path, mutation.name, mutation);
    if (made < 0) return made;
    let failed = finishObject(this.#backing, made, mutation, this.#stat);
    if (failed >= 0) failed = this.#objects.writeId(made, mutation.id);
    const held = failed < 0
      ? failed
      : this.#objects.register(made, mutation.id, parent.root, typeOf(mutation));
    if (typeof held === "number") {
      // Half made is not made: the application is told why, and the name is free again.
      if (failed < 0) this.#backing.close(made);
      this.#backing.unlinkat(parent.path, mutation.name, mutation.op === OP.mkdir ? AT.REMOVEDIR : 0);
      return held;
    }
    if (mutation.op === OP.create) held.io = held.path;
    held.bare = true;
    this.created = held;
    this.born = undefined;
    return 0;
  }

  #link(mutation: Mutation): number {
    const held = this.#objects.get(mutation.id);
    const parent = this.#objects.get(mutation.c);
    if (held === undefined || parent === undefined) return -ESTALE;
    return this.#backing.link(held.path, parent.path, mutation.name);
  }

  #unlink(mutation: Mutation): number {
    const parent = this.#objects.get(mutation.c);
    const held = this.#objects.get(mutation.id);
    if (parent === undefined || held === undefined) return -ESTALE;
    if (mutation.a === 1 && this.#objects.io(held) < 0) return -EIO;
    let result = this.#backing.unlinkat(
      parent.path,
      mutation.name,
      mutation.op === OP.rmdir ? AT.REMOVEDIR : 0,
    );
    if (result === -ENOTEMPTY && this.#aside !== undefined) {
      result = this.#aside.put(parent, mutation.name, held);
    }
    if (result < 0) return result;
    this.#gone(held, mutation.a === 1);
    return 0;
  }

  #rename(mutation: Mutation): number {
    const from = this.#objects.get(mutation.c);
    const to = this.#objects.get(mutation.a);
    if (from === undefined || to === undefined) return -ESTALE;
    if (mutation.name.length === 0 || mutation.other.length === 0) return -ENOENT;
    const displaced = mutation.displaced === 0 ? undefined : this.#objects.get(mutation.displaced);
    const open = (mutation.b & RENAME_BITS.displacedOpen) !== 0;
    if (displaced !== undefined && open && this.#objects.io(displaced) < 0) return -EIO;
    const flags = mutation.b & RENAME_BITS.flags;
    let result = this.#backing.renameat2(from.path, mutation.name, to.path, mutation.other, flags);
    // XFS says EEXIST of a directory in the way that is not empty.
    const occupied = result === -ENOTEMPTY || (result === -EEXIST && flags === 0);
    if (occupied && this.#aside !== undefined && displaced !== undefined) {
      result = this.#aside.put(to, mutation.other, displaced);
      if (result < 0) return result;
      result = this.#backing.renameat2(from.path, mutation.name, to.path, mutation.other, flags);
    }
    if (result < 0) return result;
    // RENAME_EXCHANGE displaces nothing: both keep a name.
    if (displaced !== undefined && displaced.id !== mutation.id && (flags & 2) === 0) {
      this.#gone(displaced, open);
    }
    return 0;
  }

  /** An object lost a name. If it was the last, it ends now, or lives as an orphan while it is open. */
  #gone(held: Held, open: boolean): void {
    if (this.#backing.statx(held.path, this.#stat) < 0) return;
    const directory = held.type === S_IF.DIR;
    if (!directory && this.#stat.nlink > 0) return;
    if (open) held.orphan = held.kept = true;
    else if (held.lookups === 0) this.#objects.remove(held.id);
    // While the kernel still looks at it, it stays in the table until FORGET; `orphan` makes forget() delete the handle.
    else held.orphan = true;
  }

  #setattr(mutation: Mutation): number {
    const held = this.#objects.get(mutation.id);
    if (held === undefined) return -ESTALE;
    held.childGroup = -2;
    const blob = new DataView(mutation.name.buffer, mutation.name.byteOffset, mutation.name.byteLength);
    return applyAttributes(this.#backing, this.#objects, held, mutation.a, blob, this.#stat);
  }

  #copy(mutation: Mutation): number {
    const source = this.#objects.get(mutation.c);
    if (source === undefined) return -ESTALE;
    const from = this.#objects.io(source);
    if (from < 0) return from;
    const view = new DataView(mutation.name.buffer, mutation.name.byteOffset, mutation.name.byteLength);
    return this.#onFile(
      mutation.id,
      (fd) => this.#backing.copyFileRange(from, u64(view, 0), fd, mutation.a, mutation.b),
    );
  }

  #setxattr(mutation: Mutation): number {
    const held = this.#objects.get(mutation.id);
    if (held === undefined) return -ESTALE;
    const { payloadAddress, payloadLength } = mutation;
    const result = this.#backing.setxattr(
      held.path,
      mutation.name,
      payloadAddress,
      payloadLength,
      mutation.a,
    );
    if (result < 0) return result;
    this.#forgetAcl(held, 0);
    return mutation.b === 1 ? dropSgid(this.#backing, held.path, this.#stat) : 0;
  }

  #forgetAcl(held: Held, result: number): number {
    held.defaultAcl = -1;
    held.childGroup = -2;
    held.bare = false;
    return result;
  }

  #onFile(id: number, action: (fd: number) => number): number {
    const held = this.#objects.get(id);
    if (held === undefined) return -ESTALE;
    const fd = this.#objects.io(held);
    return fd < 0 ? fd : action(fd);
  }
}

/** Makes the object of a creating mutation; answers a descriptor of it. */
export function makeObject(backing: Backing, dirfd: number, name: Uint8Array, mutation: Mutation): number {
  const mode = mutation.a % 65536;
  if (mutation.op === OP.create) {
    return backing.openat(dirfd, name, O.CREAT | O.EXCL | O.RDWR | O.NOFOLLOW, mode & 0o7777);
  }
  const made = mutation.op === OP.mkdir
    ? backing.mkdirat(dirfd, name, mode & 0o7777)
    : mutation.op === OP.symlink
    ? backing.symlinkat(mutation.other, dirfd, name)
    : backing.mknodat(dirfd, name, mode, Math.floor(mutation.a / 65536));
  return made < 0 ? made : backing.openat(dirfd, name, O.PATH | O.NOFOLLOW, 0);
}

/** Type bits of what a creating mutation makes. */
function typeOf(mutation: Mutation): number {
  switch (mutation.op) {
    case OP.create:
      return S_IF.REG;
    case OP.mkdir:
      return S_IF.DIR;
    case OP.symlink:
      return S_IF.LNK;
    default:
      // mknod(2) without a type makes a regular file.
      return mutation.a % 65536 & S_IF.MT || S_IF.REG;
  }
}

/** Gives a fresh object its owner, without looking first: what it has may come from a directory that is not equal yet. */
export function finishObject(backing: Backing, fd: number, mutation: Mutation, stat: Statx): number {
  // chown(2) drops setuid and setgid, but not those of a directory: what the file system made of the mode is set again.
  const file = mutation.op === OP.create || mutation.op === OP.mknod;
  const drops = file && (mutation.a & (S_IS.UID | S_IS.GID)) !== 0;
  if (drops && backing.statx(fd, stat) < 0) return -EIO;
  const failed = backing.chown(fd, mutation.uid, mutation.gid);
  return failed < 0 || !drops ? failed : backing.chmod(fd, stat.mode & 0o7777);
}

/** Applies the fields of a setattr: owner before mode, since `chown` changes modes; times last, since all change them. */
export function applyAttributes(
  backing: Backing,
  objects: Objects,
  held: Held,
  valid: number,
  blob: DataView,
  stat: Statx,
): number {
  let result = 0;
  if (valid & SETATTR_BITS.size) {
    const fd = objects.io(held);
    if (fd < 0) return fd;
    result = backing.ftruncate(fd, u64(blob, SETATTR.size));
    if (result < 0) return result;
  }
  if (valid & SETATTR_BITS.killSuidgid) result = dropSuidgid(backing, held.path, stat);
  if (result >= 0 && valid & (SETATTR_BITS.uid | SETATTR_BITS.gid)) {
    const uid = valid & SETATTR_BITS.uid ? blob.getUint32(SETATTR.uid, true) : 0xffffffff;
    const gid = valid & SETATTR_BITS.gid ? blob.getUint32(SETATTR.gid, true) : 0xffffffff;
    result = backing.chown(held.path, uid, gid);
  }
  if (result >= 0 && valid & SETATTR_BITS.mode) {
    result = backing.chmod(held.path, blob.getUint32(SETATTR.mode, true) & 0o7777);
  }
  if (result >= 0 && valid & (SETATTR_BITS.atime | SETATTR_BITS.mtime)) {
    const atime = blob.getBigInt64(SETATTR.atime, true);
    const mtime = blob.getBigInt64(SETATTR.mtime, true);
    result = backing.utimens(
      held.path,
      secondsOf(atime),
      valid & SETATTR_BITS.atime ? nanosOf(atime) : UTIME.OMIT,
      secondsOf(mtime),
      valid & SETATTR_BITS.mtime ? nanosOf(mtime) : UTIME.OMIT,
    );
  }
  return result;
}

/** Sets the mtime alone. */
export function setMtime(backing: Backing, fd: number, time: bigint): number {
  return backing.utimens(fd, 0, UTIME.OMIT, secondsOf(time), nanosOf(time));
}

/** What the kernel does to a file that is written to: setuid goes, setgid too where the group may execute. */
function dropSuidgid(backing: Backing, fd: number, stat: Statx): number {
  if (backing.statx(fd, stat) < 0) return -EIO;
  const mode = stat.mode;
  let kept = mode & ~S_IS.UID;
  if ((mode & 0o2010) === 0o2010) kept &= ~S_IS.GID;
  return kept === mode ? 0 : backing.chmod(fd, kept & 0o7777);
}

function dropSgid(backing: Backing, fd: number, stat: Statx): number {
  if (backing.statx(fd, stat) < 0) return -EIO;
  const mode = stat.mode;
  return (mode & S_IS.GID) === 0 ? 0 : backing.chmod(fd, mode & 0o7777 & ~S_IS.GID);
}
