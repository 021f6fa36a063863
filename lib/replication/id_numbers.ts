/**
 * Numbers by number, both whole: a million neighbouring ids with their inode numbers take 8 MB.
 *
 * @module
 */

const CHUNK_IDS = 1024;

/** Whole numbers above 0, kept by ids from 0 to 2^53 − 1. */
export class IdNumbers {
  readonly #chunks = new Map<number, Float64Array>();

  /** The number kept for an id, 0 where there is none. */
  get(id: number): number {
    return this.#chunks.get(Math.floor(id / CHUNK_IDS))?.[id % CHUNK_IDS] ?? 0;
  }

  /** Keeps a number; 0 forgets it. */
  set(id: number, value: number): void {
    const place = Math.floor(id / CHUNK_IDS);
    let chunk = this.#chunks.get(place);
    if (chunk === undefined) {
      if (value === 0) return;
      chunk = new Float64Array(CHUNK_IDS);
      this.#chunks.set(place, chunk);
    }
    chunk[id % CHUNK_IDS] = value;
  }

  /** Forgets all. */
  clear(): void {
    this.#chunks.clear();
  }
}
