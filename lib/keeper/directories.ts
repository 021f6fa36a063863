/**
 * The replicated directories of this node, and what lies on them.
 *
 * From the bottom: the directory itself, which only the replicator reaches (through the *backing* descriptor); the
 * *cover*, a read-only bind mount; on a primary, the FUSE mount. The cover stays beneath the FUSE mount: should the
 * latter go away for whatever reason, what appears is read-only, never a directory that is written without replication.
 *
 * @module
 */

import { RpcError } from "../system/rpc_error.ts";
import type { KeptMount } from "./types.ts";
import type { KeeperWorld } from "./world.ts";

/** Directories of all modules together; more is a configuration gone wrong. */
const DIRECTORIES_MAX = 256;

interface Directory {
  readonly module: string;
  readonly path: string;
  readonly backing: number;
  fuse: number | null;
  /** The connection was ended by us; the mount answers nothing but errors. */
  aborted: boolean;
}

/** Covers, mounts and unmounts. One call at a time for each path: the caller queues per module. */
export class Directories {
  readonly #directories = new Map<string, Directory>();

  constructor(readonly world: KeeperWorld) {}

  /** Paths of a module. */
  paths(module: string): string[] {
    return this.#of(module).map(({ path }) => path);
  }

  /** Descriptors of a module, as `list` answers them. */
  list(module: string): KeptMount[] {
    return this.#of(module).map(({ path, backing, fuse }) => ({ path, backing, fuse }));
  }

  /** Whether a FUSE mount of the module stands and works. */
  serving(module: string): boolean {
    return this.#of(module).some(({ fuse, aborted }) => fuse !== null && !aborted);
  }

  /**
   * Makes a directory read-only for everybody but the replicator.
   *
   * @param except pids whose open files are ours.
   */
  async cover(module: string, path: string, except: readonly number[]): Promise<void> {
    const known = this.#directories.get(path);
    if (known !== undefined) return this.#mustOwn(known, module);
    await this.#take(module, path, except);
  }

  /** Mounts FUSE over a directory. A mount whose connection was aborted is replaced by a new one. */
  async mount(module: string, path: string, except: readonly number[]): Promise<void> {
    const known = this.#directories.get(path);
    if (known !== undefined) this.#mustOwn(known, module);
    if (known?.fuse !== null && known?.aborted === false) return;
    if (known?.aborted === true) this.#unmount(known);
    const directory = known ?? await this.#take(module, path, except);
    if (known !== undefined) await this.#refuseOpen(path, except, "mount over");
    directory.fuse = this.world.directories.mount(path, module);
    directory.aborted = false;
    this.world.log(`${module}: mounted over "${path}"`);
  }

  /** Takes the FUSE mount away; the cover appears. */
  unmount(module: string, path: string): void {
    const directory = this.#directories.get(path);
    if (directory === undefined) throw unknownPath("unmount", module, path);
    this.#mustOwn(directory, module);
    if (directory.fuse !== null) this.#unmount(directory);
  }

  /** Takes everything away. */
  uncover(module: string, path: string): void {
    const directory = this.#directories.get(path);
    if (directory === undefined) return;
    this.#mustOwn(directory, module);
    if (directory.fuse !== null) this.#unmount(directory);
    this.#strip(path);
    this.world.descriptors.close(directory.backing);
    this.#directories.delete(path);
    this.world.log(`${module}: uncovered "${path}"`);
  }

  /** Ends the connections of a module, for the dead man's switch. Mounts stay and answer errors. */
  abort(module: string): void {
    for (const directory of this.#of(module)) {
      if (directory.fuse === null || directory.aborted) continue;
      this.world.directories.abort(directory.path);
      directory.aborted = true;
    }
  }

  /** Takes over, after a restart, what a replicator still holds. The descriptors are ours already. */
  adopt(module: string, mounts: readonly KeptMount[]): void {
    for (const { path, backing, fuse } of mounts) {
      this.#directories.set(path, { module, path, backing, fuse, aborted: false });
    }
  }

  /**
   * Brings back, after a restart, a directory whose descriptors nobody holds any more: a FUSE mount on it is dead.
   *
   * @returns whether a FUSE mount was lost.
   */
  restore(module: string, path: string): boolean {
    const lost = this.#strip(path);
    const backing = this.world.directories.open(path);
    this.#directories.set(path, { module, path, backing, fuse: null, aborted: false });
    this.world.directories.cover(path);
    return lost;
  }

  #of(module: string): Directory[] {
    return [...this.#directories.values()].filter((directory) => directory.module === module);
  }

  #mustOwn(directory: Directory, module: string): void {
    if (directory.module === module) return;
    throw new RpcError(
      "refused",
      `Cannot replicate "${directory.path}" in module ${module}: module ${directory.module} has it`,
    );
  }

  /** Opens and covers a directory that was plain until now, and makes sure that nobody kept a way in. */
  async #take(module: string, path: string, except: readonly number[]): Promise<Directory> {
    const { directories, descriptors } = this.world;
    const objection = this.#overlap(path) ?? directories.objection(path);
    if (objection !== null) throw new RpcError("refused", `Cannot cover "${path}": ${objection}`);
    this.#strip(path);
    const backing = directories.open(path);
    try {
      directories.cover(path);
    } catch (error) {
      descriptors.close(backing);
      throw error;
    }
    const directory: Directory = { module, path, backing, fuse: null, aborted: false };
    this.#directories.set(path, directory);
    try {
      // After covering: from here on nobody can open anything more for writing.
      await this.#refuseOpen(path, except, "cover");
    } catch (error) {
      this.uncover(module, path);
      throw error;
    }
    this.world.log(`${module}: covered "${path}"`);
    return directory;
  }

  #overlap(path: string): string | null {
    if (this.#directories.size >= DIRECTORIES_MAX) {
      return `${DIRECTORIES_MAX} directories are replicated already`;
    }
    for (const { path: other, module } of this.#directories.values()) {
      if (`${path}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${path}/`)) {
        return `module ${module} replicates "${other}", and one lies within the other`;
      }
    }
    return null;
  }

  async #refuseOpen(path: string, except: readonly number[], action: string): Promise<void> {
    const found = await this.world.directories.openBeneath(path, except);
    if (found.length === 0) return;
    throw new RpcError(
      "open-files",
      `Cannot ${action} "${path}": ${
        found.join("; ")
      }; what is open beneath would be written past replication: stop it first`,
    );
  }

  #unmount(directory: Directory): void {
    const { directories, descriptors } = this.world;
    if (directories.layers(directory.path).fuse !== null) {
      if (!directory.aborted) directories.abort(directory.path);
      // An abort that had no control file system has detached as well.
      if (directories.layers(directory.path).fuse !== null) directories.detach(directory.path);
    }
    if (directory.fuse !== null) descriptors.close(directory.fuse);
    directory.fuse = null;
    directory.aborted = false;
    if (!directories.layers(directory.path).covered) directories.cover(directory.path);
    this.world.log(`${directory.module}: unmounted "${directory.path}"`);
  }

  /** Takes away whatever of ours lies on a directory. Answers whether FUSE was among it. */
  #strip(path: string): boolean {
    const { directories } = this.world;
    const before = directories.layers(path);
    for (let left = before; left.fuse !== null || left.covered; left = directories.layers(path)) {
      if (left.fuse !== null) {
        directories.abort(path);
        const after = directories.layers(path);
        if (after.fuse === null || after.dead < left.dead) continue;
      }
      directories.detach(path);
    }
    return before.fuse !== null;
  }
}

function unknownPath(action: string, module: string, path: string): RpcError {
  return new RpcError(
    "unknown-path",
    `Cannot ${action} "${path}": it is no directory of module ${module} here`,
  );
}
