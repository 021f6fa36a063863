/**
 * `.binome/way-back` in each root beneath: where objects that lose their last name in a stretch lie until its end, under
 * their inode numbers, and clones of what was overwritten (`cINODE`). Beneath, because only there can an object be without being copied.
 *
 * @module
 */

import type { Backing } from "../../system/backing.ts";
import { Dirents } from "../../system/dirents.ts";
import { AT, O, S_IF } from "../../system/linux.ts";
import { Statx } from "../../system/statx.ts";
import { cbytes } from "../bytes.ts";
import { LIMBO_NAME } from "../own_names.ts";
import { setMtime } from "../tree.ts";

const ENOENT = 2;
const EEXIST = 17;
const ENOTEMPTY = 39;
const OUTER = cbytes(LIMBO_NAME);
const INNER = cbytes("way-back");
const LIMBO = cbytes("limbo");
/** Levels of directories gone down into. */
const DEPTH_MAX = 65_536;

/** Something of our own beneath cannot be made, read or cleared away. */
export class GraveyardError extends Error {
  override readonly name = "GraveyardError";
  constructor(what: string, readonly errno: number) {
    super(`Cannot ${what} ${LIMBO_NAME}/way-back beneath: errno ${errno}`);
  }
}

/** The graveyards of all roots. */
export class Graveyard {
  readonly #backing: Backing;
  readonly #roots: readonly number[];
  readonly #fds = new Map<number, number>();
  readonly #stat = new Statx();

  constructor(backing: Backing, roots: readonly number[]) {
    this.#backing = backing;
    this.#roots = roots;
  }

  /**
   * Descriptor of the graveyard of a root, readable; −ENOENT where there is none and none is to be made.
   *
   * @throws {GraveyardError}
   */
  open(root: number, make: boolean): number {
    const known = this.#fds.get(root);
    if (known !== undefined) return known;
    const top = this.#roots[root] ?? -1;
    const outer = make ? this.#makeOuter(top) : this.#openIn(top, OUTER);
    if (outer === -ENOENT) return outer;
    if (outer < 0) throw new GraveyardError("open", -outer);
    const made = make ? this.#backing.mkdirat(outer, INNER, 0o700) : 0;
    const fd = made < 0 && made !== -EEXIST
      ? made
      : this.#backing.openat(outer, INNER, O.RDONLY | O.DIRECTORY | O.NOFOLLOW, 0);
    this.#backing.close(outer);
    if (fd === -ENOENT) return fd;
    if (fd < 0) throw new GraveyardError("make", -fd);
    this.#fds.set(root, fd);
    return fd;
  }

  /** Names in the graveyard of a root. */
  names(root: number): Uint8Array<ArrayBuffer>[] {
    const fd = this.open(root, false);
    return fd < 0 ? [] : this.#list(fd, Infinity);
  }

  /** Descriptors of what is ours beneath a root and there: `.binome`, limbo and graveyard. The caller closes them. */
  own(root: number): number[] {
    const outer = this.#openIn(this.#roots[root] ?? -1, OUTER);
    if (outer < 0) return [];
    return [outer, ...[LIMBO, INNER].map((name) => this.#openIn(outer, name)).filter((fd) => fd >= 0)];
  }

  /**
   * Empties the graveyards, and limbo where that is asked for, a name at each step; then takes the empty folders away. In the
   * middle of a call that makes limbo, `.binome` itself stays.
   *
   * @throws {GraveyardError}
   */
  *clear(limboToo: boolean, outerStays = false): Generator<void> {
    this.close();
    for (const top of this.#roots) {
      const outer = this.#openIn(top, OUTER);
      if (outer === -ENOENT) continue;
      if (outer < 0) throw new GraveyardError("open", -outer);
      try {
        yield* this.#remove(outer, INNER);
        if (limboToo) yield* this.#remove(outer, LIMBO);
      } finally {
        this.#backing.close(outer);
      }
      if (outerStays) continue;
      this.#keepingTime(top, () => {
        const removed = this.#backing.unlinkat(top, OUTER, AT.REMOVEDIR);
        return removed === -ENOTEMPTY || removed === -ENOENT ? 0 : removed;
      });
    }
  }

  /** Whether something of ours is in any root. */
  get exists(): boolean {
    return this.#roots.some((top) => {
      const outer = this.#openIn(top, OUTER);
      if (outer >= 0) this.#backing.close(outer);
      return outer >= 0;
    });
  }

  close(): void {
    for (const fd of this.#fds.values()) this.#backing.close(fd);
    this.#fds.clear();
  }

  /** Removes a folder with all that is in it. */
  *#remove(parent: number, top: Uint8Array): Generator<void> {
    const levels: { readonly parent: number; readonly name: Uint8Array; readonly fd: number }[] = [];
    const enter = (from: number, name: Uint8Array): boolean => {
      const fd = this.#backing.openat(from, name, O.RDONLY | O.DIRECTORY | O.NOFOLLOW, 0);
      if (fd === -ENOENT) return false;
      if (fd < 0 || levels.length > DEPTH_MAX) throw new GraveyardError("clear away", Math.abs(fd));
      levels.push({ parent: from, name, fd });
      return true;
    };
    try {
      if (!enter(parent, top)) return;
      for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
        const directory = yield* this.#unlinkFiles(level.fd);
        if (directory !== null && enter(level.fd, directory)) continue;
        levels.pop();
        this.#backing.close(level.fd);
        const removed = this.#backing.unlinkat(level.parent, level.name, AT.REMOVEDIR);
        if (removed < 0 && removed !== -ENOENT) throw new GraveyardError("clear away", -removed);
        yield;
      }
    } finally {
      for (const { fd } of levels) this.#backing.close(fd);
    }
  }

  /** Answers a directory that is in the way, null when nothing is left. */
  *#unlinkFiles(fd: number): Generator<void, Uint8Array | null> {
    for (;;) {
      const names = this.#list(fd, 1);
      if (names.length === 0) return null;
      for (const name of names) {
        if (this.#backing.statxAt(fd, name, this.#stat) < 0) continue;
        if ((this.#stat.mode & S_IF.MT) === S_IF.DIR) return name;
        const removed = this.#backing.unlinkat(fd, name, 0);
        if (removed < 0 && removed !== -ENOENT) throw new GraveyardError("clear away", -removed);
        yield;
      }
    }
  }

  /** At least so many names, if there are: what is being cleared away is read from its start again and again. */
  #list(fd: number, wanted: number): Uint8Array<ArrayBuffer>[] {
    const rewound = this.#backing.seekdir(fd, 0n);
    if (rewound < 0) throw new GraveyardError("read", -rewound);
    const names: Uint8Array<ArrayBuffer>[] = [];
    const entries = new Dirents(32_768);
    for (;;) {
      const got = this.#backing.getdents(fd, entries);
      if (got < 0) throw new GraveyardError("read", -got);
      while (entries.next()) if (!entries.isDot) names.push(entries.name.slice());
      if (got === 0 || names.length >= wanted) return names;
    }
  }

  #makeOuter(top: number): number {
    this.#keepingTime(top, () => {
      const made = this.#backing.mkdirat(top, OUTER, 0o700);
      return made === -EEXIST ? 0 : made;
    });
    return this.#openIn(top, OUTER);
  }

  #openIn(parent: number, name: Uint8Array): number {
    return this.#backing.openat(parent, name, O.PATH | O.NOFOLLOW | O.DIRECTORY, 0);
  }

  /** Our own directory is not the application's business: its root keeps its mtime. */
  #keepingTime(top: number, work: () => number): void {
    const failed = this.#backing.statx(top, this.#stat);
    const { mtime } = this.#stat;
    const result = failed < 0 ? failed : work();
    const set = failed < 0 ? failed : setMtime(this.#backing, top, mtime);
    if (result < 0 || set < 0) throw new GraveyardError("make or remove", -Math.min(result, set));
  }
}
