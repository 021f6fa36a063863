/**
 * The target's end of a comparison by identity: makes each object what the frame says, and asks for what differs.
 *
 * Invariants: when the last frame of an object was worked off, it is the source's from there on, since live records
 * after it apply exactly. Credit for a frame is told after everything asked for because of it. When nothing asked for is
 * open at the end, the trees are equal; only then is anything deleted.
 *
 * @module
 */

import type { Compared } from "../journal/meta.ts";
import { OFFSET } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { AttributesTarget } from "./attributes_target.ts";
import { sameBytes, u64 } from "./bytes.ts";
import { ContentTarget, refusal } from "./content_target.ts";
import { ComparedPlace } from "./compared_place.ts";
import { creation, type Unchangeable, unchangeable } from "./creation.ts";
import { ApplyError } from "./follower.ts";
import { FRAME_HEADER } from "./frame.ts";
import type { Sha256 } from "./hashing.ts";
import type { Lenient } from "./lenient.ts";
import type { Limbo } from "./limbo.ts";
import { type Keeping, Sweeper } from "./limbo_sweep.ts";
import { namesBut } from "./names_beneath.ts";
import { CONTROL, Mutation, type ReconcileBegin } from "./mutation.ts";
import { costOf, decodeObject, type Entry, type ObjectFrame, PART } from "./object_frame.ts";
import { type ObjectState, StateKeeper } from "./object_state.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";
import type { Quarantine, Saved } from "./quarantine.ts";
import { StreamError } from "./stream.ts";
import { SurveyTarget } from "./survey_target.ts";

const EEXIST = 17;
const ENODATA = 61;
/** Credit is told when so much was worked off, or when there is nothing else to do. */
const CREDIT_BYTES = 512 * 1024;

/** What the target tells the source. */
export interface Emit {
  /** `length` 0: compare by hashes; else send these bytes. */
  want(id: number, ranges: readonly { readonly offset: number; readonly length: number }[]): void;
  missing(ids: readonly number[]): void;
  /** The running total of what was worked off, see {@link costOf}. */
  credit(bytes: number): void;
}

/** What {@link ReconcileTarget} needs. */
export interface ReconcileTargetOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly limbo: Limbo;
  /** Executes the live records; it shares `limbo`. */
  readonly lenient: Lenient;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly sha256: Sha256;
  readonly emit: Emit;
  /**
   * The object differs from here until the comparison is complete: durable when it returns, and among what the next session
   * compares should this one be cut short.
   */
  readonly touch: (id: number) => void;
  /** Writes down how far a comparison of everything has come: durable when it returns. */
  readonly saveCompared: (compared: Compared | null) => void;
  /** How many ids apart; left out: as {@link ComparedPlace} has it. */
  readonly saveEvery?: number;
  /** Memory may show what the disk does not have: what is compared is read from the disk. */
  readonly suspect: () => boolean;
  /** The keeper may close the descriptor of an orphan that the source does not have. */
  readonly dropOrphan: (id: number) => void;
  /**
   * Brings everything under the roots to disk (`syncfs`). 0: it is there; 1: not yet, asked again later; −errno.
   * `root` is a descriptor of a replicated directory.
   */
  readonly sync: (root: number) => number;
}

/** Makes a tree the source's. */
export class ReconcileTarget {
  readonly #options: ReconcileTargetOptions;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #limbo: Limbo;
  readonly #states: StateKeeper;
  readonly #attributes: AttributesTarget;
  readonly #content: ContentTarget;
  readonly #survey: SurveyTarget;
  readonly #place: ComparedPlace;
  readonly #stat = new Statx();
  readonly #mutation = new Mutation();
  /** Asked for and not come since. */
  readonly #reported = new Set<number>();
  #pending: number[] = [];
  #inFrame = false;
  #worked = 0;
  #told = 0;
  #keeping: Keeping | null = null;
  #sweeper: Sweeper | null = null;
  #syncing = -1;
  #complete = false;
  #objectsDone = 0;

  constructor(options: ReconcileTargetOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#limbo = options.limbo;
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#attributes = new AttributesTarget(this.#states);
    this.#content = new ContentTarget(options);
    this.#place = new ComparedPlace(options.saveCompared, options.saveEvery);
    this.#survey = new SurveyTarget({
      ...options,
      missing: (id) => this.missing(id),
      again: (id) => this.#ask(id),
      place: this.#place,
    });
  }

  /**
   * Everything is equal, swept and on disk: {@link finish} may be called. Live records are executed leniently until then.
   */
  get complete(): boolean {
    return this.#complete;
  }

  /** Where what is overwritten goes first; null: it need not be kept. */
  get #overwritten(): Quarantine | null {
    return this.#keeping?.what === "all" ? this.#keeping.quarantine : null;
  }

  /** Objects worked off, and bytes written because they differed. */
  get progress(): { readonly objects: number; readonly bytes: number } {
    return { objects: this.#objectsDone + this.#survey.equal, bytes: this.#content.written };
  }

  /**
   * A comparison begins.
   *
   * @param compared where it goes on, written down already; null: at the beginning.
   * @param keeping `all`: also what is overwritten is saved first.
   */
  begin(begin: ReconcileBegin, compared: Compared | null, keeping: Keeping | null): void {
    this.abort();
    this.#done("look into limbo for", 0, this.#limbo.begin(begin.whole, compared?.from ?? 0));
    this.#place.begin(compared);
    this.#keeping = keeping;
    keeping?.quarantine.join(this.#limbo);
    this.#limbo.guard = this.#overwritten;
    this.#objectsDone = this.#content.written = this.#survey.equal = 0;
    this.#inFrame = true;
    for (const id of compared?.open ?? []) this.missing(id);
    this.#inFrame = false;
    this.#flushMissing();
  }

  /** The session is over before its time; what was made equal stays so. */
  abort(): void {
    this.#sweeper?.close();
    this.#sweeper = null;
    this.#keeping?.quarantine.abort();
    this.#keeping = null;
    this.#limbo.end();
    this.#reported.clear();
    this.#pending = [];
    this.#worked = this.#told = 0;
    this.#syncing = -1;
    this.#complete = false;
    this.#inFrame = false;
  }

  /** An object is not here, or the entries of a directory are not right: it must be sent. */
  missing(id: number): void {
    if (this.#limbo.phase !== "collecting") return;
    this.#place.open(id);
    this.#ask(id);
  }

  #ask(id: number): void {
    if (this.#reported.has(id)) return;
    this.#options.touch(id);
    this.#reported.add(id);
    this.#pending.push(id);
    if (!this.#inFrame) this.#flushMissing();
  }

  /**
   * Works off a frame of `length` bytes at `offset`, header included; `address` is that of `bytes`.
   *
   * @throws {ApplyError} when the disk refuses, or something cannot be saved first.
   * @throws {StreamError} when the frame makes no sense here.
   */
  frame(
    op: number,
    bytes: Uint8Array,
    view: DataView,
    offset: number,
    length: number,
    address: number,
  ): void {
    if (this.#limbo.phase !== "collecting") {
      throw new StreamError("protocol", `Cannot take frame ${op}: no comparison is going on`);
    }
    this.#inFrame = true;
    if (op === CONTROL.object) {
      this.#object(decodeObject(bytes, view, offset, length), address + offset + length);
    } else if (op === CONTROL.blocks) this.#blocks(bytes, view, offset, length);
    else if (op === CONTROL.data) this.#data(view, offset, length, address);
    else if (op === CONTROL.prints || op === CONTROL.listed) {
      this.#survey.frame(op, bytes, view, offset, length);
    } else if (op === CONTROL.reconciled) this.#reconciled(view, offset + FRAME_HEADER, offset + length);
    else throw new StreamError("protocol", `Cannot take frame ${op}: it does not belong to a comparison`);
    this.#inFrame = false;
    this.#flushMissing();
    this.#worked += costOf(op, {
      body: view,
      at: offset + FRAME_HEADER,
      length: length - FRAME_HEADER,
      covered: u64(view, offset + OFFSET.c),
    });
    if (this.#worked - this.#told >= CREDIT_BYTES) this.#tellCredit();
    this.#objects.trim();
  }

  /**
   * Some of what is left to do besides frames; call it when no frame is waiting, and between frames from time to time.
   * Answers whether there is more to do at once.
   */
  step(): boolean {
    if (this.#limbo.phase === "off") return false;
    this.#tellCredit();
    if (this.#limbo.phase !== "sweeping" || this.#complete) return false;
    if (this.#sweeper !== null) {
      if (this.#sweeper.step()) return true;
      this.#sweeper = null;
      this.#syncing = 0;
      return true;
    }
    return this.#sync();
  }

  /** After {@link complete}: the comparison is over. Answers what was put into quarantine. */
  finish(): Saved | null {
    if (!this.#complete) throw new Error("Cannot finish a comparison: it is not complete");
    for (const id of this.#objects.orphans()) {
      if (this.#limbo.orphans.has(id)) continue;
      this.#objects.remove(id);
      this.#options.dropOrphan(id);
    }
    const saved = this.#keeping?.quarantine.close() ?? null;
    this.#keeping = null;
    this.abort();
    return saved;
  }

  #sync(): boolean {
    const held = this.#objects.get(this.#syncing + 1);
    if (held === undefined) {
      this.#complete = true;
      return false;
    }
    const io = this.#objects.io(held);
    const synced = this.#done("bring to disk", held.id, io < 0 ? io : this.#options.sync(io));
    if (synced === 0) this.#syncing++;
    return synced === 0;
  }

  #tellCredit(): void {
    if (this.#told === this.#worked) return;
    this.#told = this.#worked;
    this.#options.emit.credit(this.#worked);
  }

  #flushMissing(): void {
    if (this.#pending.length === 0) return;
    const ids = this.#pending;
    this.#pending = [];
    this.#options.emit.missing(ids);
  }

  /** The source has said everything that it was asked for. */
  #reconciled(view: DataView, start: number, end: number): void {
    const { orphans } = this.#limbo;
    orphans.clear();
    for (let at = start; at + 8 <= end; at += 8) orphans.add(u64(view, at));
    for (const id of this.#unexplained()) {
      if (orphans.has(id)) continue;
      if (this.#limbo.asked.has(id)) {
        throw new ApplyError(
          `Cannot make the copies equal: object ${id} exists on the primary, but no directory compared has its name; ` +
            `compare everything`,
          0,
        );
      }
      this.#limbo.asked.add(id);
      this.missing(id);
    }
    // Live records showed more that is missing: the source was told, and will say again that it is finished.
    if (this.#reported.size > 0) return;
    this.#limbo.phase = "sweeping";
    this.#limbo.guard = null;
    this.#sweeper = new Sweeper({
      backing: this.#backing,
      objects: this.#objects,
      limbo: this.#limbo,
      keeping: this.#keeping,
    });
  }

  /**
   * What would be deleted now without the source having said that it does not have it. When everything was compared, the
   * names say so; in a set, one directory too few would lose what belongs there.
   */
  #unexplained(): number[] {
    const limbo = this.#limbo;
    if (limbo.whole) return [...limbo.nameless];
    const found: number[] = [];
    for (let root = 0; root < this.#objects.rootCount; root++) {
      const ids = limbo.idsIn(root);
      if (typeof ids === "number") throw refusal("look into limbo for", 0, ids);
      found.push(...ids.filter((id) => !limbo.gone.has(id)));
    }
    return found;
  }

  #object(frame: ObjectFrame, end: number): void {
    const { parts, state } = frame;
    const { id } = state;
    if ((parts & PART.gone) !== 0) {
      if (this.#limbo.listing?.id === id) this.#limbo.listing = null;
      this.#limbo.nameless.delete(id);
      this.#limbo.gone.add(id);
      this.#limbo.seen.add(id);
      this.#reported.delete(id);
      this.#place.close(id);
      this.#objectsDone++;
      return;
    }
    const held = (parts & PART.begin) !== 0 ? this.#begin(state, parts) : this.#objects.get(id);
    if (held === undefined || held.type !== (state.mode & S_IF.MT)) return this.missing(id);
    if ((parts & PART.content) !== 0 && held.type === S_IF.REG) {
      this.#content.replace(held, frame.content, end - frame.content.length);
    }
    for (const entry of frame.entries) this.#entry(held, entry);
    if ((parts & PART.end) !== 0) this.#end(held, state);
  }

  /** Makes the object exist, with the right type, attributes and size. */
  #begin(state: ObjectState, parts: number): Held {
    const { id } = state;
    this.#options.touch(id);
    if ((state.mode & S_IF.MT) !== S_IF.DIR) this.#place.open(id);
    this.#reported.delete(id);
    this.#limbo.finished.delete(id);
    this.#limbo.gone.delete(id);
    if (state.nlink === 0) this.#limbo.orphans.add(id);
    const held = this.#usable(state) ?? this.#make(state);
    this.#limbo.seen.add(id);
    if (held.type === S_IF.DIR) this.#limbo.listing = { id, names: new Set() };
    this.#attributes.begin(held, state, this.#overwritten);
    if (held.type === S_IF.REG && this.#options.suspect()) this.#content.forget(held);
    if (held.type === S_IF.REG) this.#resize(held, state, (parts & PART.content) === 0);
    return held;
  }

  /** The object of that id, if it can become what it must be. */
  #usable(state: ObjectState): Held | undefined {
    const held = this.#objects.get(state.id);
    if (held === undefined) return undefined;
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) throw refusal("look at", held.id, failed);
    const named = this.#stat.nlink > 0 || (state.nlink === 0 && held.kept);
    const right = held.type === (state.mode & S_IF.MT) && held.root === state.root && named;
    if (right && this.#sameUnchangeable(held, this.#stat.rdev, state)) return held;
    if (held.id < FIRST_ID) throw refusal("use the replicated directory as", held.id, -EEXIST);
    this.#done("take the id from", held.id, this.#limbo.retire(held));
    return undefined;
  }

  /** What no call can change of an object that exists. */
  #sameUnchangeable(held: Held, rdev: number, wanted: Unchangeable): boolean {
    if (held.type === S_IF.CHR || held.type === S_IF.BLK) return rdev === wanted.rdev;
    if (held.type !== S_IF.LNK) return true;
    const target = this.#states.readlink(held.path);
    if (typeof target === "number") throw refusal("read the target of", held.id, target);
    return sameBytes(target, wanted.target);
  }

  #make(state: ObjectState): Held {
    const made = this.#limbo.make(
      state.root,
      creation(this.#mutation, state.id, state.mode & S_IF.MT, state),
    );
    if (typeof made === "number") throw refusal("make", state.id, made);
    return made;
  }

  /** Cuts or extends a file to its size, and says what of its content must come. */
  #resize(held: Held, state: ObjectState, ask: boolean): void {
    this.#done("look at", held.id, this.#backing.statx(held.path, this.#stat));
    const own = this.#stat.size;
    if (own > state.size) this.#limbo.guard?.content(held, state.size, own - state.size);
    if (own !== state.size) {
      this.#done("resize", held.id, this.#backing.ftruncate(this.#io(held), state.size));
    }
    if (!ask) return;
    this.#options.emit.want(held.id, [{ offset: 0, length: own === 0 ? state.size : 0 }]);
  }

  #io(held: Held): number {
    return this.#done("open", held.id, this.#objects.io(held));
  }

  /** Makes a name of a directory lead to its object, which is made empty where it does not exist. */
  #entry(parent: Held, entry: Entry): void {
    const { id, type, name, extra } = entry;
    const made = unchangeable(type, extra);
    const known = this.#objects.get(id) ?? this.#adoptAt(parent, name, id);
    let held = known;
    if (held !== undefined && !this.#fits(held, parent, type, made)) {
      this.#done("take the id from", id, this.#limbo.retire(held));
      held = undefined;
    }
    if (held !== undefined) {
      this.#done("name", id, this.#limbo.place(parent, name, held));
      return;
    }
    // Empty for now: whoever goes on after this must know that.
    this.#place.open(id);
    if (!this.#takeIn(parent, entry)) {
      this.#done("clear the name of", id, this.#limbo.displace(parent, name));
      const fresh = this.#limbo.makeAt(parent, name, creation(this.#mutation, id, type, made));
      if (typeof fresh === "number") throw refusal("make", id, fresh);
    }
    this.#options.touch(id);
    // In a walk over everything the source comes to it by itself.
    if (!this.#limbo.comes(id) || this.#limbo.seen.has(id)) this.#ask(id);
  }

  /**
   * A directory without an id that stands where the source has one becomes that one: what is in it and stays on this node would
   * go with it otherwise.
   */
  #takeIn(parent: Held, { id, type, name }: Entry): boolean {
    if (type !== S_IF.DIR || !this.#objects.bordered) return false;
    const fd = this.#backing.openat(parent.path, name, O.PATH | O.NOFOLLOW | O.DIRECTORY, 0);
    if (fd < 0) return false;
    const written = this.#objects.readId(fd) === -ENODATA ? this.#objects.writeId(fd, id) : -EEXIST;
    if (written < 0) {
      this.#backing.close(fd);
      return false;
    }
    // A stale handle would be believed otherwise.
    this.#objects.remove(id);
    const held = this.#objects.register(fd, id, parent.root);
    if (typeof held === "number") throw refusal("take in", id, held);
    this.#limbo.note(parent, name);
    return true;
  }

  /** An object that the map does not know may stand at its name already. */
  #adoptAt(parent: Held, name: Uint8Array, id: number): Held | undefined {
    return this.#limbo.idAt(parent, name) === id ? this.#objects.get(id) : undefined;
  }

  #fits(held: Held, parent: Held, type: number, made: Unchangeable): boolean {
    if (held.type !== type || held.root !== parent.root) return false;
    this.#done("look at", held.id, this.#backing.statx(held.path, this.#stat));
    return this.#stat.nlink > 0 && this.#sameUnchangeable(held, this.#stat.rdev, made);
  }

  /** The last frame of an object: it is the source's now, its mtime too. */
  #end(held: Held, state: ObjectState): void {
    if (held.type === S_IF.DIR) this.#displaceOthers(held);
    if (held.type === S_IF.REG) this.#checkSize(held, state);
    this.#attributes.finish(held, state);
    if (!this.#reported.has(held.id)) {
      this.#limbo.finished.add(held.id);
      this.#place.close(held.id);
    }
    this.#objectsDone++;
  }

  /** Sizes follow from the first frame and the records since: another one means that something was not applied. */
  #checkSize(held: Held, state: ObjectState): void {
    if (this.#reported.has(held.id)) return;
    this.#done("look at", held.id, this.#backing.statx(held.path, this.#stat));
    if (this.#stat.size === state.size) return;
    throw new ApplyError(
      `Cannot make object ${held.id} equal: it has ${this.#stat.size} bytes here and ${state.size} on the primary`,
      0,
    );
  }

  /** Names that the source does not have lead nowhere. */
  #displaceOthers(held: Held): void {
    const listing = this.#limbo.listing;
    if (listing === null || listing.id !== held.id) return this.missing(held.id);
    const others = namesBut(this.#backing, this.#objects, held, listing.names);
    this.#limbo.listing = null;
    for (const name of others) this.#done("clear a name in", held.id, this.#limbo.displace(held, name));
  }

  /** Hashes of a range, or nothing: a hole. Asks for the blocks that differ. */
  #blocks(bytes: Uint8Array, view: DataView, offset: number, length: number): void {
    const id = u64(view, offset + OFFSET.id);
    const range = { offset: u64(view, offset + OFFSET.a), length: u64(view, offset + OFFSET.c) };
    const held = this.#file(id);
    if (held === undefined) return;
    if (length === FRAME_HEADER) return this.#content.clear(held, range);
    const hashes = bytes.subarray(offset + FRAME_HEADER, offset + length);
    const ranges = this.#content.compare(held, hashes, range);
    // It is shorter than on the source: a record did not apply, and the object was asked for again.
    if (ranges === undefined) return this.missing(id);
    if (ranges.length > 0) this.#options.emit.want(id, ranges);
  }

  /** Bytes of a range, or nothing: zeros. */
  #data(view: DataView, offset: number, length: number, address: number): void {
    const id = u64(view, offset + OFFSET.id);
    const range = { offset: u64(view, offset + OFFSET.a), length: u64(view, offset + OFFSET.b) };
    const held = this.#file(id);
    if (held === undefined) return;
    if (length === FRAME_HEADER) return this.#content.clear(held, range);
    if (length - FRAME_HEADER !== range.length) {
      const came = length - FRAME_HEADER;
      throw new StreamError("protocol", `Cannot write object ${id}: ${came} bytes came for ${range.length}`);
    }
    this.#content.write(held, address + offset + FRAME_HEADER, range);
  }

  #file(id: number): Held | undefined {
    const held = this.#objects.get(id);
    if (held?.type === S_IF.REG) return held;
    this.missing(id);
    return undefined;
  }

  #done(what: string, id: number, result: number): number {
    if (result < 0) throw refusal(what, id, result);
    return result;
  }
}
