/**
 * The objects of the file system in memory: inodes, the names that lead to them, and what becomes of them when names come and
 * go. Who has what open is `memory_backing.ts`'s.
 *
 * @module
 */

import { RENAME, S_IF, S_IS } from "../../lib/system/linux.ts";
import { STATX, type Statx } from "../../lib/system/statx.ts";
import { FileBytes } from "./file_bytes.ts";

/** Nanoseconds in a second. */
export const SECOND = 1_000_000_000n;

/** −errno, as ext4 answers. */
export const E = {
  PERM: -1,
  NOENT: -2,
  BADF: -9,
  EXIST: -17,
  XDEV: -18,
  NOTDIR: -20,
  ISDIR: -21,
  INVAL: -22,
  FBIG: -27,
  NOSPC: -28,
  RANGE: -34,
  NAMETOOLONG: -36,
  NOTEMPTY: -39,
  LOOP: -40,
  NODATA: -61,
  OPNOTSUPP: -95,
  STALE: -116,
} as const;

/** A name in a directory and the cookie by which a listing continues behind it. */
interface Entry {
  readonly inode: Inode;
  readonly off: bigint;
}

/** One object. */
export interface Inode {
  readonly ino: number;
  readonly generation: number;
  mode: number;
  uid: number;
  gid: number;
  readonly rdev: number;
  nlink: number;
  opens: number;
  content: FileBytes;
  readonly entries: Map<string, Entry>;
  parent: Inode | null;
  readonly target: string;
  readonly xattrs: Map<string, Uint8Array>;
  atime: bigint;
  mtime: bigint;
  ctime: bigint;
}

/** All objects, and the tree they form. */
export class Inodes {
  /** Nanoseconds since 1970; what a change writes as mtime. */
  now = 1_700_000_000_000_000_000n;
  root: Inode;
  readonly #inodes = new Map<number, Inode>();
  #nextIno = 2;
  #nextOff = 3n;
  #generation = 1;

  constructor() {
    this.root = this.#make(S_IF.DIR | 0o755, 0, "");
    this.root.nlink = 2;
  }

  /** All of it, apart: names and attributes as they are, the content of each as `contentOf` says. */
  clone(contentOf: (inode: Inode) => FileBytes): Inodes {
    const made = new Inodes();
    made.now = this.now;
    made.#nextIno = this.#nextIno;
    made.#nextOff = this.#nextOff;
    made.#generation = this.#generation;
    made.#inodes.clear();
    const twins = new Map<Inode, Inode>();
    const all = new Set<Inode>([this.root, ...this.#inodes.values()]);
    for (const inode of all) {
      const twin: Inode = {
        ...inode,
        opens: 0,
        content: contentOf(inode),
        entries: new Map(),
        xattrs: new Map([...inode.xattrs].map(([name, value]) => [name, value.slice()])),
      };
      twins.set(inode, twin);
      made.#inodes.set(twin.ino, twin);
    }
    for (const [inode, twin] of twins) {
      for (const [name, entry] of inode.entries) {
        const child = twins.get(entry.inode);
        if (child === undefined) throw new Error("a name of nothing");
        twin.entries.set(name, { inode: child, off: entry.off });
      }
      twin.parent = inode.parent === null ? null : twins.get(inode.parent) ?? null;
    }
    const root = twins.get(this.root);
    if (root === undefined) throw new Error("no root");
    made.root = root;
    return made;
  }

  /** What had no name is gone. */
  reapAll(): void {
    for (const inode of [...this.#inodes.values()]) this.reap(inode);
  }

  /** The object of a number. */
  get(ino: number): Inode | undefined {
    return this.#inodes.get(ino);
  }

  /** Blocks of 4096 bytes that all of them take. */
  get blocks(): number {
    let sum = 0;
    for (const inode of this.#inodes.values()) sum += inode.content.blocks;
    return sum;
  }

  /** A new object in a directory; null when the directory itself was removed. */
  born(directory: Inode, name: string, mode: number, rdev: number, target: string): Inode | null {
    if (directory.nlink === 0) return null;
    const inode = this.#make(mode, rdev, target);
    if (directory.mode & S_IS.GID) {
      inode.gid = directory.gid;
      if (typeOf(inode) === S_IF.DIR) inode.mode |= S_IS.GID;
    }
    if (typeOf(inode) === S_IF.DIR) directory.nlink++;
    inode.nlink = typeOf(inode) === S_IF.DIR ? 2 : 1;
    this.enter(directory, name, inode);
    return inode;
  }

  #make(mode: number, rdev: number, target: string): Inode {
    const inode: Inode = {
      ino: this.#nextIno++,
      generation: this.#generation++,
      mode,
      uid: 0,
      gid: 0,
      rdev,
      nlink: 0,
      opens: 0,
      content: new FileBytes(),
      entries: new Map(),
      parent: null,
      target,
      xattrs: new Map(),
      atime: this.now,
      mtime: this.now,
      ctime: this.now,
    };
    this.#inodes.set(inode.ino, inode);
    return inode;
  }

  /** Puts a name into a directory, over one that is there. */
  enter(directory: Inode, name: string, inode: Inode): void {
    // Cookies use the upper half as well, as those of ext4 do.
    directory.entries.set(name, { inode, off: this.#nextOff++ << 30n });
    directory.mtime = directory.ctime = this.now;
    if (typeOf(inode) === S_IF.DIR) inode.parent = directory;
  }

  /** Takes a name away, and the object with it if nothing else holds it. */
  leave(directory: Inode, name: string, inode: Inode): void {
    directory.entries.delete(name);
    directory.mtime = directory.ctime = this.now;
    inode.ctime = this.now;
    if (typeOf(inode) === S_IF.DIR) {
      directory.nlink--;
      inode.nlink = 0;
    } else inode.nlink--;
    this.reap(inode);
  }

  /** The object is gone unless it has a name, or somebody has it open. */
  reap(inode: Inode): void {
    if (inode.nlink === 0 && inode.opens === 0) this.#inodes.delete(inode.ino);
  }

  /** As renameat2(2). */
  rename(from: Inode, name: string, to: Inode, other: string, flags: number): number {
    const moved = from.entries.get(name)?.inode;
    const displaced = to.entries.get(other)?.inode;
    if ((flags & RENAME.EXCHANGE) !== 0 && (flags & ~RENAME.EXCHANGE) !== 0) return E.INVAL;
    if (moved === undefined || to.nlink === 0) return E.NOENT;
    if (flags & RENAME.NOREPLACE && displaced !== undefined) return E.EXIST;
    if (within(to, moved)) return E.INVAL;
    if (flags & RENAME.EXCHANGE) {
      if (displaced === undefined) return E.NOENT;
      if (within(from, displaced)) return E.INVAL;
      if (moved !== displaced) this.#exchange(from, name, moved, to, other, displaced);
      return 0;
    }
    if (displaced === moved) return 0;
    if (displaced !== undefined) {
      const refused = replaceRefused(moved, displaced);
      if (refused < 0) return refused;
      this.leave(to, other, displaced);
    }
    from.entries.delete(name);
    from.mtime = from.ctime = this.now;
    this.enter(to, other, moved);
    if (typeOf(moved) === S_IF.DIR) {
      from.nlink--;
      to.nlink++;
    }
    moved.ctime = this.now;
    return 0;
  }

  #exchange(from: Inode, name: string, moved: Inode, to: Inode, other: string, displaced: Inode): void {
    this.enter(from, name, displaced);
    this.enter(to, other, moved);
    const difference = (typeOf(moved) === S_IF.DIR ? 1 : 0) - (typeOf(displaced) === S_IF.DIR ? 1 : 0);
    from.nlink -= difference;
    to.nlink += difference;
  }

  /** The object that a path leads to, from the root. */
  find(path: string): Inode | undefined {
    let inode: Inode | undefined = this.root;
    for (const part of path.split("/").filter((name) => name !== "")) inode = inode?.entries.get(part)?.inode;
    return inode;
  }

  /** Everything below the root that two copies must have alike, one line an object and name. */
  snapshot(): string {
    const lines: string[] = [];
    const walk = (path: string, inode: Inode): void => {
      lines.push(`${JSON.stringify(path)} ${describe(inode)}`);
      for (const name of [...inode.entries.keys()].sort()) {
        walk(`${path}/${name}`, inode.entries.get(name)?.inode ?? inode);
      }
    };
    walk("", this.root);
    return lines.join("\n");
  }
}

/** What statx(2) tells of an object. */
export function statOf(inode: Inode, into: Statx): number {
  const { view } = into;
  view.setUint32(STATX.blksize, 4096, true);
  view.setUint32(STATX.nlink, inode.nlink, true);
  view.setUint32(STATX.uid, inode.uid, true);
  view.setUint32(STATX.gid, inode.gid, true);
  view.setUint16(STATX.mode, inode.mode, true);
  view.setBigUint64(STATX.ino, BigInt(inode.ino), true);
  view.setBigUint64(
    STATX.size,
    BigInt(typeOf(inode) === S_IF.LNK ? inode.target.length : inode.content.size),
    true,
  );
  view.setBigUint64(STATX.blocks, BigInt(inode.content.blocks * 8), true);
  for (
    const [at, time] of [[STATX.atime, inode.atime], [STATX.mtime, inode.mtime], [
      STATX.ctime,
      inode.ctime,
    ]] as const
  ) {
    const rest = ((time % SECOND) + SECOND) % SECOND;
    view.setBigInt64(at, (time - rest) / SECOND, true);
    view.setUint32(at + 8, Number(rest), true);
  }
  return 0;
}

/** Bytes of a name kept as one character each. */
export function latin1(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Type bits of its mode, `S_IF`. */
export function typeOf(inode: Inode): number {
  return inode.mode & S_IF.MT;
}

/** Whether a directory lies at or below an object. */
function within(directory: Inode, above: Inode): boolean {
  for (let at: Inode | null = directory; at !== null; at = at.parent) if (at === above) return true;
  return false;
}

function replaceRefused(moved: Inode, displaced: Inode): number {
  if (typeOf(displaced) !== S_IF.DIR) return typeOf(moved) === S_IF.DIR ? E.NOTDIR : 0;
  if (typeOf(moved) !== S_IF.DIR) return E.ISDIR;
  return displaced.entries.size > 0 ? E.NOTEMPTY : 0;
}

function describe(inode: Inode): string {
  const xattrs = [...inode.xattrs].sort(([a], [b]) => a < b ? -1 : 1).map(([name, value]) =>
    `${name}=${[...value]}`
  );
  const directory = typeOf(inode) === S_IF.DIR;
  return `${
    inode.mode.toString(8)
  } ${inode.uid}:${inode.gid} links ${inode.nlink} rdev ${inode.rdev} mtime ${inode.mtime} ` +
    `${directory ? "" : inode.content.describe()} ${JSON.stringify(inode.target)} ${xattrs.join(" ")}`;
}
