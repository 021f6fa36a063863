/**
 * The seam between the journal and the disk: named files of one directory, synchronous.
 *
 * Production is {@link "../system/durable_file.ts"}; unit tests use {@link "./memory_storage.ts"}, which forgets what
 * was not synced when it "loses power".
 *
 * @module
 */

/** A range of a file as memory. Stores are visible to a later process at once, to a later boot after {@link sync}. */
export interface Mapping {
  /** The range. Must not be touched after {@link close}: the address is gone and the process would be killed. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Returns when every byte of the range survives a power cut. Throws when the disk refuses. */
  sync(): void;
  /** Ends the mapping. Nothing may refer to {@link bytes} any more. */
  close(): void;
}

/**
 * Files of one directory. Every method is synchronous and throws an `Error` that says `Cannot <what>: <why>`; when the
 * disk is full that is a {@link DiskFullError} and the file is as it was before.
 */
export interface Storage {
  /**
   * Maps `length` bytes from `offset` (a multiple of 4096), creating or extending the file with zeros. Its disk blocks
   * are allocated before this returns, so that a full disk is an error here and never a SIGBUS on a store.
   */
  map(name: string, length: number, offset?: number): Mapping;
  /** Bytes in the file, or `null` when there is none. */
  size(name: string): number | null;
  /** The whole file, or `null` when there is none. */
  readAll(name: string): Uint8Array<ArrayBuffer> | null;
  /** Replaces the file, or creates it: after a power cut there is the old or the new content, whole. */
  writeAtomic(name: string, bytes: Uint8Array): void;
  /** Adds to the end (creating the file) and returns when that survives a power cut, all of it or, on error, none. */
  append(name: string, bytes: Uint8Array): void;
  /** Gives a range's disk blocks back; it reads as zeros. No mapping of the range may be open. */
  discard(name: string, offset: number, length: number): void;
  /** Names of all files, sorted. */
  list(): string[];
  /** Removes a file when there is one. Survives a power cut only after {@link syncDirectory}. */
  remove(name: string): void;
  /** Returns when files created and removed so far stay so across a power cut. */
  syncDirectory(): void;
}

/** The disk has no room. The operation changed nothing and may be tried again once there is some. */
export class DiskFullError extends Error {
  /** To be told from others where classes are not at hand. */
  override readonly name = "DiskFullError";
}

/** CRC-32 as of zlib; `seed` continues an earlier value. */
export type Checksum = (bytes: Uint8Array, seed?: number) => number;
