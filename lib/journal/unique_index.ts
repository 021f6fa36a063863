/**
 * Which record answers which FUSE request: the last {@link RECENT} of them, found in a few nanoseconds without
 * allocating. Older ones fall out as new ones come.
 *
 * @module
 */

/** How many records are remembered. The kernel has far fewer requests in flight. */
export const RECENT = 8192;

/** Four slots for each key: probes stay short. */
const SLOT_BITS = 15;
const SLOTS = 2 ** SLOT_BITS;

/** No request has this id: the kernel counts from 1. */
const EMPTY = 0;

/** Request id → position, bounded; first in, first out. A later record of the same id takes its place. */
export class UniqueIndex {
  readonly #keys = new Float64Array(SLOTS);
  readonly #positions = new Float64Array(SLOTS);
  /** The keys by age: a ring. */
  readonly #ring = new Float64Array(RECENT);
  readonly #ringPositions = new Float64Array(RECENT);
  #at = 0;

  /** Called with the id and position of each record that falls out. */
  evicted: (unique: number, position: number) => void = () => {};

  /** Remembers a record. An id of 0 only takes its place in the ring. */
  add(unique: number, position: number): void {
    const at = this.#at;
    const old = this.#ring[at] ?? EMPTY;
    if (old !== EMPTY) this.#forget(old, this.#ringPositions[at] ?? 0);
    this.#ring[at] = unique;
    this.#ringPositions[at] = position;
    this.#at = at + 1 === RECENT ? 0 : at + 1;
    if (unique !== EMPTY) this.#put(unique, position);
  }

  /** The position of the newest record of that request. */
  find(unique: number): number | undefined {
    const slot = this.#slot(unique);
    return this.#keys[slot] === unique && unique !== EMPTY ? this.#positions[slot] : undefined;
  }

  /** Forgets everything. */
  clear(): void {
    this.#keys.fill(EMPTY);
    this.#ring.fill(EMPTY);
    this.#at = 0;
  }

  #forget(unique: number, position: number): void {
    this.evicted(unique, position);
    const slot = this.#slot(unique);
    if (this.#keys[slot] === unique && this.#positions[slot] === position) this.#delete(slot);
  }

  #put(unique: number, position: number): void {
    const slot = this.#slot(unique);
    this.#keys[slot] = unique;
    this.#positions[slot] = position;
  }

  /** Where the key is, or where it would go. Ends: a quarter of the slots is the most that is ever taken. */
  #slot(unique: number): number {
    let slot = home(unique);
    for (let i = 0; i < SLOTS; i++) {
      const key = this.#keys[slot];
      if (key === unique || key === EMPTY) return slot;
      slot = (slot + 1) & (SLOTS - 1);
    }
    throw new Error("The index of requests is full");
  }

  /** Linear probing needs no tombstones when what follows moves up (Knuth 6.4, algorithm R). */
  #delete(slot: number): void {
    let hole = slot;
    let at = slot;
    for (;;) {
      at = (at + 1) & (SLOTS - 1);
      const key = this.#keys[at] ?? EMPTY;
      if (key === EMPTY) break;
      const start = home(key);
      const reachable = hole <= at ? start > hole && start <= at : start > hole || start <= at;
      if (reachable) continue;
      this.#keys[hole] = key;
      this.#positions[hole] = this.#positions[at] ?? 0;
      hole = at;
    }
    this.#keys[hole] = EMPTY;
  }
}

/**
 * The kernel counts upwards: ids must be spread (Fibonacci hashing, Knuth 6.4), or all keys form one cluster that each
 * deletion walks to its end.
 */
function home(unique: number): number {
  return Math.imul(unique / 2, 0x9e3779b1) >>> (32 - SLOT_BITS);
}
