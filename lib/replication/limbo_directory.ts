/**
 * The directories that are limbo: `.binome/limbo` in each root beneath, made when needed, gone when empty.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { AT, O } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { cbytes } from "./bytes.ts";
import type { Held, Objects } from "./objects.ts";
import { LIMBO_NAME } from "./own_names.ts";
import { setMtime } from "./tree.ts";

const ENOENT = 2;
const EIO = 5;
const EEXIST = 17;
const ENOTDIR = 20;
const ENOTEMPTY = 39;
const OUTER = cbytes(LIMBO_NAME);
const INNER = cbytes("limbo");

/** The limbo of every root. */
export class LimboDirectories {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #fds = new Map<number, number>();
  readonly #stat = new Statx();
  readonly #entries = new Dirents(8192);

  constructor(backing: Backing, objects: Objects) {
    this.#backing = backing;
    this.#objects = objects;
  }

  /** Descriptor of the limbo of a root, for reading; −ENOENT when there is none and none is to be made. */
  open(root: number, make: boolean): number {
    const known = this.#fds.get(root);
    if (known !== undefined) return known;
    const held = this.#objects.get(root + 1);
    if (held === undefined) return -EIO;
    const fd = this.#openIn(held, make);
    if (fd >= 0) this.#fds.set(root, fd);
    return fd;
  }

  /** What lies in it; answers −errno where it cannot be read. */
  names(root: number): Uint8Array<ArrayBuffer>[] | number {
    const limbo = this.open(root, false);
    if (limbo < 0) return limbo === -ENOENT ? [] : limbo;
    const rewound = this.#backing.seekdir(limbo, 0n);
    if (rewound < 0) return rewound;
    const names: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const got = this.#backing.getdents(limbo, this.#entries);
      if (got <= 0) return got < 0 ? got : names;
      while (this.#entries.next()) if (!this.#entries.isDot) names.push(this.#entries.name.slice());
    }
  }

  /** Takes the empty limbo of a root away. */
  remove(root: number): number {
    const held = this.#objects.get(root + 1);
    if (held === undefined) return -EIO;
    const fd = this.#fds.get(root);
    if (fd !== undefined) this.#backing.close(fd);
    this.#fds.delete(root);
    return this.#keepingTime(held, () => {
      const outer = this.#backing.openat(held.path, OUTER, O.PATH | O.NOFOLLOW | O.DIRECTORY, 0);
      if (outer < 0) return outer === -ENOENT ? 0 : outer;
      const inner = this.#backing.unlinkat(outer, INNER, AT.REMOVEDIR);
      this.#backing.close(outer);
      if (inner < 0 && inner !== -ENOENT) return inner;
      const gone = this.#backing.unlinkat(held.path, OUTER, AT.REMOVEDIR);
      // A way back may lie beside limbo.
      return gone === -ENOTEMPTY ? 0 : gone;
    });
  }

  /** Closes the descriptors. */
  close(): void {
    for (const fd of this.#fds.values()) this.#backing.close(fd);
    this.#fds.clear();
  }

  #openIn(held: Held, make: boolean): number {
    if (make) {
      const made = this.#keepingTime(held, () => this.#backing.mkdirat(held.path, OUTER, 0o700));
      if (made < 0 && made !== -EEXIST) return made;
    }
    const outer = this.#backing.openat(held.path, OUTER, O.PATH | O.NOFOLLOW | O.DIRECTORY, 0);
    // Something else by that name is the application's, from before the directory was ours.
    if (outer < 0) return outer === -ENOTDIR ? -EEXIST : outer;
    const made = make ? this.#backing.mkdirat(outer, INNER, 0o700) : 0;
    const fd = made < 0 && made !== -EEXIST
      ? made
      : this.#backing.openat(outer, INNER, O.RDONLY | O.NOFOLLOW | O.DIRECTORY, 0);
    this.#backing.close(outer);
    return fd;
  }

  /** Our own directory is not the application's business: its root keeps its mtime. */
  #keepingTime(root: Held, work: () => number): number {
    const failed = this.#backing.statx(root.path, this.#stat);
    if (failed < 0) return failed;
    const { mtime } = this.#stat;
    const result = work();
    const set = setMtime(this.#backing, root.path, mtime);
    return result < 0 ? result : set;
  }
}
