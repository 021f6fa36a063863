/**
 * Objects of a module by their 64-bit id, and the descriptors by which they are held.
 *
 * An object is found in three ways: by id (the object map gives its file handle), by a name in a directory (the xattr
 * `trusted.binome.id` tells its id), or because it is open already. Never by a path: the application renames meanwhile.
 *
 * Descriptors are a cache with a limit; whatever was closed is opened again by its handle. Only an orphan (unlinked,
 * still open) cannot: its descriptor stays until it is released, and the keeper holds a copy.
 *
 * @module
 */

import type { Backing, Name } from "../system/backing.ts";
import { FileHandle } from "../system/handle.ts";
import { O, S_IF, XATTR } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { type Border, isLocal, LOCAL_FIRST, serialOf, type Way } from "./border.ts";
import { cbytes, withoutNul } from "./bytes.ts";
import { NAMELESS } from "./own_names.ts";
import { Whereabouts } from "./whereabouts.ts";

/** Where an object's id stands, on the object itself: it moves with it and survives everything the object survives. */
export const ID_XATTR = "trusted.binome.id";
/** What the mount hides: our own attributes. */
export const OWN_XATTR_PREFIX = "trusted.binome.";
/** Ids below are the roots of the module's directories: root k has id k + 1. */
export const FIRST_ID = 16;
/** Ids are reserved in blocks, so that no power cut makes one be given twice. */
export const RESERVE_BLOCK = 65536;

const ID_NAME = cbytes(ID_XATTR);
const ESTALE = 116;
const ENODATA = 61;
const SLASH = 0x2f;

/** id → file handle, persistent. The top half of `type` says which root the handle belongs to. */
export interface HandleMap {
  get(id: number, into: FileHandle): number | undefined;
  set(id: number, rootedType: number, bytes: Uint8Array): void;
  delete(id: number): void;
  /** Whether the number of something local is another object's by now, see `handleMap`. */
  taken?(id: number): boolean;
}

/** One object held open. `-1` stands for a descriptor that is not open. */
export interface Held {
  readonly id: number;
  /** Which of the module's directories it lies in, from 0. */
  readonly root: number;
  /** Type bits of its mode, `S_IF`. */
  readonly type: number;
  /** `O_PATH` descriptor. */
  path: number;
  /** Readable and writable descriptor of a regular file; readable one of a directory. */
  io: number;
  /** How many lookups the kernel holds (`FUSE_FORGET`). */
  lookups: number;
  /** How many opens the kernel holds; `Infinity` when a former process gave some away and we cannot know. */
  opens: number;
  /** It has no name any more and lives as long as the kernel looks at it. */
  orphan: boolean;
  /** An orphan that was open when it lost its name: the keeper and the other node hold it too, until it is released. */
  kept: boolean;
  /** For a directory: 1 has a default ACL, 0 has none, -1 not looked. */
  defaultAcl: number;
  /** For a directory: the group that its setgid bit gives to what is made in it, -1 none, -2 not looked. */
  childGroup: number;
  /** Made by this process, and no extended attribute was set since. */
  bare: boolean;
  /** For a directory of a primary: where it lies, once somebody asked. */
  way?: Way;
}

/** A directory of the module, from the outside. */
export interface RootDirectory {
  /** Descriptor of the directory beneath, opened readable. */
  readonly fd: number;
  /** What of it stays on the node; undefined: nothing. */
  readonly border?: Border | undefined;
}

/** What {@link Objects} needs. */
export interface ObjectsOptions {
  readonly backing: Backing;
  readonly roots: readonly RootDirectory[];
  readonly handles: HandleMap;
  /** Takes the next free id. */
  readonly allocate: () => number;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** How many descriptors may be held. */
  readonly fdsMax: number;
  /** Nobody moves directories so that they lie otherwise to the border: the primary, which refuses it. */
  readonly settled?: boolean;
}

/** The table of objects of one replicator. */
export class Objects {
  readonly #backing: Backing;
  readonly #roots: readonly RootDirectory[];
  readonly #handles: HandleMap;
  readonly #allocate: () => number;
  readonly #fdsMax: number;
  readonly #held = new Map<number, Held>();
  #fds = 0;
  /** Objects with lower ids may be open through a former process of ours: an unlink must not end them. */
  unknownBelow = 0;
  readonly #handle = new FileHandle();
  readonly #idBytes: Uint8Array<ArrayBuffer> = new Uint8Array(8);
  readonly #idView = new DataView(this.#idBytes.buffer);
  readonly #idAddress: number;
  readonly #stat = new Statx();
  /** Of {@link #isNameless}, which is asked while the other one is in use. */
  readonly #looked = new Statx();
  readonly #settled: boolean;
  readonly #bordered: boolean;
  readonly #where: Whereabouts;

  constructor(options: ObjectsOptions) {
    this.#backing = options.backing;
    this.#settled = options.settled === true;
    this.#bordered = options.roots.some(({ border }) => border !== undefined);
    this.#where = new Whereabouts(options.backing, options.addressOf);
    this.#roots = options.roots;
    this.#handles = options.handles;
    this.#allocate = options.allocate;
    this.#fdsMax = options.fdsMax;
    this.#idAddress = options.addressOf(this.#idBytes);
  }

  /** How many directories the module has. */
  get rootCount(): number {
    return this.#roots.length;
  }

  /** Makes sure that the roots carry their ids. Answers −errno when one cannot. */
  markRoots(): number {
    for (let index = 0; index < this.#roots.length; index++) {
      const fd = this.#rootFd(index);
      const id = this.readId(fd);
      if (id === index + 1) continue;
      if (id > 0) return -17;
      if (id < 0 && id !== -ENODATA) return id;
      const written = this.writeId(fd, index + 1);
      if (written < 0) return written;
    }
    return 0;
  }

  /** The object, or undefined when it is gone. */
  get(id: number): Held | undefined {
    const held = this.#held.get(id);
    if (held !== undefined) return held.path >= 0 || this.#reopen(held) ? held : undefined;
    return this.#open(id);
  }

  /** The object if it is in the table already; its descriptors may be closed. */
  peek(id: number): Held | undefined {
    return this.#held.get(id);
  }

  /** The handle of an object into `into`; answers which directory it lies in, −1 when the map does not have it. */
  handleOf(id: number, into: FileHandle): number {
    if (id < FIRST_ID) {
      const index = id - 1;
      const failed = index >= 0 && index < this.#roots.length
        ? this.#backing.nameToHandle(this.#rootFd(index), into)
        : -1;
      return failed < 0 ? -1 : index;
    }
    const type = this.#handles.get(id, into);
    if (type === undefined) return -1;
    into.set(type & 0xffff, into.bytes);
    return type >>> 16;
  }

  /** A descriptor by what {@link handleOf} gave, the caller's to close; the table does not know of it. −errno. */
  openHandle(root: number, handle: FileHandle, flags: number): number {
    return this.#backing.openByHandle(this.#rootFd(root), handle, flags);
  }

  /** A readable and writable descriptor of a regular file, a readable one of a directory, or −errno. */
  io(held: Held): number {
    if (held.io >= 0) return held.io;
    const directory = held.type === S_IF.DIR;
    let fd = this.#backing.reopen(held.path, directory ? O.RDONLY | O.DIRECTORY : O.RDWR);
    // An immutable file, or one that is being executed, can still be read.
    if (fd === -1 || fd === -26) fd = this.#backing.reopen(held.path, O.RDONLY);
    if (fd < 0) return fd;
    held.io = fd;
    this.#fds++;
    return fd;
  }

  /**
   * Looks a name up. The descriptor it opens is kept when the object is new to the table.
   *
   * @returns the object, or −errno.
   */
  lookup(parent: Held, name: Uint8Array): Held | number {
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0) return fd;
    return this.adopt(fd, parent.root, this.excludes(parent, name));
  }

  /** Whether anything stays on this node. */
  get bordered(): boolean {
    return this.#bordered;
  }

  /** Whether a name in a directory stays on this node. */
  excludes(parent: Held, name: Uint8Array): boolean {
    if (!this.#bordered) return false;
    if (isLocal(parent.id)) return true;
    const border = this.#roots[parent.root]?.border;
    return border?.excludes(this.wayOf(parent), withoutNul(name)) === true && !this.#isNameless(parent);
  }

  /** Whether names in this directory are numbers that we gave: no pattern of a person is about those. */
  #isNameless(held: Held): boolean {
    if (held.id < FIRST_ID) return false;
    const stat = this.#looked;
    const top = this.#rootFd(held.root);
    if (this.#backing.statxAt(top, NAMELESS, stat) < 0) return false;
    const { ino } = stat;
    return this.#backing.statx(held.path, stat) >= 0 && stat.ino === ino;
  }

  /** Whether a name (without NUL) in some directory of a root may be one that stays on this node. */
  mayExclude(root: number, name: Uint8Array): boolean {
    return this.#roots[root]?.border?.mayExclude(name) === true;
  }

  /** Where a directory that is replicated lies, for the border. */
  wayOf(held: Held): Way {
    const border = this.#roots[held.root]?.border;
    if (border === undefined || !border.winding || held.id < FIRST_ID) return border?.top ?? [];
    if (held.way !== undefined) return held.way;
    const way = this.#wayTo(held, border);
    if (this.#settled) held.way = way;
    return way;
  }

  /** Whether a directory of that name would lie on the way to something excluded: the way is the border's, it stays. */
  onTheWay(parent: Held, name: Uint8Array): boolean {
    const border = this.#roots[parent.root]?.border;
    if (border === undefined || !border.winding || isLocal(parent.id)) return false;
    return border.below(this.wayOf(parent), withoutNul(name)).length > 0;
  }

  #wayTo(held: Held, border: Border): Way {
    const top = this.#where.pathOf(this.#rootFd(held.root));
    const path = this.#where.pathOf(held.path);
    // A directory that cannot be reached from the top lies on no way.
    if (top === undefined || path === undefined || !startsWith(path, top)) return [];
    let way = border.top;
    let from = top.length;
    while (from < path.length && way.length > 0) {
      if (path[from] === SLASH) from++;
      const slash = path.indexOf(SLASH, from);
      const end = slash < 0 ? path.length : slash;
      way = border.below(way, path.subarray(from, end));
      from = end;
    }
    return way;
  }

  /** The id that a name leads to: 0 for an object without one, −errno when there is no such name. */
  idAt(parent: Held, name: Name): number {
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0) return fd;
    const id = this.readId(fd);
    this.#backing.close(fd);
    return id === -ENODATA ? 0 : id;
  }

  /** Takes a fresh `O_PATH` descriptor into the table, giving its object an id when it has none: `local`, one of this node. */
  adopt(fd: number, root: number, local = false): Held | number {
    let id = this.readId(fd);
    // Somebody has been at the directory beneath: an object of the other kind would be two things at once.
    if (id > 0 && isLocal(id) !== local) id = -ESTALE;
    // It would be lost as soon as its descriptor is closed.
    if (id > 0 && !this.#held.has(id) && this.#handles.taken?.(id) === true) {
      const forgotten = this.forgetId(fd);
      id = forgotten < 0 ? forgotten : -ENODATA;
    }
    if (id === -ENODATA) {
      id = this.#allocate() + (local ? LOCAL_FIRST : 0);
      const written = this.writeId(fd, id);
      if (written < 0) {
        this.#backing.close(fd);
        return written;
      }
    }
    if (id < 0) {
      this.#backing.close(fd);
      return id;
    }
    return this.register(fd, id, root);
  }

  /** Enters an object whose id is known and stands on it already; `type` where that is known too. */
  register(fd: number, id: number, root: number, type?: number): Held | number {
    const known = this.#held.get(id);
    if (known !== undefined) {
      if (known.path >= 0) this.#backing.close(fd);
      else {
        known.path = fd;
        this.#fds++;
      }
      return known;
    }
    const failed = type === undefined ? this.#backing.statx(fd, this.#stat) : 0;
    if (failed < 0) {
      this.#backing.close(fd);
      return failed;
    }
    const found = type ?? this.#stat.mode & S_IF.MT;
    if (this.#handles.get(id, this.#handle) === undefined) {
      const remembered = this.remember(fd, id, root);
      if (remembered < 0) {
        this.#backing.close(fd);
        return remembered;
      }
    }
    return this.#enter(id, root, found, fd);
  }

  /** Writes the object's handle into the map. −EOPNOTSUPP: the file system has no handles and is refused. */
  remember(fd: number, id: number, root: number): number {
    const result = this.#backing.nameToHandle(fd, this.#handle);
    if (result < 0) return result;
    this.#handles.set(id, (root << 16) | (this.#handle.type & 0xffff), this.#handle.bytes);
    return 0;
  }

  /** Reads the id an object carries; −ENODATA when it has none. */
  readId(fd: number): number {
    const length = this.#backing.getxattr(fd, ID_NAME, this.#idAddress, 8);
    if (length < 0) return length;
    if (length !== 8) return -ENODATA;
    return this.#idView.getUint32(0, true) + this.#idView.getUint32(4, true) * 0x1_0000_0000;
  }

  /** Takes an object's id away. */
  forgetId(fd: number): number {
    return this.#backing.removexattr(fd, ID_NAME);
  }

  /** Puts an id on an object that has none. */
  writeId(fd: number, id: number): number {
    this.#idView.setUint32(0, id >>> 0, true);
    this.#idView.setUint32(4, Math.floor(id / 0x1_0000_0000), true);
    return this.#backing.setxattr(fd, ID_NAME, this.#idAddress, 8, XATTR.CREATE);
  }

  /** The object is gone for good: its last name and its last open. */
  remove(id: number): void {
    const held = this.#held.get(id);
    if (held !== undefined) {
      this.#closeFds(held);
      this.#held.delete(id);
    }
    this.#handles.delete(id);
  }

  /** Takes an orphan that a former process of ours held; what is not that object is closed. */
  adoptOrphan(id: number, fd: number): void {
    // A keeper that hung may have copied the descriptor late, when its number was another file's.
    if (this.readId(fd) !== id) return void this.#backing.close(fd);
    const root = (this.#handles.get(id, this.#handle) ?? 0) >>> 16;
    const held = this.#enter(id, root, S_IF.REG, fd);
    held.io = fd;
    held.opens = Infinity;
    // Killed between handing it to the keeper and taking the name away: then it is an object as any other.
    held.orphan = held.kept = this.#backing.statx(fd, this.#stat) < 0 || this.#stat.nlink === 0;
  }

  /** The kernel forgets lookups; at none, the table forgets the object. Answers true when that ends a kept orphan. */
  forget(id: number, count: number): boolean {
    const held = this.#held.get(id);
    if (held === undefined || id < FIRST_ID) return false;
    held.lookups = Math.max(0, held.lookups - count);
    if (held.lookups > 0) return false;
    // Without a lookup the kernel has no inode: nothing can be open any more.
    if (held.kept) return true;
    this.#closeFds(held);
    this.#held.delete(id);
    if (held.orphan) this.#handles.delete(id);
    return false;
  }

  /** Closes every descriptor. */
  close(): void {
    for (const held of this.#held.values()) this.#closeFds(held);
    this.#held.clear();
    this.#where.close();
  }

  /**
   * A second descriptor of a file or directory, by which it is synced, the caller's to close; null when it is gone; −1 when only a
   * sync of its file system reaches it.
   */
  syncDescriptor(id: number): number | null {
    const held = this.get(id);
    if (held === undefined) return this.#isGone(id) ? null : -1;
    if (held.type !== S_IF.REG && held.type !== S_IF.DIR) return -1;
    // A description of its own: the kernel tells each of a failed write once, and the application's must hear of it too.
    return Math.max(
      -1,
      this.#backing.reopen(held.path, held.type === S_IF.DIR ? O.RDONLY | O.DIRECTORY : O.RDONLY),
    );
  }

  /** Whether an object that cannot be had exists no more; else it is we who cannot open it. */
  #isGone(id: number): boolean {
    const root = this.handleOf(id, this.#handle);
    if (root < 0) return true;
    const fd = this.openHandle(root, this.#handle, O.PATH | O.NOFOLLOW);
    if (fd < 0) return fd === -ESTALE;
    const gone = this.readId(fd) !== id;
    this.#backing.close(fd);
    return gone;
  }

  /** The orphans that were open when they lost their names, by the descriptors that keep them. */
  keptDescriptors(): { readonly id: number; readonly fd: number }[] {
    return [...this.#held.values()].filter((held) => held.kept).map((held) => ({ id: held.id, fd: held.io }));
  }

  /** Ids of the orphans held that are replicated. */
  orphans(): number[] {
    return [...this.#held.values()].filter((held) => held.kept && !isLocal(held.id)).map((held) => held.id);
  }

  #rootFd(index: number): number {
    return this.#roots[index]?.fd ?? -1;
  }

  #open(id: number): Held | undefined {
    if (id < FIRST_ID) {
      const fd = id >= 1 && id <= this.#roots.length
        ? this.#backing.reopen(this.#rootFd(id - 1), O.PATH)
        : -1;
      return fd < 0 ? undefined : this.#enter(id, id - 1, S_IF.DIR, fd);
    }
    const type = this.#handles.get(id, this.#handle);
    if (type === undefined) return undefined;
    const root = type >>> 16;
    const fd = this.#openHandle(root);
    if (fd < 0) return undefined;
    if (this.#backing.statx(fd, this.#stat) < 0 || this.readId(fd) !== id) {
      this.#backing.close(fd);
      return undefined;
    }
    return this.#enter(id, root, this.#stat.mode & S_IF.MT, fd);
  }

  #reopen(held: Held): boolean {
    const fd = held.id < FIRST_ID
      ? this.#backing.reopen(this.#rootFd(held.id - 1), O.PATH)
      : this.#handles.get(held.id, this.#handle) === undefined
      ? -ESTALE
      : this.#openHandle(held.root);
    if (fd < 0) return false;
    held.path = fd;
    this.#fds++;
    return true;
  }

  #openHandle(root: number): number {
    this.#handle.set(this.#handle.type & 0xffff, this.#handle.bytes);
    return this.#backing.openByHandle(this.#rootFd(root), this.#handle, O.PATH | O.NOFOLLOW);
  }

  #enter(id: number, root: number, type: number, path: number): Held {
    const held: Held = {
      id,
      root,
      type,
      path,
      io: -1,
      lookups: 0,
      opens: serialOf(id) < this.unknownBelow ? Infinity : 0,
      orphan: false,
      kept: false,
      defaultAcl: -1,
      childGroup: -2,
      bare: false,
    };
    this.#held.set(id, held);
    this.#fds++;
    return held;
  }

  /**
   * Past the limit, closes the descriptors of the objects entered longest ago, an eighth of them; those in use are soon
   * open again. Only between two operations: within one, a descriptor in hand must not close.
   */
  trim(): void {
    if (this.#fds <= this.#fdsMax) return;
    const target = this.#fdsMax - (this.#fdsMax >> 3);
    for (const held of this.#held.values()) {
      if (this.#fds <= target) return;
      if (held.orphan || held.id < FIRST_ID) continue;
      this.#closeFds(held);
      // An unknown count of opens is as unknown when the object is met again.
      if (held.lookups === 0 && (held.opens === 0 || held.opens === Infinity)) this.#held.delete(held.id);
      else {
        this.#held.delete(held.id);
        this.#held.set(held.id, held);
      }
    }
  }

  #closeFds(held: Held): void {
    if (held.io >= 0 && held.io !== held.path) {
      this.#backing.close(held.io);
      this.#fds--;
    }
    if (held.path >= 0) {
      this.#backing.close(held.path);
      this.#fds--;
    }
    held.io = -1;
    held.path = -1;
  }
}

function startsWith(path: Uint8Array, top: Uint8Array): boolean {
  for (let i = 0; i < top.length; i++) if (path[i] !== top[i]) return false;
  return true;
}
