/**
 * Saves what ranges of files were, in whole blocks: by sharing them with a file in the graveyard where the file system can
 * do that, else by copying them into the undo log. Holes are only named.
 *
 * @module
 */

import type { Backing } from "../../system/backing.ts";
import { O, SEEK } from "../../system/linux.ts";
import { Statfs, Statx } from "../../system/statx.ts";
import { type Graveyard, GraveyardError } from "./graveyard.ts";
import type { Spans } from "./spans.ts";
import { bytesOf, type Key } from "./undo_record.ts";
import type { UndoLog } from "./undo_log.ts";

const ENXIO = 6;
const PIECE_BYTES = 1 << 20;
/** What one call may have to copy: the thread answers nobody meanwhile. */
const COPY_MAX = 512 << 20;
/** Files of clones that wait for their sync. */
const CLONES_MAX = 64;

/** What {@link Contents} needs. */
export interface ContentsWorld {
  readonly backing: Backing;
  readonly roots: readonly number[];
  readonly log: UndoLog;
  readonly graveyard: Graveyard;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** See `reflink.ts`. */
  readonly cloneRange: (from: number, to: number, offset: number, length: number) => number;
  /** False: it was given up meanwhile. */
  readonly wanted: () => boolean;
  readonly giveUp: (reason: string) => void;
  /** Everything saved so far is to be on disk. */
  readonly flush: () => void;
  /** Content of this key was saved, and is not on disk yet. */
  readonly unsynced: (key: string) => void;
}

/** A file that is being saved. */
export interface Saving {
  readonly key: Key;
  /** A descriptor to read it by. */
  readonly file: number;
  readonly size: number;
  readonly saved: Spans;
}

/** Saves content. */
export class Contents {
  readonly #world: ContentsWorld;
  readonly #backing: Backing;
  readonly #log: UndoLog;
  readonly #stat = new Statx();
  readonly #statfs = new Statfs();
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #address: number;
  readonly #clones = new Map<Key, number>();
  /** Whether the file system of a root can share blocks, as far as it was tried. */
  readonly #reflinks = new Map<number, boolean>();
  readonly #blocks = new Map<number, number>();
  /** By the call under way. */
  #copied = 0;
  /** Bytes that are shared with a clone, or were. */
  clonedBytes = 0;

  constructor(world: ContentsWorld) {
    this.#world = world;
    this.#backing = world.backing;
    this.#log = world.log;
    this.#address = world.addressOf(this.#buffer);
  }

  /** A call begins. */
  begin(): void {
    this.#copied = 0;
  }

  /** Lets go of what was not synced. */
  close(): void {
    for (const fd of this.#clones.values()) this.#backing.close(fd);
    this.#clones.clear();
  }

  /** Saves a range of a file, hole by hole and piece by piece; whole blocks, see {@link blockOf}. */
  save(of: Saving, start: number, end: number): void {
    const { key, file, size, saved } = of;
    for (let at = start; at < end && this.#world.wanted();) {
      const data = this.#seek(file, at, SEEK.DATA, size);
      if (data > at) {
        const stop = Math.min(data, end);
        this.#note(key, at, stop, "hole", saved);
        at = stop;
        continue;
      }
      const hole = this.#seek(file, at, SEEK.HOLE, size);
      const stop = Math.min(hole, end, at + PIECE_BYTES);
      if (!this.#clone(of, at, stop)) this.#copy(of, at, stop);
      at = Math.max(stop, at + 1);
      if (this.#log.full) this.#world.flush();
    }
  }

  /** What is saved is whole blocks: only such can be shared. */
  blockOf(root: number): number {
    const known = this.#blocks.get(root);
    if (known !== undefined) return known;
    const told = this.#backing.fstatfs(this.#world.roots[root] ?? -1, this.#statfs) < 0
      ? 0
      : this.#statfs.bsize;
    const block = Math.min(65_536, Math.max(4096, told));
    this.#blocks.set(root, block);
    return block;
  }

  #seek(file: number, at: number, whence: number, size: number): number {
    const found = this.#backing.lseek(file, at, whence);
    // Past the last data, or past the end of a file that was cut since: what was there is known to be saved.
    if (found === -ENXIO) return size;
    return found < 0 ? (whence === SEEK.DATA ? at : size) : found;
  }

  #note(key: Key, start: number, end: number, from: "hole" | "clone", saved: Spans): void {
    this.#log.add({ what: "content", key, offset: start, length: end - start, from });
    this.#world.unsynced(`${key}@`);
    saved.add(start, end);
  }

  /** Shares the blocks of a range, which are whole but for the last of the file. False where the file system cannot. */
  #clone({ key, file, saved }: Saving, start: number, end: number): boolean {
    const root = rootOf(key);
    if (this.#reflinks.get(root) === false || this.#backing.statx(file, this.#stat) < 0) return false;
    const block = this.blockOf(root);
    const to = Math.min(Math.ceil(end / block) * block, this.#stat.size);
    const clone = this.#cloneFile(key, root);
    const shared = clone < 0 ? clone : this.#world.cloneRange(file, clone, start, to - start);
    if (shared < 0) {
      if (!this.#reflinks.has(root)) this.#reflinks.set(root, false);
      return false;
    }
    this.#reflinks.set(root, true);
    this.clonedBytes += to - start;
    this.#note(key, start, end, "clone", saved);
    return true;
  }

  #cloneFile(key: Key, root: number): number {
    const known = this.#clones.get(key);
    if (known !== undefined) return known;
    if (this.#clones.size >= CLONES_MAX) this.#world.flush();
    try {
      const grave = this.#world.graveyard.open(root, true);
      const fd = this.#backing.openat(grave, cloneName(key), O.CREAT | O.RDWR | O.NOFOLLOW, 0o600);
      if (fd >= 0) this.#clones.set(key, fd);
      return fd;
    } catch (error) {
      if (!(error instanceof GraveyardError)) throw error;
      return -error.errno;
    }
  }

  #copy(
    { key, file, saved }: Saving,
    start: number,
    end: number,
  ): void {
    for (let at = start; at < end;) {
      const got = this.#backing.pread(file, this.#address, Math.min(PIECE_BYTES, end - at), at);
      if (got < 0) return this.#world.giveUp(`a file could not be read (errno ${-got})`);
      // It is shorter than it was: the rest was saved before it was cut.
      if (got === 0) return;
      this.#copied += got;
      if (this.#copied > COPY_MAX) {
        return this.#world.giveUp(`more than ${COPY_MAX} bytes of a file would have to be copied at once`);
      }
      this.#log.addBlock(key, at, this.#buffer.subarray(0, got));
      saved.add(at, at + got);
      at += got;
    }
    this.#world.unsynced(`${key}@`);
  }

  sync(): void {
    for (const [key, fd] of this.#clones) {
      const synced = this.#backing.fsync(fd);
      if (synced < 0) throw new GraveyardError("sync", -synced);
      this.#backing.close(fd);
      this.#clones.delete(key);
    }
  }
}

/** Which root's file system an object lies on. */
export function rootOf(key: Key): number {
  return Number(key.slice(0, key.indexOf(":")));
}

/** The file of clones of an object, in its graveyard. */
export function cloneName(key: Key): Uint8Array<ArrayBuffer> {
  return bytesOf(`c${key.slice(key.indexOf(":") + 1)}`, true);
}
