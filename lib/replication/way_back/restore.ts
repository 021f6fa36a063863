/**
 * Makes a tree what it was when the stretch began, from the undo log.
 *
 * Each step makes a state true and asks first whether it is: killed anywhere, it is begun again from its start. In order:
 * names that were not there lead nowhere; directories that are not where they were come loose, so that none can lie beneath itself; every
 * name leads where it led; sizes, then content, then attributes, times last. What the resync made is left without names that were
 * there, in the graveyard, which is emptied at the end.
 *
 * @module
 */

import type { Backing } from "../../system/backing.ts";
import { FileHandle } from "../../system/handle.ts";
import { FALLOC, O, S_IF, XATTR } from "../../system/linux.ts";
import { Statx } from "../../system/statx.ts";
import { cbytes } from "../bytes.ts";
import { type ObjectState, StateKeeper } from "../object_state.ts";
import { FIRST_ID, type HandleMap, ID_XATTR } from "../objects.ts";
import { Whereabouts } from "../whereabouts.ts";
import { cloneName, rootOf } from "./contents.ts";
import type { Graveyard } from "./graveyard.ts";
import { bytesOf, type ContentLine, type Key, type NameLine, type ObjectLine } from "./undo_record.ts";
import type { UndoLog } from "./undo_log.ts";
import { heldOf } from "./held.ts";

const ENOENT = 2;
const EIO = 5;
const ENODATA = 61;
const EOPNOTSUPP = 95;
const UP = cbytes("..");
const ID_NAME = cbytes(ID_XATTR);
const PIECE_BYTES = 1 << 20;

/** The former state cannot be made again. */
export class RestoreError extends Error {
  override readonly name = "RestoreError";
  /** @param errno what the system said; 0 where it said nothing. */
  constructor(message: string, readonly errno = 0, options?: ErrorOptions) {
    super(message, options);
  }
}

/** What {@link restore} needs. */
export interface RestoreWorld {
  readonly backing: Backing;
  readonly roots: readonly number[];
  readonly log: UndoLog;
  readonly graveyard: Graveyard;
  readonly handles: HandleMap;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly cloneRange: (from: number, to: number, offset: number, length: number) => number;
  /** Told, between two steps, what was done so far. */
  readonly progress: { objects: number; names: number; bytes: number };
}

/**
 * Restores, a little at each step.
 *
 * @throws {RestoreError} when something that was noted is not there, or the disk refuses.
 */
export function* restore(world: RestoreWorld): Generator<void> {
  const restorer = new Restorer(world);
  try {
    yield* restorer.run();
  } finally {
    restorer.close();
  }
}

class Restorer {
  readonly #world: RestoreWorld;
  readonly #backing: Backing;
  readonly #states: StateKeeper;
  readonly #where: Whereabouts;
  readonly #stat = new Statx();
  readonly #handle = new FileHandle();
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #address: number;
  readonly #idBytes = new Uint8Array(8);
  readonly #idAddress: number;
  readonly #objects = new Map<Key, ObjectLine>();
  readonly #names: NameLine[] = [];
  /** The file whose content is being restored. */
  #file: { readonly key: Key; readonly fd: number } | null = null;

  constructor(world: RestoreWorld) {
    this.#world = world;
    this.#backing = world.backing;
    this.#states = new StateKeeper(world.backing, world.addressOf);
    this.#where = new Whereabouts(world.backing, world.addressOf);
    this.#address = world.addressOf(this.#buffer);
    this.#idAddress = world.addressOf(this.#idBytes);
  }

  close(): void {
    this.#letGo();
    this.#where.close();
  }

  *run(): Generator<void> {
    for (const line of this.#world.log.lines()) {
      // The oldest says what was; there is a second one only where a power cut hid that the object was made.
      if (line.what === "object" && !this.#objects.has(line.key)) this.#objects.set(line.key, line);
      else if (line.what === "name") this.#names.push(line);
    }
    yield* this.#clearNames();
    yield* this.#loosen();
    yield* this.#placeNames();
    yield* this.#resize();
    yield* this.#fill();
    yield* this.#dress();
  }

  /** Names that lead elsewhere than they did. What loses its last one by that lies in the graveyard. */
  *#clearNames(): Generator<void> {
    for (const line of this.#names) {
      const directory = this.#open(line.directory);
      const name = bytesOf(line.name, true);
      const there = this.#look(directory, name);
      if (there !== null && there.key !== line.leads) this.#remove(directory, name, there);
      this.#backing.close(directory);
      yield;
    }
  }

  *#loosen(): Generator<void> {
    for (const line of this.#names) {
      const object = line.leads === null ? undefined : this.#objects.get(line.leads);
      if (object === undefined || typeOf(object) !== S_IF.DIR) continue;
      const directory = this.#open(line.directory);
      const there = this.#look(directory, bytesOf(line.name, true));
      this.#backing.close(directory);
      if (there?.key !== object.key) this.#bury(object.key);
      yield;
    }
  }

  *#placeNames(): Generator<void> {
    const placed = new Set<Key>();
    for (const line of this.#names) {
      if (line.leads === null) continue;
      const object = this.#objects.get(line.leads);
      if (object === undefined) throw new RestoreError(`Cannot restore: nothing is known of ${line.leads}`);
      const directory = typeOf(object) === S_IF.DIR;
      // A directory has one name; the one noted first is the one it had.
      if (directory && placed.has(object.key)) continue;
      placed.add(object.key);
      this.#place(line, object, directory);
      this.#world.progress.names++;
      yield;
    }
  }

  *#resize(): Generator<void> {
    for (const object of this.#objects.values()) {
      if (typeOf(object) !== S_IF.REG) continue;
      const fd = this.#openObject(object);
      if (fd === null) continue;
      this.#done("look at", object.key, this.#backing.statx(fd, this.#stat));
      if (this.#stat.size !== object.size) {
        this.#done("resize", object.key, this.#backing.truncate(fd, object.size));
      }
      this.#backing.close(fd);
      yield;
    }
  }

  *#fill(): Generator<void> {
    for (const line of this.#world.log.lines()) {
      if (line.what !== "content") continue;
      const object = this.#objects.get(line.key);
      const fd = object === undefined ? null : this.#fileOf(object);
      if (object === undefined || fd === null) continue;
      const length = Math.min(line.length, object.size - line.offset);
      if (length > 0) yield* this.#fillRange(fd, line, length);
      this.#world.progress.bytes += line.length;
      yield;
    }
    this.#letGo();
  }

  *#fillRange(fd: number, line: ContentLine, length: number): Generator<void> {
    if (line.from === "hole") return yield* this.#punch(fd, line, length);
    if (line.from === "clone") return yield* this.#unclone(fd, line, length);
    this.#buffer.set(this.#world.log.block(line).subarray(0, length));
    this.#write(fd, line.key, line.offset, length);
  }

  *#dress(): Generator<void> {
    for (const object of this.#objects.values()) {
      const fd = this.#openObject(object);
      if (fd === null) continue;
      this.#identify(fd, object);
      this.#done("dress", object.key, this.#states.impose(heldOf(fd, typeOf(object)), stateOf(object)));
      this.#backing.close(fd);
      this.#world.progress.objects++;
      yield;
    }
  }

  /** The id it had, on itself and in the map. */
  #identify(fd: number, { key, id, handle }: ObjectLine): void {
    const view = new DataView(this.#idBytes.buffer);
    const length = this.#backing.getxattr(fd, ID_NAME, this.#idAddress, 8);
    const now = length === 8 ? view.getUint32(0, true) + view.getUint32(4, true) * 0x1_0000_0000 : 0;
    if (now !== id && now !== 0) {
      const removed = this.#backing.removexattr(fd, ID_NAME);
      if (removed !== -ENODATA) this.#done("take the id from", key, removed);
    }
    if (now !== id && id !== 0) {
      view.setUint32(0, id >>> 0, true);
      view.setUint32(4, Math.floor(id / 0x1_0000_0000), true);
      this.#done(
        "give its id to",
        key,
        this.#backing.setxattr(fd, ID_NAME, this.#idAddress, 8, XATTR.CREATE),
      );
    }
    if (id < FIRST_ID) return;
    this.#world.handles.set(id, (rootOf(key) << 16) | (handle.type & 0xffff), bytesOf(handle.bytes));
  }

  #place(line: NameLine, object: ObjectLine, isDirectory: boolean): void {
    const directory = this.#open(line.directory);
    const name = bytesOf(line.name, true);
    try {
      if (this.#look(directory, name)?.key === object.key) return;
      if (isDirectory) {
        const grave = this.#world.graveyard.open(rootOf(object.key), true);
        const moved = this.#backing.renameat2(grave, graveName(object.key), directory, name, 0);
        this.#done("put back", object.key, moved);
        return;
      }
      const fd = this.#open(object.key);
      const linked = this.#backing.link(fd, directory, name);
      this.#backing.close(fd);
      this.#done("put back", object.key, linked);
    } finally {
      this.#backing.close(directory);
    }
  }

  /** Takes a name away from what it leads to. */
  #remove(
    directory: number,
    name: Uint8Array,
    there: { readonly key: Key; readonly isDirectory: boolean; readonly nlink: number },
  ): void {
    if (!there.isDirectory && there.nlink > 1) {
      this.#done("unname", there.key, this.#backing.unlinkat(directory, name, 0));
      return;
    }
    const grave = this.#world.graveyard.open(rootOf(there.key), true);
    const moved = this.#backing.renameat2(directory, name, grave, graveName(there.key), 0);
    this.#done("take out", there.key, moved);
  }

  /** Moves a directory to the graveyard, wherever it lies. */
  #bury(key: Key): void {
    const grave = this.#world.graveyard.open(rootOf(key), true);
    if (this.#backing.statxAt(grave, graveName(key), this.#stat) >= 0) return;
    const fd = this.#open(key);
    const up = this.#done("find the place of", key, this.#backing.openat(fd, UP, O.PATH | O.DIRECTORY, 0));
    const name = this.#where.nameIn(up, fd);
    const moved = typeof name === "number"
      ? name
      : this.#backing.renameat2(up, name, grave, graveName(key), 0);
    this.#backing.close(up);
    this.#backing.close(fd);
    this.#done("take out", key, moved);
  }

  #look(
    directory: number,
    name: Uint8Array,
  ): { readonly key: Key; readonly isDirectory: boolean; readonly nlink: number } | null {
    const found = this.#backing.statxAt(directory, name, this.#stat);
    if (found === -ENOENT) return null;
    this.#done("look at a name in", "a directory", found);
    const { ino, dev, mode, nlink } = this.#stat;
    const root = this.#world.roots.findIndex((fd) =>
      this.#backing.statx(fd, this.#stat) >= 0 && this.#stat.dev === dev
    );
    return { key: `${root}:${ino}`, isDirectory: (mode & S_IF.MT) === S_IF.DIR, nlink };
  }

  *#punch(fd: number, { key, offset }: ContentLine, length: number): Generator<void> {
    const punched = this.#backing.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, offset, length);
    if (punched !== -EOPNOTSUPP) return void this.#done("make a hole in", key, punched);
    for (let at = 0; at < length; at += PIECE_BYTES) {
      this.#buffer.fill(0);
      this.#write(fd, key, offset + at, Math.min(PIECE_BYTES, length - at));
      yield;
    }
  }

  *#unclone(fd: number, { key, offset }: ContentLine, length: number): Generator<void> {
    const grave = this.#world.graveyard.open(rootOf(key), true);
    const clone = this.#backing.openat(grave, cloneName(key), O.RDONLY | O.NOFOLLOW, 0);
    this.#done("open the clone of", key, clone);
    try {
      if (this.#world.cloneRange(clone, fd, offset, length) >= 0) return;
      // The last block of a file is not whole in all cases.
      for (let at = 0; at < length;) {
        const count = Math.min(PIECE_BYTES, length - at);
        const got = this.#done(
          "read the clone of",
          key,
          this.#backing.pread(clone, this.#address, count, offset + at),
        );
        if (got === 0) throw new RestoreError(`Cannot restore: the clone of ${key} is cut short`);
        this.#write(fd, key, offset + at, got);
        at += got;
        yield;
      }
    } finally {
      this.#backing.close(clone);
    }
  }

  #write(fd: number, key: Key, offset: number, length: number): void {
    for (let done = 0; done < length;) {
      const put = this.#backing.pwrite(fd, this.#address + done, length - done, offset + done);
      done += this.#done("write", key, put === 0 ? -EIO : put);
    }
  }

  #fileOf(object: ObjectLine): number | null {
    if (this.#file?.key === object.key) return this.#file.fd;
    this.#letGo();
    const path = this.#openObject(object);
    if (path === null) return null;
    const fd = this.#backing.reopen(path, O.RDWR);
    this.#backing.close(path);
    this.#file = { key: object.key, fd: this.#done("open", object.key, fd) };
    return fd;
  }

  #letGo(): void {
    if (this.#file !== null) this.#backing.close(this.#file.fd);
    this.#file = null;
  }

  #open(key: Key): number {
    const object = this.#objects.get(key);
    if (object === undefined) throw new RestoreError(`Cannot restore: nothing is known of ${key}`);
    const fd = this.#openObject(object);
    if (fd === null) throw new RestoreError(`Cannot restore: object ${key} is gone`);
    return fd;
  }

  /** Null: it is gone. Only what a power cut hid to be made in the stretch can be, or what was unnamed before. */
  #openObject({ key, handle }: ObjectLine): number | null {
    this.#handle.set(handle.type, bytesOf(handle.bytes));
    const root = this.#world.roots[rootOf(key)] ?? -1;
    const fd = this.#backing.openByHandle(root, this.#handle, O.PATH | O.NOFOLLOW);
    if (fd === -116) return null;
    return this.#done("open", key, fd);
  }

  #done(what: string, key: Key, result: number): number {
    if (result >= 0) return result;
    throw new RestoreError(`Cannot restore: could not ${what} ${key} (errno ${-result})`, -result);
  }
}

function typeOf(object: ObjectLine): number {
  return object.mode & S_IF.MT;
}

function graveName(key: Key): Uint8Array<ArrayBuffer> {
  return bytesOf(key.slice(key.indexOf(":") + 1), true);
}

function stateOf(object: ObjectLine): ObjectState {
  const xattrs = object.xattrs.map(([name, value]) => ({ name: bytesOf(name), value: bytesOf(value) }));
  const { id, mode, uid, gid, size } = object;
  const unused = { root: 0, rdev: 0, nlink: 1, target: new Uint8Array(0) };
  return { id, mode, uid, gid, size, mtime: BigInt(object.mtime), xattrs, ...unused };
}
