/**
 * Empties limbo once the trees are equal: what still has no other name is not on the source. A slice at a time, since
 * live records wait meanwhile.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { AT, O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { isLocal } from "./border.ts";
import { cbytes, withoutNul } from "./bytes.ts";
import { ApplyError } from "./follower.ts";
import type { Limbo } from "./limbo.ts";
import type { Held, Objects } from "./objects.ts";
import { OwnBatch } from "./own_batch.ts";
import type { Quarantine } from "./quarantine.ts";

const ENOENT = 2;
const ENODATA = 61;
/** Names removed in one step: some milliseconds. */
const SLICE = 64;
/** In place of a name: all that is left of the directory waits to be saved. */
const WAITS = "waits";

/** What goes to quarantine before it is deleted: all that the source does not have, or what was never replicated. */
export interface Keeping {
  readonly what: "all" | "own";
  readonly quarantine: Quarantine;
}

/** What {@link Sweeper} needs. */
export interface SweeperOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly limbo: Limbo;
  /**
   * `own`: when it lay in a directory that the primary has no more. Null: nothing is kept, since nobody wrote here alone and
   * everything is replicated.
   */
  readonly keeping: Keeping | null;
}

interface Level {
  readonly fd: number;
  /** Where to put what is saved from here, −1 when nothing is. */
  readonly into: number;
  /** Names read and not worked off, last one first. */
  names: Uint8Array<ArrayBuffer>[];
  /** Nothing was found since the directory was last read from its start. */
  empty: boolean;
  /** Something in it waits to be saved, so that it is not empty yet. */
  waits: boolean;
  /** All in it was never replicated. */
  readonly own: boolean;
  /** Where it lies itself; null for limbo. */
  readonly self: { readonly dirfd: number; readonly name: Uint8Array; readonly held: Held } | null;
}

/** Empties the limbo of every root. */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #backing: Backing;
  /** Where everything goes; null where {@link Sweeper.#own} is not, or nothing is kept. */
  readonly #all: Quarantine | null;
  /** Where what was never replicated goes, of everything else nothing. */
  readonly #own: OwnBatch | null;
  readonly #entries = new Dirents(8192);
  readonly #stat = new Statx();
  readonly #levels: Level[] = [];
  #root = 0;
  /** How many names were removed. */
  removed = 0;

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#backing = options.backing;
    const { keeping } = options;
    this.#all = keeping?.what === "all" ? keeping.quarantine : null;
    this.#own = keeping?.what === "own" ? new OwnBatch(keeping.quarantine) : null;
    this.#all?.settle();
  }

  /**
   * Removes some names. Answers whether there is more.
   *
   * @throws {ApplyError} when the disk refuses.
   */
  step(): boolean {
    for (let i = 0; i < SLICE; i++) {
      if (this.#own?.full === true) {
        if (!this.#keepOwn(this.#own)) return true;
        continue;
      }
      const level = this.#levels.at(-1) ?? this.#nextRoot();
      if (level === undefined) {
        this.close();
        return false;
      }
      const name = this.#nextName(level);
      if (name === WAITS) {
        if (!this.#postpone(level)) return true;
      } else if (name === undefined) this.#leave(level);
      else if (!this.#remove(level, name)) return true;
    }
    return true;
  }

  /** It is cut short: what is left stays in limbo. */
  close(): void {
    for (const level of this.#levels.splice(0)) this.#close(level);
    const cut = this.#own?.close();
    for (const { dirfd, held } of cut?.waiting ?? []) {
      this.#backing.close(dirfd);
      this.#backing.close(held.path);
    }
    if (cut !== undefined && cut.into >= 0) this.#backing.close(cut.into);
  }

  #nextRoot(): Level | undefined {
    const { limbo, objects } = this.#options;
    while (this.#root < objects.rootCount) {
      const fd = limbo.directories.open(this.#root, false);
      if (fd === -ENOENT) {
        this.#root++;
        continue;
      }
      this.#done("open", fd);
      const into = this.#all === null ? -1 : this.#all.deletedFolder();
      const level: Level = { fd, into, names: [], empty: false, waits: false, own: false, self: null };
      this.#done("read", this.#backing.seekdir(fd, 0n));
      this.#levels.push(level);
      return level;
    }
    return undefined;
  }

  #nextName(level: Level): Uint8Array<ArrayBuffer> | typeof WAITS | undefined {
    for (;;) {
      const name = level.names.pop();
      if (name !== undefined) return name;
      const got = this.#done("read", this.#backing.getdents(level.fd, this.#entries));
      while (this.#entries.next()) if (!this.#entries.isDot) level.names.push(this.#entries.name.slice());
      if (level.names.length > 0) {
        level.empty = false;
        continue;
      }
      if (got > 0) continue;
      if (level.waits) return WAITS;
      // Removing while reading may hide names from the reader: only a reading that finds nothing proves it empty.
      if (level.empty) return undefined;
      level.empty = true;
      this.#done("read", this.#backing.seekdir(level.fd, 0n));
    }
  }

  /**
   * A directory whose files wait comes again when the one above is read again, so that the files of many are saved together.
   * False: more of a file has to be saved first.
   */
  #postpone(level: Level): boolean {
    if (this.#own?.waiting === true) {
      const above = this.#levels.at(-2);
      if (above === undefined) return this.#keepOwn(this.#own);
      above.waits = true;
      this.#levels.pop();
      this.#close(level);
      if (level.self !== null) this.#backing.close(level.self.held.path);
      return true;
    }
    level.waits = level.empty = false;
    this.#done("read", this.#backing.seekdir(level.fd, 0n));
    return true;
  }

  #leave(level: Level): void {
    this.#levels.pop();
    this.#close(level);
    if (level.self === null) {
      this.#done("remove", this.#options.limbo.directories.remove(this.#root));
      this.#root++;
      return;
    }
    const { dirfd, name, held } = level.self;
    this.#done("delete", this.#backing.unlinkat(dirfd, name, AT.REMOVEDIR));
    this.removed++;
    if (held.id > 0) this.#options.limbo.buried(held.id, held.path);
    this.#backing.close(held.path);
  }

  #close(level: Level): void {
    if (level.into >= 0) this.#backing.close(level.into);
    if (level.self !== null) this.#backing.close(level.fd);
  }

  /** Removes a name, or goes into the directory it leads to. False: more of it has to be saved first. */
  #remove(level: Level, name: Uint8Array<ArrayBuffer>): boolean {
    const fd = this.#done("open", this.#backing.openat(level.fd, name, O.PATH | O.NOFOLLOW, 0));
    this.#done("look at", this.#backing.statx(fd, this.#stat));
    const { mode, nlink, ino } = this.#stat;
    const held = this.#describe(fd, mode & S_IF.MT);
    const kept = level.self === null ? cbytes(`${this.#root}-${ino}`) : name;
    if (held.type === S_IF.DIR) {
      this.#enter(level, { name, kept, held });
      return true;
    }
    // It comes into limbo with its directory only.
    if (this.#own !== null && level.self !== null && this.#isOwn(level, name, held)) {
      this.#own.add({ dirfd: this.#done("open", this.#backing.dup(level.fd)), name, held });
      level.waits = true;
      return true;
    }
    let finished = true;
    if (nlink === 1) finished = this.#bury(level, { name, kept, held });
    else this.#done("delete", this.#backing.unlinkat(level.fd, name, 0));
    this.#backing.close(fd);
    if (finished) this.removed++;
    else level.names.push(name);
    return finished;
  }

  #bury(level: Level, { name, kept, held }: { name: Uint8Array; kept: Uint8Array; held: Held }): boolean {
    const { limbo } = this.#options;
    // What was made equal in this session and lost its name since was deleted by the application.
    if (this.#all !== null && !limbo.finished.has(held.id)) {
      if (!this.#all.take({ dirfd: level.fd, name }, level.into, kept, held)) return false;
    }
    if (held.id > 0) this.#done("keep open", limbo.keepIfOpen(held.id, held.path));
    const removed = this.#backing.unlinkat(level.fd, name, 0);
    if (removed !== -ENOENT) this.#done("delete", removed);
    if (held.id > 0) limbo.buried(held.id, held.path);
    return true;
  }

  /** Of this node alone: it has such an id, or none, since nobody has looked at it, but a name that may be excluded. */
  #isOwn(level: Level, name: Uint8Array, { id }: Held): boolean {
    if (id !== 0) return isLocal(id);
    // On a copy that was put on the disk beforehand nothing has an id.
    return level.own ||
      this.#options.objects.mayExclude(this.#root, withoutNul(name));
  }

  /** A name of one that waits: where it has others, each of them is kept. False: more of it has to be saved first. */
  #keepOwn(own: OwnBatch): boolean {
    const owned = own.next();
    if (owned === null) return false;
    const { dirfd, name, held } = owned;
    const removed = this.#backing.unlinkat(dirfd, name, 0);
    if (removed !== -ENOENT) this.#done("delete", removed);
    if (held.id > 0) this.#options.limbo.buried(held.id, held.path);
    this.#backing.close(dirfd);
    this.#backing.close(held.path);
    this.removed++;
    return true;
  }

  #enter(level: Level, { name, kept, held }: { name: Uint8Array; kept: Uint8Array; held: Held }): void {
    const fd = this.#done("read", this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY));
    const into = this.#all === null ? -1 : this.#all.makeFolder(level.into, kept, held);
    const own = level.self !== null && this.#isOwn(level, name, held);
    const self = { dirfd: level.fd, name, held };
    this.#levels.push({ fd, into, names: [], empty: false, waits: false, own, self });
  }

  #describe(path: number, type: number): Held {
    const id = this.#options.objects.readId(path);
    if (id !== -ENODATA) this.#done("read the id of", id);
    const rest = {
      io: -1,
      lookups: 0,
      opens: 0,
      orphan: false,
      kept: false,
      defaultAcl: -1,
      childGroup: -2,
      bare: false,
    };
    return { id: Math.max(0, id), root: this.#root, type, path, ...rest };
  }

  #done(what: string, result: number): number {
    if (result >= 0) return result;
    throw new ApplyError(
      `Cannot clear away what the primary does not have: ${what} failed (errno ${-result})`,
      -result,
    );
  }
}
