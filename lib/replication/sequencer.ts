/**
 * The primary's one order: every mutation gets a number, is logged as an intention, executed, sent, and answered when
 * every member has it.
 *
 * Invariant: what the peer was sent is a prefix of the log; `sent <= journal.last`, and while a link is live they are equal.
 * A mutation that failed stays in the log as void and travels as an empty `reserve`, so that sequences have no gap.
 *
 * @module
 */

import { DiskFullError, type Journal, KEEP, OP, RecordView, STATE } from "../journal/mod.ts";
import { emptyFields, type RecordFields } from "../journal/record.ts";
import type { Logged, Road, SyncHow } from "../fuse/road.ts";
import { LagBound } from "./lag_bound.ts";
import type { Request } from "../fuse/request.ts";
import type { Backing } from "../system/backing.ts";
import { Statx } from "../system/statx.ts";
import { addressOf } from "../system/address.ts";
import { isLocal } from "./border.ts";
import { setU64 } from "./bytes.ts";
import { hasHappened, inDoubt } from "./doubt.ts";
import { Fsyncs } from "./fsyncs.ts";
import {
  creates,
  decodeMutation,
  fillFields,
  Mutation,
  packNames,
  SETATTR,
  SETATTR_BITS,
} from "./mutation.ts";
import type { Held, Objects } from "./objects.ts";
import { spaceFor } from "./room.ts";
import { type Activity, touchAll } from "./touch.ts";
import { RESERVE_BLOCK } from "./objects.ts";
import { FSYNC_SLOTS, REPLY, REPLY_SLOTS, type Shared, WORD } from "./shared.ts";
import { StreamError } from "./stream.ts";
import { setMtime, type Tree } from "./tree.ts";
import { UnderWay } from "./under_way.ts";
import { untoldIn, UntoldTimes } from "./untold_times.ts";
import type { Wire } from "./wire.ts";

const ENOSPC = 28;
/** The longest range one request copies. */
const COPY_MAX = 1 << 20;

/** So old a time may be for the write that it is of to have given the file much the same. */
const MOMENT_NS = 20e6;
/** Files may be so long on every file system we know; beyond, the directory's own says so first. */
const EVERYWHERE_BYTES = 2 ** 40;

/** Keeps what a node knows about its own data; durable when a method returns. */
export interface Ledger {
  /** Ids below are taken. */
  readonly nextId: number;
  reserve(nextId: number): void;
  /** A new generation begins at `first`. */
  begin(entry: { readonly generation: bigint; readonly epoch: number; readonly first: number }): void;
}

/** What the sequencer needs of the world. */
export interface SequencerOptions {
  readonly backing: Backing;
  readonly journal: Journal;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly ledger: Ledger;
  readonly activity: Activity;
  /** Of each directory's file system, in their order; none: applications may fill it to the last block. */
  readonly rooms?: readonly { take(bytes: number): boolean }[];
  readonly shared: Shared;
  readonly request: Request;
  readonly authority: { readonly valid: boolean };
  readonly randomGeneration: () => bigint;
  readonly writeReply: (fd: number, address: number, length: number) => number;
  readonly wake: (fd: number) => void;
  readonly keepOrphan: (id: number, fd: number) => boolean;
  readonly dropOrphan: (id: number) => void;
  readonly pause: () => void;
  readonly onLinkLost: (error: StreamError) => void;
  /** Nanoseconds of a clock that only goes forward. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** Where a buffer lies; a test has its own memory. */
  readonly addressOf?: (bytes: Uint8Array<ArrayBuffer>) => number;
}

/** Sends records to the secondary. */
export interface Link {
  readonly wire: Wire;
  /** It has everything sent so far and gets each record as it is made. */
  live: boolean;
}

/** The primary's sequencer, one per module. */
export class Sequencer implements Road {
  readonly #options: SequencerOptions;
  readonly #journal: Journal;
  readonly #shared: Shared;
  #link: Link | null = null;
  /** What a peer whose line was lost may lack. */
  readonly underWay: UnderWay;
  /** It is to be taken before anything is changed. */
  #parted = false;
  /** Records of this FUSE connection have higher sequences: older ones must not answer for its requests. */
  readonly mountedAt: number;
  /** Under which new records are written; grows with the membership. */
  epoch: number;
  /** Whose mtimes the peer is still to be told. */
  readonly times = new UntoldTimes();
  /** One request at a time: what it has for the peer is sent before this node's own disk is written. */
  prompt = false;
  readonly fsyncs: Fsyncs;
  /** Counts for `status`. */
  readonly counters = { mutations: 0, bytes: 0, fsyncs: 0, failed: 0 };
  #generation: bigint;
  #nextId: number;
  readonly #lag = new LagBound();
  readonly #fields: RecordFields = emptyFields();
  readonly #names = new Uint8Array(65536);
  readonly #namesView = new DataView(this.#names.buffer);
  readonly #view = new RecordView();
  readonly #scratch = new Mutation();
  readonly #stat = new Statx();
  readonly #telling = new Mutation();
  readonly #blob = new Uint8Array(SETATTR.bytes);
  readonly #blobView = new DataView(this.#blob.buffer);
  readonly #copied = new Uint8Array(COPY_MAX);
  readonly #copiedAddress: number;
  readonly #addressOf: (bytes: Uint8Array<ArrayBuffer>) => number;

  constructor(options: SequencerOptions, place: { epoch: number; mountedAt: number; generation: bigint }) {
    this.#options = options;
    this.#journal = options.journal;
    this.#shared = options.shared;
    this.epoch = place.epoch;
    this.mountedAt = place.mountedAt;
    this.#generation = place.generation;
    this.#nextId = options.ledger.nextId;
    this.#addressOf = options.addressOf ?? addressOf;
    this.#copiedAddress = this.#addressOf(this.#copied);
    const { backing, journal, objects, shared, wake, pause } = options;
    const note = (mutation: Mutation, unique: number): number => this.#note(mutation, unique);
    this.underWay = new UnderWay({ backing, objects, journal, addressOf: this.#addressOf });
    this.fsyncs = new Fsyncs({ backing, journal, objects, shared, wake, pause, note });
  }

  /** The peer's link, if there is one. */
  get link(): Link | null {
    return this.#link;
  }

  set link(link: Link | null) {
    this.#parted ||= link === null && this.#sending;
    this.#link = link;
  }

  /** Keeps what was under way, if the line was lost: before anything is changed, and before a peer is told how it will be brought up to date. */
  keepUnderWay(): void {
    if (!this.#parted) return;
    this.#parted = false;
    this.underWay.take(this.#acknowledged + 1);
  }

  /** A new line of history begins with the next mutation: the membership changed. */
  beginGeneration(): void {
    this.#generation = 0n;
  }

  mutate(mutation: Mutation, unique: number): number {
    const { activity, tree } = this.#options;
    if (isLocal(mutation.id)) return this.#here(mutation);
    this.counters.mutations++;
    if (this.#parted) this.keepUnderWay();
    if (this.#generation === 0n) this.#mint();
    if (!this.#hasSpace(mutation) || !touchAll(activity, mutation)) return -ENOSPC;
    if (this.times.full) this.tellTimes();
    const position = this.#append(mutation, unique);
    if (position < 0) return position;
    if (mutation.op === OP.write && this.#sending && this.#surely(mutation)) {
      return this.#writeBehind(mutation, position, unique);
    }
    const asked = mutation.b;
    // What is measured afterwards is to be the time the object has.
    if (mutation.op === OP.setattr || mutation.op === OP.fallocate) this.#setDeferred(mutation.id);
    const result = tree.execute(mutation);
    if (result < 0) {
      this.counters.failed++;
      this.#journal.settle(position, STATE.void, 0n);
      this.#sendFiller();
      return result;
    }
    const ranged = mutation.op === OP.write || mutation.op === OP.copy;
    if (ranged) this.counters.bytes += result;
    if (this.#nameless(mutation)) {
      // Void, so that a replay leaves it out too.
      this.#journal.settle(position, STATE.void, 0n);
      this.#sendFiller();
      return result;
    }
    if (ranged && result < asked) {
      // Neither a replay nor a request that comes again may find more in the log than was done.
      this.#journal.settle(position, STATE.void, 0n);
      this.#sendFiller();
      return this.#appendShort(mutation, result, unique);
    }
    if (ranged) this.times.add(mutation.id);
    else this.#measure(mutation);
    this.#journal.settle(position, STATE.applied, mutation.time);
    this.#send(mutation);
    return result;
  }

  /**
   * What stays on this node: done, and nothing more. A directory that is replicated keeps its mtime: on the other node
   * nothing happens to it.
   */
  #here(mutation: Mutation): number {
    const { tree, objects, backing } = this.#options;
    if (!this.#hasSpace(mutation)) return -ENOSPC;
    const { op, c, a } = mutation;
    const parents = op > OP.rename ? [] : op === OP.rename && a !== c ? [c, a] : [c];
    const kept = parents.filter((id) => !isLocal(id)).map((id) => ({ id, time: tree.mtime(id) }));
    const result = tree.execute(mutation);
    if (result < 0) return result;
    tree.measure(mutation);
    for (const { id, time } of kept) {
      const held = objects.get(id);
      if (held !== undefined) setMtime(backing, held.path, time);
    }
    return result;
  }

  /**
   * A write goes to the peer before it goes to this node's directory: the two happen at the same time. The peer may
   * therefore have what this node's disk then refuses; it is told what is there instead.
   */
  #writeBehind(mutation: Mutation, position: number, unique: number): number {
    const { tree } = this.#options;
    const asked = mutation.b;
    this.#send(mutation);
    const result = tree.execute(mutation);
    if (result === asked) {
      this.counters.bytes += result;
      this.times.add(mutation.id);
      this.#journal.settle(position, STATE.applied, 0n);
      return result;
    }
    const { id, a } = mutation;
    const done = Math.max(0, result);
    this.counters.bytes += done;
    if (result < 0) this.counters.failed++;
    else if (this.#appendShort(mutation, result, unique) < 0) throw noteless();
    this.#amend(id, a + done, asked - done);
    // Last: until here the log names the write as one in doubt.
    this.#journal.settle(position, STATE.void, 0n);
    return result;
  }

  /** Whether nothing but the disk can refuse a write: the peer would refuse it too, and leave the set. */
  #surely(mutation: Mutation): boolean {
    const { objects } = this.#options;
    if (mutation.a + mutation.payloadLength > EVERYWHERE_BYTES) return false;
    const held = objects.get(mutation.id);
    return held !== undefined && !held.orphan && objects.io(held) >= 0;
  }

  /** A short write is what the application is told; log and peer get just that much. */
  #appendShort(mutation: Mutation, done: number, unique: number): number {
    mutation.b = done;
    if (mutation.op === OP.write) mutation.payloadLength = done;
    const noted = this.#note(mutation, unique);
    if (noted < 0) return noted;
    this.times.add(mutation.id);
    return done;
  }

  /** Notes and sends a range as it stands in the directory, and the size where the range reaches beyond it. */
  #amend(id: number, from: number, length: number): void {
    const { objects, backing } = this.#options;
    const range = new Mutation().reset(OP.write, id);
    range.a = from;
    range.b = length;
    if (this.#generation === 0n) this.#mint();
    const position = this.#append(range, 0);
    if (position < 0) throw noteless();
    this.times.add(id);
    this.#journal.settle(position, STATE.applied, 0n);
    if (this.#sending) this.#sendRange(range);
    const held = objects.get(id);
    if (held === undefined || backing.statx(held.path, this.#stat) < 0 || this.#stat.size >= from + length) {
      return;
    }
    const cut = new Mutation().reset(OP.setattr, id);
    cut.a = SETATTR_BITS.size;
    setU64(this.#blobView, SETATTR.size, this.#stat.size);
    cut.name = this.#blob;
    cut.time = this.#stat.mtime;
    if (this.#note(cut, 0) < 0) throw noteless();
  }

  #measure(mutation: Mutation): void {
    this.#options.tree.measure(mutation);
    if (mutation.op === OP.setattr || mutation.op === OP.fallocate) this.times.take(mutation.id);
  }

  deferTime(held: Held, time: bigint): boolean {
    const age = this.#options.wall() * 1e6 - Number(time);
    return !held.orphan && Math.abs(age) <= MOMENT_NS && this.times.defer(held.id, time);
  }

  #setDeferred(id: number): void {
    const time = this.times.takeDeferred(id);
    if (time === undefined) return;
    const { activity, backing, objects } = this.#options;
    const held = objects.get(id);
    // The write touched it, but a checkpoint may have come since. A disk that refuses leaves what the write made it, on both nodes.
    if (held === undefined || held.orphan) return;
    if (touchAll(activity, this.#telling.reset(OP.setattr, id))) setMtime(backing, held.path, time);
  }

  /** Tells the peer an object's mtime, if a write left it untold: called before anyone is shown it. */
  tellTime(id: number): void {
    if (!this.times.has(id)) return;
    this.#setDeferred(id);
    // A node that has written nothing since it leads begins no line of history for the sake of times.
    if (this.#generation === 0n && !this.#sending) return;
    this.times.take(id);
    const held = this.#options.objects.get(id);
    if (held === undefined || held.orphan) return;
    const time = this.#options.tree.mtime(id);
    const mutation = this.#telling.reset(OP.setattr, id);
    mutation.a = SETATTR_BITS.mtime;
    this.#blobView.setBigInt64(SETATTR.mtime, time, true);
    mutation.name = this.#blob;
    mutation.time = time;
    // A checkpoint may have come since the write, and after a power cut nothing else says that the peer was not told. A full disk:
    // the object's next write, or a comparison, carries it.
    if (!touchAll(this.#options.activity, mutation) || this.#note(mutation, 0) < 0) this.times.add(id);
  }

  /** Tells all times that are untold. */
  tellTimes(): void {
    for (const id of this.times.ids()) this.tellTime(id);
    this.times.settle();
  }

  /** Whether the disk has room for it; what writes over what is there already needs none. */
  #hasSpace(mutation: Mutation): boolean {
    const { rooms, objects, backing } = this.#options;
    const bytes = spaceFor(mutation);
    if (rooms === undefined || bytes === 0) return true;
    const held = objects.get(mutation.op <= OP.rename ? mutation.c : mutation.id);
    if (held === undefined || rooms[held.root]?.take(bytes) !== false) return true;
    if (mutation.op !== OP.write || backing.statx(held.path, this.#stat) < 0) return false;
    return mutation.a + mutation.payloadLength <= this.#stat.size;
  }

  answer(root: number, bytes: Uint8Array, address: number, length: number, relaxed = false): void {
    const shared = this.#shared;
    const required = relaxed ? this.#relaxed() : this.#journal.last;
    const enough = shared.get(WORD.members) === 1 || this.#acknowledged >= required;
    if (enough && (relaxed || shared.repliesWaiting === 0) && this.#options.authority.valid) {
      this.#options.writeReply(shared.fuse(root), address, length);
      return;
    }
    const tail = shared.get(WORD.replyTail);
    const at = shared.replySlot(tail);
    shared.replies.setFloat64(at + REPLY.sequence, required, true);
    shared.replies.setInt32(at + REPLY.root, root, true);
    shared.replies.setInt32(at + REPLY.length, length, true);
    for (let i = 0; i < length; i++) shared.replyBytes[at + REPLY.bytes + i] = bytes[i] ?? 0;
    shared.set(WORD.replyTail, (tail + 1) | 0);
    // The acknowledgement may have come before the reply was in the ring: then nobody looks there any more.
    if (this.#acknowledged >= required) this.#options.wake(shared.memory.wake.acker);
  }

  get #acknowledged(): number {
    return this.#shared.acknowledged(this.#journal.last);
  }

  /** Records a member has not acknowledged yet. */
  get behind(): number {
    return this.#shared.get(WORD.members) === 2 ? Math.max(0, this.#journal.last - this.#acknowledged) : 0;
  }

  #relaxed(): number {
    return this.#lag.required(this.#journal.last, this.#acknowledged, this.#options.now());
  }

  reply(root: number, address: number, length: number): number {
    return this.#options.writeReply(this.#shared.fuse(root), address, length);
  }

  /** Whether another request may be read: its reply must find room. */
  get hasRoom(): boolean {
    return this.#shared.repliesWaiting < REPLY_SLOTS - 64 && this.#shared.fsyncsWaiting < FSYNC_SLOTS - 64;
  }

  sync(held: Held, request: Request, root: number, how: SyncHow): void {
    this.counters.fsyncs++;
    this.fsyncs.sync(held, request, root, how);
  }

  logged(unique: number): Logged | undefined {
    const position = this.#journal.findUnique(unique, this.mountedAt);
    if (position === undefined) return undefined;
    const record = this.#journal.at(position, this.#view);
    if (record === undefined || record.state !== STATE.applied || record.op === OP.fsync) return undefined;
    return { op: record.op, id: record.id, length: record.op === OP.setattr ? 0 : record.b };
  }

  noteSwap(root: number, unique: number, id: number): void {
    this.#shared.noteSwap(root, unique, id);
  }

  swapOf(root: number, unique: number): number {
    return this.#shared.swapOf(root, unique);
  }

  allocate(): number {
    if (this.#nextId >= this.#options.ledger.nextId) this.#reserve();
    return this.#nextId++;
  }

  keepOrphan(held: Held): boolean {
    const fd = this.#options.objects.io(held);
    if (fd < 0) return false;
    return held.kept || this.#options.keepOrphan(held.id, fd);
  }

  unkeepOrphan(held: Held): void {
    this.#options.dropOrphan(held.id);
  }

  releaseOrphan(held: Held): void {
    this.mutate(this.#scratch.reset(OP.release, held.id), 0);
    this.#options.dropOrphan(held.id);
  }

  /** Goes on where a process was killed, on the same mounts. */
  resume(): void {
    // What the former process gave to the kernel is unknown: any of its objects may be open.
    this.#options.objects.unknownBelow = this.#nextId;
    this.begin();
  }

  /**
   * Called once, before the first request. What a process that was killed left as an intention has a fate that is unknown:
   * what can be repeated is repeated; of what cannot, the tree says whether it happened.
   */
  begin(): void {
    // Written and not told, by a process or a primary that is no more.
    for (const id of untoldIn(this.#journal)) this.times.add(id);
    for (const position of inDoubt(this.#journal)) this.#resolve(position);
  }

  #resolve(position: number): void {
    const record = this.#journal.at(position, this.#view);
    if (record === undefined) return;
    const mutation = new Mutation();
    const bytes = record.bytes;
    decodeMutation(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, 0, mutation);
    if (mutation.op === OP.write || mutation.op === OP.copy) {
      // Its data comes again with the request, and must be written then: the old record may not answer for it. What is
      // there now, a part perhaps, goes to the peer under a record that answers for no request.
      this.#amend(mutation.id, mutation.a, mutation.b);
      this.#journal.settle(position, STATE.void, 0n);
      return;
    }
    const value = record.payload.slice();
    mutation.payloadAddress = value.length === 0 ? 0 : this.#addressOf(value);
    const happened = hasHappened(mutation, this.#options);
    if (happened) this.#options.tree.measure(mutation);
    // What was half made and taken away again has left its directory another time.
    else if (creates(mutation.op)) this.times.add(mutation.c);
    this.#journal.settle(position, happened ? STATE.applied : STATE.void, happened ? mutation.time : 0n);
  }

  /**
   * Whether a mutation changes only an object that has no name any more. It lives and dies with this node's kernel: after a
   * failover nobody can reach it. The peer may not have it at all: where it was looked up but not open when it lost its
   * name (an open on its way, a working directory that was removed), or where the peer was stopped meanwhile.
   */
  #nameless(mutation: Mutation): boolean {
    if (mutation.op < OP.setattr || mutation.op > OP.removexattr) return false;
    return this.#options.objects.peek(mutation.id)?.orphan === true;
  }

  #mint(): void {
    this.#generation = this.#options.randomGeneration();
    this.#options.ledger.begin({
      generation: this.#generation,
      epoch: this.epoch,
      first: this.#journal.last + 1,
    });
  }

  #reserve(): void {
    const from = Math.max(this.#nextId, this.#options.ledger.nextId);
    const upto = (Math.floor(from / RESERVE_BLOCK) + 1) * RESERVE_BLOCK;
    // Durable on both nodes before the first is used: an id given twice would make two objects one.
    this.#options.ledger.reserve(upto);
    const mutation = new Mutation().reset(OP.reserve, 0);
    mutation.a = upto;
    this.#note(mutation, 0);
    this.#nextId = from;
  }

  /** Logs and sends what is done already, or needs no doing. Answers −errno when the log has no room. */
  #note(mutation: Mutation, unique: number): number {
    if (this.#generation === 0n) this.#mint();
    const position = this.#append(mutation, unique);
    if (position < 0) return position;
    this.#journal.settle(position, STATE.applied, mutation.time);
    this.#send(mutation);
    return 0;
  }

  #append(mutation: Mutation, unique: number): number {
    const fields = this.#fill(mutation);
    fields.unique = unique;
    const length = packNames(mutation, this.#names, this.#namesView);
    const names = length === 0 ? null : this.#names.subarray(0, length);
    // While the peer listens the log holds headers; while it is away, the payload as well, within the budget.
    const keep = mutation.op === OP.setxattr ? KEEP.always : this.#sending ? KEEP.no : KEEP.budget;
    const payload = mutation.payloadLength > 0 && keep !== KEEP.no ? this.#payload(mutation) : null;
    try {
      return this.#journal.append(fields, names, payload, keep);
    } catch (error) {
      if (error instanceof DiskFullError) return -ENOSPC;
      throw error;
    }
  }

  get #sending(): boolean {
    return this.link !== null && this.link.live;
  }

  #fill(mutation: Mutation): RecordFields {
    const fields = this.#fields;
    fields.op = mutation.op;
    fields.sequence = this.#journal.last + 1;
    fields.epoch = this.epoch;
    fields.generation = this.#generation;
    fillFields(fields, mutation);
    return fields;
  }

  #payload(mutation: Mutation): Uint8Array {
    const { request } = this.#options;
    const start = mutation.payloadAddress - request.address;
    return request.bytes.subarray(start, start + mutation.payloadLength);
  }

  #send(mutation: Mutation): void {
    const { link } = this;
    if (link === null || !link.live) return;
    const fields = this.#fields;
    fields.b = mutation.op === OP.write || mutation.op === OP.copy ? mutation.b : fields.b;
    fields.unique = 0;
    try {
      if (mutation.op === OP.write) {
        const { request } = this.#options;
        request.keepHeaders();
        link.wire.write(fields, mutation, {
          bytes: request.bytes,
          view: request.view,
          address: request.address,
          at: mutation.payloadAddress - request.address,
        });
        if (this.prompt) link.wire.flush();
      } else if (mutation.op === OP.copy) {
        this.#sendRange(mutation);
      } else {
        const payload = mutation.payloadLength > 0 ? this.#payload(mutation) : null;
        link.wire.record(fields, mutation, payload);
      }
    } catch (error) {
      this.#lose(error);
    }
  }

  /**
   * Sends what is in a range now. A copy travels so: the peer gets what it made, not the order to make it, whose source
   * might not be compared yet.
   */
  #sendRange(mutation: Mutation): void {
    const { link } = this;
    if (link === null) return;
    const { objects, backing } = this.#options;
    const held = objects.get(mutation.id);
    const fd = held === undefined ? -1 : objects.io(held);
    const got = fd < 0
      ? -1
      : backing.pread(fd, this.#copiedAddress, Math.min(mutation.b, COPY_MAX), mutation.a);
    const sent = this.#scratch.reset(got > 0 ? OP.write : OP.reserve, got > 0 ? mutation.id : 0);
    if (got > 0) {
      sent.a = mutation.a;
      sent.b = sent.payloadLength = got;
      sent.time = mutation.time;
    }
    this.#fields.op = sent.op;
    fillFields(this.#fields, sent);
    try {
      link.wire.record(this.#fields, sent, got > 0 ? this.#copied.subarray(0, got) : null);
    } catch (error) {
      this.#lose(error);
    }
  }

  #sendFiller(): void {
    const filler = this.#scratch.reset(OP.reserve, 0);
    const fields = this.#fields;
    fields.op = OP.reserve;
    fillFields(fields, filler);
    fields.sequence = this.#journal.last;
    this.#send(filler);
  }

  #lose(error: unknown): void {
    if (!(error instanceof StreamError)) throw error;
    this.link?.wire.stream.close();
    this.link = null;
    this.#options.onLinkLost(error);
  }
}

function noteless(): DiskFullError {
  return new DiskFullError("Cannot note a write in doubt: the log's disk is full; make room on it");
}
