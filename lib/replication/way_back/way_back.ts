/**
 * The way back of a secondary out of an inconsistent stretch: what it is about to change is noted before it is changed
 * for the first time, so that the state of before can be made again.
 *
 * Invariant: nothing of the tree is changed before what it was is on the disk ({@link WayBack.settle}). So after any crash
 * what was noted is at least what was changed. It is noted as a state, not as an operation: to restore it twice, or to
 * go on with the stretch after half of it was restored, does no harm.
 *
 * It is a favour, never a condition: where there is no room for it, it is given up, and the stretch goes on without.
 *
 * @module
 */

import type { Storage } from "../../journal/storage.ts";
import { DiskFullError } from "../../journal/storage.ts";
import type { Backing } from "../../system/backing.ts";
import { FileHandle } from "../../system/handle.ts";
import { O, S_IF } from "../../system/linux.ts";
import { Statfs, Statx } from "../../system/statx.ts";
import { cbytes } from "../bytes.ts";
import { StateKeeper } from "../object_state.ts";
import { FIRST_ID, ID_XATTR } from "../objects.ts";
import { LIMBO_NAME } from "../own_names.ts";
import { Contents, rootOf } from "./contents.ts";
import { Graveyard, GraveyardError } from "./graveyard.ts";
import { type Beginning, type Header, HEADER_NAME, readHeader, writeHeader } from "./header.ts";
import { heldOf } from "./held.ts";
import { Spans } from "./spans.ts";
import { type Key, type ObjectLine, textOf } from "./undo_record.ts";
import { UndoLog } from "./undo_log.ts";

const ENOENT = 2;
const ID_NAME = cbytes(ID_XATTR);
/** Objects and names noted at most: each takes some hundred bytes of memory. */
const NOTED_MAX = 1_000_000;
/** Room is made so long at once; the rest a little at a time. */
const CLEAR_STEPS = 20_000;
/** What is left free on each disk in any case, unless that is more than a twentieth of it. */
const RESERVE_BYTES = 256 << 20;

/** What {@link WayBack} needs. */
export interface WayBackWorld {
  readonly storage: Storage;
  /** The directory beneath as it is: what is done here is not noted. */
  readonly backing: Backing;
  /** Descriptors of the replicated directories. */
  readonly roots: readonly number[];
  readonly addressOf: (bytes: Uint8Array) => number;
  /** See `reflink.ts`. */
  readonly cloneRange: (from: number, to: number, offset: number, length: number) => number;
  /** A descriptor on the file system of the storage. */
  readonly storageFd: number;
  /** What it may take; null: all but a reserve; 0: none is kept. */
  readonly maxBytes: number | null;
  /** A stretch began, and what leads out of it is kept. */
  readonly onKept: (header: Header) => void;
  /** It was given up. */
  readonly onGivenUp: (reason: string) => void;
}

interface Known {
  /** Made in the stretch: nothing of it was there. */
  readonly made: boolean;
  /** As it was; 0 for what is no file. */
  readonly size: number;
  /** Whole blocks, and the end. */
  saved: Spans | null;
}

/** Notes what was, and says whether all of it is known. */
export class WayBack {
  readonly #world: WayBackWorld;
  readonly #backing: Backing;
  readonly #log: UndoLog;
  readonly graveyard: Graveyard;
  readonly #contents: Contents;
  readonly #states: StateKeeper;
  readonly #stat = new Statx();
  readonly #statfs = new Statfs();
  readonly #handle = new FileHandle();
  readonly #idBytes = new DataView(new ArrayBuffer(8));
  readonly #idAddress: number;
  readonly #devices = new Map<number, number>();
  readonly #known = new Map<Key, Known>();
  readonly #names = new Set<string>();
  /** In a graveyard. */
  readonly #buried = new Set<Key>();
  /** Noted and not on disk. */
  readonly #pending = new Set<string>();
  /** What the call under way rests on. */
  readonly #needed: string[] = [];
  #header: Header | null;
  #buriedBytes = 0;
  /** Being cleared away. */
  #clearing: Generator<void> | null = null;

  private constructor(world: WayBackWorld, header: Header | null) {
    this.#world = world;
    this.#backing = world.backing;
    this.#header = header;
    this.#log = new UndoLog(world.storage);
    this.graveyard = new Graveyard(world.backing, world.roots);
    this.#states = new StateKeeper(world.backing, world.addressOf);
    this.#contents = new Contents({
      ...world,
      log: this.#log,
      graveyard: this.graveyard,
      wanted: () => this.recording,
      giveUp: (reason) => this.giveUp(reason),
      flush: () => this.flush(),
      unsynced: (key) => this.#pending.add(key),
    });
    this.#idAddress = world.addressOf(new Uint8Array(this.#idBytes.buffer));
    world.roots.forEach((root, index) => {
      if (world.backing.statx(root, this.#stat) >= 0 && !this.#devices.has(this.#stat.dev)) {
        this.#devices.set(this.#stat.dev, index);
      }
    });
  }

  /**
   * Opens what a former process left. `inconsistent`: the copy is in mid-stretch; else what is there leads nowhere any more.
   */
  static open(world: WayBackWorld, inconsistent: boolean): WayBack {
    let header: Header | null = null;
    try {
      header = readHeader(world.storage);
    } catch (error) {
      // Damaged: as good as none, and said so.
      world.onGivenUp(error instanceof Error ? error.message : String(error));
      world.storage.remove(HEADER_NAME);
    }
    const way = new WayBack(world, header);
    if (header !== null && !inconsistent) way.#forget();
    else if (header?.state === "kept") way.#load();
    else if (header === null || header.state === "given-up") way.#tidy();
    return way;
  }

  /** What it leads to; null when there is none. */
  get header(): Header | null {
    return this.#header;
  }

  /** What is changed must be noted before. */
  get recording(): boolean {
    return this.#header?.state === "kept";
  }

  /** What it takes on the disks: the log, clones that are no longer shared at worst, and what would be deleted. */
  get bytes(): number {
    return this.#log.bytes + this.#buriedBytes + this.#contents.clonedBytes;
  }

  /** The log, for restoring. */
  get log(): UndoLog {
    return this.#log;
  }

  /**
   * A stretch begins. Where one is under way its way back stays: it leads to the oldest state, and from a mixture none does.
   */
  begin(beginning: Beginning): void {
    if (this.#header !== null || this.#world.maxBytes === 0) return;
    this.#finishClearing();
    this.#log.clear();
    try {
      this.#setHeader({ state: "kept", reason: "", ...beginning });
    } catch (error) {
      return this.#world.onGivenUp(reasonOf(error));
    }
    for (let root = 0; root < this.#world.roots.length; root++) this.#loadOwn(root);
    if (this.#header !== null) this.#world.onKept(this.#header);
  }

  /** The stretch is over: the copy is whole, and nobody needs what was. {@link step} clears it away. */
  end(): void {
    if (this.#header !== null) this.#forget();
  }

  /** It was restored; what the resync left is to be cleared away before it serves. */
  sweeping(): void {
    if (this.#header !== null) this.#setHeader({ ...this.#header, state: "sweeping" });
  }

  /** Something of it is still to be cleared away. */
  get clearing(): boolean {
    return this.#clearing !== null;
  }

  /** Clears away a little of what is no longer needed. Answers whether there is more. */
  step(): boolean {
    if (this.#clearing === null) return false;
    if (this.#clearing.next().done !== true) return true;
    this.#clearing = null;
    return false;
  }

  /** Gives it up: there is no room for it, or it is damaged. The stretch goes on without. */
  giveUp(reason: string): void {
    if (this.#header === null || this.#header.state === "given-up") return;
    this.#markGivenUp({ ...this.#header, state: "given-up", reason });
    this.#drop(true);
    // What waits for the room takes it now, as far as that is quick.
    for (let steps = 0; steps < CLEAR_STEPS && this.step(); steps++);
    this.#world.onGivenUp(reason);
  }

  /** Attributes of the object will change. Answers its key, null where nothing of it need be kept. */
  object(fd: number): Key | null {
    if (!this.recording || this.#backing.statx(fd, this.#stat) < 0) return null;
    const { nlink, dev, ino } = this.#stat;
    const root = this.#devices.get(dev);
    if (root === undefined || nlink === 0) return null;
    const key = `${root}:${ino}`;
    const known = this.#known.get(key);
    if (known?.made === true) return null;
    this.#needed.push(key);
    if (known !== undefined) return key;
    const line = this.#describe(fd, key);
    if (line === null) return null;
    this.#known.set(key, { made: false, size: line.size, saved: null });
    this.#log.add(line);
    this.#pending.add(key);
    return key;
  }

  /** A name of a directory will lead elsewhere. */
  name(dirfd: number, name: Uint8Array): void {
    const directory = this.object(dirfd);
    if (directory === null) return;
    const text = textOf(name).replaceAll("\0", "");
    const key = `${directory}/${text}`;
    this.#needed.push(key);
    if (this.#names.has(key) || (text === LIMBO_NAME && this.#isRoot(dirfd))) return;
    if (this.#names.size + this.#known.size >= NOTED_MAX) {
      return this.giveUp(`more than ${NOTED_MAX} objects and names were changed`);
    }
    const fd = this.#backing.openat(dirfd, name, O.PATH | O.NOFOLLOW, 0);
    if (fd < 0 && fd !== -ENOENT) return this.giveUp(`a name could not be looked at (errno ${-fd})`);
    const leads = fd < 0 ? null : this.object(fd);
    if (fd >= 0) this.#backing.close(fd);
    this.#names.add(key);
    this.#log.add({ what: "name", directory, name: text, leads });
    this.#pending.add(key);
  }

  /** Bytes of a file will be overwritten or cut off; `length` may reach past its end. */
  content(fd: number, offset: number, length: number): void {
    const key = this.object(fd);
    const known = key === null ? undefined : this.#known.get(key);
    if (key === null || known === undefined) return;
    if (offset >= Math.min(known.size, offset + length)) return;
    const block = this.#contents.blockOf(rootOf(key));
    const end = Math.min(known.size, Math.ceil((offset + length) / block) * block);
    this.#needed.push(`${key}@`);
    known.saved ??= new Spans();
    const { size, saved } = known;
    const missing = saved.missing(Math.floor(offset / block) * block, end);
    if (missing.length === 0) return;
    const file = this.#backing.reopen(fd, O.RDONLY);
    if (file < 0) return this.giveUp(`a file could not be read (errno ${-file})`);
    this.#contents.begin();
    try {
      for (const span of missing) this.#contents.save({ key, file, size, saved }, span.start, span.end);
    } finally {
      this.#backing.close(file);
    }
  }

  /** An object was made: what becomes of it need not be noted. */
  made(fd: number): void {
    if (!this.recording || this.#backing.statx(fd, this.#stat) < 0) return;
    const root = this.#devices.get(this.#stat.dev);
    if (root === undefined) return;
    const key = `${root}:${this.#stat.ino}`;
    this.#known.set(key, { made: true, size: 0, saved: null });
    this.#log.add({ what: "made", key });
  }

  /** What the next change rests on is on disk when this returns; or the way back is given up. */
  settle(): void {
    const waits = this.#needed.some((key) => this.#pending.has(key));
    this.#needed.length = 0;
    if (waits) this.flush();
  }

  /** What was noted in advance need not be on disk yet: what is changed because of it will ask. */
  foreseen(): void {
    this.#needed.length = 0;
    if (this.#log.full) this.flush();
  }

  /** Everything noted is on disk when this returns; or the way back is given up. */
  flush(): void {
    if (!this.recording || this.#log.settled) return;
    try {
      const room = this.#noRoom();
      if (room !== null) return this.giveUp(room);
      this.#contents.sync();
      this.#log.flush();
      this.#pending.clear();
    } catch (error) {
      // The disk refuses what is only a favour.
      this.giveUp(reasonOf(error));
    }
  }

  /** Whether an object was there when the stretch began, and would be lost with its last name. */
  mustStay(fd: number): boolean {
    if (!this.recording || this.#backing.statx(fd, this.#stat) < 0) return false;
    const root = this.#devices.get(this.#stat.dev);
    return root !== undefined && this.#known.get(`${root}:${this.#stat.ino}`)?.made !== true;
  }

  /** Takes a name from an object by moving it to the graveyard. Answers 0 or −errno. */
  bury(dirfd: number, name: Uint8Array, fd: number): number {
    const place = this.#placeOf(fd);
    if (place === null) return -ENOENT;
    try {
      const grave = this.graveyard.open(place.root, true);
      const moved = this.#backing.renameat2(dirfd, name, grave, place.name, 0);
      if (moved < 0) return moved;
      this.#buried.add(place.key);
      this.#buriedBytes += place.bytes;
      return 0;
    } catch (error) {
      if (!(error instanceof GraveyardError)) throw error;
      return -error.errno;
    }
  }

  /** Takes it back, should what it made way for have failed. */
  unearth(dirfd: number, name: Uint8Array, fd: number): void {
    const place = this.#placeOf(fd);
    if (place === null || !this.#buried.has(place.key)) return;
    const grave = this.graveyard.open(place.root, false);
    if (this.#backing.renameat2(grave, place.name, dirfd, name, 0) < 0) return;
    this.#buried.delete(place.key);
    this.#buriedBytes -= place.bytes;
  }

  /** Whether what was asked lies in the graveyard, where nobody else may see it. */
  isBuried(stat: Statx): boolean {
    if (this.#buried.size === 0) return false;
    const root = this.#devices.get(stat.dev);
    return root !== undefined && this.#buried.has(`${root}:${stat.ino}`);
  }

  /** Closes what it keeps open. */
  close(): void {
    this.#contents.close();
    this.graveyard.close();
  }

  #placeOf(
    fd: number,
  ): { readonly root: number; readonly key: Key; readonly name: Uint8Array; readonly bytes: number } | null {
    if (this.#backing.statx(fd, this.#stat) < 0) return null;
    const { dev, ino, blocks } = this.#stat;
    const root = this.#devices.get(dev);
    if (root === undefined) return null;
    return { root, key: `${root}:${ino}`, name: cbytes(String(ino)), bytes: blocks * 512 };
  }

  #describe(fd: number, key: Key): ObjectLine | null {
    const held = heldOf(fd, this.#stat.mode & S_IF.MT);
    const state = this.#states.read(held);
    const named = typeof state === "number" ? state : this.#backing.nameToHandle(fd, this.#handle);
    if (typeof state === "number" || named < 0) {
      this.giveUp(`an object could not be looked at (errno ${-named})`);
      return null;
    }
    return {
      what: "object",
      key,
      handle: { type: this.#handle.type, bytes: textOf(this.#handle.bytes) },
      id: this.#readId(fd),
      mode: state.mode,
      uid: state.uid,
      gid: state.gid,
      size: state.size,
      mtime: String(state.mtime),
      xattrs: state.xattrs.map(({ name, value }) => [textOf(name), textOf(value)]),
    };
  }

  #readId(fd: number): number {
    if (this.#backing.getxattr(fd, ID_NAME, this.#idAddress, 8) !== 8) return 0;
    return this.#idBytes.getUint32(0, true) + this.#idBytes.getUint32(4, true) * 0x1_0000_0000;
  }

  #isRoot(fd: number): boolean {
    const id = this.#readId(fd);
    return id > 0 && id < FIRST_ID;
  }

  /** Why there is no room for what is gathered; null when there is. */
  #noRoom(): string | null {
    const { maxBytes, roots, storageFd } = this.#world;
    if (maxBytes !== null && this.bytes > maxBytes) return `it would take more than ${maxBytes} bytes`;
    for (const fd of [storageFd, ...roots]) {
      if (this.#backing.fstatfs(fd, this.#statfs) < 0) continue;
      const { bfree, blocks, frsize } = this.#statfs;
      if (blocks > 0 && bfree * frsize < Math.min(RESERVE_BYTES, blocks * frsize / 20)) {
        return "the disk is nearly full";
      }
    }
    return null;
  }

  /** What a former process noted. */
  #load(): void {
    for (const line of this.#log.lines()) {
      if (line.what === "made") this.#known.set(line.key, { made: true, size: 0, saved: null });
      else if (line.what === "object") {
        this.#known.set(line.key, { made: false, size: line.size, saved: null });
      } else if (line.what === "name") this.#names.add(`${line.directory}/${line.name}`);
      else {
        const known = this.#known.get(line.key);
        if (known === undefined) continue;
        known.saved ??= new Spans();
        known.saved.add(line.offset, line.offset + line.length);
        if (line.from === "clone") this.#contents.clonedBytes += line.length;
      }
    }
    for (let root = 0; root < this.#world.roots.length; root++) this.#loadOwn(root);
  }

  #loadOwn(root: number): void {
    for (const fd of this.graveyard.own(root)) {
      const place = this.#placeOf(fd);
      if (place !== null) this.#known.set(place.key, { made: true, size: 0, saved: null });
      this.#backing.close(fd);
    }
    const grave = this.graveyard.open(root, false);
    for (const name of this.graveyard.names(root)) {
      const fd = this.#backing.openat(grave, name, O.PATH | O.NOFOLLOW, 0);
      const place = fd < 0 ? null : this.#placeOf(fd);
      if (fd >= 0) this.#backing.close(fd);
      if (place === null || textOf(name).startsWith("c")) continue;
      this.#buried.add(place.key);
      this.#buriedBytes += place.bytes;
    }
  }

  #setHeader(header: Header): void {
    writeHeader(this.#world.storage, header);
    this.#header = header;
  }

  #markGivenUp(header: Header): void {
    try {
      this.#setHeader(header);
    } catch (error) {
      if (!(error instanceof DiskFullError)) throw error;
      // To say why needs room; that there is none, does not.
      this.#world.storage.remove(HEADER_NAME);
      this.#world.storage.syncDirectory();
      this.#header = header;
    }
  }

  /** There is no way back from here on, whatever of it is still to be cleared away. */
  #forget(): void {
    this.#world.storage.remove(HEADER_NAME);
    this.#world.storage.syncDirectory();
    this.#header = null;
    this.#drop();
  }

  #drop(inMidCall = false): void {
    this.#contents.close();
    this.#known.clear();
    this.#names.clear();
    this.#buried.clear();
    this.#pending.clear();
    this.#needed.length = 0;
    this.#buriedBytes = this.#contents.clonedBytes = 0;
    this.#log.clear();
    this.#tidy(inMidCall);
  }

  #tidy(inMidCall = false): void {
    this.#clearing = this.graveyard.exists ? this.graveyard.clear(false, inMidCall) : null;
  }

  #finishClearing(): void {
    while (this.step());
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) throw error;
  return error instanceof DiskFullError ? "the disk is full" : error.message;
}
