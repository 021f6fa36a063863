/**
 * The files of a log, opened for reading only: for looking at a log that may be a running replicator's.
 *
 * @module
 */

import type { LogFile, LogFolder } from "../journal/inspect.ts";

/**
 * Opens a folder.
 *
 * @throws `Cannot read the log in <folder>: <why>`.
 */
export function openLogFolder(folder: string): LogFolder {
  return {
    list() {
      try {
        return Array.from(Deno.readDirSync(folder), ({ name }) => name);
      } catch (cause) {
        throw failure(`Cannot read the log in ${folder}`, cause);
      }
    },
    open(name) {
      const path = `${folder}/${name}`;
      try {
        return new ReadOnlyFile(path);
      } catch (cause) {
        // Dropped from the log since it was listed.
        if (cause instanceof Deno.errors.NotFound) return null;
        throw failure(`Cannot read ${path}`, cause);
      }
    },
  };
}

class ReadOnlyFile implements LogFile {
  readonly size: number;
  readonly #path: string;
  readonly #file: Deno.FsFile;

  constructor(path: string) {
    this.#path = path;
    this.#file = Deno.openSync(path, { read: true });
    try {
      this.size = this.#file.statSync().size;
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  read(at: number, into: Uint8Array): number {
    try {
      this.#file.seekSync(at, Deno.SeekMode.Start);
      let filled = 0;
      while (filled < into.length) {
        const count = this.#file.readSync(into.subarray(filled));
        if (count === null) break;
        filled += count;
      }
      return filled;
    } catch (cause) {
      throw failure(`Cannot read ${this.#path} at ${at}`, cause);
    }
  }

  close(): void {
    this.#file.close();
  }
}

function failure(what: string, cause: unknown): Error {
  const why = cause instanceof Deno.errors.NotFound
    ? "there is no such folder"
    : cause instanceof Error
    ? cause.message
    : String(cause);
  return new Error(`${what}: ${why}`, { cause });
}
