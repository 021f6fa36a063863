/**
 * What a comparison would overwrite or delete on a node that wrote apart from its peer, saved first (invariant I6).
 *
 * ```
 * STATE/quarantine/MODULE/2025-01-31T12-00-00.000Z/
 *   manifest.jsonl              one line for each thing saved, oldest first
 *   objects/ID/OFFSET.bin       bytes of a file from that offset, as they were before they were overwritten
 *   deleted/ROOT-INODE/…        files and directories that the primary does not have
 * ```
 *
 * Names in the manifest that are not UTF-8 have bytes escaped as Python does (`surrogateescape`).
 *
 * Saved means on disk: bytes are synced before what they were saved from is overwritten. Nothing here is ever deleted by
 * us. The folder is made with the first thing saved.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { AT, O, S_IF, SEEK } from "../system/linux.ts";
import { nanosOf, secondsOf, Statx } from "../system/statx.ts";
import { cbytes, withoutNul } from "./bytes.ts";
import { ApplyError } from "./follower.ts";
import { IdSet } from "./id_set.ts";
import type { Guard, Limbo } from "./limbo.ts";
import { type ObjectState, StateKeeper } from "./object_state.ts";
import { type Attributes, attributesOf, type Line, readable } from "./quarantine_manifest.ts";
import { type Held, ID_XATTR } from "./objects.ts";
import { salvage } from "./salvage.ts";

const EEXIST = 17;
const ENXIO = 6;
const ENOENT = 2;
const EXDEV = 18;
const ENODATA = 61;
const PIECE_BYTES = 1024 * 1024;
/** Of ext4, xfs and btrfs alike. */
const NAME_MAX = 255;
const ID_NAME = cbytes(ID_XATTR);
const NEW_FILE = O.CREAT | O.EXCL | O.RDWR | O.NOFOLLOW;

/** What {@link Quarantine.open} needs. */
export interface QuarantineOptions {
  /** The module's: `STATE/quarantine/MODULE`. */
  readonly directory: string;
  /** Names the folder. */
  readonly at: Date;
  readonly backing: Backing;
  readonly addressOf: (bytes: Uint8Array) => number;
}

/** What was saved. */
export interface Saved {
  readonly path: string;
  readonly bytes: number;
  /** Lines of the manifest. */
  readonly entries: number;
}

/** A file on its way into quarantine. */
interface Copying {
  readonly from: number;
  readonly to: number;
  readonly size: number;
  at: number;
}

/** The quarantine of one comparison. Throws {@link ApplyError} when something cannot be saved: nothing may be overwritten then. */
export class Quarantine implements Guard {
  readonly path: string;
  /** Objects that are as on the source already: overwriting them loses nothing. */
  finished: IdSet | null = null;
  readonly #backing: Backing;
  readonly #states: StateKeeper;
  readonly #stat = new Statx();
  readonly #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(PIECE_BYTES);
  readonly #address: number;
  readonly #described = new IdSet();
  /** Where folders made here lie, by descriptor. */
  readonly #places = new Map<number, string>();
  /** Places of what is announced and not moved yet. */
  readonly #announced = new Set<string>();
  #paths: Pick<Limbo, "pathOf"> | null = null;
  #folder = -1;
  #manifest = -1;
  #manifestAt = 0;
  #unsynced = false;
  #copying: Copying | null = null;
  #bytes = 0;
  #lines = 0;

  private constructor(options: QuarantineOptions) {
    this.path = `${options.directory}/${options.at.toISOString().replaceAll(":", "-")}`;
    this.#backing = options.backing;
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#address = options.addressOf(this.#buffer);
  }

  /** A quarantine with nothing in it; nothing is made on disk yet. */
  static open(options: QuarantineOptions): Quarantine {
    return new Quarantine(options);
  }

  /** Joins the comparison: who tells paths, and what needs no saving. */
  join(limbo: Limbo): void {
    this.#paths = limbo;
    this.finished = limbo.finished;
  }

  content(held: Held, offset: number, length: number): void {
    if (held.type !== S_IF.REG || this.finished?.has(held.id) === true) return;
    this.#stated(held.id, held.path);
    const end = Math.min(this.#stat.size, offset + length);
    if (offset >= end) return;
    const fd = this.#done("open", held.id, this.#backing.reopen(held.path, O.RDONLY));
    try {
      for (let at = offset; at < end;) {
        const data = this.#dataAt(held.id, fd, at, end);
        if (data > at) this.#zeros(held, at, data - at);
        const stop = data >= end ? end : Math.min(this.#holeAt(held.id, fd, data, end), data + PIECE_BYTES);
        if (stop > data) this.#range(held, fd, data, stop - data);
        at = stop;
      }
    } finally {
      this.#backing.close(fd);
    }
  }

  attributes(held: Held): void {
    if (this.finished?.has(held.id) === true || !this.#described.add(held.id)) return;
    const line = { id: held.id, path: this.#pathOf(held.path), what: "attributes" } as const;
    this.#write({ ...line, attributes: this.#attributesOf(held) });
    this.#sync();
  }

  entry(parent: Held, name: Uint8Array, fd: number): void {
    const path = `${this.#pathOf(parent.path)}/${readable(name)}`;
    this.#stated(parent.id, fd);
    // What it led to is not lost yet: it goes to limbo, and from there to "deleted" under this number.
    const saved = `deleted/${parent.root}-${this.#stat.ino}`;
    this.#write({ id: parent.id, path, what: "entry", saved });
  }

  /** Makes a folder for what is being deleted as a directory; answers its descriptor. */
  makeFolder(into: number, name: Uint8Array, held: Held): number {
    const free = this.#freeName(into, name, held.id);
    this.#done("make a folder for", held.id, this.#backing.mkdirat(into, free, 0o700));
    const folder = this.#backing.openat(into, free, O.RDONLY | O.DIRECTORY, 0);
    const fd = this.#done("open the folder of", held.id, folder);
    this.#dress(fd, held);
    this.#places.set(fd, this.#describeDeleted(held, into, free));
    return fd;
  }

  /** Descriptor of `deleted/`. */
  deletedFolder(): number {
    this.#open();
    const fd = this.#folderIn(this.#folder, "deleted", 0);
    this.#places.set(fd, "deleted");
    return fd;
  }

  /**
   * Saves a file, or whatever is no directory, that is about to lose its last name: moved where that is possible, else
   * copied a piece at a time.
   *
   * @returns true when it is saved, and its name here may be removed if it is still there.
   */
  take(
    from: { readonly dirfd: number; readonly name: Uint8Array },
    into: number,
    name: Uint8Array,
    held: Held,
  ): boolean {
    // The one that is being copied has its place.
    const place = this.#copying === null ? this.announce(into, name, held) : name;
    return this.move(from, into, place, held);
  }

  /** Finds a place for what {@link move} is to move, and writes it into the manifest, which may be settled in between. */
  announce(into: number, name: Uint8Array, held: Held): Uint8Array {
    const free = this.#freeName(into, name, held.id);
    this.#describeDeleted(held, into, free);
    this.#announced.add(keyOf(into, free));
    return free;
  }

  /** As {@link take}, to the place that {@link announce} answered. */
  move(
    from: { readonly dirfd: number; readonly name: Uint8Array },
    into: number,
    place: Uint8Array,
    held: Held,
  ): boolean {
    if (this.#copying === null) {
      this.#announced.delete(keyOf(into, place));
      const moved = this.#backing.renameat2(from.dirfd, from.name, into, place, 0);
      if (moved >= 0) return this.#moved(held);
      if (moved !== -EXDEV) this.#fail("move", held.id, moved);
      if (held.type !== S_IF.REG) return this.#remake(held, into, place);
      this.#copying = this.#beginCopy(held, into, place);
    }
    return this.#copyPiece(held, this.#copying);
  }

  /** Everything saved is on disk. Answers what it was, or null when there was nothing. */
  close(): Saved | null {
    if (this.#folder < 0) return null;
    this.#sync();
    this.#done("sync", 0, this.#backing.fsync(this.#folder));
    this.#release();
    return { path: this.path, bytes: this.#bytes, entries: this.#lines };
  }

  /** The comparison was cut short: what is saved stays. */
  abort(): void {
    if (this.#folder >= 0) this.#release();
  }

  /** Brings the manifest to disk: called before what it names is deleted. */
  settle(): void {
    this.#sync();
  }

  #release(): void {
    if (this.#copying !== null) {
      this.#backing.close(this.#copying.from);
      this.#backing.close(this.#copying.to);
      this.#copying = null;
    }
    this.#backing.close(this.#manifest);
    this.#backing.close(this.#folder);
    this.#folder = this.#manifest = -1;
  }

  #open(): void {
    if (this.#folder >= 0) return;
    let made = "";
    for (const part of this.path.split("/").slice(1)) {
      made += `/${part}`;
      const result = this.#backing.mkdirat(AT.FDCWD, cbytes(made), 0o700);
      if (result < 0 && result !== -EEXIST) this.#fail(`make ${made} for`, 0, result);
      if (result >= 0) this.#syncDirectory(made.slice(0, made.lastIndexOf("/")) || "/");
    }
    const folder = this.#backing.openat(AT.FDCWD, cbytes(this.path), O.RDONLY | O.DIRECTORY, 0);
    this.#folder = this.#done("open the folder of", 0, folder);
    this.#manifest = this.#done(
      "make the manifest of",
      0,
      this.#backing.openat(this.#folder, cbytes("manifest.jsonl"), O.CREAT | O.RDWR | O.NOFOLLOW, 0o600),
    );
    this.#stated(0, this.#manifest);
    this.#manifestAt = this.#stat.size;
    this.#done("sync", 0, this.#backing.fsync(this.#folder));
  }

  #syncDirectory(path: string): void {
    const fd = this.#done(
      "open the folder of",
      0,
      this.#backing.openat(AT.FDCWD, cbytes(path), O.RDONLY | O.DIRECTORY, 0),
    );
    const synced = this.#backing.fsync(fd);
    this.#backing.close(fd);
    this.#done("sync", 0, synced);
  }

  #folderIn(parent: number, name: string, id: number): number {
    const made = this.#backing.mkdirat(parent, cbytes(name), 0o700);
    if (made < 0 && made !== -EEXIST) this.#fail("make a folder for", id, made);
    if (made >= 0) this.#done("sync", id, this.#backing.fsync(parent));
    return this.#done(
      "open the folder of",
      id,
      this.#backing.openat(parent, cbytes(name), O.RDONLY | O.DIRECTORY, 0),
    );
  }

  #range(held: Held, fd: number, offset: number, length: number): void {
    this.#open();
    const objects = this.#folderIn(this.#folder, "objects", held.id);
    const folder = this.#folderIn(objects, String(held.id), held.id);
    this.#backing.close(objects);
    try {
      const { file, name } = this.#newFile(folder, String(offset), held.id);
      try {
        this.#copyBytes(held, { fd, at: offset }, { fd: file, at: 0 }, length);
        this.#done("sync", held.id, this.#backing.fsync(file));
      } finally {
        this.#backing.close(file);
      }
      const saved = `objects/${held.id}/${name}`;
      this.#write({ id: held.id, path: this.#pathOf(held.path), what: "content", offset, length, saved });
      this.#bytes += length;
    } finally {
      this.#backing.close(folder);
    }
  }

  /** A hole needs no file. */
  #zeros(held: Held, offset: number, length: number): void {
    this.#write({ id: held.id, path: this.#pathOf(held.path), what: "content", offset, length, zeros: true });
    this.#sync();
  }

  /** What was saved from the same offset before is older, and stays. */
  #newFile(folder: number, stem: string, id: number): { file: number; name: string } {
    for (let copy = 0;; copy++) {
      const name = copy === 0 ? `${stem}.bin` : `${stem}.${copy}.bin`;
      const file = this.#backing.openat(folder, cbytes(name), NEW_FILE, 0o600);
      if (file !== -EEXIST) return { file: this.#done("make a file for", id, file), name };
    }
  }

  /** Copies a part of an object; what the disk does not give is said in the manifest: nobody can save it. */
  #copyBytes(
    held: Held,
    source: { readonly fd: number; readonly at: number },
    target: { readonly fd: number; readonly at: number },
    length: number,
  ): void {
    const buffer = { address: this.#address, length: PIECE_BYTES };
    const result = salvage(this.#backing, source, target, length, buffer);
    if ("refused" in result) this.#fail(result.refused, held.id, result.result);
    if (result.lost.length === 0) return;
    const end = target.at + length;
    this.#done("size", held.id, this.#backing.ftruncate(target.fd, end));
    const path = this.#pathOf(held.path);
    for (const part of result.lost) {
      this.#write({ id: held.id, path, what: "content", ...part, unreadable: true });
    }
  }

  #moved(held: Held): true {
    this.#stated(held.id, held.path);
    if (held.type === S_IF.REG) this.#bytes += this.#stat.size;
    // It must never be taken for the object of that id again.
    const removed = this.#backing.removexattr(held.path, ID_NAME);
    if (removed < 0 && removed !== -ENODATA) this.#fail("take its id from", held.id, removed);
    return true;
  }

  /**
   * Inode numbers are given again once their file is gone, and many directories have a file of one name: what was saved
   * under it before stays. Numbers are given one after the other, so that where they end is found by halving.
   */
  #freeName(into: number, name: Uint8Array, id: number): Uint8Array {
    if (!this.#isTaken(into, numbered(name, 0), id)) return numbered(name, 0);
    let [taken, free] = [0, 1];
    while (this.#isTaken(into, numbered(name, free), id)) [taken, free] = [free, free * 2];
    while (free - taken > 1) {
      const middle = Math.floor((taken + free) / 2);
      if (this.#isTaken(into, numbered(name, middle), id)) taken = middle;
      else free = middle;
    }
    return numbered(name, free);
  }

  #isTaken(into: number, name: Uint8Array, id: number): boolean {
    if (this.#announced.has(keyOf(into, name))) return true;
    const found = this.#backing.statxAt(into, name, this.#stat);
    if (found !== -ENOENT) this.#done("find a name for", id, found);
    return found !== -ENOENT;
  }

  #beginCopy(held: Held, into: number, name: Uint8Array): Copying {
    this.#stated(held.id, held.path);
    const { size } = this.#stat;
    const from = this.#done("open", held.id, this.#backing.reopen(held.path, O.RDONLY));
    const to = this.#backing.openat(into, name, NEW_FILE, 0o600);
    if (to < 0) this.#backing.close(from);
    return { from, to: this.#done("make a file for", held.id, to), size, at: 0 };
  }

  #copyPiece(held: Held, copying: Copying): boolean {
    const start = this.#dataAt(held.id, copying.from, copying.at, copying.size);
    const end = Math.min(copying.size, start + PIECE_BYTES);
    const { from, to } = copying;
    this.#copyBytes(held, { fd: from, at: start }, { fd: to, at: start }, end - start);
    this.#bytes += end - start;
    copying.at = end;
    if (end < copying.size) return false;
    this.#done("size", held.id, this.#backing.ftruncate(copying.to, copying.size));
    this.#dress(copying.to, held);
    this.#done("sync", held.id, this.#backing.fsync(copying.to));
    this.#backing.close(copying.from);
    this.#backing.close(copying.to);
    this.#copying = null;
    return true;
  }

  /** Symbolic links, FIFOs, sockets and devices: made again. */
  #remake(held: Held, into: number, name: Uint8Array): boolean {
    const state = this.#stateOf(held);
    const made = held.type === S_IF.LNK
      ? this.#backing.symlinkat(state.target, into, name)
      : this.#backing.mknodat(into, name, state.mode, state.rdev);
    this.#done("make again", held.id, made);
    const fd = this.#done("open", held.id, this.#backing.openat(into, name, O.PATH | O.NOFOLLOW, 0));
    this.#dress(fd, held);
    this.#backing.close(fd);
    return true;
  }

  /** Gives what was copied owner, mode and mtime; the manifest has everything, xattrs too. */
  #dress(fd: number, held: Held): void {
    const { uid, gid, mode, mtime } = this.#stateOf(held);
    this.#done("give its owner to", held.id, this.#backing.chown(fd, uid, gid));
    // Folders stay ours to write into, and nobody else's to look into.
    if (held.type === S_IF.REG) {
      this.#done("give its mode to", held.id, this.#backing.chmod(fd, mode & 0o7777));
    }
    const seconds = secondsOf(mtime);
    this.#done(
      "give its time to",
      held.id,
      this.#backing.utimens(fd, seconds, nanosOf(mtime), seconds, nanosOf(mtime)),
    );
  }

  /** Answers where it is saved. */
  #describeDeleted(held: Held, into: number, name: Uint8Array): string {
    const saved = `${this.#places.get(into) ?? "deleted"}/${readable(name)}`;
    const line = { id: held.id, path: this.#pathOf(held.path), what: "deleted", saved } as const;
    this.#write({ ...line, attributes: this.#attributesOf(held) });
    return saved;
  }

  #stateOf(held: Held): ObjectState {
    const state = this.#states.read(held);
    if (typeof state === "number") this.#fail("read the attributes of", held.id, state);
    return state;
  }

  #attributesOf(held: Held): Attributes {
    return attributesOf(this.#stateOf(held));
  }

  #write(line: Line): void {
    this.#open();
    const bytes = new TextEncoder().encode(JSON.stringify(line) + "\n");
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const part = bytes.subarray(at, at + PIECE_BYTES);
      this.#buffer.set(part);
      for (let put = 0; put < part.length;) {
        const written = this.#backing.pwrite(
          this.#manifest,
          this.#address + put,
          part.length - put,
          this.#manifestAt,
        );
        put += this.#done("write the manifest of", line.id, written);
        this.#manifestAt += written;
      }
    }
    this.#lines++;
    this.#unsynced = true;
  }

  #sync(): void {
    if (!this.#unsynced) return;
    this.#done("sync the manifest of", 0, this.#backing.fdatasync(this.#manifest));
    this.#unsynced = false;
  }

  #dataAt(id: number, fd: number, from: number, end: number): number {
    const data = this.#backing.lseek(fd, from, SEEK.DATA);
    return data === -ENXIO ? end : Math.min(end, this.#done("look for holes in", id, data));
  }

  #holeAt(id: number, fd: number, from: number, end: number): number {
    return Math.min(end, this.#done("look for holes in", id, this.#backing.lseek(fd, from, SEEK.HOLE)));
  }

  #pathOf(fd: number): string {
    const path = this.#paths?.pathOf(fd);
    return path === undefined ? "" : readable(path);
  }

  #stated(id: number, fd: number): void {
    this.#done("look at", id, this.#backing.statx(fd, this.#stat));
  }

  #done(what: string, id: number, result: number): number {
    if (result < 0) this.#fail(what, id, result);
    return result;
  }

  #fail(what: string, id: number, result: number): never {
    throw new ApplyError(
      `Cannot bring the copies together: what would be overwritten could not be saved under ${this.path} ` +
        `(${what} object ${id}: errno ${-result}); make room there, nothing was overwritten that was not saved`,
      result === -ENOENT ? 5 : -result,
    );
  }
}

/** A name with its number, NUL behind it; the first has none. Cut where it would be longer than a file system takes. */
function numbered(name: Uint8Array, number: number): Uint8Array {
  const suffix = cbytes(number === 0 ? "" : `.${number}`);
  const stem = withoutNul(name).subarray(0, NAME_MAX + 1 - suffix.length);
  const bytes = new Uint8Array(stem.length + suffix.length);
  bytes.set(stem);
  bytes.set(suffix, stem.length);
  return bytes;
}

/** Which name of which folder. */
function keyOf(folder: number, name: Uint8Array): string {
  return `${folder}/${String.fromCharCode(...name)}`;
}
