/**
 * The source's end of a survey: says of many objects in one frame, by prints, what they are, and of directories which names
 * lead where. What a frame says is true at its place in the stream, as in the comparison the survey is part of.
 *
 * In the order of ids, so that the place reached is one number; inodes of neighbouring ids mostly are neighbours on the disk.
 * Where names lead is told by inode numbers that were met before: a name costs no look at its object.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents, DT } from "../system/dirents.ts";
import { O, S_IF } from "../system/linux.ts";
import { refused } from "./file_source.ts";
import { HASH_BYTES, type Sha256 } from "./hashing.ts";
import { IdNumbers } from "./id_numbers.ts";
import { nameKey, OWN_NAMES } from "./limbo.ts";
import { CONTROL } from "./mutation.ts";
import { FIRST_ID, type Objects } from "./objects.ts";
import { isSmall, type Opened, Printer } from "./printer.ts";
import { LISTED, putSaid } from "./survey_frame.ts";
import { putName } from "./verify_frame.ts";
import type { Wire } from "./wire.ts";

const ENOENT = 2;
const ESTALE = 116;
/** Objects of a frame: so many reads are under way at the disk at once. */
const OBJECTS_MAX = 64;
/** What an object costs beside its content, in bytes of content. */
const OBJECT_COST = 4096;
/** What a name costs, likewise. */
const NAME_COST = 1024;
/** Ids looked up in the object map in one step: most of a reserved block may be free. */
const LOOKS_MAX = 1024;
/** Bytes of directory entries read in a step, with and without applications that wait meanwhile. */
const LISTING_SHORT = 4096;
const LISTING_LONG = 32 * 1024;
/** Budgets from here on are for when nobody waits. */
const BUDGET_LONG = 256 * 1024;

/** What {@link SurveySource} needs. */
export interface SurveySourceOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly wire: Wire;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly sha256: Sha256;
  readonly survey: Survey;
  /** The ids to be said; null: all there are. */
  readonly ids: Iterator<number> | null;
  /** The object is compared in another way. */
  readonly other: (id: number) => void;
  /** It was said: a walk need not come to it. */
  readonly said: (id: number) => void;
  /** A walk meets a directory, or what was not said. */
  readonly meet: (id: number) => void;
  /** Sends what stands in the wire's body. */
  readonly send: (op: number, fields: { id?: number; a?: number; c?: number }, length: number) => void;
}

/** What a survey needs to know of the source's copy. */
export interface Survey {
  /** Whether there is an object of that id. */
  readonly exists: (id: number) => boolean;
  /** Tells the target what of an object's times it was not told yet. */
  readonly tellTime: (id: number) => void;
  /** First id, and the one after the last. */
  readonly from: number;
  readonly until: number;
}

/** A directory whose names are being said. */
export interface NameListing {
  readonly id: number;
  readonly fd: number;
  begun: boolean;
}

/** Says what there is, a step at a time. */
export class SurveySource {
  readonly #options: SurveySourceOptions;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #printer: Printer;
  readonly #short = new Dirents(LISTING_SHORT);
  readonly #long = new Dirents(LISTING_LONG);
  /** Ids by inode numbers, of each directory of the module. */
  readonly #inodes = new Map<number, IdNumbers>();
  #next: number;
  #over = false;
  readonly #counters = { objects: 0, bytes: 0 };

  constructor(options: SurveySourceOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#printer = new Printer(options);
    this.#next = Math.max(FIRST_ID, options.survey.from);
  }

  /** Every object was said. Names may follow. */
  get over(): boolean {
    return this.#over;
  }

  /** Ids that may still have objects. */
  get left(): number {
    if (this.#over) return 0;
    return this.#options.ids === null ? this.#options.survey.until - this.#next : 1;
  }

  /** Objects said, and bytes of content read for that. */
  get counters(): { readonly objects: number; readonly bytes: number } {
    return this.#counters;
  }

  /** Says the next objects in one frame. `budget`: bytes of content to be read at most. */
  step(budget: number): void {
    const opened: Opened[] = [];
    try {
      this.#gather(budget, opened);
      this.#sendPrints(opened);
    } finally {
      for (const object of opened) this.#printer.close(object);
    }
  }

  /** Says the next names of a directory. False: that was all. */
  list(listing: NameListing, budget: number): boolean {
    const { wire, objects } = { wire: this.#options.wire, objects: this.#objects };
    const entries = budget >= BUDGET_LONG ? this.#long : this.#short;
    const held = objects.get(listing.id);
    const got = held === undefined ? 0 : this.#backing.getdents(listing.fd, entries);
    if (got < 0) throw refused(listing.id, "list", got);
    const { body, bodyView } = wire;
    let at = got > 0 ? 0 : HASH_BYTES;
    let count = 0;
    while (held !== undefined && got > 0 && entries.next()) {
      if (entries.isDot) continue;
      const bare = entries.name;
      if (held.id < FIRST_ID && OWN_NAMES.includes(nameKey(bare))) continue;
      if (this.#objects.excludes(held, bare)) continue;
      const id = this.#idOf(listing.id, held.root, entries);
      if (id === 0) continue;
      const name = new Uint8Array(bare.length + 1);
      name.set(bare);
      at = putName(body, bodyView, at, { id, name });
      count++;
    }
    const begin = listing.begun ? 0 : LISTED.begin;
    listing.begun = true;
    if (got === 0) this.#printDirectory(listing.id);
    const a = begin | (got > 0 ? 0 : LISTED.end);
    this.#options.send(CONTROL.listed, { id: listing.id, a, c: (count + 1) * NAME_COST }, at);
    return got > 0;
  }

  #gather(budget: number, into: Opened[]): void {
    let cost = 0;
    for (let looks = 0; looks < LOOKS_MAX && into.length < OBJECTS_MAX && cost < budget; looks++) {
      const id = this.#nextId();
      if (id === 0) return;
      const opened = this.#open(id);
      if (opened === undefined) continue;
      into.push(opened);
      cost += OBJECT_COST + (isSmall(opened) ? opened.size : 0);
    }
  }

  /** The next id to be said, 0 at the end. */
  #nextId(): number {
    const { ids, survey } = this.#options;
    if (ids === null) {
      while (this.#next < survey.until) {
        const id = this.#next++;
        if (survey.exists(id)) return id;
        if (id % LOOKS_MAX === 0) break;
      }
      if (this.#next < survey.until) return -1;
    } else {
      const { done, value } = ids.next();
      if (done !== true) return value;
    }
    this.#over = true;
    return 0;
  }

  /** Opens an object; what has no print, or no name, is left to others. */
  #open(id: number): Opened | undefined {
    if (id < 0) return undefined;
    const named = this.#options.ids !== null;
    this.#options.survey.tellTime(id);
    const opened = this.#printer.open(id);
    if (typeof opened === "number") {
      if (opened !== -ESTALE && opened !== -ENOENT) throw refused(id, "open", opened);
      // A walk over everything does not meet it, or gives it another id.
      if (named) this.#options.other(id);
      return undefined;
    }
    if (opened.nlink > 0 && (!named || isPrinted(opened))) return opened;
    this.#printer.close(opened);
    if (named) this.#options.other(id);
    return undefined;
  }

  #sendPrints(opened: readonly Opened[]): void {
    const { wire, other, said } = this.#options;
    let at = 0;
    let cost = 0;
    for (const object of opened) {
      const { id, root, type, ino } = object;
      const noted = !isPrinted(object);
      this.#inodesOf(root).set(ino, id);
      at = putSaid(wire.bodyView, at, { id, type, root, noted });
      cost += OBJECT_COST;
      if (noted) {
        if (type === S_IF.REG) other(id);
        continue;
      }
      const failed = this.#printer.print(object, wire.bodyAddress + at);
      if (failed < 0) throw refused(id, "read", failed);
      at += HASH_BYTES;
      cost += object.size;
      said(id);
      this.#counters.objects++;
      this.#counters.bytes += object.size;
    }
    // With a set there is no place to go on at.
    const reached = this.#options.ids === null ? this.#next : 0;
    if (at > 0) this.#options.send(CONTROL.prints, { a: reached, c: cost }, at);
  }

  /** The id a name leads to; 0: it leads nowhere any more. */
  #idOf(parentId: number, root: number, entries: Dirents): number {
    const { survey, meet } = this.#options;
    const known = this.#inodesOf(root).get(entries.ino);
    // An inode number is given again once its object is gone for good.
    const sure = known !== 0 && entries.type !== DT.UNKNOWN && survey.exists(known);
    if (sure) {
      if (entries.type === DT.DIR) meet(known);
      return known;
    }
    const parent = this.#objects.get(parentId);
    const child = parent === undefined ? -ENOENT : this.#objects.lookup(parent, entries.name);
    if (child === -ENOENT) return 0;
    if (typeof child === "number") throw refused(parentId, "look up a name in", child);
    // A file that was compared before needs no look now.
    if (child.type === S_IF.DIR || child.id >= survey.from) meet(child.id);
    return child.id;
  }

  #inodesOf(root: number): IdNumbers {
    let inodes = this.#inodes.get(root);
    if (inodes === undefined) this.#inodes.set(root, inodes = new IdNumbers());
    return inodes;
  }

  /** Zeros where the directory is gone: nothing has that print. */
  #printDirectory(id: number): void {
    const { wire } = this.#options;
    wire.body.fill(0, 0, HASH_BYTES);
    const opened = this.#printer.open(id);
    if (typeof opened === "number") return;
    const failed = this.#printer.print(opened, wire.bodyAddress);
    this.#printer.close(opened);
    if (failed < 0) throw refused(id, "read the attributes of", failed);
  }
}

/** Directories are printed with their names, larger files compared block by block. */
function isPrinted(opened: Opened): boolean {
  return opened.type === S_IF.REG ? isSmall(opened) : opened.type !== S_IF.DIR;
}

/** Opens a directory for {@link SurveySource.list}. */
export function openListing(backing: Backing, id: number, path: number): NameListing {
  const fd = backing.reopen(path, O.RDONLY | O.DIRECTORY);
  if (fd < 0) throw refused(id, "open", fd);
  return { id, fd, begun: false };
}
