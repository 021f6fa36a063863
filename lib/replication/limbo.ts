/**
 * Names that lead to the right objects, while two trees are being made equal; and a place for objects that have no name
 * for the moment.
 *
 * Nothing that loses its last name is deleted before the end: the directory in which it has its right name may come
 * later. Until then it lies in limbo, `.binome/limbo/` in the root beneath, under its inode number: unique on the file
 * system for as long as the object exists. An object that is no directory has a name in limbo only when it has no other.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { cbytes } from "./bytes.ts";
import { IdNumbers } from "./id_numbers.ts";
import { IdSet } from "./id_set.ts";
import { LimboDirectories } from "./limbo_directory.ts";
import type { Mutation } from "./mutation.ts";
import { FIRST_ID, type Held, ID_XATTR, type Objects } from "./objects.ts";
import { LIMBO_NAME } from "./own_names.ts";
import { makeObject } from "./tree.ts";
import { Whereabouts } from "./whereabouts.ts";

const ENOENT = 2;
const EIO = 5;
const EINVAL = 22;
const ENODATA = 61;

const FRESH = cbytes("new");
const UP = cbytes("..");
const ID_NAME = cbytes(ID_XATTR);
/** No path is deeper: each level takes two bytes of `PATH_MAX`, and renames can make it a little deeper. */
const DEPTH_MAX = 65536;

/** See {@link Limbo.inodes}. */
export const NO_INODE = -1;
/** Names of every root that belong to the node and not to the application. */
export const OWN_NAMES: readonly string[] = [LIMBO_NAME, "lost+found"];

/**
 * Where the target is: `off`, nothing to be made equal; `collecting`, the trees differ and what loses its name is kept;
 * `sweeping`, the trees are equal and limbo is being emptied.
 */
export type Phase = "off" | "collecting" | "sweeping";

/** Saves what is about to be overwritten or lost; throws when it cannot, and then nothing may be overwritten. */
export interface Guard {
  /** Bytes from `offset` will be overwritten or cut off; `length` may reach past the end. */
  content(held: Held, offset: number, length: number): void;
  /** Mode, owner, times or xattrs will be changed. */
  attributes(held: Held): void;
  /** `name` in a directory will no longer lead to the object of `fd`. */
  entry(parent: Held, name: Uint8Array, fd: number): void;
}

interface Destination {
  readonly parent: Held;
  readonly name: Uint8Array;
  readonly leaving: number;
}

/** What {@link Limbo} needs. */
export interface LimboOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** Hands an orphan's descriptor to the keeper. */
  readonly keepOrphan: (id: number, fd: number) => boolean;
}

/** The directory a listing of which is being received. */
export interface Listing {
  readonly id: number;
  /** Names that the source has in it, as of now. */
  readonly names: Set<string>;
}

/** The target's names and its limbo. */
export class Limbo {
  phase: Phase = "off";
  /** All is compared, not a set: an object the source's walk could miss by a rename is asked for. */
  whole = false;
  /** Of a walk over everything: objects with ids below were made equal before and are not walked to. */
  from = 0;
  /** Objects of which the first frame came in this session. */
  readonly seen: IdSet = new IdSet();
  /** Objects that are as on the source from here on: directories with all their entries, files with their content. */
  readonly finished: IdSet = new IdSet();
  /** Objects that have no name on the source but are open there. */
  readonly orphans: Set<number> = new Set();
  /**
   * Directories in which a live record named an object whose first frame has not come: should it turn out to be another
   * kind of object, they must be sent again.
   */
  readonly namedUnseen: Map<number, Set<number>> = new Map();
  /** Made without a name, and not named since. */
  readonly nameless: Set<number> = new Set();
  /** Objects that the source says it does not have. */
  readonly gone: IdSet = new IdSet();
  /** Inode numbers of objects that keep them whatever comes, by id; {@link NO_INODE}: it is not here, or will be made anew. */
  readonly inodes: IdNumbers = new IdNumbers();
  /** Objects in limbo after which the source was asked. */
  readonly asked: Set<number> = new Set();
  listing: Listing | null = null;
  guard: Guard | null = null;
  /** Told of each object that is not here, and each directory whose entries are not all right: set by `Lenient`. */
  onMissing: ((id: number) => void) | null = null;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #options: LimboOptions;
  readonly #stat = new Statx();
  readonly #other = new Statx();
  readonly #where: Whereabouts;
  /** Where limbo is. */
  readonly directories: LimboDirectories;

  constructor(options: LimboOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#where = new Whereabouts(options.backing, options.addressOf);
    this.directories = new LimboDirectories(options.backing, options.objects);
  }

  /** A comparison begins, or begins again: what an earlier one left in limbo can be found again. */
  begin(whole: boolean, from = 0): number {
    this.#forget();
    this.phase = "collecting";
    this.whole = whole;
    this.from = from;
    for (let root = 0; root < this.#objects.rootCount; root++) {
      const failed = this.#adoptLeftovers(root);
      if (failed < 0) return failed;
    }
    return 0;
  }

  /** It is over, or was cut short. */
  end(): void {
    this.#forget();
    this.phase = "off";
    this.directories.close();
    this.#where.close();
  }

  #forget(): void {
    this.seen.clear();
    this.finished.clear();
    this.orphans.clear();
    this.nameless.clear();
    this.gone.clear();
    this.asked.clear();
    this.namedUnseen.clear();
    this.inodes.clear();
    this.listing = null;
    this.guard = null;
  }

  /** Whether the source comes to the object without being asked. */
  comes(id: number): boolean {
    return this.whole && id >= this.from;
  }

  /** The object, or its directory's entries, must be sent again. */
  missing(id: number): void {
    this.finished.delete(id);
    this.onMissing?.(id);
  }

  /** Whether two descriptors lead to one object. */
  same(a: number, b: number): boolean {
    if (this.#backing.statx(a, this.#stat) < 0 || this.#backing.statx(b, this.#other) < 0) return false;
    return this.#stat.ino === this.#other.ino && this.#stat.dev === this.#other.dev;
  }

  /** A live record took a name from the object: that it has none is no contradiction. */
  unnamed(id: number): void {
    this.nameless.delete(id);
    this.asked.delete(id);
  }

  /** Ids of what lies in the limbo of a root: whatever has no other name here. Answers −errno where it cannot be read. */
  idsIn(root: number): number[] | number {
    const names = this.directories.names(root);
    if (typeof names === "number") return names;
    const limbo = this.directories.open(root, false);
    const ids: number[] = [];
    for (const name of names) {
      const fd = this.#backing.openat(limbo, name, O.PATH | O.NOFOLLOW, 0);
      if (fd < 0) return fd;
      const id = this.#know(fd, root);
      this.#backing.close(fd);
      if (id < 0) return id;
      if (id > 0) ids.push(id);
    }
    return ids;
  }

  /**
   * Makes a name lead to an object, whatever it led to before. Answers 0 or −errno.
   *
   * @param leaving the directory that a directory is known to leave by that; any other one must be sent again.
   */
  place(parent: Held, name: Uint8Array, object: Held, leaving = 0): number {
    const there = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (there < 0 && there !== -ENOENT) return there;
    this.note(parent, name);
    if (there >= 0) {
      const right = this.same(there, object.path);
      this.#backing.close(there);
      if (right) return 0;
      const displaced = this.displace(parent, name);
      if (displaced < 0) return displaced;
      this.note(parent, name);
    }
    const placed = object.type === S_IF.DIR
      ? this.#moveDirectory(object, { parent, name, leaving })
      : this.#nameFile(object, parent, name);
    if (placed >= 0) this.nameless.delete(object.id);
    return placed;
  }

  /** {@link place}, for a live record. */
  placeLive(parent: Held, name: Uint8Array, object: Held, leaving: number): number {
    if (!this.seen.has(object.id) && !this.finished.has(object.id)) {
      const directories = this.namedUnseen.get(object.id);
      if (directories === undefined) this.namedUnseen.set(object.id, new Set([parent.id]));
      else directories.add(parent.id);
    }
    return this.place(parent, name, object, leaving);
  }

  /** Makes a name lead nowhere; what loses its last name by that goes to limbo. Answers 0 or −errno. */
  displace(parent: Held, name: Uint8Array): number {
    if (this.listing?.id === parent.id) this.listing.names.delete(nameKey(name));
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0) return fd === -ENOENT ? 0 : fd;
    try {
      this.guard?.entry(parent, name, fd);
      const known = this.#know(fd, parent.root);
      if (known < 0) return known;
      return this.#toLimbo(parent.path, name, fd, parent.root);
    } finally {
      this.#backing.close(fd);
    }
  }

  /** {@link displace}, if the name leads to that object. */
  displaceFrom(parent: Held, name: Uint8Array, id: number): number {
    return this.leadsTo(parent, name, id) ? this.displace(parent, name) : 0;
  }

  /** Whether a name leads to the very object that the map knows under this id. */
  leadsTo(parent: Held, name: Uint8Array, id: number): boolean {
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0) return false;
    const found = this.#objects.readId(fd) === id && this.#know(fd, parent.root) === id;
    this.#backing.close(fd);
    return found;
  }

  /** The source has this name: what is listed later may not displace it. */
  note(parent: Held, name: Uint8Array): void {
    if (this.listing?.id === parent.id) this.listing.names.add(nameKey(name));
  }

  /**
   * Makes an object that exists nowhere on this node, without a name.
   *
   * @param mutation as for creating it: op, mode, device and target.
   */
  make(root: number, mutation: Mutation): Held | number {
    const dirfd = this.directories.open(root, true);
    if (dirfd < 0) return dirfd;
    const made = this.#makeAt(dirfd, FRESH, root, mutation);
    if (typeof made === "number") return made;
    const failed = this.#backing.statx(made.path, this.#stat);
    const renamed = failed < 0
      ? failed
      : this.#backing.renameat2(dirfd, FRESH, dirfd, decimal(this.#stat.ino), 0);
    if (renamed < 0) return renamed;
    this.nameless.add(made.id);
    return made;
  }

  /** Makes an object that exists nowhere on this node under a name that leads nowhere. */
  makeAt(parent: Held, name: Uint8Array, mutation: Mutation): Held | number {
    const made = this.#makeAt(parent.path, name, parent.root, mutation);
    if (typeof made !== "number") this.note(parent, name);
    return made;
  }

  #makeAt(dirfd: number, name: Uint8Array, root: number, mutation: Mutation): Held | number {
    // A stale handle would be believed otherwise.
    this.#objects.remove(mutation.id);
    const fd = makeObject(this.#backing, dirfd, name, mutation);
    if (fd < 0) return fd;
    const written = this.#objects.writeId(fd, mutation.id);
    if (written < 0) {
      this.#backing.close(fd);
      return written;
    }
    return this.#objects.register(fd, mutation.id, root);
  }

  /**
   * Takes the id from an object that cannot be the source's: another type, or gone but for being open. Its names lead to
   * a stranger from then on, and are displaced with their directories.
   */
  retire(held: Held): number {
    const removed = this.#backing.removexattr(held.path, ID_NAME);
    for (const directory of this.namedUnseen.get(held.id) ?? []) this.missing(directory);
    this.namedUnseen.delete(held.id);
    this.finished.delete(held.id);
    this.nameless.delete(held.id);
    this.inodes.set(held.id, NO_INODE);
    this.#objects.remove(held.id);
    return removed === -ENODATA ? 0 : removed;
  }

  /** The path of a descriptor as the kernel shows it: for people. */
  pathOf(fd: number): Uint8Array | undefined {
    return this.#where.pathOf(fd);
  }

  /** Whether the object has a name: what is only open cannot get one again. */
  linked(held: Held): boolean {
    return this.#backing.statx(held.path, this.#stat) >= 0 && this.#stat.nlink > 0;
  }

  /** Lets go of an object that was deleted from limbo for good; one that is open on the source lives on without a name. */
  buried(id: number, fd: number): void {
    this.nameless.delete(id);
    this.finished.delete(id);
    const held = this.#objects.get(id);
    if (held === undefined || !this.same(held.path, fd)) return;
    if (this.orphans.has(id) && held.type === S_IF.REG) return;
    this.#objects.remove(id);
  }

  /** Before the last name of an object goes: whoever has it open on the source needs it still. Answers 0 or −errno. */
  keepIfOpen(id: number, fd: number): number {
    if (!this.orphans.has(id)) return 0;
    const held = this.#objects.get(id);
    if (held === undefined || held.type !== S_IF.REG || !this.same(held.path, fd)) return 0;
    const kept = this.keep(held);
    if (kept >= 0) held.orphan = held.kept = true;
    return kept;
  }

  /** Hands a descriptor of a file to the keeper: it is about to lose its last name while it is open on the source. */
  keep(held: Held): number {
    const io = this.#objects.io(held);
    if (io < 0) return io;
    return this.#options.keepOrphan(held.id, io) ? 0 : -EIO;
  }

  #nameFile(object: Held, parent: Held, name: Uint8Array): number {
    const failed = this.#backing.statx(object.path, this.#stat);
    if (failed < 0) return failed;
    if (this.#stat.nlink === 0) return -ENOENT;
    const limbo = this.directories.open(parent.root, false);
    if (limbo >= 0) {
      const moved = this.#backing.renameat2(limbo, decimal(this.#stat.ino), parent.path, name, 0);
      if (moved !== -ENOENT) return moved;
    }
    return this.#backing.link(object.path, parent.path, name);
  }

  #moveDirectory(object: Held, to: Destination): number {
    const moved = this.#moveOnce(object, to);
    if (moved !== -EINVAL) return moved;
    // It would come to lie beneath itself: some name on the way there is not the source's.
    const cut = this.#cut(object, to.parent);
    return cut < 0 ? cut : this.#moveOnce(object, to);
  }

  #moveOnce(object: Held, { parent, name, leaving }: Destination): number {
    const up = this.#backing.openat(object.path, UP, O.PATH | O.DIRECTORY, 0);
    if (up < 0) return up;
    const id = this.#objects.readId(up);
    const now = this.#where.nameIn(up, object.path);
    const moved = typeof now === "number" ? now : this.#backing.renameat2(up, now, parent.path, name, 0);
    this.#backing.close(up);
    // A directory that loses a name is not the source's: should nobody have said so, it is compared all the same.
    if (moved >= 0 && id > 0 && id !== leaving && id !== parent.id && !this.seen.has(id)) this.missing(id);
    return moved;
  }

  /**
   * Breaks the way from `top` down to `bottom` at a name that is not known to be the source's, and has the directory of that
   * name sent again. There is one: were all of them the source's, it would have a directory beneath itself.
   */
  #cut(top: Held, bottom: Held): number {
    let child = this.#backing.dup(bottom.path);
    for (let depth = 0; depth < DEPTH_MAX && child >= 0; depth++) {
      const up = this.#backing.openat(child, UP, O.PATH | O.DIRECTORY, 0);
      if (up < 0) break;
      const id = this.#objects.readId(up);
      const reached = this.same(up, top.path);
      if (id < 0 || !this.finished.has(id)) {
        const result = this.#cutAt(up, child, bottom.root, id);
        this.#backing.close(up);
        this.#backing.close(child);
        return result;
      }
      this.#backing.close(child);
      child = up;
      if (reached) break;
    }
    if (child >= 0) this.#backing.close(child);
    return -EINVAL;
  }

  #cutAt(up: number, child: number, root: number, id: number): number {
    const name = this.#where.nameIn(up, child);
    if (typeof name === "number") return name;
    const held = id > 0 ? this.#objects.get(id) : undefined;
    if (held !== undefined) this.guard?.entry(held, name, child);
    const known = this.#know(child, root);
    const moved = known < 0 ? known : this.#toLimbo(up, name, child, root);
    if (moved >= 0 && id > 0) this.missing(id);
    return moved;
  }

  /**
   * Enters an object found under a name into the map when that has none for its id, and has it sent if the source is past it
   * already; takes the id from a second object that carries the same. Answers the id it has then, 0 for none, −errno.
   */
  #know(fd: number, root: number): number {
    const id = this.#objects.readId(fd);
    if (id < 0) return id === -ENODATA ? 0 : id;
    const held = this.#objects.get(id);
    if (held !== undefined && this.same(held.path, fd)) return id;
    if (held !== undefined || id < FIRST_ID) {
      const removed = this.#backing.removexattr(fd, ID_NAME);
      return removed < 0 && removed !== -ENODATA ? removed : 0;
    }
    this.#objects.remove(id);
    const copy = this.#backing.dup(fd);
    if (copy < 0) return copy;
    const entered = this.#objects.register(copy, id, root);
    if (typeof entered === "number") return entered;
    // The source has said what it is, and nothing here was compared with that.
    if (this.phase === "collecting" && this.seen.has(id)) this.missing(id);
    return id;
  }

  /** The object a name leads to, by id: 0 when it has none, −errno. */
  idAt(parent: Held, name: Uint8Array): number {
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0) return fd;
    const id = this.#know(fd, parent.root);
    this.#backing.close(fd);
    return id;
  }

  #toLimbo(dirfd: number, name: Uint8Array, fd: number, root: number): number {
    const failed = this.#backing.statx(fd, this.#stat);
    if (failed < 0) return failed;
    const { ino, nlink, mode } = this.#stat;
    if ((mode & S_IF.MT) !== S_IF.DIR && nlink > 1) return this.#backing.unlinkat(dirfd, name, 0);
    const limbo = this.directories.open(root, true);
    return limbo < 0 ? limbo : this.#backing.renameat2(dirfd, name, limbo, decimal(ino), 0);
  }

  /** What a comparison cut short left in limbo: known by its id again, and under the name it is looked for. */
  #adoptLeftovers(root: number): number {
    const limbo = this.directories.open(root, false);
    if (limbo < 0) return limbo === -ENOENT ? 0 : limbo;
    const names = this.directories.names(root);
    if (typeof names === "number") return names;
    for (const name of names) {
      const fd = this.#backing.openat(limbo, name, O.PATH | O.NOFOLLOW, 0);
      if (fd < 0) return fd;
      const known = this.#know(fd, root);
      const failed = known < 0 ? known : this.#backing.statx(fd, this.#stat);
      this.#backing.close(fd);
      if (failed < 0) return failed;
      const moved = this.#backing.renameat2(limbo, name, limbo, decimal(this.#stat.ino), 0);
      if (moved < 0) return moved;
    }
    return 0;
  }
}

/** A name as a key: its bytes, without NUL, as a text of the same length. */
export function nameKey(name: Uint8Array): string {
  let key = "";
  for (const byte of name) if (byte !== 0) key += String.fromCharCode(byte);
  return key;
}

function decimal(value: number): Uint8Array<ArrayBuffer> {
  return cbytes(String(value));
}
