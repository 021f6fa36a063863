/**
 * Sends what files hold: hashes of their blocks, and then the ranges that differ, as they are at that place in the stream.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Statx } from "../system/statx.ts";
import { dataEnd, nextData } from "./holes.ts";
import { BlockHasher, fetchAhead, HASH_BYTES, readAll, type Sha256 } from "./hashing.ts";
import { CONTROL } from "./mutation.ts";
import { BLOCK_BYTES } from "./object_frame.ts";
import type { Held } from "./objects.ts";
import { SourceRefused } from "./source_refused.ts";

/** The most of a file that one frame carries or stands for. */
export const PIECE_BYTES: number = 1024 * 1024;
const EIO = 5;
/** A shorter hole is read as zeros: a frame for it costs more. */
const HOLE_MIN = 64 * 1024;

/** A file that is being compared. */
export interface FileWork {
  readonly id: number;
  /** Size when its first frame was sent: what is beyond came as live records. */
  readonly size: number;
  /** The target says whether it has anything to compare. */
  asked: boolean;
  hashAt: number;
  /** What was sent after the last frame it must answer for. */
  mark: number;
  readonly wants: { offset: number; length: number }[];
}

/** What {@link FileSource} needs. */
export interface FileSourceOptions {
  readonly backing: Backing;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** Readable descriptor of a file. */
  readonly io: (held: Held) => number;
  /** Where the body of the next frame is put. */
  readonly bodyAddress: () => number;
  /** The same, as bytes. */
  readonly body: () => Uint8Array;
  /**
   * The hash of a block that this node's disk has lost since it was given it; null: it has not, or nobody knows. `hash` is of what
   * is there now, or null: that cannot be read.
   */
  readonly lost?: (held: Held, block: number, hash: Uint8Array | null) => Uint8Array | null;
  readonly send: (
    op: number,
    fields: { id?: number; a?: number; b?: number; c?: number },
    length: number,
  ) => void;
}

/** See the file's head. Throws {@link StreamError} when a file cannot be read. */
export class FileSource {
  readonly #options: FileSourceOptions;
  readonly #backing: Backing;
  readonly #hasher: BlockHasher;
  readonly #stat = new Statx();
  /** Bytes of content sent. */
  bytes = 0;
  /** Bytes of content compared by hashes or known to be zero. */
  compared = 0;

  constructor(options: FileSourceOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#hasher = new BlockHasher(options.backing, options.sha256, options.addressOf);
  }

  /** Bytes of the file now. */
  sizeOf(held: Held): number {
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) throw refused(held.id, "look at", failed);
    return this.#stat.size;
  }

  /** One frame of hashes, or of a hole; `file.hashAt` goes on. */
  hashes(held: Held, file: FileWork, end: number, piece: number): void {
    const fd = this.#options.io(held);
    const start = file.hashAt;
    const data = this.#nextData(held, fd, start, end);
    // Whole blocks only: the block in which data begins is hashed.
    const hole = data >= end ? end : data - data % BLOCK_BYTES;
    if (hole > start) {
      file.hashAt = hole;
      this.compared += hole - start;
      return this.#options.send(CONTROL.blocks, { id: file.id, a: start, b: file.size, c: hole - start }, 0);
    }
    const stop = Math.min(end, start + piece - piece % BLOCK_BYTES);
    fetchAhead(this.#backing, fd, start, stop);
    const unreadable = new Set<number>();
    const count = this.#hasher.hash(fd, start, stop, this.#options.bodyAddress(), unreadable);
    if (count < 0) throw refused(file.id, "read", count);
    this.#sayWhatWas(held, start, count, unreadable);
    file.hashAt = stop;
    this.compared += stop - start;
    this.#options.send(
      CONTROL.blocks,
      { id: file.id, a: start, b: file.size, c: stop - start },
      count * HASH_BYTES,
    );
  }

  /**
   * Of what the disk here has lost, the hash of what it was given is said: where the target still has that, it asks for nothing, and
   * is not given what is worse.
   */
  #sayWhatWas(held: Held, start: number, count: number, unreadable: ReadonlySet<number>): void {
    const { body, lost } = this.#options;
    for (let index = 0; index < count; index++) {
      const hash = body().subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);
      const failed = unreadable.has(index);
      const was = lost?.(held, start / BLOCK_BYTES + index, failed ? null : hash) ?? null;
      if (was !== null) hash.set(was);
      else if (failed) throw refused(held.id, "read", -EIO);
    }
  }

  /** Sends the first piece of a range as it is now, and takes it off the range. */
  data(held: Held, want: { offset: number; length: number }, piece: number): void {
    const fd = this.#options.io(held);
    // What was cut off meanwhile came as a record; there is nothing to send.
    const end = Math.min(want.offset + want.length, this.sizeOf(held));
    const { offset } = want;
    if (offset >= end) {
      want.length = 0;
      return;
    }
    const data = this.#nextData(held, fd, offset, end);
    const zeros = data - offset >= HOLE_MIN || data >= end;
    const length = zeros ? data - offset : Math.min(piece, this.#dataEnd(held, fd, data, end) - offset);
    if (!zeros) {
      const failed = readAll(this.#backing, fd, this.#options.bodyAddress(), length, offset);
      if (failed < 0) throw refused(held.id, "read", failed);
      this.bytes += length;
    }
    want.offset += length;
    want.length = end - want.offset;
    this.#options.send(CONTROL.data, { id: held.id, a: offset, b: length }, zeros ? 0 : length);
  }

  #nextData(held: Held, fd: number, from: number, end: number): number {
    const data = nextData(this.#backing, fd, from, end);
    if (data < 0) throw refused(held.id, "look for holes in", data);
    return data;
  }

  #dataEnd(held: Held, fd: number, from: number, end: number): number {
    const range = { from, end, least: HOLE_MIN, enough: PIECE_BYTES };
    const hole = dataEnd(this.#backing, fd, range);
    if (hole < 0) throw refused(held.id, "look for holes in", hole);
    return hole;
  }
}

/** The primary's disk refused. */
export function refused(id: number, what: string, result: number): SourceRefused {
  return new SourceRefused("compare", id, what, result);
}
