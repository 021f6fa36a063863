/**
 * The target's end of a survey: makes the same prints, and says which objects are not the source's.
 *
 * Nothing is written. What is equal counts as made equal from its place in the stream on; what is not is asked for and
 * comes as a frame of its own. An object that is not here is not asked for in a walk over everything: the directory that
 * has its name is, which makes it in its place.
 *
 * @module
 */

import { OFFSET } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { S_IF } from "../system/linux.ts";
import type { ComparedPlace } from "./compared_place.ts";
import { sameBytes, u64 } from "./bytes.ts";
import { refusal } from "./content_target.ts";
import { FRAME_HEADER } from "./frame.ts";
import { HASH_BYTES, type Sha256 } from "./hashing.ts";
import { type Limbo, nameKey, NO_INODE } from "./limbo.ts";
import { CONTROL } from "./mutation.ts";
import type { Held, Objects } from "./objects.ts";
import { namesIn } from "./names_beneath.ts";
import { type Opened, Printer } from "./printer.ts";
import { StreamError } from "./stream.ts";
import { LISTED, readSaid, type Said } from "./survey_frame.ts";
import { readNames } from "./verify_frame.ts";

const ENOENT = 2;
const EIO = 5;
const ESTALE = 116;

/** What {@link SurveyTarget} needs. */
export interface SurveyTargetOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly limbo: Limbo;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** Memory may show what the disk does not have. */
  readonly suspect: () => boolean;
  /** The object must be sent. */
  readonly missing: (id: number) => void;
  /** The directory must be sent with its names; they are compared in every session. */
  readonly again: (id: number) => void;
  /** What is known of how far the comparison is. */
  readonly place: ComparedPlace;
}

/** Compares by prints. Throws `ApplyError` when the disk refuses. */
export class SurveyTarget {
  readonly #options: SurveyTargetOptions;
  readonly #objects: Objects;
  readonly #limbo: Limbo;
  readonly #printer: Printer;
  readonly #print = new Uint8Array(HASH_BYTES);
  readonly #printAddress: number;
  /** Where the names of the directory in {@link Limbo.listing} lead on the source. */
  readonly #names = new Map<string, number>();
  /** Objects found equal. */
  equal = 0;

  constructor(options: SurveyTargetOptions) {
    this.#options = options;
    this.#objects = options.objects;
    this.#limbo = options.limbo;
    this.#printer = new Printer(options);
    this.#printAddress = options.addressOf(this.#print);
  }

  /**
   * Works off a frame of `length` bytes at `offset`, header included.
   *
   * @throws {StreamError} when the frame makes no sense.
   */
  frame(op: number, bytes: Uint8Array, view: DataView, offset: number, length: number): void {
    const start = offset + FRAME_HEADER;
    if (op === CONTROL.prints) this.#prints(bytes, view, start, offset + length);
    else this.#listed(bytes, view, offset, offset + length);
    if (op === CONTROL.prints) this.#options.place.reached(u64(view, offset + OFFSET.a));
  }

  #prints(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    const pairs: { readonly said: Said; readonly opened: Opened | undefined }[] = [];
    const suspect = this.#options.suspect();
    try {
      for (const said of readSaid(view, start, end)) {
        pairs.push({ said, opened: this.#open(said, suspect) });
      }
      for (const { said, opened } of pairs) this.#compare(said, opened, bytes);
    } finally {
      for (const { opened } of pairs) if (opened !== undefined) this.#printer.close(opened);
    }
  }

  #open({ id }: Said, suspect: boolean): Opened | undefined {
    const opened = this.#printer.open(id, suspect);
    if (typeof opened !== "number") return opened;
    if (opened !== -ESTALE && opened !== -ENOENT) throw refusal("open", id, opened);
    return undefined;
  }

  #compare({ id, type, root, print }: Said, opened: Opened | undefined, bytes: Uint8Array): void {
    const limbo = this.#limbo;
    limbo.inodes.set(id, NO_INODE);
    if (opened === undefined) {
      // Its directory makes it; but then it has nothing yet.
      if (limbo.whole) limbo.seen.add(id);
      else this.#options.missing(id);
      return;
    }
    if (opened.type !== type || opened.root !== root || opened.nlink === 0) return this.#options.missing(id);
    // What else there is cannot be changed, only made anew: then its names lead to another object than now.
    if (type === S_IF.REG || type === S_IF.DIR) limbo.inodes.set(id, opened.ino);
    if (print < 0) {
      // It is compared by its blocks.
      if (type === S_IF.REG) this.#options.place.open(id);
      return;
    }
    if (!this.#same(opened, bytes, print)) return this.#options.missing(id);
    limbo.inodes.set(id, opened.ino);
    limbo.seen.add(id);
    limbo.finished.add(id);
    this.#options.place.close(id);
    this.equal++;
  }

  #same(opened: Opened, bytes: Uint8Array, print: number): boolean {
    const failed = this.#printer.print(opened, this.#printAddress);
    // What the disk does not give is asked for, and written.
    if (failed === -EIO) return false;
    if (failed < 0) throw refusal("read", opened.id, failed);
    return sameBytes(bytes.subarray(print, print + HASH_BYTES), this.#print);
  }

  #listed(bytes: Uint8Array, view: DataView, offset: number, end: number): void {
    const limbo = this.#limbo;
    const id = u64(view, offset + OFFSET.id);
    const flags = u64(view, offset + OFFSET.a);
    const last = (flags & LISTED.end) !== 0;
    const start = offset + FRAME_HEADER + (last ? HASH_BYTES : 0);
    if (start > end) {
      throw new StreamError("protocol", `Cannot compare the names in ${id}: a print is missing`);
    }
    if ((flags & LISTED.begin) !== 0) {
      this.#names.clear();
      limbo.listing = { id, names: new Set() };
    }
    const { listing } = limbo;
    if (listing === null || listing.id !== id) return this.#options.again(id);
    for (const entry of readNames(bytes, view, start, end)) {
      const key = nameKey(entry.name);
      listing.names.add(key);
      this.#names.set(key, entry.id);
    }
    if (!last) return;
    limbo.listing = null;
    const print = bytes.subarray(offset + FRAME_HEADER, offset + FRAME_HEADER + HASH_BYTES);
    if (!this.#equalDirectory(id, listing.names, print)) this.#options.again(id);
    else {
      limbo.seen.add(id);
      limbo.finished.add(id);
      this.#options.place.close(id);
      this.equal++;
    }
    this.#names.clear();
  }

  #equalDirectory(id: number, names: ReadonlySet<string>, print: Uint8Array): boolean {
    const opened = this.#printer.open(id);
    if (typeof opened === "number") return false;
    try {
      if (opened.type !== S_IF.DIR || opened.nlink === 0) return false;
      const failed = this.#printer.print(opened, this.#printAddress);
      if (failed < 0) throw refusal("read the attributes of", id, failed);
      const held = this.#objects.get(id);
      return held !== undefined && sameBytes(print, this.#print) && this.#equalNames(held, names);
    } finally {
      this.#printer.close(opened);
    }
  }

  /** Whether the names here are those of the source, and lead to the same objects. */
  #equalNames(held: Held, names: ReadonlySet<string>): boolean {
    let count = 0;
    for (const entry of namesIn(this.#options.backing, this.#objects, held)) {
      if (!names.has(entry.key) || !this.#leads(held, entry)) return false;
      count++;
    }
    return count === names.size;
  }

  /** Whether the entry in hand leads to the object that the source said. */
  #leads(
    held: Held,
    entry: { readonly key: string; readonly ino: number; readonly name: Uint8Array },
  ): boolean {
    const id = this.#names.get(entry.key);
    // A live record has put it there meanwhile.
    if (id === undefined) return true;
    const ino = this.#limbo.inodes.get(id);
    if (ino !== 0) return ino === entry.ino;
    const name = new Uint8Array(entry.name.length + 1);
    name.set(entry.name);
    return this.#limbo.idAt(held, name) === id;
  }
}
