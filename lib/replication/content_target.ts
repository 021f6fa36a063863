/**
 * The target's content of files, made the source's: compared by hashes, written, or made a hole.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { FALLOC, SEEK } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { sameBytes } from "./bytes.ts";
import { ApplyError } from "./follower.ts";
import {
  BlockHasher,
  countHashes,
  fetchAhead,
  HASH_BYTES,
  HASHES_MAX,
  readAll,
  type Sha256,
} from "./hashing.ts";
import type { Limbo } from "./limbo.ts";
import { BLOCK_BYTES } from "./object_frame.ts";
import type { Held, Objects } from "./objects.ts";
import { StreamError } from "./stream.ts";

const EIO = 5;
const ENXIO = 6;
const EOPNOTSUPP = 95;
const PIECE_BYTES = 1024 * 1024;

/** A part of a file. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** What {@link ContentTarget} needs. */
export interface ContentTargetOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly limbo: Limbo;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly sha256: Sha256;
}

/** Compares and writes the content of regular files. Throws {@link ApplyError} when the disk refuses. */
export class ContentTarget {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #limbo: Limbo;
  readonly #hasher: BlockHasher;
  readonly #stat = new Statx();
  readonly #hashes = new Uint8Array(HASH_BYTES * HASHES_MAX);
  readonly #hashesAddress: number;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  readonly #bufferAddress: number;
  /** Bytes written because they differed. */
  written = 0;

  constructor(options: ContentTargetOptions) {
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#limbo = options.limbo;
    this.#hasher = new BlockHasher(options.backing, options.sha256, options.addressOf);
    this.#hashesAddress = options.addressOf(this.#hashes);
    this.#bufferAddress = options.addressOf(this.#buffer);
  }

  /** Has the file read from the disk next time. What is still to be written goes there first: it is refused, or it is there. */
  forget(held: Held): void {
    const fd = this.#io(held);
    this.#done("bring to disk", held, this.#backing.fdatasync(fd));
    this.#done("read from the disk", held, this.#backing.dropCache(fd));
  }

  /** The whole content of a small file, which lies at `address`; the file has that size already. */
  replace(held: Held, content: Uint8Array, address: number): void {
    if (content.length > PIECE_BYTES) {
      throw new StreamError(
        "protocol",
        `Cannot write object ${held.id}: ${content.length} bytes came with its frame`,
      );
    }
    if (content.length === 0) return;
    const fd = this.#io(held);
    const failed = readAll(this.#backing, fd, this.#bufferAddress, content.length, 0);
    // What cannot be read is written.
    if (failed !== -EIO) this.#done("read", held, failed);
    if (failed >= 0 && sameBytes(this.#buffer.subarray(0, content.length), content)) return;
    this.write(held, address, { offset: 0, length: content.length });
  }

  /**
   * Compares a range by the hashes of its blocks. Answers the ranges that differ, or undefined where the file ends before.
   */
  compare(held: Held, theirs: Uint8Array, { offset, length }: Range): Range[] | undefined {
    countHashes(theirs, length, held.id);
    const fd = this.#io(held);
    fetchAhead(this.#backing, fd, offset, offset + length);
    const unreadable = new Set<number>();
    const own = this.#hasher.hash(fd, offset, offset + length, this.#hashesAddress, unreadable);
    this.#done("read", held, own);
    if (unreadable.size > 0 && this.#sizeOf(held) < offset + length) return undefined;
    // No content has that hash: to write the block is what gives a disk another place for it.
    for (const block of unreadable) this.#hashes.fill(0, block * HASH_BYTES, (block + 1) * HASH_BYTES);
    return differing(theirs, this.#hashes, offset, length);
  }

  /** Writes the bytes at `address`. */
  write(held: Held, address: number, { offset, length }: Range): void {
    this.#limbo.guard?.content(held, offset, length);
    this.#writeAll(held, address, { offset, length });
  }

  /** Makes a range a hole, where it is none. */
  clear(held: Held, { offset, length }: Range): void {
    const fd = this.#io(held);
    const data = this.#backing.lseek(fd, offset, SEEK.DATA);
    if (data === -ENXIO) return;
    this.#done("look for holes in", held, data);
    if (data >= offset + length) return;
    this.#limbo.guard?.content(held, offset, length);
    const punched = this.#backing.fallocate(fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, offset, length);
    if (punched !== -EOPNOTSUPP) {
      this.#done("make a hole in", held, punched);
      return;
    }
    this.#buffer.fill(0);
    for (let at = offset; at < offset + length; at += PIECE_BYTES) {
      this.#writeAll(held, this.#bufferAddress, {
        offset: at,
        length: Math.min(PIECE_BYTES, offset + length - at),
      });
    }
  }

  #writeAll(held: Held, address: number, { offset, length }: Range): void {
    const fd = this.#io(held);
    for (let done = 0; done < length;) {
      const put = this.#backing.pwrite(fd, address + done, length - done, offset + done);
      done += this.#done("write", held, put === 0 ? -EIO : put);
    }
    this.written += length;
  }

  #sizeOf(held: Held): number {
    this.#done("look at", held, this.#backing.statx(held.path, this.#stat));
    return this.#stat.size;
  }

  #io(held: Held): number {
    return this.#done("open", held, this.#objects.io(held));
  }

  #done(what: string, held: Held, result: number): number {
    if (result < 0) throw refusal(what, held.id, result);
    return result;
  }
}

/** The disk refused to make an object the source's. */
export function refusal(what: string, id: number, result: number): ApplyError {
  const reason = result === -28 ? "the disk is full; make room" : `errno ${-result}`;
  return new ApplyError(`Cannot make the copies equal: could not ${what} object ${id}: ${reason}`, -result);
}

/** Ranges of whole blocks whose hashes differ, neighbours as one. */
function differing(
  theirs: Uint8Array,
  own: Uint8Array,
  start: number,
  covered: number,
): { offset: number; length: number }[] {
  const ranges: { offset: number; length: number }[] = [];
  for (let block = 0; block * HASH_BYTES < theirs.length; block++) {
    const at = block * HASH_BYTES;
    if (sameBytes(theirs.subarray(at, at + HASH_BYTES), own.subarray(at, at + HASH_BYTES))) continue;
    const offset = start + block * BLOCK_BYTES;
    const length = Math.min(BLOCK_BYTES, start + covered - offset);
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  return ranges;
}
