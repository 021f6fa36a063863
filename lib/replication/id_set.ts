/**
 * A set of object ids as bitmaps: a million neighbouring ids take 128 KiB.
 *
 * @module
 */

const CHUNK_IDS = 32_768;

/** Whole numbers from 0 to 2^53 − 1. */
export class IdSet {
  readonly #chunks = new Map<number, Uint32Array>();
  #size = 0;

  /** How many ids are in it. */
  get size(): number {
    return this.#size;
  }

  /** Whether the id is in it. */
  has(id: number): boolean {
    const chunk = this.#chunks.get(Math.floor(id / CHUNK_IDS));
    const bit = id % CHUNK_IDS;
    return chunk !== undefined && ((chunk[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
  }

  /** Puts an id in; answers whether it was not there before. */
  add(id: number): boolean {
    if (this.has(id)) return false;
    const place = Math.floor(id / CHUNK_IDS);
    let chunk = this.#chunks.get(place);
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK_IDS / 32);
      this.#chunks.set(place, chunk);
    }
    const bit = id % CHUNK_IDS;
    chunk[bit >>> 5] = (chunk[bit >>> 5] ?? 0) | (1 << (bit & 31));
    this.#size++;
    return true;
  }

  /** Takes an id out; answers whether it was there. */
  delete(id: number): boolean {
    const chunk = this.#chunks.get(Math.floor(id / CHUNK_IDS));
    if (chunk === undefined || !this.has(id)) return false;
    const bit = id % CHUNK_IDS;
    chunk[bit >>> 5] = (chunk[bit >>> 5] ?? 0) & ~(1 << (bit & 31));
    this.#size--;
    return true;
  }

  /** Takes all out. */
  clear(): void {
    this.#chunks.clear();
    this.#size = 0;
  }
}
