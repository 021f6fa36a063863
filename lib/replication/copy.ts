/**
 * What a node has of a module: log, object map, activity set, and the ledger that says what it is worth. One per
 * module, owned by the thread of the data road.
 *
 * @module
 */

import {
  ActivitySet,
  type CopyState,
  decodeGenerations,
  DiskFullError,
  encodeGenerations,
  type Generation,
  type GenerationJson,
  type History,
  Journal,
  type LastRole,
  MetaStore,
  ObjectMap,
  OP,
  RecordView,
  STATE,
  type Storage,
  withGeneration,
} from "../journal/mod.ts";
import type { Compared } from "../journal/meta.ts";
import { u64 } from "./bytes.ts";
import { inDoubt } from "./doubt.ts";
import { EDITED_MARK } from "./edited_mark.ts";
import type { Beginning, Header } from "./way_back/header.ts";
import { FIRST_ID } from "./objects.ts";

const SEGMENT_BYTES = 4 << 20;

/** No boot has this id: see {@link Copy.crashed}. */
const NO_BOOT = "edited";

/** A copy may not be used, and what to do about it. `code`: for programs that act on the difference. */
export class CopyError extends Error {
  override readonly name = "CopyError";
  constructor(message: string, readonly code: "inconsistent" | null = null) {
    super(message);
  }
}

/** What {@link Copy.open} needs. */
export interface CopyOptions {
  readonly storage: Storage;
  readonly cluster: string;
  readonly module: string;
  readonly node: string;
  /** Random, new at each boot: the same as last time means that no power was lost. */
  readonly bootId: string;
  readonly logBudgetBytes: number;
  /** Of what stays on the node, `markOf` in `border.ts`; none: nothing. */
  readonly excluded?: string;
}

/** Durable knowledge about the data, and the files that hold it. */
export class Copy {
  readonly journal: Journal;
  readonly meta: MetaStore;
  readonly map: ObjectMap;
  readonly activity: ActivitySet;
  /** The disk may hold an arbitrary mix of earlier and later: the last run ended by a power cut. */
  crashed: boolean;
  /** Objects touched since the last checkpoint, for syncing them. */
  #dirty = new Set<number>();
  /** What the activity set named when it was opened may be on no disk yet: whoever touched it is no more. */
  #inherits: boolean;
  /** {@link Journal.cuts} when the checkpoint began. */
  #cuts = 0;
  readonly #bootId: string;

  private constructor(options: CopyOptions, meta: MetaStore) {
    this.meta = meta;
    this.#bootId = options.bootId;
    this.#noteEdited(options.storage);
    this.#noteExcluded(options.excluded ?? "");
    const { value } = meta;
    this.crashed = !value.clean && value.bootId !== options.bootId && value.bootId !== "";
    this.journal = Journal.open({
      storage: options.storage,
      identity: { cluster: options.cluster, module: options.module },
      payloadBudget: options.logBudgetBytes,
      // Small segments: a process that takes over reads the newest ones first, and applications wait for it.
      segmentBytes: SEGMENT_BYTES,
      segmentsMax: Math.max(64, Math.ceil(2 * options.logBudgetBytes / SEGMENT_BYTES)),
      scan: this.crashed ? "all" : "tail",
    });
    if (this.crashed) this.#forgetLog();
    this.map = new ObjectMap(options.storage);
    this.activity = new ActivitySet({ storage: options.storage, fresh: value.history.length === 0 });
    this.#inherits = !value.clean;
  }

  /**
   * What a person did is like what a power cut does: the log does not tell of it. And it is somebody's work, so that whatever
   * replaces it saves it first. A new copy has nothing that could differ.
   */
  #noteEdited(storage: Storage): void {
    if (storage.size(EDITED_MARK) === null) return;
    if (!this.fresh) this.meta.update({ edited: true, clean: false, bootId: NO_BOOT, role: "primary" });
    storage.remove(EDITED_MARK);
    storage.syncDirectory();
  }

  /**
   * Other names stay on the node than before: of those, no log tells. What was this node's own and is replicated from now on may
   * be overwritten, so it is somebody's work too.
   */
  #noteExcluded(excluded: string): void {
    if (excluded === this.meta.value.excluded) return;
    const edited = { edited: true, clean: false, bootId: NO_BOOT, role: "primary" } as const;
    this.meta.update({ excluded, ...(this.fresh ? {} : edited) });
  }

  /**
   * After a power cut the log is a part of what it was: its last records were on no disk yet, while what they did to the
   * directory may be. It can neither be replayed nor name what to compare. Its numbers are not used again: the history,
   * which is durable, tells how far they were used at least.
   */
  #forgetLog(): void {
    const { checkpoint, history } = this.meta.value;
    const last = Math.max(this.journal.last, checkpoint, history.at(-1)?.first ?? 0);
    this.journal.reset(last + 1);
  }

  /** Opens what is there, or begins a new, empty copy. */
  static open(options: CopyOptions): Copy {
    const identity = { clusterId: options.cluster, module: options.module };
    const meta = MetaStore.open(options.storage, identity) ?? MetaStore.create(options.storage, {
      ...identity,
      node: options.node,
      epoch: 0,
      history: [],
      checkpoint: 0,
      gap: 0,
      clean: true,
      bootId: "",
      copy: "inconsistent",
      role: "none",
      nextId: FIRST_ID,
      servedFrom: 0,
      doubted: [],
      suspect: false,
      edited: false,
      excluded: options.excluded ?? "",
      verified: null,
      verifying: null,
      asOf: 0,
      compared: null,
    });
    return new Copy(options, meta);
  }

  /**
   * A verification found that they are not the primary's: until they were compared, nothing is exact. Should this copy be served
   * before, they are not what the former primary has, and are compared when that one follows.
   */
  get doubted(): readonly number[] {
    return this.meta.value.doubted;
  }

  /** Adds to {@link doubted}, durably: a process that takes over would take them for the primary's. */
  distrust(ids: Iterable<number>): void {
    const doubted = new Set([...this.doubted, ...ids]);
    if (doubted.size === this.doubted.length) return;
    for (const id of doubted) this.touch(id);
    this.meta.update({ doubted: [...doubted] });
  }

  /** Whether it was ever served or copied. */
  get fresh(): boolean {
    return this.meta.value.history.length === 0;
  }

  /** The tree stands at exactly {@link Journal.last}, with at most the last record in doubt, which is sent again. */
  get exact(): boolean {
    const { copy, role, gap } = this.meta.value;
    if (gap > 0 && this.journal.last <= gap) return false;
    if (this.crashed || this.fresh || this.suspect || this.edited || this.doubted.length > 0) return false;
    // What a primary had begun when it was killed may be in its tree and in nobody else's log.
    return copy !== "inconsistent" && (role !== "primary" || inDoubt(this.journal).length === 0);
  }

  /** From here on the log tells all that was done: who stands at the one before lacks nothing else. */
  get logFirst(): number {
    const { gap } = this.meta.value;
    // Another node may have a record of the number that was left out: it tells nothing of what this disk lost.
    return gap === 0 ? this.journal.first : Math.max(this.journal.first, gap + 2);
  }

  /** Up to here everything is on disk, in a directory that stood there. */
  get checkpoint(): number {
    const { checkpoint, gap } = this.meta.value;
    // What a power cut took before this copy served is on no disk, and cooled since: the activity set does not name it.
    return gap === 0 ? checkpoint : Math.max(checkpoint, gap + 1);
  }

  /**
   * It is to serve what a power cut left, a mix of times: no log can bring another node to it, only a comparison of everything. For good,
   * until there was one: the process that serves then may be another.
   */
  servesMix(): void {
    // One sequence is left out: a secondary that stands at the last one must not be taken for one that has all of it.
    const gap = this.journal.last + 1;
    this.meta.update({ gap });
    this.journal.reset(gap + 1);
  }

  /** The other node was compared with this one, in full or by all that could differ, and has on its disk what is here. */
  agreesAfter(plan: { readonly whole: boolean }): void {
    const { gap } = this.meta.value;
    if (gap === 0 && this.doubted.length === 0) return;
    try {
      this.meta.update({ doubted: [], gap: plan.whole ? 0 : gap });
    } catch (error) {
      // It costs the next session a comparison.
      if (!(error instanceof DiskFullError)) throw error;
    }
  }

  /** Where a comparison of everything that was cut short goes on; null: it begins again. */
  get compared(): Compared | null {
    const { copy, role, compared } = this.meta.value;
    const known = copy === "inconsistent" && role !== "primary" && !this.crashed && !this.fresh;
    // After a power cut the disk may lack some of what was compared, or made equal.
    if (compared === null || compared.bootId !== this.#bootId) return null;
    return known && !this.suspect && !this.edited && this.doubted.length === 0 ? compared : null;
  }

  /** Writes down where a comparison of everything goes on should it be cut short. */
  noteCompared(compared: Compared | null): void {
    if (compared === null && this.meta.value.compared === null) return;
    const { from, open } = compared ?? { from: 0, open: [] };
    this.meta.update({ compared: compared === null ? null : { from, open, bootId: this.#bootId } });
  }

  /** The disk may lack what memory shows: see {@link doubt}. */
  get suspect(): boolean {
    return this.meta.value.suspect;
  }

  /**
   * Whether the directory must hold what was put there. Who took a role since the boot and never left it in order does not
   * start, but goes on: an application may have removed anything since. In mid-comparison anything may be missing.
   */
  get mustBeWhole(): boolean {
    const { clean, bootId, copy } = this.meta.value;
    if (this.fresh) return true;
    return copy !== "inconsistent" && (clean || bootId !== this.#bootId);
  }

  /** A person may have changed anything: see {@link EDITED_MARK}. */
  get edited(): boolean {
    return this.meta.value.edited;
  }

  /**
   * The disk refused a sync. Neither a later sync that succeeds nor a restart makes this copy good: only a comparison that
   * reads from the disk. Answers whether that is news.
   */
  doubt(): boolean {
    if (this.suspect) return false;
    this.meta.update({ suspect: true });
    return true;
  }

  /** What the data went through. */
  get history(): History {
    return { generations: this.meta.value.history, last: this.journal.last };
  }

  get epoch(): number {
    return this.meta.value.epoch;
  }

  get lastGeneration(): bigint {
    return this.meta.value.history.at(-1)?.generation ?? 0n;
  }

  get lastEpoch(): number {
    return this.meta.value.history.at(-1)?.epoch ?? 0;
  }

  get nextId(): number {
    return this.meta.value.nextId;
  }

  /** Accepts an epoch: from here on anything lower is refused, durably (I2). */
  accept(epoch: number): void {
    if (epoch < this.epoch) {
      throw new CopyError(
        `Cannot accept epoch ${epoch}: this node accepted epoch ${this.epoch} before; the agent's membership is behind`,
      );
    }
    this.meta.update({ epoch });
  }

  /**
   * Asks before a promotion. A copy in the middle of a resync is no state that ever was: it serves only by a person's
   * word.
   */
  checkServable(force: boolean): void {
    if (force || this.fresh || this.meta.value.copy !== "inconsistent") return;
    throw new CopyError(
      "Cannot become primary: this copy is part of a resync that did not end; start the other node, or have this one " +
        "go back to what it was before the resync, if `status` says that it can, or be served damaged as it is, by `force-primary`",
      "inconsistent",
    );
  }

  /**
   * What a way back out of a stretch that begins now would lead to; null where there is nothing worth going back to: nothing
   * yet, a mixture, or what the disk or a verification says is not what was written.
   */
  formerState(now: number): Beginning | null {
    const { copy, asOf, edited, checkpoint } = this.meta.value;
    if (this.fresh || this.suspect || this.doubted.length > 0 || copy === "inconsistent") return null;
    const { last } = this.journal;
    return { began: now, asOf, exact: this.exact, edited, history: this.encodedHistory(), last, checkpoint };
  }

  /**
   * The tree is again what it was when the stretch began: a past state of the primary's line, known to be behind. Of what a person
   * did meanwhile, or of what is excluded since, the way back knows nothing.
   */
  wentBack({ history, last, checkpoint, ...former }: Header): void {
    const edited = former.edited || this.edited;
    const exact = former.exact && !edited;
    this.meta.update({ copy: "inconsistent", history: [], checkpoint: 0, compared: null });
    this.journal.reset(last + 1);
    this.crashed = !exact;
    this.meta.update({
      history: decodeGenerations(history),
      checkpoint,
      copy: "outdated",
      // What is here and in no log may be somebody's work alone: should it follow after all, that is saved first.
      role: exact ? "secondary" : "primary",
      clean: false,
      edited,
      // As after a power cut it stays, whoever opens it next.
      bootId: exact ? this.#bootId : NO_BOOT,
    });
  }

  /** It has all the primary has, now: the date of what it is worth should it be all that is left. */
  noteCurrent(now: number): void {
    try {
      this.meta.update({ asOf: now });
    } catch (error) {
      // A date is not worth a session.
      if (!(error instanceof DiskFullError)) throw error;
    }
  }

  /** Its history, as files and messages carry it. */
  encodedHistory(): GenerationJson[] {
    return encodeGenerations(this.meta.value.history);
  }

  /** The copy was compared and is the primary's again, all of it on disk. */
  recovered(): void {
    this.begin("secondary", { copy: "uptodate" });
    const { last } = this.journal;
    this.meta.update({
      checkpoint: last,
      gap: 0,
      suspect: false,
      doubted: [],
      edited: false,
      compared: null,
    });
    this.crashed = false;
  }

  /**
   * Takes back a last record whose fate is unknown, since its process was killed: nobody was told that it was done, and the
   * primary sends it again. On a node that was primary it stays: nobody may send it, and what it did to the tree would
   * be forgotten.
   */
  dropInDoubt(): void {
    const { last } = this.journal;
    const position = this.journal.positionOf(last);
    const record = position === undefined ? undefined : this.journal.at(position, new RecordView());
    if (record?.state === STATE.intention && this.meta.value.role !== "primary") {
      this.journal.cutAfter(last - 1);
    }
  }

  /** Takes a role: from here a crash is a crash. What a primary has is what is true, whoever made it. */
  begin(role: LastRole, change: { readonly servedFrom?: number; readonly copy?: CopyState } = {}): void {
    const served = role === "primary" ? { edited: false, compared: null } : {};
    this.meta.update({ role, clean: false, bootId: this.#bootId, ...served, ...change });
  }

  /**
   * Follows another, whom it has not met yet. What this node did as primary stays somebody's work until {@link agreed}: a
   * power cut before may take the end of the log, which alone names it.
   */
  follow(): void {
    if (this.exact) this.begin(this.meta.value.role === "primary" ? "primary" : "secondary");
  }

  /** The primary has all this copy has: nothing here is anybody's work alone. */
  agreed(): void {
    if (this.meta.value.role === "primary") this.begin("secondary");
  }

  /** A new generation; epochs and sequences grow. */
  addGeneration(entry: Generation): void {
    this.meta.update({
      history: withGeneration(this.meta.value.history, entry),
      epoch: Math.max(this.epoch, entry.epoch),
    });
  }

  reserve(nextId: number): void {
    if (nextId > this.nextId) this.meta.update({ nextId });
  }

  setCopy(copy: CopyState): void {
    this.meta.update({ copy });
  }

  /** Takes over another's line of history, from `last` on; what was logged here was of another line. */
  adopt(history: readonly Generation[], last: number, nextId: number): void {
    // From here a crash is a crash, also of a copy that has never been one; and one that is none yet stays so until it was compared.
    const running = this.crashed ? {} : { clean: false, bootId: this.#bootId };
    this.meta.update({ copy: "inconsistent", history: [], checkpoint: 0, ...running });
    this.journal.reset(last + 1);
    this.meta.update({ history, nextId: Math.max(nextId, this.nextId) });
  }

  /** The directory, the log and the ledger are at one sequence, all on disk. */
  markClean(): void {
    this.journal.sync();
    this.map.sync();
    this.meta.update({ clean: true, checkpoint: this.journal.last });
  }

  /** Called before an object is changed. Durable when it returns, at most once per part and checkpoint. */
  touch(id: number, offset = 0, length = 0): boolean {
    this.#dirty.add(id);
    return this.activity.touch(id, offset, length);
  }

  /**
   * What is to be synced: objects touched since the last call, and by processes before this one. A checkpoint begins.
   *
   * `unknown`: the file that would name the latter was damaged, so that all must be synced.
   */
  takeDirty(): { readonly ids: ReadonlySet<number>; readonly unknown: boolean } {
    const ids = this.#dirty;
    this.#dirty = new Set();
    for (const id of this.#inherits ? this.activeIds() : []) ids.add(id);
    this.activity.beginCheckpoint();
    this.#cuts = this.journal.cuts;
    return { ids, unknown: this.#inherits && this.activity.found === "incomplete" };
  }

  get dirtyCount(): number {
    return this.#dirty.size;
  }

  /**
   * Everything touched before {@link takeDirty} is on disk. `asOf`: now, where it has all the primary has; else 0. Answers false
   * when that cannot be written down, for want of room, or the log is another one by now: {@link checkpointFailed} is next.
   */
  checkpointed(sequence: number, asOf: number): boolean {
    // After a power cut a sequence of another line would count as reached: what the primary did up to there would be named by nobody.
    if (this.journal.cuts !== this.#cuts) return false;
    try {
      this.meta.update({ checkpoint: sequence, ...(asOf > 0 ? { asOf } : {}) });
      this.activity.cool();
    } catch (error) {
      if (error instanceof DiskFullError) return false;
      throw error;
    }
    this.#inherits = false;
    return true;
  }

  /** A checkpoint that failed: what it was for is synced again. */
  checkpointFailed(dirty: Iterable<number>): void {
    for (const id of dirty) this.#dirty.add(id);
  }

  /** Ids that may differ after a crash: those of the activity set. */
  activeIds(): number[] {
    const ids: number[] = [];
    this.activity.forEachIds((first, count) => {
      // No object has the id 0.
      for (let id = Math.max(1, first); id < first + count; id++) {
        if (id < FIRST_ID || this.map.has(id)) ids.push(id);
      }
    });
    return ids;
  }

  /** Objects named by the log from a sequence on; null when the log does not reach back that far. */
  touchedSince(sequence: number): Set<number> | null {
    const cursor = this.journal.read(sequence + 1);
    if (cursor === null) return null;
    return touchedBy(cursor);
  }

  /** Whether the log from a sequence on lacks data of some write, but for those that are kept elsewhere. */
  hollowSince(from: number, isKept: (sequence: number) => boolean): boolean {
    const cursor = this.journal.read(from);
    if (cursor === null) return true;
    const view = new RecordView();
    using _ = cursor;
    while (cursor.next(view)) {
      if (lacksData(view) && view.state !== STATE.void && !isKept(view.sequence)) return true;
    }
    return cursor.lost;
  }

  close(): void {
    this.journal.close();
    this.map.close();
  }
}

/** Whether a record changed a range by data that it does not hold. */
export function lacksData(record: Pick<RecordView, "op" | "payloadLength" | "b">): boolean {
  return (record.op === OP.write || record.op === OP.copy) && record.payloadLength === 0 && record.b > 0;
}

function touchedBy(cursor: NonNullable<ReturnType<Journal["read"]>>): Set<number> | null {
  const ids = new Set<number>();
  const view = new RecordView();
  using _ = cursor;
  while (cursor.next(view)) {
    if (view.op === OP.reserve || view.op === OP.fsync) continue;
    ids.add(view.id);
    if (view.op > OP.rename) continue;
    ids.add(view.c);
    if (view.op !== OP.rename) continue;
    ids.add(view.a);
    const names = view.names;
    const displaced = u64(new DataView(names.buffer, names.byteOffset, names.byteLength), names.length - 8);
    if (displaced !== 0) ids.add(displaced);
  }
  return cursor.lost ? null : ids;
}
