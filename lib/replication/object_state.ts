/**
 * What an object is apart from its content and its names: read on one node, imposed on the other.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { PATH_MAX, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { nulFrom, sameBytes } from "./bytes.ts";
import { nameKey } from "./limbo.ts";
import { type Held, OWN_XATTR_PREFIX } from "./objects.ts";
import { setMtime } from "./tree.ts";

const EIO = 5;
const ENODATA = 61;
/** `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of the kernel. */
const XATTR_MAX = 65536;

/** An extended attribute. The name ends with NUL. */
export interface Xattr {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/** An object without its content and entries. */
export interface ObjectState {
  readonly id: number;
  /** Which of the module's directories it lies in, from 0. */
  readonly root: number;
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a device, as in {@link Statx.rdev}. */
  readonly rdev: number;
  /** 0: it has no name any more but is open. */
  readonly nlink: number;
  /** Bytes; 0 for what is no regular file. */
  readonly size: number;
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  /** Of a symbolic link, without NUL. */
  readonly target: Uint8Array;
  /** All but our own. */
  readonly xattrs: readonly Xattr[];
}

const NOTHING = new Uint8Array(0);

/** Reads and imposes states. One per thread. */
export class StateKeeper {
  readonly #backing: Backing;
  readonly #stat = new Statx();
  readonly #names = new Uint8Array(XATTR_MAX);
  readonly #namesAddress: number;
  readonly #value = new Uint8Array(XATTR_MAX);
  readonly #valueAddress: number;

  constructor(backing: Backing, addressOf: (bytes: Uint8Array) => number) {
    this.#backing = backing;
    this.#namesAddress = addressOf(this.#names);
    this.#valueAddress = addressOf(this.#value);
  }

  /** The state of an object held open, or −errno. */
  read(held: Held): ObjectState | number {
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) return failed;
    const { mode, uid, gid, rdev, nlink, size, mtime } = this.#stat;
    const type = mode & S_IF.MT;
    const target = type === S_IF.LNK ? this.readlink(held.path) : NOTHING;
    if (typeof target === "number") return target;
    const xattrs = this.xattrs(held.path);
    if (typeof xattrs === "number") return xattrs;
    return {
      id: held.id,
      root: held.root,
      mode,
      uid,
      gid,
      rdev: type === S_IF.CHR || type === S_IF.BLK ? rdev : 0,
      nlink,
      size: type === S_IF.REG ? size : 0,
      mtime,
      target,
      xattrs,
    };
  }

  /** The target of a symbolic link, or −errno. */
  readlink(fd: number): Uint8Array | number {
    const length = this.#backing.readlink(fd, this.#valueAddress, PATH_MAX);
    return length < 0 ? length : this.#value.slice(0, length);
  }

  /** All extended attributes but our own, or −errno. */
  xattrs(fd: number): Xattr[] | number {
    const length = this.#backing.listxattr(fd, this.#namesAddress, XATTR_MAX);
    if (length < 0) return length === -95 ? [] : length;
    const found: Xattr[] = [];
    for (let at = 0; at < length;) {
      const end = nulFrom(this.#names, at, length) + 1;
      const name = this.#names.slice(at, end);
      at = end;
      if (nameKey(name).startsWith(OWN_XATTR_PREFIX)) continue;
      const size = this.#backing.getxattr(fd, name, this.#valueAddress, XATTR_MAX);
      if (size < 0) return size;
      found.push({ name, value: this.#value.slice(0, size) });
    }
    return found;
  }

  /**
   * Makes an object's mode, owner and xattrs those of `wanted`, and its mtime last. Writes nothing that is right already.
   *
   * Owner first: `chown` clears setuid, setgid and `security.capability`. ACLs before the mode: each sets the other, and
   * on the source they agree.
   */
  impose(held: Held, wanted: ObjectState): number {
    const fd = held.path;
    let failed = this.#backing.statx(fd, this.#stat);
    if (failed < 0) return failed;
    if (this.#stat.uid !== wanted.uid || this.#stat.gid !== wanted.gid) {
      failed = this.#backing.chown(fd, wanted.uid, wanted.gid);
      if (failed < 0) return failed;
    }
    failed = this.#imposeXattrs(fd, wanted.xattrs);
    if (failed < 0) return failed;
    held.defaultAcl = -1;
    held.childGroup = -2;
    held.bare = false;
    if (this.#backing.statx(fd, this.#stat) < 0) return -EIO;
    if (held.type !== S_IF.LNK && this.#stat.mode !== wanted.mode) {
      failed = this.#backing.chmod(fd, wanted.mode & 0o7777);
      if (failed < 0) return failed;
    }
    return this.#stat.mtime === wanted.mtime ? 0 : setMtime(this.#backing, fd, wanted.mtime);
  }

  #imposeXattrs(fd: number, wanted: readonly Xattr[]): number {
    const present = this.xattrs(fd);
    if (typeof present === "number") return present;
    for (const { name } of present) {
      if (wanted.some((attribute) => sameBytes(attribute.name, name))) continue;
      const removed = this.#backing.removexattr(fd, name);
      if (removed < 0 && removed !== -ENODATA) return removed;
    }
    for (const { name, value } of wanted) {
      if (present.some((found) => sameBytes(found.name, name) && sameBytes(found.value, value))) continue;
      this.#value.set(value);
      const set = this.#backing.setxattr(fd, name, this.#valueAddress, value.length, 0);
      if (set < 0) return set;
    }
    return 0;
  }
}

/** The state of an object that does not exist. */
export function absentState(id: number): ObjectState {
  const none = { root: 0, mode: 0, uid: 0, gid: 0, rdev: 0, nlink: 0, size: 0, mtime: 0n };
  return { id, ...none, target: NOTHING, xattrs: [] };
}

/** Whether two states tell the same of an object, times and links apart. */
export function sameState(a: ObjectState, b: ObjectState): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && a.xattrs.length === b.xattrs.length &&
    a.xattrs.every(({ name, value }) =>
      b.xattrs.some((other) => sameBytes(other.name, name) && sameBytes(other.value, value))
    );
}
