/**
 * Hashes of the blocks of a file, as both sides make them.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { BLOCK_BYTES } from "./object_frame.ts";
import { StreamError } from "./stream.ts";

/** SHA-256 of `length` bytes at `address` into the 32 bytes at `into`. Equality needs more than a checksum. */
export type Sha256 = (address: number, length: number, into: number) => void;

/** Bytes of a hash. */
export const HASH_BYTES = 32;
/** Hashes in a frame at most. */
export const HASHES_MAX = 64;

/**
 * How many hashes the peer sent for `length` bytes.
 *
 * @throws {StreamError} when it sent another number of them.
 */
export function countHashes(hashes: Uint8Array, length: number, object: number): number {
  const count = Math.ceil(length / BLOCK_BYTES);
  if (count <= HASHES_MAX && hashes.length === count * HASH_BYTES) return count;
  throw new StreamError(
    "protocol",
    `Cannot compare object ${object}: ${hashes.length} bytes of hashes for ${length} bytes`,
  );
}

const EIO = 5;
/** The disk is asked for so much at once, and for the next as much while this is hashed. */
const AHEAD_BYTES = 4 * 1024 * 1024;

/** Reads files and hashes them block by block. */
export class BlockHasher {
  readonly #backing: Backing;
  readonly #sha256: Sha256;
  readonly #block = new Uint8Array(BLOCK_BYTES);
  readonly #address: number;

  constructor(backing: Backing, sha256: Sha256, addressOf: (bytes: Uint8Array) => number) {
    this.#backing = backing;
    this.#sha256 = sha256;
    this.#address = addressOf(this.#block);
  }

  /**
   * Hashes the bytes from `start` to `end` of a file, both within it, and puts a hash for each block at `into`.
   *
   * @param unreadable takes the places, among the hashes, of blocks that the disk does not give (EIO): what is there is no hash.
   * Without it the first of them is the answer.
   * @returns how many hashes, or −errno.
   */
  hash(fd: number, start: number, end: number, into: number, unreadable?: Set<number>): number {
    let count = 0;
    for (let at = start; at < end; at += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, end - at);
      const failed = readAll(this.#backing, fd, this.#address, length, at);
      if (failed === -EIO && unreadable !== undefined) unreadable.add(count);
      else if (failed < 0) return failed;
      else this.#sha256(this.#address, length, into + count * HASH_BYTES);
      count++;
    }
    return count;
  }
}

/** Reads `length` bytes that are there. Answers 0 or −errno; −EIO when the file ends before. */
export function readAll(
  backing: Backing,
  fd: number,
  address: number,
  length: number,
  offset: number,
): number {
  for (let done = 0; done < length;) {
    const got = backing.pread(fd, address + done, length - done, offset + done);
    if (got <= 0) return got === 0 ? -EIO : got;
    done += got;
  }
  return 0;
}

/** Has what follows a range of a file that is gone through in order fetched from the disk, in time. */
export function fetchAhead(backing: Backing, fd: number, start: number, end: number): void {
  const boundary = Math.ceil(start / AHEAD_BYTES) * AHEAD_BYTES;
  if (boundary < end) backing.prefetch(fd, boundary, 2 * AHEAD_BYTES);
}
