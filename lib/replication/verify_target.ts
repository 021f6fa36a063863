/**
 * The secondary's end of a verification: looks whether it has what the primary says, at that place in the stream, and
 * reports what it has otherwise. It writes nothing: what differs is then compared and made equal as after a power cut, by
 * the one way there is.
 *
 * Content is read from the disk: what memory has of a file is let go of first, as nobody reads on a secondary.
 *
 * What is equal is noted in this node's {@link Witness}; what is not, and was changed by nobody here, has rotted here. Where the
 * primary says that its disk has lost what both had, this node answers with what it has of it.
 *
 * @module
 */

import { OFFSET } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O, S_IF, SEEK } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { printable, sameBytes, u64 } from "./bytes.ts";
import { Fingerprinter, isInline } from "./fingerprint.ts";
import { ApplyError } from "./follower.ts";
import { FRAME_HEADER } from "./frame.ts";
import { BlockHasher, countHashes, HASH_BYTES, HASHES_MAX, readAll, type Sha256 } from "./hashing.ts";
import { nameKey, OWN_NAMES } from "./limbo.ts";
import { CONTROL } from "./mutation.ts";
import { BLOCK_BYTES, decodeObject } from "./object_frame.ts";
import type { ObjectState } from "./object_state.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";
import { StreamError } from "./stream.ts";
import {
  type Difference,
  FINGERPRINT_BYTES,
  isUnread,
  NAMES,
  readExpected,
  readNames,
} from "./verify_frame.ts";
import { type Seen, WHOLE, type Witness, WITNESS_BYTES } from "./witness.ts";

const EIO = 5;
const ENOENT = 2;
const ENXIO = 6;
/** Read ahead of what is hashed. */
const AHEAD_BYTES = 4 * 1024 * 1024;
/** A name that is here alone counts as differing when it was so in as many listings: one made meanwhile is in the next. */
const LISTINGS_MAX = 3;
/** Differences reported one by one; more say nothing new. */
const REPORTS_MAX = 100;

/** In the place of the hash of what the disk here does not give. */
const UNREADABLE = "unreadable";

/** What the target tells the source. */
export interface VerifyEmit {
  /** So many frames were worked off since the session began. */
  verified(frames: number): void;
  /** The object differs: what is it there? */
  detail(id: number): void;
  /** The directory has names that were not said: say them again. */
  again(id: number): void;
  report(difference: Difference): void;
  /** What the primary has lost of an object, or nothing: this node has not what was expected either. */
  good(id: number, block: number, content: Uint8Array): void;
}

/** What {@link VerifyTarget} needs. */
export interface VerifyTargetOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly emit: VerifyEmit;
  readonly witness: Witness;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
}

/** Compares, and tells. Throws {@link ApplyError} when the disk refuses. */
export class VerifyTarget {
  readonly #options: VerifyTargetOptions;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #prints: Fingerprinter;
  readonly #hasher: BlockHasher;
  readonly #stat = new Statx();
  readonly #entries = new Dirents(32768);
  readonly #hashes = new Uint8Array(HASH_BYTES * HASHES_MAX);
  readonly #hashesAddress: number;
  readonly #block = new Uint8Array(BLOCK_BYTES);
  readonly #blockAddress: number;
  /** The directory being listed, and the names said of it. */
  #listing: { readonly id: number; readonly names: Set<string> } | null = null;
  /** Directories with names that were not said, and in how many listings. */
  readonly #extra = new Map<number, { readonly names: Set<string>; readonly listings: number }>();
  /** What both had of what the next frame says, by id and block. */
  readonly #expected = new Map<string, Uint8Array>();
  /** Objects whose content this node's disk did not keep. */
  readonly #rotten = new Set<number>();
  /** The witness has been asked in this session. */
  #sought = false;
  #frames = 0;
  #reports = 0;
  /** Objects that differ: to be compared with the primary's. */
  readonly differing = new Set<number>();

  constructor(options: VerifyTargetOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#prints = new Fingerprinter(options);
    this.#hasher = new BlockHasher(options.backing, options.sha256, options.addressOf);
    this.#hashesAddress = options.addressOf(this.#hashes);
    this.#blockAddress = options.addressOf(this.#block);
  }

  /** A session begins. */
  begin(): void {
    this.#listing = null;
    this.#extra.clear();
    this.#expected.clear();
    this.#rotten.clear();
    this.#sought = false;
    this.#options.witness.flush();
    this.#frames = this.#reports = 0;
    this.differing.clear();
  }

  /**
   * Works off a frame of `length` bytes at `offset`, header included.
   *
   * @throws {StreamError} when the frame makes no sense.
   */
  frame(op: number, bytes: Uint8Array, view: DataView, offset: number, length: number): void {
    const start = offset + FRAME_HEADER;
    const end = offset + length;
    if (op === CONTROL.fingerprints) this.#fingerprints(bytes, view, start, end);
    else if (op === CONTROL.verifyBlocks) this.#blocks(bytes, view, offset, end);
    else if (op === CONTROL.names) this.#names(bytes, view, offset, end);
    else if (op === CONTROL.detail) this.#detail(bytes, view, offset, length);
    else if (op === CONTROL.expected) this.#expect(bytes, view, start, end);
    else throw new StreamError("protocol", `Cannot take frame ${op}: it does not belong to a verification`);
    if (op !== CONTROL.expected) this.#answerExpected();
    this.#frames++;
    this.#options.emit.verified(this.#frames);
    this.#objects.trim();
  }

  #expect(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    for (const { id, block, hash } of readExpected(bytes, view, start, end)) {
      this.#expected.set(keyOf(id, block), hash);
    }
  }

  /** Each is answered: what was not there to be looked at is not what was expected. */
  #answerExpected(): void {
    for (const key of this.#expected.keys()) {
      const [id = 0, block = 0] = key.split(":").map(Number);
      this.#options.emit.good(id, block, new Uint8Array(0));
    }
    this.#expected.clear();
  }

  /** Whether the primary has lost what this node has: then it is sent there, and the copy here is as it should be. */
  #isGood(held: Held, hash: Uint8Array, block: number, range: { offset: number; length: number }): boolean {
    const key = keyOf(held.id, block);
    const expected = this.#expected.get(key);
    if (expected === undefined || !sameBytes(expected, hash.subarray(0, WITNESS_BYTES))) return false;
    const { offset, length } = range;
    this.#done("read", held.id, readAll(this.#backing, this.#io(held), this.#blockAddress, length, offset));
    this.#expected.delete(key);
    this.#options.emit.good(held.id, block, this.#block.subarray(0, length));
    return true;
  }

  #see(held: Held): Seen | null {
    if (held.type !== S_IF.REG) return null;
    return this.#options.witness.see(this.#backing, held, this.#stat, this.#options.wall());
  }

  /** Whether the witness says that content which differs was changed by nobody here. */
  #hasRotted(seen: Seen | null, block: number, hash: Uint8Array): boolean {
    const known = seen === null ? null : this.#options.witness.known(seen, block);
    return known !== null && !sameBytes(known, hash.subarray(0, WITNESS_BYTES));
  }

  #keep(seen: Seen | null, block: number, hash: Uint8Array): void {
    if (seen !== null && seen.size > 0) this.#options.witness.keep(seen, block, hash);
  }

  /** A session begins somewhere, and a pass with the first object. */
  #seek(id: number): void {
    if (!this.#sought || id === 1) this.#options.witness.seek(id);
    this.#sought = true;
  }

  #fingerprints(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    if ((end - start) % FINGERPRINT_BYTES !== 0) {
      throw new StreamError(
        "protocol",
        `Cannot compare fingerprints: ${end - start} bytes are no whole number`,
      );
    }
    if (start < end) this.#seek(u64(view, start));
    for (let at = start; at < end; at += FINGERPRINT_BYTES) {
      const id = u64(view, at);
      const held = this.#present(id);
      if (held === undefined) {
        this.#report(id, "object", { primary: "present", secondary: "absent" });
        continue;
      }
      const state = this.#state(held);
      if (held.type === S_IF.REG && state.size > 0) this.#forget(held);
      const seen = isInline(state) ? this.#see(held) : null;
      const readable = this.#gave(id, this.#prints.take(held, state, this.#hashesAddress));
      const theirs = bytes.subarray(at + 8, at + FINGERPRINT_BYTES);
      const own = this.#hashes.slice(0, HASH_BYTES);
      const whole = { offset: 0, length: state.size };
      if (readable && (sameBytes(theirs, own) || this.#isGood(held, own, WHOLE, whole))) {
        this.#keep(seen, WHOLE, own);
        continue;
      }
      // What the primary cannot give makes nothing equal: the answer to what was expected tells it.
      if (isUnread(theirs)) continue;
      if (!readable || this.#hasRotted(seen, WHOLE, own)) this.#rotten.add(id);
      this.#options.emit.detail(id);
    }
  }

  #blocks(bytes: Uint8Array, view: DataView, offset: number, end: number): void {
    const id = u64(view, offset + OFFSET.id);
    const start = u64(view, offset + OFFSET.a);
    const covered = u64(view, offset + OFFSET.c);
    const held = this.#present(id);
    // Its fingerprint has told already that it is not here, or is no file.
    if (held === undefined || held.type !== S_IF.REG) return;
    const theirs = bytes.subarray(offset + FRAME_HEADER, end);
    if (theirs.length === 0) return this.#hole(held, start, covered);
    const count = countHashes(theirs, covered, id);
    const fd = this.#io(held);
    if (start % AHEAD_BYTES === 0) this.#backing.readAhead(fd, start + covered, AHEAD_BYTES);
    const seen = this.#see(held);
    const unreadable = new Set<number>();
    const own = this.#hasher.hash(fd, start, start + covered, this.#hashesAddress, unreadable);
    // It is shorter: its fingerprint told.
    if (unreadable.size > 0 && this.#state(held).size < start + covered) return;
    this.#done("read", id, own);
    for (let block = 0; block < count; block++) {
      const place = block * HASH_BYTES;
      const ours = this.#hashes.subarray(place, place + HASH_BYTES);
      const wanted = theirs.subarray(place, place + HASH_BYTES);
      const at = start + block * BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES, start + covered - at);
      const number = at / BLOCK_BYTES;
      const readable = !unreadable.has(block);
      if (readable && (sameBytes(ours, wanted) || this.#isGood(held, ours, number, { offset: at, length }))) {
        this.#keep(seen, number, ours);
        continue;
      }
      if (isUnread(wanted)) continue;
      const rotten = !readable || this.#hasRotted(seen, number, ours);
      const hashes = { primary: wanted.toHex(), secondary: readable ? ours.toHex() : UNREADABLE };
      this.#report(id, "content", { offset: at, length, ...hashes, rotten });
    }
  }

  /** The primary has zeros there. */
  #hole(held: Held, start: number, covered: number): void {
    const fd = this.#io(held);
    for (let at = start; at < start + covered;) {
      const data = this.#backing.lseek(fd, at, SEEK.DATA);
      if (data === -ENXIO || data >= start + covered) return;
      this.#done("look for holes in", held.id, data);
      const length = Math.min(BLOCK_BYTES, start + covered - data);
      const failed = readAll(this.#backing, fd, this.#blockAddress, length, data);
      const readable = this.#gave(held.id, failed);
      // It is shorter: its fingerprint told.
      if (!readable && this.#state(held).size < data + length) return;
      if (!readable || !this.#block.subarray(0, length).every((byte) => byte === 0)) {
        const secondary = readable ? "other bytes" : UNREADABLE;
        const has = { primary: "zeros", secondary, rotten: !readable };
        this.#report(held.id, "content", { offset: data, length, ...has });
        return;
      }
      at = data + length;
    }
  }

  #names(bytes: Uint8Array, view: DataView, offset: number, end: number): void {
    const id = u64(view, offset + OFFSET.id);
    const flags = u64(view, offset + OFFSET.a);
    const held = this.#present(id);
    if ((flags & NAMES.begin) !== 0) this.#listing = { id, names: new Set() };
    const listing = this.#listing;
    if (held === undefined || held.type !== S_IF.DIR) return;
    if (listing === null || listing.id !== id) {
      throw new StreamError("protocol", `Cannot compare the names in ${id}: their beginning is missing`);
    }
    for (const entry of readNames(bytes, view, offset + FRAME_HEADER, end)) {
      listing.names.add(nameKey(entry.name.subarray(0, entry.name.length - 1)));
      const own = this.#objects.idAt(held, entry.name);
      if (own === entry.id) continue;
      if (own < 0 && own !== -ENOENT) this.#done("look up a name in", id, own);
      const has = own === -ENOENT ? "no such name" : own === 0 ? "a foreign object" : `object ${own}`;
      this.#report(id, `name ${printable(entry.name)}`, { primary: `object ${entry.id}`, secondary: has });
      this.differing.add(entry.id);
    }
    if ((flags & NAMES.end) !== 0) this.#endListing(held, listing.names);
  }

  #endListing(held: Held, said: ReadonlySet<string>): void {
    this.#listing = null;
    const before = this.#extra.get(held.id);
    const names = new Set(
      this.#ownNames(held).filter((name) => !said.has(name) && before?.names.has(name) !== false),
    );
    if (names.size === 0) {
      this.#extra.delete(held.id);
      return;
    }
    const listings = (before?.listings ?? 0) + 1;
    this.#extra.set(held.id, { names, listings });
    if (listings < LISTINGS_MAX) return this.#options.emit.again(held.id);
    this.#extra.delete(held.id);
    for (const name of names) {
      this.#report(held.id, `name ${name}`, { primary: "no such name", secondary: "present" });
    }
  }

  #ownNames(held: Held): string[] {
    const fd = this.#done("list", held.id, this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY));
    const found: string[] = [];
    try {
      while (this.#done("list", held.id, this.#backing.getdents(fd, this.#entries)) > 0) {
        while (this.#entries.next()) {
          if (this.#entries.isDot) continue;
          const key = nameKey(this.#entries.name);
          if (held.id < FIRST_ID && OWN_NAMES.includes(key)) continue;
          if (!this.#objects.excludes(held, this.#entries.name)) found.push(key);
        }
      }
    } finally {
      this.#backing.close(fd);
    }
    return found;
  }

  #detail(bytes: Uint8Array, view: DataView, offset: number, length: number): void {
    const { state: wanted, content } = decodeObject(bytes, view, offset, length);
    const { id } = wanted;
    const held = this.#present(id);
    if (held === undefined) {
      return this.#report(id, "object", { primary: "present", secondary: "absent" });
    }
    const state = this.#state(held);
    for (const [what, primary, secondary] of differences(wanted, state)) {
      this.#report(id, what, { primary, secondary });
    }
    if (content.length !== HASH_BYTES || !isInline(state)) return;
    const readable = this.#gave(id, this.#prints.content(held, state, this.#hashesAddress));
    const ours = this.#hashes.subarray(0, HASH_BYTES);
    if (readable && sameBytes(content, ours)) return;
    this.#report(id, "content", {
      offset: 0,
      length: Math.max(wanted.size, state.size),
      primary: content.toHex(),
      secondary: readable ? ours.toHex() : UNREADABLE,
      rotten: this.#rotten.has(id),
    });
  }

  /** The object, if it is here and has a name. */
  #present(id: number): Held | undefined {
    const held = this.#objects.get(id);
    if (held === undefined) return undefined;
    return this.#backing.statx(held.path, this.#stat) < 0 || this.#stat.nlink === 0 ? undefined : held;
  }

  #state(held: Held): ObjectState {
    const state = this.#prints.state(held);
    return typeof state === "number" ? this.#refuse("read the attributes of", held.id, state) : state;
  }

  /** What is clean leaves memory: the disk is what is looked at. */
  #forget(held: Held): void {
    this.#done("read from the disk", held.id, this.#backing.dropCache(this.#io(held)));
  }

  #io(held: Held): number {
    return this.#done("open", held.id, this.#objects.io(held));
  }

  #report(
    id: number,
    what: string,
    has: { offset?: number; length?: number; primary: string; secondary: string; rotten?: boolean },
  ): void {
    this.differing.add(id);
    if (++this.#reports > REPORTS_MAX) return;
    this.#options.emit.report({ id, what, offset: 0, length: 0, ...has });
  }

  /** Whether the disk gave what was to be read; that it does not (EIO) is a difference, and no refusal. */
  #gave(id: number, result: number): boolean {
    if (result === -EIO) return false;
    this.#done("read", id, result);
    return true;
  }

  #done(what: string, id: number, result: number): number {
    return result < 0 ? this.#refuse(what, id, result) : result;
  }

  #refuse(what: string, id: number, result: number): never {
    throw new ApplyError(`Cannot verify object ${id}: could not ${what} it: errno ${-result}`, -result);
  }
}

function keyOf(id: number, block: number): string {
  return `${id}:${block}`;
}

/** What two states have otherwise: what it is, here and there. */
function differences(theirs: ObjectState, ours: ObjectState): [what: string, theirs: string, ours: string][] {
  const pairs: [string, string, string][] = [
    ["mode", theirs.mode.toString(8), ours.mode.toString(8)],
    ["owner", `${theirs.uid}:${theirs.gid}`, `${ours.uid}:${ours.gid}`],
    ["device", `${theirs.rdev}`, `${ours.rdev}`],
    ["size", `${theirs.size}`, `${ours.size}`],
    ["mtime", `${theirs.mtime}`, `${ours.mtime}`],
    ["target", printable(theirs.target), printable(ours.target)],
    ["attributes", attributes(theirs), attributes(ours)],
  ];
  const directory = (theirs.mode & S_IF.MT) === S_IF.DIR;
  if (!directory) pairs.push(["links", `${theirs.nlink}`, `${ours.nlink}`]);
  return pairs.filter(([, a, b]) => a !== b);
}

function attributes({ xattrs }: ObjectState): string {
  return xattrs.map(({ name, value }) => `${printable(name)}=${value.toHex()}`).sort().join(" ");
}
