/**
 * A disk in memory that can lose power: every sector not synced then keeps its old or gets its new content, as
 * chance has it, and names not synced may be there or not. For tests and the simulator.
 *
 * @module
 */

import { assert } from "@std/assert";
import { DiskFullError, type Mapping, type Storage } from "./storage.ts";

const PAGE = 4096;

/** What a power cut leaves whole. */
const SECTOR = 512;

/** How large one file may grow. Address space only: memory is taken as it grows, and mappings stay valid meanwhile. */
const FILE_MAX = 64 * 1024 * 1024;

/** Chance as {@link MemoryStorage.crash} needs it: a value from 0 up to, not including, 1. */
export type Chance = () => number;

interface File {
  /** What the running system sees. */
  live: Uint8Array<ArrayBuffer>;
  size: number;
  /** What the disk holds for certain. */
  durable: Uint8Array<ArrayBuffer>;
  durableSize: number;
  /** The name survives a power cut. */
  linked: boolean;
}

/** Files in memory with a model of what a power cut loses. */
export class MemoryStorage implements Storage {
  #files = new Map<string, File>();
  /** Removed, but its name still on the disk until {@link syncDirectory}. */
  #removed = new Map<string, File>();
  #mappings = 0;
  /** Bytes that may be allocated in all; beyond, {@link DiskFullError}. */
  capacity: number = Number.MAX_SAFE_INTEGER;
  /** Called before each write or sync with its name; a test throws from here to break one exact step. */
  before: (action: string, name: string) => void = () => {};
  /** How many writes and syncs reached the disk. */
  syncs = 0;

  /** Mappings not yet closed. */
  get mappings(): number {
    return this.#mappings;
  }

  map(name: string, length: number, offset = 0): Mapping {
    assert(offset % PAGE === 0 && length > 0, "A mapping starts at a multiple of the page size");
    this.before("map", name);
    const file = this.#open(name);
    this.#grow(name, file, offset + length);
    const bytes = file.live.subarray(offset, offset + length);
    this.#mappings++;
    let open = true;
    return {
      bytes,
      sync: () => {
        assert(open, "A closed mapping was synced");
        this.before("sync", name);
        this.syncs++;
        this.#persist(file, offset, length);
      },
      close: () => {
        assert(open, "A mapping was closed twice");
        open = false;
        this.#mappings--;
      },
    };
  }

  size(name: string): number | null {
    return this.#files.get(name)?.size ?? null;
  }

  readAll(name: string): Uint8Array<ArrayBuffer> | null {
    const file = this.#files.get(name);
    return file === undefined ? null : file.live.slice(0, file.size);
  }

  writeAtomic(name: string, bytes: Uint8Array): void {
    this.before("writeAtomic", name);
    this.#reserve(name, bytes.length - (this.#files.get(name)?.size ?? 0));
    this.#files.set(name, fileOf(bytes));
    this.#removed.delete(name);
    this.syncs++;
  }

  append(name: string, bytes: Uint8Array): void {
    this.before("append", name);
    const file = this.#open(name);
    const start = file.size;
    this.#grow(name, file, start + bytes.length);
    file.live.set(bytes, start);
    this.#persist(file, start, bytes.length);
    file.linked = true;
    this.syncs++;
  }

  discard(name: string, offset: number, length: number): void {
    this.before("discard", name);
    this.#files.get(name)?.live.fill(0, offset, offset + length);
  }

  list(): string[] {
    return [...this.#files.keys()].sort();
  }

  remove(name: string): void {
    this.before("remove", name);
    const file = this.#files.get(name);
    if (file?.linked === true) this.#removed.set(name, file);
    this.#files.delete(name);
  }

  syncDirectory(): void {
    this.before("syncDirectory", "");
    for (const file of this.#files.values()) file.linked = true;
    this.#removed.clear();
    this.syncs++;
  }

  /**
   * What the next boot finds. Mappings of before are worthless. An appended, atomically written or synced byte is there;
   * any other page, size or name is old or new, by chance.
   */
  crash(chance: Chance): MemoryStorage {
    const after = new MemoryStorage();
    const survivors = [...this.#removed, ...this.#files];
    for (const [name, file] of survivors) {
      if (!file.linked && chance() < 0.5) continue;
      if (this.#removed.get(name) === file && (chance() < 0.5)) continue;
      const size = chance() < 0.5 ? file.size : file.durableSize;
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; at += SECTOR) {
        const from = chance() < 0.5 ? file.live : file.durable;
        bytes.set(from.subarray(at, Math.min(at + SECTOR, size)), at);
      }
      after.#files.set(name, fileOf(bytes));
    }
    return after;
  }

  /** What a later process finds when this one was killed: everything, with nothing mapped. */
  killed(): MemoryStorage {
    const after = new MemoryStorage();
    for (const [name, file] of this.#files) after.#files.set(name, fileOf(file.live.subarray(0, file.size)));
    return after;
  }

  /** Overwrites bytes as damage would: now and for certain. */
  damage(name: string, offset: number, bytes: Uint8Array): void {
    const file = this.#open(name);
    file.live.set(bytes, offset);
    this.#persist(file, offset, bytes.length);
  }

  /** Cuts a file short, as damage would. */
  cut(name: string, size: number): void {
    const file = this.#open(name);
    file.live.fill(0, size);
    file.durable.fill(0, size);
    file.size = size;
    file.durableSize = size;
  }

  #open(name: string): File {
    const found = this.#files.get(name);
    if (found !== undefined) return found;
    const file = { ...fileOf(new Uint8Array(0)), linked: false };
    this.#files.set(name, file);
    return file;
  }

  #grow(name: string, file: File, size: number): void {
    if (size <= file.size) return;
    this.#reserve(name, size - file.size);
    if (size > file.live.length) {
      file.live.buffer.resize(size);
      file.durable.buffer.resize(size);
    }
    file.size = size;
  }

  #reserve(name: string, more: number): void {
    let used = 0;
    for (const file of this.#files.values()) used += file.size;
    if (used + more > this.capacity) {
      throw new DiskFullError(`Cannot extend ${name}: no space left on device`);
    }
  }

  #persist(file: File, offset: number, length: number): void {
    file.durable.set(file.live.subarray(offset, offset + length), offset);
    file.durableSize = Math.max(file.durableSize, Math.min(offset + length, file.size));
  }
}

function fileOf(content: Uint8Array): File {
  return {
    live: growing(content),
    size: content.length,
    durable: growing(content),
    durableSize: content.length,
    linked: true,
  };
}

/** A copy whose array follows its buffer's length. */
function growing(content: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(content.length, { maxByteLength: FILE_MAX }));
  bytes.set(content);
  return bytes;
}
