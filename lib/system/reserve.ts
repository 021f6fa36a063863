/**
 * Room set aside on a disk, so that what must be written down can be when everything else is full.
 *
 * A file with its blocks allocated. Giving it up makes that much room; others may be faster, so whoever needs it writes at
 * once and must still be told when there is none.
 *
 * @module
 */

import { DiskFullError } from "../journal/storage.ts";
import { NativeFile } from "./mapped_file.ts";

/** A file that is there to be given up. */
export class Reserve {
  readonly #path: string;
  readonly #bytes: number;
  #held = false;

  /** Takes the room when there is some; a full disk is no error. */
  constructor(path: string, bytes: number) {
    this.#path = path;
    this.#bytes = bytes;
    this.take();
  }

  /** Whether the room is set aside. */
  get held(): boolean {
    return this.#held;
  }

  /**
   * Sets the room aside, unless it is. Asks for twice as much first: room that would be gone again with the next record
   * is none. Answers whether it is held.
   */
  take(): boolean {
    if (this.#held) return true;
    try {
      using file = NativeFile.open(this.#path, { create: true });
      // One left by a former process keeps its blocks: that costs nothing.
      const kept = file.size() >= this.#bytes;
      file.allocate(0, kept ? this.#bytes : 2 * this.#bytes);
      file.truncate(this.#bytes);
      this.#held = true;
    } catch (error) {
      if (!(error instanceof DiskFullError)) throw error;
      this.#remove();
    }
    return this.#held;
  }

  /** Gives the room up. Answers whether there was any to give. */
  release(): boolean {
    if (!this.#held) return false;
    this.#held = false;
    this.#remove();
    // ext4 gives freed blocks out again only after the removal is on disk.
    using directory = NativeFile.openDirectory(this.#path.slice(0, this.#path.lastIndexOf("/")));
    directory.sync();
    return true;
  }

  #remove(): void {
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Does what must be possible on a full disk: when it is full, once more with the reserve given up. */
export function withReserve<T>(reserve: Reserve, isFull: (error: unknown) => boolean, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isFull(error) || !reserve.release()) throw error;
    return work();
  }
}
