/**
 * The content of one file in memory, with holes.
 *
 * @module
 */

import { crc32 } from "node:zlib";

const BLOCK = 4096;
const ENXIO = -6;

/** Bytes in blocks; a block that is not there is a hole and reads as zeros. */
export class FileBytes {
  size = 0;
  readonly #blocks = new Map<number, Uint8Array>();

  /** The same bytes, apart. */
  clone(): FileBytes {
    const made = new FileBytes();
    made.size = this.size;
    for (const [index, bytes] of this.#blocks) made.#blocks.set(index, bytes.slice());
    return made;
  }

  /** What a disk has of it that last had `old` and may have got any block since: each is the one or the other, as `now` says. */
  mixed(old: FileBytes, now: () => boolean): FileBytes {
    const made = new FileBytes();
    made.size = old.size;
    const blocks = new Set([...this.#blocks.keys(), ...old.#blocks.keys()]);
    for (const index of blocks) {
      if (index * BLOCK >= made.size) continue;
      const bytes = (now() ? this : old).#blocks.get(index);
      if (bytes !== undefined) made.#blocks.set(index, bytes.slice());
    }
    const end = made.#blocks.get(Math.floor(made.size / BLOCK));
    end?.fill(0, made.size % BLOCK);
    return made;
  }

  /** Blocks taken. */
  get blocks(): number {
    return this.#blocks.size;
  }

  /** How many blocks a range would take besides. */
  missing(start: number, end: number): number {
    let count = 0;
    for (let at = Math.floor(start / BLOCK); at * BLOCK < end; at++) if (!this.#blocks.has(at)) count++;
    return count;
  }

  allocate(start: number, end: number): void {
    for (let at = Math.floor(start / BLOCK); at * BLOCK < end; at++) this.#block(at);
  }

  read(offset: number, into: Uint8Array): void {
    this.#each(offset, offset + into.length, (block, from, to, at) => {
      const bytes = this.#blocks.get(block);
      if (bytes === undefined) into.fill(0, at, at + to - from);
      else into.set(bytes.subarray(from, to), at);
    });
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#each(offset, offset + bytes.length, (block, from, to, at) => {
      this.#block(block).set(bytes.subarray(at, at + to - from), from);
    });
    if (bytes.length > 0) this.size = Math.max(this.size, offset + bytes.length);
  }

  /** Makes a range read as zeros; whole blocks become holes. */
  punch(start: number, end: number): void {
    for (const [block, bytes] of this.#blocks) {
      const from = Math.max(start, block * BLOCK);
      const to = Math.min(end, (block + 1) * BLOCK);
      if (from >= to) continue;
      if (to - from === BLOCK) this.#blocks.delete(block);
      else bytes.fill(0, from - block * BLOCK, to - block * BLOCK);
    }
  }

  truncate(size: number): void {
    if (size < this.size) this.punch(size, Number.MAX_SAFE_INTEGER);
    this.size = size;
  }

  /** The next data or hole from an offset on. */
  seek(offset: number, data: boolean): number {
    if (offset >= this.size) return ENXIO;
    for (let block = Math.floor(offset / BLOCK); block * BLOCK < this.size; block++) {
      if (this.#blocks.has(block) === data) return Math.max(offset, block * BLOCK);
    }
    return data ? ENXIO : this.size;
  }

  /** Size and checksum. Holes count as the zeros they read as. */
  describe(): string {
    let sum = 0;
    for (const block of [...this.#blocks.keys()].sort((a, b) => a - b)) {
      const bytes = this.#blocks.get(block) ?? new Uint8Array(0);
      const inside = bytes.subarray(0, Math.max(0, this.size - block * BLOCK));
      if (inside.some((byte) => byte !== 0)) sum = crc32(inside, crc32(`${block}`, sum));
    }
    return `size ${this.size} crc ${sum}`;
  }

  #block(index: number): Uint8Array {
    const known = this.#blocks.get(index);
    if (known !== undefined) return known;
    const made = new Uint8Array(BLOCK);
    this.#blocks.set(index, made);
    return made;
  }

  #each(
    start: number,
    end: number,
    visit: (block: number, from: number, to: number, at: number) => void,
  ): void {
    for (let at = start; at < end;) {
      const block = Math.floor(at / BLOCK);
      const from = at - block * BLOCK;
      const to = Math.min(BLOCK, from + end - at);
      visit(block, from, to, at - start);
      at += to - from;
    }
  }
}
