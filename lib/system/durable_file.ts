/**
 * The files of one directory as the journal wants them: appended, replaced and mapped so that a power cut leaves the
 * old or the new.
 *
 * @module
 */

import type { Mapping, Storage } from "../journal/storage.ts";
import { DiskFullError } from "../journal/storage.ts";
import { mapFile, NativeFile } from "./mapped_file.ts";
import { Reserve, withReserve } from "./reserve.ts";

/** Held for as long as a process writes in the directory. */
const LOCK_NAME = ".lock";

/** Room set aside: {@link Reserve}. */
const RESERVE_NAME = ".reserve";

/** What {@link FileStorage.writeAtomic} writes before it renames. */
const TEMPORARY_SUFFIX = ".tmp";

/** A {@link Storage} on a real directory, for one process at a time. */
export class FileStorage implements Storage {
  readonly directory: string;
  readonly #lock: NativeFile;
  readonly #directoryFile: NativeFile;
  readonly #reserve: Reserve | null;
  /** Files being appended to: opened once. */
  readonly #appending = new Map<string, { readonly file: NativeFile; size: number }>();

  private constructor(
    directory: string,
    lock: NativeFile,
    directoryFile: NativeFile,
    reserve: Reserve | null,
  ) {
    this.directory = directory;
    this.#reserve = reserve;
    this.#lock = lock;
    this.#directoryFile = directoryFile;
  }

  /**
   * Opens a directory, mode 0700, making it when it is missing, and takes it for this process.
   *
   * @param reserveBytes room set aside for {@link writeAtomic}, which decisions depend on.
   * @throws when another process has it.
   */
  static open(directory: string, reserveBytes = 0): FileStorage {
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const lock = NativeFile.open(`${directory}/${LOCK_NAME}`, { create: true });
    try {
      if (!lock.lock()) {
        throw new Error(`Cannot open ${directory}: another process uses it; end that one first`);
      }
      const reserve = reserveBytes === 0 ? null : new Reserve(`${directory}/${RESERVE_NAME}`, reserveBytes);
      const storage = new FileStorage(directory, lock, NativeFile.openDirectory(directory), reserve);
      storage.#sweep();
      return storage;
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  map(name: string, length: number, offset = 0): Mapping {
    return mapFile(this.#path(name), length, offset);
  }

  size(name: string): number | null {
    return absentAsNull(() => Deno.statSync(this.#path(name)).size);
  }

  readAll(name: string): Uint8Array<ArrayBuffer> | null {
    return absentAsNull(() => Deno.readFileSync(this.#path(name)));
  }

  writeAtomic(name: string, bytes: Uint8Array): void {
    const write = (): void => this.#writeAtomic(name, bytes);
    if (this.#reserve === null) write();
    else withReserve(this.#reserve, (error) => error instanceof DiskFullError, write);
  }

  /** Sets room aside again that was given up, when there is some. Answers whether there is. */
  replenish(): boolean {
    return this.#reserve === null || this.#reserve.take();
  }

  #writeAtomic(name: string, bytes: Uint8Array): void {
    const path = this.#path(name);
    const temporary = path + TEMPORARY_SUFFIX;
    try {
      using file = NativeFile.open(temporary, { create: true });
      file.truncate(0);
      file.writeAll(bytes);
      file.sync();
    } catch (error) {
      this.remove(name + TEMPORARY_SUFFIX);
      throw error;
    }
    this.#forget(name);
    Deno.renameSync(temporary, path);
    this.#directoryFile.sync();
  }

  append(name: string, bytes: Uint8Array): void {
    const target = this.#appendTarget(name);
    try {
      target.file.writeAll(bytes);
      target.file.syncData();
    } catch (error) {
      // A torn piece in the middle would hide everything appended after it.
      target.file.truncate(target.size);
      this.#forget(name);
      throw error;
    }
    target.size += bytes.length;
  }

  discard(name: string, offset: number, length: number): void {
    if (this.size(name) === null) return;
    using file = NativeFile.open(this.#path(name), { create: false });
    file.punch(offset, length);
  }

  list(): string[] {
    const names: string[] = [];
    for (const entry of Deno.readDirSync(this.directory)) {
      if (entry.isFile && entry.name !== LOCK_NAME && entry.name !== RESERVE_NAME) names.push(entry.name);
    }
    return names.sort();
  }

  remove(name: string): void {
    this.#forget(name);
    absentAsNull(() => Deno.removeSync(this.#path(name)));
  }

  syncDirectory(): void {
    this.#directoryFile.sync();
  }

  /** Lets go of the directory. Mappings stay until they are closed. */
  close(): void {
    for (const name of [...this.#appending.keys()]) this.#forget(name);
    this.#directoryFile.close();
    this.#lock.close();
  }

  /** So that `using` closes it. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Removes what an interrupted {@link writeAtomic} left. */
  #sweep(): void {
    for (const name of this.list()) {
      if (name.endsWith(TEMPORARY_SUFFIX)) this.remove(name);
    }
  }

  #appendTarget(name: string): { readonly file: NativeFile; size: number } {
    const open = this.#appending.get(name);
    if (open !== undefined) return open;
    const created = this.size(name) === null;
    const file = NativeFile.open(this.#path(name), { create: true });
    // Measuring leaves the file standing at its end, where the next write goes.
    const target = { file, size: file.size() };
    if (created) this.#directoryFile.sync();
    this.#appending.set(name, target);
    return target;
  }

  #forget(name: string): void {
    this.#appending.get(name)?.file.close();
    this.#appending.delete(name);
  }

  #path(name: string): string {
    if (name === "" || name.includes("/") || name.startsWith(".")) {
      throw new Error(`Cannot use "${name}" as a file of the log: it is not a plain name`);
    }
    return `${this.directory}/${name}`;
  }
}

/** Whether there is something at a path. */
export function exists(path: string): boolean {
  return absentAsNull(() => Deno.lstatSync(path)) !== null;
}

function absentAsNull<T>(call: () => T): T | null {
  try {
    return call();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}
