/**
 * Blocks of object ids, marked twice: on disk as active, and touched since the last checkpoint began. Bitmaps in pages;
 * looking up a block near the last one costs a few nanoseconds.
 *
 * @module
 */

/** Blocks on a page. */
const PAGE_BLOCKS = 32_768;

const WORDS = PAGE_BLOCKS / 32;

interface Page {
  readonly durable: Uint32Array<ArrayBuffer>;
  readonly recent: Uint32Array<ArrayBuffer>;
}

/** What a touched block was before. `cold`: not on disk as active; it is not marked now either. */
export type Heat = "cold" | "hot";

/** A set of blocks. A block is marked recent only when it is durable too. */
export class BlockSet {
  readonly #pages = new Map<number, Page>();
  #lastNumber = -1;
  #lastPage: Page | undefined;

  /** Marks a block as touched if it is on disk as active. */
  touch(block: number): Heat {
    const page = this.#page(block);
    if (page === undefined) return "cold";
    const bit = block % PAGE_BLOCKS;
    const word = bit >>> 5;
    const mask = 1 << (bit & 31);
    if (((page.recent[word] ?? 0) & mask) !== 0) return "hot";
    if (((page.durable[word] ?? 0) & mask) === 0) return "cold";
    page.recent[word] = (page.recent[word] ?? 0) | mask;
    return "hot";
  }

  /** Whether the block is on disk as active. */
  has(block: number): boolean {
    const bit = block % PAGE_BLOCKS;
    return (((this.#page(block)?.durable[bit >>> 5]) ?? 0) & (1 << (bit & 31))) !== 0;
  }

  /** Notes that blocks are on disk as active. */
  add(first: number, count: number): void {
    for (let block = first; block < first + count; block++) {
      const page = this.#page(block) ?? this.#make(block);
      const bit = block % PAGE_BLOCKS;
      page.durable[bit >>> 5] = (page.durable[bit >>> 5] ?? 0) | (1 << (bit & 31));
    }
  }

  /** Forgets which blocks were touched. */
  clearRecent(): void {
    for (const page of this.#pages.values()) page.recent.fill(0);
  }

  /** The set of the blocks touched since {@link clearRecent}. */
  recentOnly(): BlockSet {
    const kept = new BlockSet();
    for (const [number, page] of this.#pages) {
      if (page.recent.every((word) => word === 0)) continue;
      kept.#pages.set(number, { durable: page.recent.slice(), recent: page.recent.slice() });
    }
    return kept;
  }

  /** Calls with each run of neighbouring blocks, ascending. */
  forEachRun(visit: (first: number, count: number) => void): void {
    let first = -1;
    let end = -1;
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const durable = this.#pages.get(number)?.durable;
      for (let bit = 0; bit < PAGE_BLOCKS; bit++) {
        if (((durable?.[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) continue;
        const block = number * PAGE_BLOCKS + bit;
        if (block !== end) {
          if (end > first) visit(first, end - first);
          first = block;
        }
        end = block + 1;
      }
    }
    if (end > first) visit(first, end - first);
  }

  #page(block: number): Page | undefined {
    const number = Math.floor(block / PAGE_BLOCKS);
    if (number === this.#lastNumber) return this.#lastPage;
    const page = this.#pages.get(number);
    if (page === undefined) return undefined;
    this.#lastNumber = number;
    this.#lastPage = page;
    return page;
  }

  #make(block: number): Page {
    const page = { durable: new Uint32Array(WORDS), recent: new Uint32Array(WORDS) };
    this.#pages.set(Math.floor(block / PAGE_BLOCKS), page);
    return page;
  }
}
