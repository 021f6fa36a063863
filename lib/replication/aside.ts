/**
 * A directory that is gone on the primary, while this node still has something in it that was never replicated: then nobody
 * could remove it. It is put into limbo as it is, with all that is in it; the next comparison of this copy clears the
 * directory away, and what was never replicated goes to quarantine.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { cbytes } from "./bytes.ts";
import { LimboDirectories } from "./limbo_directory.ts";
import type { Held, Objects } from "./objects.ts";

const ENOTEMPTY = 39;
const ENODATA = 61;

/** Puts directories aside. */
export class Aside {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #entries = new Dirents(8192);
  readonly #stat = new Statx();

  constructor(backing: Backing, objects: Objects) {
    this.#backing = backing;
    this.#objects = objects;
  }

  /** Puts a directory aside that has this name in `parent`. −ENOTEMPTY: there is something in it that is replicated. */
  put(parent: Held, name: Uint8Array, directory: Held): number {
    if (directory.type !== S_IF.DIR || !this.#objects.bordered) return -ENOTEMPTY;
    const own = this.#ownOnly(directory);
    if (own < 0) return own;
    const failed = this.#backing.statx(directory.path, this.#stat);
    if (failed < 0) return failed;
    const directories = new LimboDirectories(this.#backing, this.#objects);
    try {
      const limbo = directories.open(directory.root, true);
      if (limbo < 0) return limbo;
      const aside = cbytes(String(this.#stat.ino));
      const moved = this.#backing.renameat2(parent.path, name, limbo, aside, 0);
      if (moved < 0) return moved;
    } finally {
      directories.close();
    }
    // It is no object of the module any more.
    const forgotten = this.#objects.forgetId(directory.path);
    return forgotten === -ENODATA ? 0 : forgotten;
  }

  #ownOnly(directory: Held): number {
    const fd = this.#backing.reopen(directory.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return fd;
    try {
      for (;;) {
        const got = this.#backing.getdents(fd, this.#entries);
        if (got <= 0) return got;
        while (this.#entries.next()) {
          if (this.#entries.isDot) continue;
          if (!this.#objects.excludes(directory, this.#entries.name)) return -ENOTEMPTY;
        }
      }
    } finally {
      this.#backing.close(fd);
    }
  }
}
