/**
 * The source's end of a comparison by identity: says of each object what it is, between two mutations, in the stream of
 * the live records.
 *
 * Invariants: what a frame says is true at its place in the stream. `credited <= sent`; `sent - credited` stays below
 * {@link WINDOW} and one frame, so that live records never wait long behind frames. A file gets its last frame only when
 * the target has answered for all its hashes: credit comes in the order of the frames, after what is asked for.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O, S_IF } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { setU64 } from "./bytes.ts";
import { FileSource, type FileSourceOptions, type FileWork, PIECE_BYTES, refused } from "./file_source.ts";
import { readAll, type Sha256 } from "./hashing.ts";
import { IdSet } from "./id_set.ts";
import { nameKey, OWN_NAMES } from "./limbo.ts";
import { ASK_KIND, CONTROL } from "./mutation.ts";
import { BLOCK_BYTES, costOf, encodeObject, type Entry, PART, setContent } from "./object_frame.ts";
import { absentState, type ObjectState, StateKeeper } from "./object_state.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";
import type { Ask } from "./shared.ts";
import { StreamError } from "./stream.ts";
import { type NameListing, openListing, type Survey, SurveySource } from "./survey_source.ts";
import type { Wire } from "./wire.ts";

const ESTALE = 116;
/** Cost of frames sent and not worked off. */
export const WINDOW: number = 8 * 1024 * 1024;
/** Smaller files come whole with their frame: asking would take longer. */
const INLINE_BYTES = 16 * 1024;
/** Files that wait for the target's answer. */
const FILES_MAX = 64;
/** Bytes of directory entries read in a step, about 60 names: each is looked up, and mutations wait meanwhile. */
const LISTING_BYTES = 2048;

/** What {@link ReconcileSource} needs. */
export interface ReconcileSourceOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly wire: Wire;
  readonly addressOf: (bytes: Uint8Array) => number;
  readonly sha256: Sha256;
  /** See {@link FileSourceOptions.lost}. */
  readonly lost?: NonNullable<FileSourceOptions["lost"]>;
  /** Everything, from the roots down. */
  readonly whole: boolean;
  /** The objects that may differ. */
  readonly ids: Iterable<number>;
  /** How many objects there are, where everything is compared; 0: not known. */
  readonly known: number;
  /** Prints come first, and only what differs by them follows; null: the target has next to nothing, or cannot do that. */
  readonly survey: Survey | null;
}

/** How far a comparison is. */
export interface Progress {
  /** Objects said, and all there are as far as that is known. */
  readonly files: number;
  readonly filesTotal: number;
  /** Bytes of content sent. */
  readonly bytes: number;
  /** Bytes of content compared by hashes or known to be zero. */
  readonly compared: number;
  /** Part that is done, from 0 to 1; null: what is to come is not known yet. */
  readonly part: number | null;
  /** Why it is not done. */
  readonly why: string;
}

interface Listing {
  readonly id: number;
  readonly fd: number;
}

/** Sends what is compared, a step at a time. */
export class ReconcileSource {
  readonly #options: ReconcileSourceOptions;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #wire: Wire;
  readonly #states: StateKeeper;
  readonly #content: FileSource;
  readonly #stat = new Statx();
  readonly #entries = new Dirents(LISTING_BYTES);
  /** Ids to be said; those before `#next` are. */
  #queue: number[] = [];
  #next = 0;
  readonly #queued = new IdSet();
  /** Of a walk over everything: objects met. */
  readonly #met = new IdSet();
  readonly #files = new Map<number, FileWork>();
  #listing: Listing | null = null;
  readonly #survey: SurveySource | null;
  /** Objects that may differ, for their prints to be compared first. */
  readonly #offered: Set<number>;
  /** The directory whose names are said, for the target to compare. */
  #names: NameListing | null = null;
  /** What the target asked for comes whole. */
  readonly #asked = new IdSet();
  #sent = 0;
  #credited = 0;
  #phase: "open" | "closing" | "done" = "open";
  #waiting = false;
  #said = 0;

  constructor(options: ReconcileSourceOptions) {
    this.#options = options;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#wire = options.wire;
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#content = new FileSource({
      ...options,
      io: (held) => this.#io(held),
      bodyAddress: () => this.#wire.bodyAddress,
      body: () => this.#wire.body,
      send: (op, fields, length) => this.#control(op, fields, length),
    });
    this.#offered = new Set(options.ids);
    this.#survey = options.survey === null ? null : this.#openSurvey(options.survey);
    if (this.#survey === null) {
      this.#addRoots();
      for (const id of this.#offered) this.add(id);
    }
    // A target that was cut off has none of them: they are open and nowhere in the tree.
    for (const id of options.objects.orphans()) this.add(id);
  }

  /** One more object may differ. */
  add(id: number): void {
    if (id < FIRST_ID && (id < 1 || id > this.#objects.rootCount)) return;
    this.#met.add(id);
    this.#waiting = false;
    if (this.#queued.add(id)) this.#queue.push(id);
  }

  /** One more object may differ. */
  offer(id: number): void {
    // Whoever reads the set is done with it once the survey is over. Former programs offer 0, which is no object's.
    if (this.#survey === null || this.#survey.over) this.add(id);
    else if (id > 0) this.#offered.add(id);
  }

  /** Takes what the target asked for or told. */
  onAsk(ask: Ask): void {
    this.#waiting = false;
    switch (ask.kind) {
      case ASK_KIND.credit:
        this.#credited = Math.min(this.#sent, Math.max(this.#credited, ask.length));
        return;
      case ASK_KIND.missing:
        this.#asked.add(ask.id);
        return this.add(ask.id);
      case ASK_KIND.want:
        return this.#want(ask);
      case ASK_KIND.done:
        if (this.#phase === "closing" && this.#idle) this.#phase = "done";
        return;
      default:
        throw new RangeError(`Cannot take what the target asked for: kind ${ask.kind} is not known`);
    }
  }

  /**
   * Sends one frame, or a directory's next names. Call it between two mutations.
   *
   * @param budget bytes of content to be read at most.
   * @returns `waiting`: nothing to do until the target has said something.
   * @throws {StreamError} when the peer is gone, or an object cannot be read.
   */
  step(budget: number): "busy" | "waiting" | "done" {
    const result = this.#step(budget);
    this.#waiting = result === "waiting";
    return result;
  }

  /** The last step found nothing to do, and nothing was asked for since. */
  get waiting(): boolean {
    return this.#waiting;
  }

  #step(budget: number): "busy" | "waiting" | "done" {
    if (this.#phase === "done") return "done";
    if (this.#sent - this.#credited >= WINDOW) return "waiting";
    if (this.#listing !== null) {
      this.#list(this.#listing, 0);
      return "busy";
    }
    if (this.#names !== null) {
      this.#listNames(this.#names, budget);
      return "busy";
    }
    const piece = Math.min(PIECE_BYTES, Math.max(BLOCK_BYTES, budget));
    for (const file of this.#files.values()) if (this.#advance(file, piece)) return "busy";
    if (this.#files.size < FILES_MAX && this.#next < this.#queue.length) {
      this.#object(this.#take());
      return "busy";
    }
    // Later than what was asked for: little is under way when a comparison is cut short.
    if (this.#survey?.over === false) {
      this.#survey.step(budget);
      if (this.#survey.over) this.#addRoots();
      return "busy";
    }
    if (this.#idle && this.#phase === "open" && this.#credited === this.#sent) {
      this.#sendReconciled();
      this.#phase = "closing";
    }
    return "waiting";
  }

  /** How far it is, for people. */
  progress(): Progress {
    const surveyed = this.#survey?.counters ?? { objects: 0, bytes: 0 };
    const files = this.#said + surveyed.objects;
    return {
      files,
      filesTotal: Math.max(this.#options.known, files + (this.#survey?.over === false ? 0 : this.#left)),
      bytes: this.#content.bytes,
      compared: this.#content.compared + surveyed.bytes,
      part: this.#part(files),
      why: this.#why(),
    };
  }

  /** The session is over. */
  close(): void {
    if (this.#listing !== null) this.#backing.close(this.#listing.fd);
    if (this.#names !== null) this.#backing.close(this.#names.fd);
    this.#listing = this.#names = null;
    this.#files.clear();
  }

  #openSurvey(survey: Survey): SurveySource {
    const { whole } = this.#options;
    return new SurveySource({
      ...this.#options,
      survey,
      ids: whole ? null : this.#offered.values(),
      other: (id) => this.add(id),
      said: (id) => this.#met.add(id),
      meet: (id) => this.#meet(id),
      send: (op, fields, length) => this.#control(op, fields, length),
    });
  }

  #addRoots(): void {
    for (let root = 1; this.#options.whole && root <= this.#objects.rootCount; root++) this.add(root);
  }

  get #left(): number {
    const listing = this.#listing === null && this.#names === null ? 0 : 1;
    return this.#queue.length - this.#next + this.#files.size + listing + (this.#survey?.left ?? 0);
  }

  get #idle(): boolean {
    return this.#left === 0;
  }

  /** By ids, and within a file by its bytes: large files are done as their ids come. Without prints by objects, as they are walked to. */
  #part(files: number): number | null {
    const { survey, whole, known } = this.#options;
    if (!whole) return null;
    if (survey === null) return known >= files + this.#left ? files / Math.max(1, known) : null;
    let waiting = this.#queue.length - this.#next;
    for (const file of this.#files.values()) waiting += 1 - file.hashAt / Math.max(1, file.size);
    const place = 1 - (this.#survey?.left ?? 0) / Math.max(1, survey.until);
    return Math.max(0, Math.min(1, place - waiting / Math.max(1, known)));
  }

  #why(): string {
    if (this.#phase === "done") return "the copies are equal";
    if (this.#sent - this.#credited >= WINDOW) return "the secondary works off what it was sent";
    if (this.#phase === "closing" && this.#idle) return "the secondary brings everything to its disk";
    if (this.#survey?.over === false) return "what both have is being compared";
    if (this.#files.size > 0) {
      return `${this.#left} objects to go, ${this.#files.size} of them files being compared`;
    }
    return `${this.#left} objects to go`;
  }

  #meet(id: number): void {
    if (!this.#met.has(id)) this.add(id);
  }

  #take(): number {
    const id = this.#queue[this.#next++] ?? 0;
    this.#queued.delete(id);
    if (this.#next > 65536 && this.#next * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#next);
      this.#next = 0;
    }
    // More came after it had said it was finished.
    this.#phase = "open";
    return id;
  }

  #want({ id, offset, length }: Ask): void {
    const file = this.#files.get(id);
    if (file === undefined) return;
    // A range may still come for an earlier frame of the same object: only "compare" and "all of it" are answers.
    const all = offset === 0 && length === file.size;
    if (file.asked && (all || length === 0)) {
      file.asked = false;
      file.mark = this.#sent;
      if (all) file.hashAt = file.size;
    }
    if (length > 0) file.wants.push({ offset, length });
  }

  #object(id: number): void {
    this.#files.delete(id);
    const held = this.#present(id);
    if (held === undefined) return this.#gone(id);
    const state = this.#state(held);
    if (held.type === S_IF.DIR) {
      if (this.#survey !== null && this.#options.whole && !this.#asked.has(id)) {
        this.#names = openListing(this.#backing, id, held.path);
        return this.#listNames(this.#names, 0);
      }
      const fd = this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
      if (fd < 0) throw refused(id, "open", fd);
      this.#listing = { id, fd };
      return this.#list(this.#listing, PART.begin);
    }
    const small = held.type !== S_IF.REG || state.size <= INLINE_BYTES;
    if (small) return this.#sendSmall(held, state);
    this.#send(state, PART.begin, []);
    this.#files.set(id, { id, size: state.size, asked: true, hashAt: 0, mark: this.#sent, wants: [] });
  }

  /** The object, if it still has a name or is open. */
  #present(id: number): Held | undefined {
    const held = this.#objects.get(id);
    if (held === undefined || held.kept) return held;
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0 && failed !== -ESTALE) throw refused(id, "look at", failed);
    return failed < 0 || this.#stat.nlink === 0 ? undefined : held;
  }

  #state(held: Held): ObjectState {
    const state = this.#states.read(held);
    if (typeof state === "number") throw refused(held.id, "read the attributes of", state);
    return state;
  }

  #gone(id: number): void {
    this.#said++;
    this.#control(
      CONTROL.object,
      { id, a: PART.gone },
      encodeObject(this.#wire.body, this.#wire.bodyView, absentState(id), []),
    );
  }

  #sendSmall(held: Held, state: ObjectState): void {
    const wire = this.#wire;
    const length = encodeObject(wire.body, wire.bodyView, state, []);
    if (state.size > 0) {
      const failed = readAll(this.#backing, this.#io(held), wire.bodyAddress + length, state.size, 0);
      if (failed < 0) throw refused(held.id, "read", failed);
      setContent(wire.bodyView, state.size);
      this.#content.bytes += state.size;
    }
    const content = held.type === S_IF.REG ? PART.content : 0;
    this.#said++;
    this.#control(CONTROL.object, { id: held.id, a: PART.begin | content | PART.end }, length + state.size);
  }

  #io(held: Held): number {
    const fd = this.#objects.io(held);
    if (fd < 0) throw refused(held.id, "open", fd);
    return fd;
  }

  #send(state: ObjectState, parts: number, entries: readonly Entry[]): void {
    const length = encodeObject(this.#wire.body, this.#wire.bodyView, state, entries);
    this.#control(CONTROL.object, { id: state.id, a: parts }, length);
  }

  /** Says the next names of a directory; live records between may change it, which the target counts in. */
  #list(listing: Listing, parts: number): void {
    const held = this.#present(listing.id);
    const got = held === undefined ? 0 : this.#backing.getdents(listing.fd, this.#entries);
    if (got < 0) throw refused(listing.id, "list", got);
    const entries: Entry[] = [];
    while (held !== undefined && this.#entries.next()) this.#entry(held, entries);
    if (got > 0 && held !== undefined) return this.#send(this.#state(held), parts | PART.entries, entries);
    this.#backing.close(listing.fd);
    this.#listing = null;
    this.#said++;
    if (held === undefined) return this.#gone(listing.id);
    this.#send(this.#state(held), parts | PART.entries | PART.end, []);
  }

  /** Says the next names of a directory: should they not lead where they do here, the target asks for all of it. */
  #listNames(listing: NameListing, budget: number): void {
    if (this.#present(listing.id) !== undefined && this.#survey?.list(listing, budget) === true) return;
    this.#backing.close(listing.fd);
    this.#names = null;
    this.#said++;
    if (this.#present(listing.id) === undefined) this.#gone(listing.id);
  }

  #entry(parent: Held, into: Entry[]): void {
    if (this.#entries.isDot) return;
    const bare = this.#entries.name;
    if (parent.id < FIRST_ID && OWN_NAMES.includes(nameKey(bare))) return;
    if (this.#objects.excludes(parent, bare)) return;
    const name = new Uint8Array(bare.length + 1);
    name.set(bare);
    const child = this.#objects.lookup(parent, name);
    if (typeof child === "number") throw refused(parent.id, "look up a name in", child);
    into.push({ id: child.id, type: child.type, name, extra: this.#extra(child) });
    const walked = child.type === S_IF.DIR || child.id >= (this.#options.survey?.from ?? 0);
    if (this.#options.whole && walked) this.#meet(child.id);
  }

  #extra(child: Held): Uint8Array {
    if (child.type === S_IF.LNK) {
      const target = this.#states.readlink(child.path);
      if (typeof target === "number") throw refused(child.id, "read the target of", target);
      return target;
    }
    if (child.type !== S_IF.CHR && child.type !== S_IF.BLK) return NOTHING;
    const failed = this.#backing.statx(child.path, this.#stat);
    if (failed < 0) throw refused(child.id, "look at", failed);
    const device = new Uint8Array(4);
    new DataView(device.buffer).setUint32(0, this.#stat.rdev, true);
    return device;
  }

  /** One frame for a file. False: it waits for the target. */
  #advance(file: FileWork, piece: number): boolean {
    if (file.asked) return false;
    const held = this.#present(file.id);
    if (held === undefined) {
      this.#files.delete(file.id);
      this.#gone(file.id);
      return true;
    }
    const want = file.wants[0];
    if (want !== undefined) {
      this.#content.data(held, want, piece);
      if (want.length <= 0) file.wants.shift();
      return true;
    }
    const end = Math.min(file.size, this.#content.sizeOf(held));
    if (file.hashAt < end) {
      this.#content.hashes(held, file, end, piece);
      file.mark = this.#sent;
      return true;
    }
    if (this.#credited < file.mark) return false;
    this.#files.delete(file.id);
    this.#said++;
    this.#send(this.#state(held), PART.end, []);
    return true;
  }

  /** With the objects that are open without a name: releases on the way have made what the target noted out of date. */
  #sendReconciled(): void {
    const orphans = this.#objects.orphans();
    const { body, bodyView } = this.#wire;
    if (orphans.length * 8 > body.length) {
      throw new StreamError(
        "protocol",
        `Cannot finish the comparison: ${orphans.length} deleted files are open`,
      );
    }
    orphans.forEach((id, index) => setU64(bodyView, index * 8, id));
    this.#control(CONTROL.reconciled, {}, orphans.length * 8);
  }

  #control(op: number, fields: { id?: number; a?: number; b?: number; c?: number }, length: number): void {
    this.#wire.control(op, fields, length);
    this.#sent += costOf(op, { body: this.#wire.bodyView, at: 0, length, covered: fields.c ?? 0 });
  }
}

const NOTHING = new Uint8Array(0);
