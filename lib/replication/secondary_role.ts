/**
 * The road of a secondary: receives the primary's frames in order, applies them, acknowledges.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { DiskFullError } from "../journal/mod.ts";
import { backing } from "../system/backing.ts";
import { addressOf } from "../system/libc.ts";
import { sha256 } from "../system/sha256.ts";
import { cachedFilesMax } from "../system/process.ts";
import { openStream } from "../system/stream.ts";
import { Zstd } from "../system/zstd.ts";
import { bootNanoseconds } from "../system/worker_io.ts";
import { AckSender } from "./ack_sender.ts";
import { Aside } from "./aside.ts";
import { borderOf } from "./border.ts";
import type { Copy } from "./copy.ts";
import { DiskOrders } from "./disk_orders.ts";
import { forgetForeignIds, handleMap, rebuildMap } from "./ids_beneath.ts";
import { ApplyError, Follower } from "./follower.ts";
import { CONTROL_FIRST, dataFrames, FRAME_HEADER, FRAME_MAX, FrameReader, kinds } from "./frame.ts";
import { Lenient } from "./lenient.ts";
import { Limbo } from "./limbo.ts";
import { ACK, CONTROL, MUTATIONS } from "./mutation.ts";
import { Objects } from "./objects.ts";
import { type Plan, positionOf } from "./position.ts";
import { checkFileSystems, checkRoots, fileSystemsOf, type KeptOrphan, type Mount } from "./mounts.ts";
import { Quarantine } from "./quarantine.ts";
import { haveRoom, isDiskRefusal, type Refusal } from "./refusal.ts";
import { type Beginning, decodeBegin } from "./reconcile_begin.ts";
import { ReconcileTarget } from "./reconcile_target.ts";
import type { Shared } from "./shared.ts";
import { type Stream, StreamError, type StreamHandle } from "./stream.ts";
import { Tree } from "./tree.ts";
import { Unpacking } from "./unpacking.ts";
import { readVerified } from "./verify_frame.ts";
import { VerifyTarget } from "./verify_target.ts";
import type { FileSystem } from "./file_system.ts";
import { Foresight } from "./way_back/foresight.ts";
import { keepingBacking, notedBacking } from "./way_back/noted_backing.ts";
import type { WayBack } from "./way_back/way_back.ts";
import type { Witness } from "./witness.ts";
import { u64 } from "./bytes.ts";
import { OFFSET } from "../journal/record.ts";

const FDS_MAX = 32768;
/** Room for several frames: those that arrive together are acknowledged together. */
const BUFFER_BYTES = 2 * FRAME_MAX;
/** Frames applied between two looks at commands. */
const BURST = 256;
/** So long a replay may take before it is told that the copy is inconsistent meanwhile. */
const PASSING_NS = 300e6;

/** What differs is gathered for so long after the first, nanoseconds, or until there are so many: then it is compared. */
const DIFFERING_NS = 1e9;
const DIFFERING_MAX = 256;

/** How to be secondary. */
export interface FollowCommand {
  readonly kind: "follow";
  readonly epoch: number;
  readonly mounts: readonly Mount[];
  readonly kept: readonly KeptOrphan[];
  /** A person accepts that what was written apart here is overwritten. */
  readonly overwrite: boolean;
}

/** What the role tells the main thread. */
export type SecondaryMessage =
  | { readonly kind: "link-lost"; readonly session: string; readonly reason: string }
  | { readonly kind: "caught-up"; readonly session: string; readonly sequence: number }
  | { readonly kind: "apply-failed"; readonly reason: string; readonly errno: number }
  | { readonly kind: "quarantined"; readonly path: string; readonly bytes: number; readonly entries: number };

/** What the role needs of its thread. */
export interface SecondaryWorld {
  readonly copy: Copy;
  readonly shared: Shared;
  /** Where quarantined data goes: `STATE/quarantine/NAME`. */
  readonly quarantine: string;
  readonly now: () => Date;
  readonly say: (message: SecondaryMessage) => void;
  readonly keepOrphan: (id: number, fd: number) => boolean;
  readonly dropOrphan: (id: number) => void;
  readonly pause: () => void;
  readonly refusal: Refusal;
  /** What both nodes had when they were compared last. */
  readonly witness: Witness;
  /** Of these directories. */
  readonly wayBack: WayBack;
}

interface Link {
  readonly session: string;
  readonly data: Stream;
  readonly ack: Stream;
  readonly reader: Unpacking;
  readonly plan: Plan;
}

/** The secondary. */
export class SecondaryRole {
  readonly role = "secondary";
  epoch: number;
  readonly #world: SecondaryWorld;
  readonly #copy: Copy;
  readonly #overwrite: boolean;
  readonly #roots: readonly number[];
  readonly #fileSystems: readonly FileSystem[];
  readonly #objects: Objects;
  readonly #follower: Follower;
  readonly #foresight: Foresight;
  readonly #target: ReconcileTarget;
  readonly #verify: VerifyTarget;
  /** When a verification found the first difference; 0: none. */
  #differsSince = 0;
  /** When a hollow replay began, 0: there is none. */
  #passingSince = 0;
  readonly #bytes = new Uint8Array(BUFFER_BYTES);
  readonly #address = addressOf(this.#bytes);
  readonly #zstd = new Zstd();
  readonly #acks = new AckSender(addressOf);
  readonly #disk: DiskOrders;
  #link: Link | null = null;
  #caughtUp = false;
  /** A comparison is going on. */
  #reconciling = false;
  /** It has something to do at once. */
  #more = false;
  #phase = "";
  #acknowledged = 0;

  constructor(command: FollowCommand, world: SecondaryWorld) {
    this.epoch = command.epoch;
    this.#world = world;
    this.#copy = world.copy;
    this.#disk = new DiskOrders(world.shared, world.pause);
    this.#overwrite = command.overwrite;
    world.copy.accept(command.epoch);
    checkFileSystems(command.mounts);
    this.#fileSystems = fileSystemsOf(command.mounts);
    checkRoots(command.mounts, world.copy);
    const roots = command.mounts.map((mount) => ({ fd: mount.backing, border: borderOf(mount.exclude) }));
    this.#roots = roots.map(({ fd }) => fd);
    // All that a resync changes goes by this: what was is noted first.
    const noted = notedBacking(backing, world.wayBack);
    this.#objects = new Objects({
      backing: noted,
      roots,
      handles: handleMap(world.copy.map),
      allocate: () => {
        throw new Error("A secondary gives no ids");
      },
      addressOf,
      fdsMax: cachedFilesMax(FDS_MAX),
    });
    const { edited, fresh, nextId } = world.copy;
    if (edited || fresh) forgetForeignIds(backing, this.#objects, { roots, nextId, fresh });
    // A new copy may lie on a disk that has held one: what it has need not come.
    if (world.copy.crashed || world.copy.fresh) rebuildMap(backing, this.#objects, roots);
    const marked = this.#objects.markRoots();
    if (marked < 0) {
      throw new Error(`Cannot follow: a replicated directory cannot be marked (errno ${-marked})`);
    }
    // Until a crashed copy was compared it stays one, also for a process that comes after this.
    world.copy.follow();
    for (const kept of command.kept) this.#objects.adoptOrphan(kept.id, kept.fd);
    this.#foresight = new Foresight({ way: world.wayBack, backing, objects: this.#objects });
    const aside = new Aside(noted, this.#objects);
    const tree = new Tree({ backing: noted, objects: this.#objects, aside });
    const limbo = new Limbo({
      backing: noted,
      objects: this.#objects,
      addressOf,
      keepOrphan: world.keepOrphan,
    });
    const lenient = new Lenient({
      backing: noted,
      objects: this.#objects,
      tree,
      limbo,
      onMissing: (id) => this.#target.missing(id),
    });
    this.#target = new ReconcileTarget({
      backing: noted,
      objects: this.#objects,
      limbo,
      lenient,
      addressOf,
      sha256,
      touch: (id) => world.copy.touch(id),
      dropOrphan: world.dropOrphan,
      sync: (fd) => this.#disk.fileSystem(fd),
      suspect: () => world.copy.suspect,
      saveCompared: (compared) => world.copy.noteCompared(compared),
      emit: {
        want: (id, ranges) => {
          this.#foresight.asked(id, ranges);
          this.#acks.ranges(ACK.want, id, ranges);
        },
        missing: (ids) => this.#acks.ids(ACK.missing, ids, 0),
        credit: (bytes) => this.#acks.emit(ACK.credit, 0, bytes),
      },
    });
    this.#verify = new VerifyTarget({
      backing,
      objects: this.#objects,
      sha256,
      addressOf,
      emit: {
        verified: (frames) => this.#acks.emit(ACK.verified, 0, frames),
        detail: (id) => this.#acks.emit(ACK.detail, id),
        again: (id) => this.#acks.emit(ACK.again, id),
        report: (difference) => this.#acks.text(ACK.difference, JSON.stringify(difference)),
        good: (id, block, content) => this.#acks.bytes(ACK.good, id, block, content),
      },
      witness: world.witness,
      wall: () => world.now().getTime(),
    });
    this.#follower = new Follower({
      backing: noted,
      journal: world.copy.journal,
      objects: this.#objects,
      tree,
      activity: world.copy,
      ledger: {
        get lastEpoch() {
          return world.copy.lastEpoch;
        },
        get lastGeneration() {
          return world.copy.lastGeneration;
        },
        begin: (entry) => world.copy.addGeneration(entry),
        reserve: (nextId) => {
          world.copy.reserve(nextId);
          world.copy.activity.reserve(Math.max(0, nextId - 65536));
        },
      },
      lenient,
      syncLater: (fd, dataOnly, sequence) => this.#disk.fsync(fd, dataOnly, sequence),
      keepOrphan: world.keepOrphan,
      dropOrphan: world.dropOrphan,
    });
  }

  get fds(): number[] {
    return this.#link === null ? [] : [this.#link.data.fd];
  }

  /** Frames are here that need no waiting. */
  get busy(): boolean {
    return this.#more || this.received;
  }

  /** Something has come that needs no waiting. */
  get received(): boolean {
    return this.#link !== null && (this.#link.reader.ready || this.#link.data.pending() > 0);
  }

  readonly ready = true;

  /** It has all the primary has. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** For `status`. */
  status(): Record<string, unknown> {
    return {
      role: "secondary",
      epoch: this.epoch,
      connected: this.#link !== null,
      verified: this.#copy.meta.value.verified,
      caughtUp: this.#caughtUp,
      counters: this.#follower.counters,
      resync: this.#link === null || this.#caughtUp ? null : {
        phase: this.#phase,
        files: this.#target.progress.objects,
        bytes: this.#target.progress.bytes,
        why: "receiving",
      },
    };
  }

  /** A newer membership with the same primary: the session goes on. */
  accept(epoch: number): void {
    this.#copy.accept(epoch);
    this.epoch = epoch;
  }

  /** What this node tells the primary when it comes. Throws while a disk that refused is not to be tried again. */
  hello(): unknown {
    this.#world.refusal.check(() => haveRoom(backing, this.#roots));
    this.#copy.dropInDoubt();
    return { ...positionOf(this.#copy, this.#overwrite), fileSystems: this.#fileSystems };
  }

  /** A session with the primary stands. */
  join(
    session: string,
    streams: { readonly data: StreamHandle; readonly ack: StreamHandle },
    plan: Plan,
  ): void {
    this.detach(this.#link?.session ?? "");
    const data = openStream(streams.data);
    const ack = openStream(streams.ack);
    this.#link = { session, data, ack, reader: this.#openReader(data), plan };
    this.#acks.stream = ack;
    this.#caughtUp = false;
    this.#verify.begin();
    this.#differsSince = 0;
    this.#phase = plan.mode;
    this.#acknowledged = this.#copy.journal.last;
    this.#follower.lenient = false;
    this.#follower.repeat = true;
    if (plan.mode === "reconcile" && !plan.whole) this.#guard(() => this.#tellTouched(plan.common));
  }

  #openReader(data: Stream): Unpacking {
    const all = [...MUTATIONS, ...Object.values(CONTROL)];
    const [bytes, address] = [this.#bytes, this.#address];
    const reader = new FrameReader({ stream: data, layout: dataFrames(crc32, kinds(all)), bytes, address });
    const layout = dataFrames(crc32, kinds(all.filter((op) => op !== CONTROL.packed)));
    return new Unpacking({ reader, address, codec: this.#zstd, layout, addressOf, label: data.label });
  }

  /**
   * Whether a replay that may be over at once passes through what is no state that ever was. Who looks meanwhile would drop
   * a member for what a reconnection takes, a few milliseconds; should the primary die just now, the copy itself refuses to lead.
   */
  get passing(): boolean {
    return this.#passingSince !== 0 && bootNanoseconds() - this.#passingSince < PASSING_NS;
  }

  detach(session: string): void {
    const link = this.#link;
    if (link === null || link.session !== session) return;
    this.#passingSince = 0;
    this.#link = null;
    this.#acks.stream = null;
    if (this.#caughtUp) this.#copy.noteCurrent(this.#world.now().getTime());
    this.#caughtUp = false;
    link.data.close();
    link.ack.close();
    this.#reconciling = this.#more = false;
    this.#disk.forget();
    this.#target.abort();
  }

  /** Receives and applies what is there. */
  serve(_index: number): void {
    this.#guard(() => {
      for (let i = 0; i < BURST && this.#link !== null; i++) {
        const { reader, data } = this.#link;
        if (i > 0 && !reader.ready && data.pending() === 0) break;
        if (!reader.next()) break;
        if (i === 0 || reader.opened) this.#foresight.look(reader);
        this.#take(reader);
      }
      this.#acknowledge();
    });
  }

  /** What a comparison has left to do when no frame is waiting. */
  step(): void {
    this.#objects.trim();
    if (this.#verify.differing.size > 0) this.#guard(() => this.#differing());
    if (!this.#reconciling) return;
    this.#guard(() => {
      this.#more = this.#target.step();
      if (this.#target.complete) this.#reconciled();
    });
  }

  /** How long the thread may wait for something to happen, milliseconds. */
  get pollMs(): number {
    if (this.#verify.differing.size > 0) return 50;
    return this.#reconciling ? 5 : 500;
  }

  /** Applies what was received already; afterwards the tree stands at the answer. */
  finish(): number {
    this.#guard(() => {
      while (this.#link !== null && this.#link.reader.ready) {
        if (!this.#link.reader.next()) break;
        this.#take(this.#link.reader);
      }
    });
    return this.#copy.journal.last;
  }

  /** Orphans and the descriptors that keep them, for a keeper that was restarted. */
  orphans(): { readonly id: number; readonly fd: number }[] {
    return this.#objects.keptDescriptors();
  }

  /** See {@link Objects.syncDescriptor}. */
  syncDescriptor(id: number): number | null {
    return this.#objects.syncDescriptor(id);
  }

  close(): void {
    this.detach(this.#link?.session ?? "");
    this.#objects.close();
    this.#zstd.close();
  }

  #take(reader: Unpacking): void {
    const op = reader.view.getUint8(reader.offset + OFFSET.op);
    if (op < CONTROL_FIRST) {
      this.#follower.apply(reader.bytes, reader.view, reader.offset, reader.address);
      return;
    }
    switch (op) {
      case CONTROL.replay:
        return this.#replay(
          u64(reader.view, reader.offset + OFFSET.a),
          u64(reader.view, reader.offset + OFFSET.b),
        );
      case CONTROL.reconcile:
        return this.#begin(
          decodeBegin(reader.bytes.subarray(reader.offset + FRAME_HEADER, reader.offset + reader.length)),
        );
      case CONTROL.idle:
        return;
      case CONTROL.fingerprints:
      case CONTROL.verifyBlocks:
      case CONTROL.names:
      case CONTROL.detail:
      case CONTROL.expected:
      case CONTROL.verified:
        return this.#verification(op, reader);
      default:
        this.#target.frame(op, reader.bytes, reader.view, reader.offset, reader.length, reader.address);
    }
  }

  #verification(op: number, reader: Unpacking): void {
    if (!this.#caughtUp) {
      throw new StreamError("protocol", `Cannot take frame ${op}: this copy is not the primary's yet`);
    }
    const { bytes, view, offset, length } = reader;
    if (op !== CONTROL.verified) return this.#verify.frame(op, bytes, view, offset, length);
    const body = new TextDecoder().decode(bytes.subarray(offset + FRAME_HEADER, offset + length));
    this.#copy.meta.update({ verified: readVerified(body), verifying: null });
    this.#world.witness.finish();
  }

  /** This copy is not the primary's: it leaves the set, and what differs is compared before it is a member again. */
  #differing(): void {
    const { differing } = this.#verify;
    this.#copy.distrust(differing);
    const now = bootNanoseconds();
    if (this.#differsSince === 0) this.#differsSince = now;
    if (now - this.#differsSince < DIFFERING_NS && differing.size < DIFFERING_MAX) return;
    const count = `${differing.size} object${differing.size === 1 ? "" : "s"}`;
    const reason = `${count} differed from the primary's in a verification and will be copied again`;
    const session = this.#link?.session ?? "";
    differing.clear();
    this.#tellFailed(reason);
    this.detach(session);
    this.#world.say({ kind: "apply-failed", reason, errno: 0 });
  }

  #replay(end: number, hollow: number): void {
    if (end === 0) {
      this.#copy.agreed();
      // Until the last record, what was written in between may show parts of a later time.
      if (hollow !== 1) return;
      this.#passingSince = bootNanoseconds();
      this.#keepWayBack();
      return this.#copy.setCopy("inconsistent");
    }
    this.#passingSince = 0;
    this.#copy.setCopy("uptodate");
    this.#world.wayBack.end();
    this.#live();
  }

  #begin(begin: Beginning): void {
    this.#keepWayBack();
    // What was written here alone must go to quarantine also when this comparison is cut short and begun again.
    if (begin.preserve) this.#copy.meta.update({ role: "primary" });
    const { from, changed } = begin;
    const open = new Set([...this.#copy.compared?.open ?? [], ...changed]);
    const compared = from === 0 || begin.preserve ? null : { from, open: [...open] };
    // First: that more is open than must be harms nothing, and what changed until `sequence` is in no log from then on.
    this.#copy.noteCompared(compared);
    this.#copy.adopt(begin.generations, begin.sequence, begin.nextId);
    this.#acknowledged = begin.sequence;
    this.#follower.lenient = true;
    this.#follower.repeat = false;
    const what = begin.preserve ? "all" : this.#objects.bordered ? "own" : null;
    const keeping = what === null ? null : { what, quarantine: this.#openQuarantine() } as const;
    this.#target.begin(begin, compared, keeping);
    this.#reconciling = true;
  }

  /** Nothing is made on the disk before there is something to keep. */
  #openQuarantine(): Quarantine {
    return Quarantine.open({
      directory: this.#world.quarantine,
      at: this.#world.now(),
      backing: keepingBacking(backing, this.#world.wayBack),
      addressOf,
    });
  }

  /** From here on the tree is no state that ever was, until this session or a later one is through. */
  #keepWayBack(): void {
    const { wayBack, now } = this.#world;
    const beginning = this.#copy.formerState(now().getTime());
    if (beginning !== null) wayBack.begin(beginning);
  }

  #reconciled(): void {
    const saved = this.#target.finish();
    if (saved !== null) this.#world.say({ kind: "quarantined", ...saved });
    this.#follower.lenient = false;
    this.#reconciling = this.#more = false;
    this.#copy.recovered();
    this.#world.wayBack.end();
    this.#acks.emit(ACK.done, 0, CONTROL.reconciled);
    // Also where nothing was written meanwhile: replies may wait for what the comparison brought.
    this.#acks.emit(ACK.applied, this.#copy.journal.last);
    this.#live();
  }

  #live(): void {
    this.#caughtUp = true;
    this.#copy.noteCurrent(this.#world.now().getTime());
    this.#world.refusal.forget();
    this.#world.say({
      kind: "caught-up",
      session: this.#link?.session ?? "",
      sequence: this.#copy.journal.last,
    });
  }

  #acknowledge(): void {
    const { last } = this.#copy.journal;
    if (this.#link === null || last === this.#acknowledged) return;
    this.#acks.emit(ACK.applied, last);
    this.#acknowledged = last;
  }

  #tellTouched(common: number): void {
    const own = this.#copy.touchedSince(common) ?? new Set<number>();
    for (const id of this.#copy.crashed ? this.#copy.activeIds() : []) own.add(id);
    for (const id of this.#copy.doubted) own.add(id);
    this.#acks.ids(ACK.touched, [...own], 1);
  }

  /** What ends a session: the line, or a record that cannot be applied. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      const session = this.#link?.session ?? "";
      if (error instanceof ApplyError || error instanceof DiskFullError) {
        const errno = error instanceof ApplyError ? error.errno : 28;
        this.#tellFailed(error.message);
        // A disk that refuses leaves the tree at a known place (EIO: what it shows); else the copies differ.
        if (isDiskRefusal(errno)) this.#world.refusal.note(errno);
        else this.#copy.setCopy("inconsistent");
        if (errno === 5) this.#copy.doubt();
        this.detach(session);
        this.#world.say({ kind: "apply-failed", reason: error.message, errno });
        return;
      }
      if (!(error instanceof StreamError)) throw error;
      this.detach(session);
      this.#world.say({ kind: "link-lost", session, reason: error.message });
    }
  }

  #tellFailed(reason: string): void {
    try {
      this.#acks.text(ACK.failed, reason);
    } catch (error) {
      // The primary sees the end of the connection in any case.
      if (!(error instanceof StreamError)) throw error;
    }
  }
}
