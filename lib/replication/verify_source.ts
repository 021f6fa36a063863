/**
 * The primary's end of a verification: goes through all objects by id and says what each is, between two mutations, in the
 * stream of the live records, so that a frame is true at its place. Nothing is written.
 *
 * By id and not by name: applications rename meanwhile, and the place reached is one number, from which a pass goes on
 * after whatever interrupted it. Objects made meanwhile have higher ids than the pass began with; they were made on both
 * nodes by the same record.
 *
 * What this node's disk did not keep is told by its {@link Witness}: the secondary then hears of both, what is there now and what
 * both nodes had. Until it has answered, and what it has is written back, the object counts as not looked at. What cannot be read
 * and of which nothing is known is left out, and told.
 *
 * Invariant: `reached` is an id below which the secondary has looked at everything; `heard <= said`, and at most
 * {@link WINDOW} frames are between them.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O, S_IF, SEEK } from "../system/linux.ts";
import { setU64 } from "./bytes.ts";
import { Fingerprinter, INLINE_BYTES, isInline } from "./fingerprint.ts";
import { BlockHasher, HASH_BYTES, type Sha256 } from "./hashing.ts";
import { nameKey, OWN_NAMES } from "./limbo.ts";
import { ASK_KIND, CONTROL } from "./mutation.ts";
import { BLOCK_BYTES, encodeObject, setContent } from "./object_frame.ts";
import type { ObjectState } from "./object_state.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";
import { type Place, Rot, type Rotten } from "./rot.ts";
import type { Ask } from "./shared.ts";
import { SourceRefused } from "./source_refused.ts";
import { FINGERPRINT_BYTES, NAMES, putExpected, putName } from "./verify_frame.ts";
import { type Seen, WHOLE, type Witness } from "./witness.ts";
import type { Wire } from "./wire.ts";

const EIO = 5;
const ENXIO = 6;
const ESTALE = 116;
/** Frames that the secondary has not worked off. */
const WINDOW = 8;
/** Objects of a frame; each takes some system calls on either node. */
const OBJECTS_MAX = 64;
/** What an object costs beside its content, in bytes of content. */
const OBJECT_COST = 16 * 1024;
/** Ids looked up in the object map in one step: most of a reserved block may be free. */
const LOOKS_MAX = 1024;
const PIECE_BYTES = 1024 * 1024;
/** Bytes of directory entries read in a step. */
const LISTING_BYTES = 4096;
/** A frame's body is put together here: records that are sent on the way are put together where frames are. */
const BODY_BYTES = 64 * 1024;
/** Read ahead of what is hashed. */
const AHEAD_BYTES = 4 * 1024 * 1024;
/** What the next frame looks at is fetched meanwhile; ids looked at for that. */
const FETCH_LOOKS_MAX = 256;

/** What {@link VerifySource} needs. */
export interface VerifySourceOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly wire: Wire;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly sha256: Sha256;
  /** Whether there is an object of that id. */
  readonly exists: (id: number) => boolean;
  /** Tells the secondary what of an object's times it was not told yet. */
  readonly tellTime: (id: number) => void;
  /** Frames that were said in this session before: the secondary counts all of them. */
  readonly saidBefore: number;
  /** What both nodes had; null: the secondary would not understand. */
  readonly witness: Witness | null;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** Of the last record. */
  readonly sequence: () => number;
  /** Content that cannot be read, and of which nobody knows what it was, is left out. */
  readonly onUnreadable: (place: Place) => void;
  /** First id, and the one after the last. */
  readonly from: number;
  readonly until: number;
}

interface FileWork {
  readonly id: number;
  at: number;
  /** Where a block begins that cannot be read and is left out. */
  unreadable?: number;
  /** Where to stop, if before the file's end. */
  readonly until?: number;
  /** Up to here memory was let go of, and the disk asked. */
  ahead: number;
}

interface Listing {
  readonly id: number;
  readonly fd: number;
  begun: boolean;
}

/** Says what there is, a step at a time. */
export class VerifySource {
  readonly #options: VerifySourceOptions;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #wire: Wire;
  readonly #prints: Fingerprinter;
  readonly #hasher: BlockHasher;
  readonly #entries = new Dirents(LISTING_BYTES);
  readonly #body = new Uint8Array(BODY_BYTES);
  readonly #bodyView = new DataView(this.#body.buffer);
  readonly #bodyAddress: number;
  readonly #files: FileWork[] = [];
  readonly #directories: number[] = [];
  readonly #details: number[] = [];
  readonly #rot: Rot;
  /** Small files that were written back. */
  readonly #again: number[] = [];
  #listing: Listing | null = null;
  #next: number;
  /** Below, the content of small files was asked of the disk. */
  #fetched = 0;
  #said = 0;
  #heard = 0;
  /** Frames under way, and what is reached when each was worked off. */
  #marks: number[] = [];
  #reached: number;
  readonly #counters = { objects: 0, bytes: 0 };

  constructor(options: VerifySourceOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#wire = options.wire;
    this.#bodyAddress = options.addressOf(this.#body);
    this.#prints = new Fingerprinter(options);
    this.#hasher = new BlockHasher(options.backing, options.sha256, options.addressOf);
    this.#next = this.#reached = options.from;
    this.#rot = new Rot(options);
    options.witness?.seek(options.from);
  }

  /** Below this id everything was looked at on both nodes. */
  get reached(): number {
    let reached = this.#reached;
    for (const { id } of this.#rot.found) reached = Math.min(reached, id);
    return reached;
  }

  /** What has rotted here and waits for what the secondary has. */
  get rotten(): readonly Rotten[] {
    return this.#rot.found;
  }

  /** The secondary has answered. Undefined: it was not asked. */
  settle(id: number, block: number): Rotten | undefined {
    return this.#rot.settle(id, block);
  }

  /** What was written back is looked at once more. */
  recheck({ id, block, offset, length }: Rotten): void {
    if (block === WHOLE) this.#again.push(id);
    else this.#files.push({ id, at: offset, until: offset + length, ahead: offset });
  }

  /** Frames said since this was made. */
  get said(): number {
    return this.#said;
  }

  /** Objects said and bytes read since this was made. */
  get counters(): { readonly objects: number; readonly bytes: number } {
    return this.#counters;
  }

  /** Takes what the secondary says. */
  onAsk(ask: Ask): void {
    if (ask.kind === ASK_KIND.verified) {
      const heard = Math.min(this.#said, Math.max(this.#heard, ask.length - this.#options.saidBefore));
      for (; this.#heard < heard; this.#heard++) this.#reached = this.#marks.shift() ?? this.#reached;
    } else if (ask.kind === ASK_KIND.detail) this.#details.push(ask.id);
    else if (ask.kind === ASK_KIND.again) this.#directories.push(ask.id);
  }

  /**
   * Sends one frame at most. Call it between two mutations.
   *
   * @param budget bytes of content to be read at most.
   * @returns `done`: the secondary has looked at everything that was said.
   * @throws {StreamError} when the secondary is gone, or something but content cannot be read.
   */
  step(budget: number): "busy" | "waiting" | "done" {
    if (this.#said - this.#heard >= WINDOW || this.#rot.full) return "waiting";
    const detail = this.#details.shift();
    const again = detail === undefined ? this.#again.shift() : undefined;
    if (detail !== undefined) this.#sendDetail(detail);
    else if (again !== undefined) this.#sendPrint(again);
    else if (this.#listing !== null) this.#list(this.#listing);
    else if (this.#files[0] !== undefined) this.#sendBlocks(this.#files[0], budget);
    else if (this.#directories.length > 0) this.#open(this.#directories.shift() ?? 0);
    else if (this.#next < this.#options.until) this.#gather(budget);
    else return this.#said === this.#heard && this.#rot.none ? "done" : "waiting";
    return "busy";
  }

  /** The session is over, or nothing more is wanted. */
  close(): void {
    if (this.#listing !== null) this.#backing.close(this.#listing.fd);
    this.#listing = null;
  }

  /** The next objects in one frame. */
  #gather(budget: number): void {
    let count = 0;
    let cost = 0;
    const rotten: Rotten[] = [];
    for (let looks = 0; looks < LOOKS_MAX && count < OBJECTS_MAX && cost < budget; looks++) {
      if (this.#next >= this.#options.until || this.#files.length + this.#directories.length > 0) break;
      const id = this.#next++;
      const held = this.#present(id);
      if (held === undefined) continue;
      const state = this.#state(held);
      // It may have lost its last name by the way it was opened.
      if (state.nlink === 0) continue;
      const inline = isInline(state) ? state.size : 0;
      cost += OBJECT_COST + inline;
      const found = this.#takePrint(held, state, count * FINGERPRINT_BYTES);
      if (found === "unreadable") continue;
      if (found !== null) rotten.push(found);
      count++;
      this.#counters.objects++;
      this.#counters.bytes += inline;
      if (held.type === S_IF.DIR) this.#directories.push(id);
      else if (state.size > inline) this.#files.push({ id, at: 0, ahead: 0 });
    }
    this.#sendExpected(rotten);
    this.#fetchAhead(count);
    if (count > 0) this.#sendBody(CONTROL.fingerprints, {}, count * FINGERPRINT_BYTES);
    else if (this.#said === this.#heard) this.#reached = this.#here;
  }

  /** The entry of one object, at a place of the body. Answers what of it has rotted, or that it is left out. */
  #takePrint(held: Held, state: ObjectState, at: number, again = false): Rotten | "unreadable" | null {
    const { id } = held;
    const content = isInline(state) && state.size > 0;
    const fd = content && id >= this.#fetched ? this.#objects.io(held) : -1;
    if (fd >= 0) this.#rot.letGo(fd, 0, INLINE_BYTES);
    const seen = content ? this.#rot.see(held) : null;
    const failed = this.#prints.take(held, state, this.#bodyAddress + at + 8);
    if (failed < 0 && failed !== -EIO) throw refused(id, "read", failed);
    setU64(this.#bodyView, at, id);
    const print = this.#body.subarray(at + 8, at + FINGERPRINT_BYTES);
    const place = { block: WHOLE, offset: 0, length: state.size, again };
    const found = this.#rot.judge(seen, place, print, failed >= 0);
    if (found === "unreadable") this.#options.onUnreadable({ id, offset: 0, length: state.size });
    return found;
  }

  /** Has the content of so many of the small files that come next read meanwhile: applications wait for a step. */
  #fetchAhead(count: number): void {
    this.#fetched = Math.max(this.#fetched, this.#next);
    let left = count;
    for (let looks = 0; looks < FETCH_LOOKS_MAX && left > 0; looks++) {
      if (this.#fetched >= this.#options.until) return;
      const id = this.#fetched++;
      const held = this.#options.exists(id) ? this.#objects.get(id) : undefined;
      const fd = held?.type === S_IF.REG && !held.kept && !held.orphan ? this.#objects.io(held) : -1;
      if (fd < 0) continue;
      left--;
      this.#rot.letGo(fd, 0, INLINE_BYTES);
      this.#backing.readAhead(fd, 0, INLINE_BYTES);
    }
  }

  /** One object alone, once more. */
  #sendPrint(id: number): void {
    const held = this.#present(id);
    const state = held === undefined ? undefined : this.#state(held);
    if (held === undefined || state === undefined || state.nlink === 0) return;
    const found = this.#takePrint(held, state, 0, true);
    if (found === "unreadable") return;
    if (found !== null) this.#sendExpected([found]);
    this.#sendBody(CONTROL.fingerprints, {}, FINGERPRINT_BYTES);
  }

  /** What of the next frame is not what both nodes had. */
  #sendExpected(rotten: readonly Rotten[]): void {
    if (rotten.length === 0) return;
    this.#rot.ask(rotten);
    const length = putExpected(this.#wire.body, this.#wire.bodyView, rotten);
    // It is worked off with the frame that follows.
    this.#send(CONTROL.expected, {}, length, this.#marks.at(-1) ?? this.#reached);
  }

  /** The object, if it has a name and its attributes are told. */
  #present(id: number): Held | undefined {
    if (id < FIRST_ID ? id < 1 || id > this.#objects.rootCount : !this.#options.exists(id)) return undefined;
    const held = this.#objects.get(id);
    // What has lost its name belongs to the node whose kernel has it open.
    if (held === undefined || held.kept || held.orphan) return undefined;
    this.#options.tellTime(id);
    return held;
  }

  #state(held: Held): ObjectState {
    const state = this.#prints.state(held);
    if (typeof state === "number") throw refused(held.id, "read the attributes of", state);
    return state;
  }

  #sendBlocks(file: FileWork, budget: number): void {
    const held = this.#present(file.id);
    const state = held === undefined ? undefined : this.#state(held);
    if (held === undefined || state === undefined || file.at >= state.size || state.nlink === 0) {
      this.#files.shift();
      return;
    }
    const fd = this.#objects.io(held);
    if (fd < 0) throw refused(held.id, "open", fd);
    const size = Math.min(state.size, file.until ?? state.size);
    const start = file.at;
    if (start >= size) {
      this.#files.shift();
      return;
    }
    const seen = this.#rot.see(held);
    const data = this.#backing.lseek(fd, start, SEEK.DATA);
    if (data < 0 && data !== -ENXIO) throw refused(held.id, "look for holes in", data);
    const hole = data < 0 ? size : Math.min(size, data - data % BLOCK_BYTES);
    if (hole > start) {
      file.at = hole;
      return this.#send(CONTROL.verifyBlocks, { id: file.id, a: start, b: state.size, c: hole - start }, 0);
    }
    const piece = Math.max(BLOCK_BYTES, Math.min(PIECE_BYTES, budget - budget % BLOCK_BYTES));
    let stop = Math.min(size, start + piece);
    if (file.unreadable === start) return this.#leaveOut(file, Math.min(BLOCK_BYTES, size - start));
    this.#readAhead(file, fd, stop);
    const rotten: Rotten[] = [];
    const failed = this.#hasher.hash(fd, start, stop, this.#bodyAddress);
    if (failed < 0 && failed !== -EIO) throw refused(held.id, "read", failed);
    for (let at = start; at < stop; at += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, stop - at);
      const again = file.until !== undefined;
      const found = this.#judgeBlock(held.id, { fd, at, length, again, place: start, seen, failed });
      if (found === "unreadable") {
        file.unreadable = at;
        stop = at;
      } else if (found !== null) rotten.push(found);
    }
    // What comes before it is said first.
    if (stop === start) return this.#leaveOut(file, Math.min(BLOCK_BYTES, size - start));
    file.at = stop;
    this.#counters.bytes += stop - start;
    if (stop >= size) this.#files.shift();
    this.#sendExpected(rotten);
    const fields = { id: file.id, a: start, b: state.size, c: stop - start };
    this.#sendBody(CONTROL.verifyBlocks, fields, Math.ceil((stop - start) / BLOCK_BYTES) * HASH_BYTES);
  }

  /** Goes on behind a block that cannot be read. */
  #leaveOut(file: FileWork, length: number): void {
    this.#options.onUnreadable({ id: file.id, offset: file.at, length });
    file.at += length;
  }

  /** Whether a block of a frame that begins at `place` has rotted. `failed`: of reading all of them. */
  #judgeBlock(
    id: number,
    of: {
      readonly fd: number;
      readonly at: number;
      readonly length: number;
      readonly again: boolean;
      readonly place: number;
      readonly seen: Seen | null;
      readonly failed: number;
    },
  ): Rotten | "unreadable" | null {
    const { fd, at, length, again, seen, failed } = of;
    const block = at / BLOCK_BYTES;
    const put = (at - of.place) / BLOCK_BYTES * HASH_BYTES;
    const print = this.#body.subarray(put, put + HASH_BYTES);
    const one = failed < 0 ? this.#hasher.hash(fd, at, at + length, this.#bodyAddress + put) : 0;
    if (one < 0 && one !== -EIO) throw refused(id, "read", one);
    return this.#rot.judge(seen, { block, offset: at, length, again }, print, one >= 0);
  }

  /** Has what comes next fetched from the disk. */
  #readAhead(file: FileWork, fd: number, stop: number): void {
    file.ahead = Math.max(file.ahead, file.at);
    while (file.ahead < stop + AHEAD_BYTES / 2) {
      this.#rot.letGo(fd, file.ahead, AHEAD_BYTES);
      const first = Math.max(file.ahead, stop);
      file.ahead += AHEAD_BYTES;
      this.#backing.readAhead(fd, first, file.ahead - first);
    }
  }

  #open(id: number): void {
    const held = this.#present(id);
    if (held === undefined) return;
    const fd = this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd === -ESTALE) return;
    if (fd < 0) throw refused(id, "open", fd);
    this.#listing = { id, fd, begun: false };
    this.#list(this.#listing);
  }

  /** The next names of a directory. What changes between two steps makes the secondary ask for it again. */
  #list(listing: Listing): void {
    const held = this.#present(listing.id);
    const got = held === undefined ? 0 : this.#backing.getdents(listing.fd, this.#entries);
    if (got < 0) throw refused(listing.id, "list", got);
    let at = 0;
    while (held !== undefined && got > 0 && this.#entries.next()) {
      if (this.#entries.isDot) continue;
      const bare = this.#entries.name;
      if (held.id < FIRST_ID && OWN_NAMES.includes(nameKey(bare))) continue;
      if (this.#objects.excludes(held, bare)) continue;
      const name = new Uint8Array(bare.length + 1);
      name.set(bare);
      at = putName(this.#body, this.#bodyView, at, { id: this.#idOf(held, name), name });
    }
    const flags = (listing.begun ? 0 : NAMES.begin) | (got > 0 ? 0 : NAMES.end);
    listing.begun = true;
    if (got === 0) {
      this.#backing.close(listing.fd);
      this.#listing = null;
    }
    if (held !== undefined) this.#sendBody(CONTROL.names, { id: listing.id, a: flags }, at);
  }

  /** An object that nobody has looked up since it was there gets its id now, and counts as differing. */
  #idOf(parent: Held, name: Uint8Array): number {
    const id = this.#objects.idAt(parent, name);
    if (id > 0) return id;
    const child = this.#objects.lookup(parent, name);
    if (typeof child === "number") throw refused(parent.id, "look up a name in", child);
    return child.id;
  }

  /** All that is known of one object: the secondary says what of it differs. */
  #sendDetail(id: number): void {
    const held = this.#present(id);
    const state = held === undefined ? undefined : this.#state(held);
    if (held === undefined || state === undefined || state.nlink === 0) return;
    const length = encodeObject(this.#wire.body, this.#wire.bodyView, state, []);
    if (!isInline(state)) return this.#send(CONTROL.detail, { id }, length);
    const failed = this.#prints.content(held, state, this.#wire.bodyAddress + length);
    if (failed === -EIO) {
      this.#options.onUnreadable({ id, offset: 0, length: state.size });
      return this.#send(CONTROL.detail, { id }, length);
    }
    if (failed < 0) throw refused(id, "read", failed);
    setContent(this.#wire.bodyView, HASH_BYTES);
    this.#send(CONTROL.detail, { id }, length + HASH_BYTES);
  }

  /** The first id of which something is still to be said. */
  get #here(): number {
    return Math.min(
      this.#next,
      this.#files[0]?.id ?? this.#next,
      this.#listing?.id ?? this.#next,
      ...this.#directories,
    );
  }

  #sendBody(op: number, fields: { id?: number; a?: number; b?: number; c?: number }, length: number): void {
    this.#wire.body.set(this.#body.subarray(0, length));
    this.#send(op, fields, length);
  }

  #send(
    op: number,
    fields: { id?: number; a?: number; b?: number; c?: number },
    length: number,
    mark = this.#here,
  ): void {
    this.#wire.control(op, fields, length);
    this.#said++;
    this.#marks.push(mark);
  }
}

function refused(id: number, what: string, result: number): SourceRefused {
  return new SourceRefused("verify", id, what, result);
}
