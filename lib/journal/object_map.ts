/**
 * Object id → file handle of this node: a flat mapped file, one slot for each id.
 *
 * | offset | size | field    | meaning                                       |
 * | -----: | ---: | -------- | --------------------------------------------- |
 * |      0 |    4 | crc32    | of bytes 4 … 64                               |
 * |      4 |    4 | type     | i32, `handle_type` of `name_to_handle_at(2)`  |
 * |      8 |    1 | length   | bytes of handle, 1 … 40                       |
 * |      9 |    7 | reserved | 0                                             |
 * |     16 |   40 | handle   | padded with zeros                             |
 * |     56 |    8 | id       | the object                                    |
 *
 * Little-endian; slot of an id at id × 64. A slot that is zero, torn or damaged reads as absent: the map can be made
 * again from the objects' xattrs, so it needs no log of its own.
 *
 * @module
 */

import { crc32 as zlibCrc32 } from "node:zlib";
import { getU64, setU64 } from "./record.ts";
import type { Checksum, Mapping, Storage } from "./storage.ts";

/** The file's name in the log folder. */
export const OBJECT_MAP_NAME = "objects.map";

/** Bytes of a slot. */
export const SLOT_BYTES = 64;

/** The longest handle a slot holds, in bytes. ext4 has 8, xfs up to 24, btrfs up to 40. */
export const HANDLE_MAX = 40;

/** Bytes mapped at a time: 16,384 objects. */
const CHUNK_BYTES = 1024 * 1024;

const SLOTS_PER_CHUNK = CHUNK_BYTES / SLOT_BYTES;

const AT = { crc32: 0, type: 4, length: 8, reserved: 9, handle: 16, id: 56 } as const;

/** A file handle, as of `name_to_handle_at(2)`. */
export interface FileHandle {
  /** `handle_type`. */
  readonly type: number;
  /** `f_handle`. */
  readonly bytes: Uint8Array;
}

interface Chunk {
  readonly mapping: Mapping;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  dirty: boolean;
}

/** The map of one module. One writer. */
export class ObjectMap {
  readonly #storage: Storage;
  readonly #crc32: Checksum;
  /** By place; a chunk is mapped when first used. */
  readonly #chunks = new Map<number, Chunk>();
  #size: number;
  readonly #slot = new Uint8Array(SLOT_BYTES);
  readonly #slotView = new DataView(this.#slot.buffer);
  readonly #slotChecked = this.#slot.subarray(AT.type);

  /** Opens the map, or an empty one. */
  constructor(storage: Storage, crc32: Checksum = zlibCrc32) {
    this.#storage = storage;
    this.#crc32 = crc32;
    this.#size = storage.size(OBJECT_MAP_NAME) ?? 0;
  }

  /** The handle of an object, copied; `undefined` when there is none. */
  get(id: number): FileHandle | undefined {
    const chunk = this.#chunk(id, false);
    if (chunk === undefined) return undefined;
    const at = slotOf(id);
    if (chunk.view.getUint8(at + AT.length) === 0) return undefined;
    this.#slot.set(chunk.bytes.subarray(at, at + SLOT_BYTES));
    const view = this.#slotView;
    const length = view.getUint8(AT.length);
    if (view.getUint32(AT.crc32, true) !== this.#crc32(this.#slotChecked)) return undefined;
    if (length > HANDLE_MAX || getU64(view, AT.id) !== id) return undefined;
    return { type: view.getInt32(AT.type, true), bytes: this.#slot.slice(AT.handle, AT.handle + length) };
  }

  /** Whether there is an object; one whose slot is damaged counts. */
  has(id: number): boolean {
    return (this.#chunk(id, false)?.view.getUint8(slotOf(id) + AT.length) ?? 0) !== 0;
  }

  /** How many objects are in it, those with damaged slots included. */
  count(): number {
    let count = 0;
    for (let id = 0; id * SLOT_BYTES < this.#size; id++) if (this.has(id)) count++;
    return count;
  }

  /** No object was ever in it. */
  get empty(): boolean {
    return this.#size === 0;
  }

  /**
   * Sets the handle of an object.
   *
   * @throws {DiskFullError} when the map cannot grow; nothing is set then.
   */
  set(id: number, type: number, handle: Uint8Array): void {
    if (handle.length === 0 || handle.length > HANDLE_MAX) {
      throw new RangeError(
        `Cannot keep the handle of object ${id}: it has ${handle.length} bytes, 1 to ${HANDLE_MAX} fit; ` +
          `use ext4, xfs or btrfs under the directory`,
      );
    }
    const chunk = this.#chunk(id, true);
    if (chunk === undefined) throw new Error(`Cannot keep the handle of object ${id}: no room was mapped`);
    const view = this.#slotView;
    this.#slot.fill(0);
    view.setInt32(AT.type, type, true);
    view.setUint8(AT.length, handle.length);
    this.#slot.set(handle, AT.handle);
    setU64(view, AT.id, id);
    view.setUint32(AT.crc32, this.#crc32(this.#slotChecked), true);
    chunk.bytes.set(this.#slot, slotOf(id));
    chunk.dirty = true;
  }

  /** Forgets an object. */
  delete(id: number): void {
    const chunk = this.#chunk(id, false);
    if (chunk === undefined) return;
    const at = slotOf(id);
    chunk.bytes.fill(0, at, at + SLOT_BYTES);
    chunk.dirty = true;
  }

  /** Calls with each object's id, in order. The handle is to be had from {@link get}. */
  forEach(visit: (id: number) => void): void {
    for (let id = 0; id * SLOT_BYTES < this.#size; id++) {
      if (this.get(id) !== undefined) visit(id);
    }
  }

  /** Returns when everything set and deleted so far survives a power cut. */
  sync(): void {
    for (const chunk of this.#chunks.values()) {
      if (!chunk.dirty) continue;
      chunk.mapping.sync();
      chunk.dirty = false;
    }
    this.#storage.syncDirectory();
  }

  /** Forgets all objects. */
  clear(): void {
    this.close();
    this.#storage.remove(OBJECT_MAP_NAME);
    this.#storage.syncDirectory();
    this.#size = 0;
  }

  /** Ends the mappings. Does not sync. */
  close(): void {
    for (const chunk of this.#chunks.values()) chunk.mapping.close();
    this.#chunks.clear();
  }

  /** The chunk of an id. When only looking, what was never mapped is not made. */
  #chunk(id: number, make: boolean): Chunk | undefined {
    const place = Math.floor(id / SLOTS_PER_CHUNK);
    const known = this.#chunks.get(place);
    if (known !== undefined) return known;
    const start = place * CHUNK_BYTES;
    if (start >= this.#size && !make) return undefined;
    if (!Number.isSafeInteger(start) || id < 0) {
      throw new RangeError(`Cannot use ${id} as an object id: it is not a whole number below 2^47`);
    }
    const mapping = this.#storage.map(OBJECT_MAP_NAME, CHUNK_BYTES, start);
    const view = new DataView(mapping.bytes.buffer, mapping.bytes.byteOffset, mapping.bytes.byteLength);
    const chunk = { mapping, bytes: mapping.bytes, view, dirty: false };
    this.#chunks.set(place, chunk);
    this.#size = Math.max(this.#size, start + CHUNK_BYTES);
    return chunk;
  }
}

function slotOf(id: number): number {
  return (id % SLOTS_PER_CHUNK) * SLOT_BYTES;
}
