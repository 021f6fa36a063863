/**
 * The road of a primary: reads the kernel's requests in order, serves them, and between two of them brings a secondary up
 * to date.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { askAgain } from "../fuse/ask_again.ts";
import { FuseServer } from "../fuse/server.ts";
import { grantedBy } from "../fuse/init.ts";
import { Request, REQUEST_AT, REQUEST_MAX } from "../fuse/request.ts";
import { backing } from "../system/backing.ts";
import { randomIncarnation } from "../system/clock.ts";
import { addressOf } from "../system/libc.ts";
import { lineSpeed } from "../system/socket.ts";
import { cachedFilesMax, statusOf } from "../system/process.ts";
import { openStream } from "../system/stream.ts";
import {
  type Authority,
  bootNanoseconds,
  pause,
  readTo,
  setNonblocking,
  wake,
  writeFrom,
} from "../system/worker_io.ts";
import { Zstd } from "../system/zstd.ts";
import { PACKS } from "../protocol.ts";
import { lookBeneath } from "./before_serving.ts";
import { CatchUp } from "./catch_up.ts";
import type { Copy } from "./copy.ts";
import { differenceOf, type FileSystem } from "./file_system.ts";
import { handleMap } from "./ids_beneath.ts";
import { Objects } from "./objects.ts";
import { Outgoing } from "./outgoing.ts";
import { Packing } from "./packing.ts";
import { type KernelPlace, Places } from "./places.ts";
import type { Plan } from "./position.ts";
import { Room } from "./room.ts";
import {
  checkFileSystems,
  checkRoots,
  fileSystemsOf,
  type KeptGrant,
  keptGrant,
  type KeptOrphan,
  type Mount,
  rootRefused,
  rootsOf,
} from "./mounts.ts";
import { Sequencer } from "./sequencer.ts";
import { MOUNTS_MAX, type Shared, WORD } from "./shared.ts";
import { type Stream, StreamError, type StreamHandle } from "./stream.ts";
import { Tree } from "./tree.ts";
import type { Verified } from "../journal/meta.ts";
import { makeVerification } from "./make_verification.ts";
import type { Mended } from "./mend.ts";
import type { Verification } from "./verification.ts";
import type { Place } from "./rot.ts";
import type { Witness } from "./witness.ts";
import { Wire } from "./wire.ts";

const EAGAIN = 11;
const EINTR = 4;
const ENOENT = 2;
const ENODEV = 19;
/** How often a slow peer is offered what is kept. */
const OFFER_MS = 1;
/** Descriptors held open at most. */
const FDS_MAX = 32768;
/** Requests served between two looks at everything else. */
const BURST = 64;
/** Requests after which the peer gets what was gathered, though more are waiting. */
const FLUSH_EVERY = 16;
/** After this time at the latest the peer is told the mtimes that writes left. */
const TELL_MS = 50;

/** How to be primary. */
export interface ServeCommand {
  readonly kind: "serve";
  readonly epoch: number;
  readonly members: 1 | 2;
  readonly mounts: readonly Mount[];
  readonly kept: readonly KeptOrphan[];
  /** INIT of each mount, where a former process answered it: this one takes over in mid-service. */
  readonly grants: readonly (KeptGrant | null)[];
  /** The mounts are those of a former process: what it left in flight is answered. */
  readonly inherits: boolean;
}

/** What the role tells the main thread. */
export type PrimaryMessage =
  | { readonly kind: "granted"; readonly root: number; readonly grant: KeptGrant }
  | { readonly kind: "link-lost"; readonly session: string; readonly reason: string }
  | {
    readonly kind: "caught-up";
    readonly session: string;
    readonly sequence: number;
    /** What was sent for it, as `status` shows it while it runs. */
    readonly resync: Readonly<Record<string, unknown>>;
  }
  | ({ readonly kind: "verified"; readonly tookMs: number; readonly complete: boolean } & Verified)
  | {
    readonly kind: "rotten";
    readonly path: string;
    readonly offset: number;
    readonly length: number;
    readonly outcome: "repaired" | "read" | "left";
    readonly why: string;
    /** Where the kernel may have what was there: a descriptor of the mount, the receiver's to close, and the file. */
    readonly stale: KernelPlace | null;
  }
  | { readonly kind: "unmounted"; readonly root: number }
  | { readonly kind: "log"; readonly message: string };

/** What the role needs of its thread. */
export interface PrimaryWorld {
  readonly copy: Copy;
  readonly shared: Shared;
  readonly authority: Pick<Authority, "valid">;
  readonly say: (message: PrimaryMessage) => void;
  readonly keepOrphan: (id: number, fd: number) => boolean;
  readonly dropOrphan: (id: number) => void;
  readonly now: () => Date;
  /** What both nodes had when they were compared last. */
  readonly witness: Witness;
  /** A verification begins by itself when the last one is so old; null: none does. */
  readonly scrubMs: number | null;
  /** The most a resync may send, bytes a second; null: no bound. */
  readonly resyncBandwidth: number | null;
  /** False: the kernel is not asked to send again what a killed process had in hand. */
  readonly resend: boolean;
}

/** The primary. */
export class PrimaryRole {
  readonly role = "primary";
  epoch: number;
  readonly sequencer: Sequencer;
  readonly #world: PrimaryWorld;
  readonly #copy: Copy;
  readonly #request: Request;
  readonly #zstd = new Zstd();
  readonly #objects: Objects;
  readonly #tree: Tree;
  readonly #servers: FuseServer[] = [];
  /** Requests that the last look at a mount found. */
  #served = 0;
  #toldAt = 0;
  #session = "";
  /** What applications of a former primary left is taken away. */
  #swept = false;
  /** No request is read any more. */
  #frozen = false;
  readonly #mounts: readonly Mount[];
  readonly #places: Places;
  readonly #verification: Verification;
  readonly #catchUp: CatchUp;
  /** Of applications, since the beginning. */
  #requests = 0;
  /** Looked at when a secondary comes first. */
  #fileSystems: readonly FileSystem[] | null = null;
  /** What goes to the peer; flushed before the thread waits. */
  readonly outgoing: Outgoing;

  constructor(command: ServeCommand, world: PrimaryWorld) {
    this.#world = world;
    this.#copy = world.copy;
    this.#request = new Request(addressOf, world.shared.request);
    this.epoch = command.epoch;
    this.#mounts = command.mounts;
    const resumed = command.grants.some((grant) => grant !== null);
    world.copy.accept(command.epoch);
    this.#objects = new Objects({
      backing,
      roots: rootsOf(command.mounts),
      handles: handleMap(world.copy.map),
      allocate: () => this.sequencer.allocate(),
      addressOf,
      fdsMax: cachedFilesMax(FDS_MAX),
      settled: true,
    });
    this.#tree = new Tree({ backing, objects: this.#objects });
    this.#places = new Places(this.#objects, command.mounts);
    // Whoever goes on after a death is not held up: it was looked at when the mount was made.
    if (!resumed) checkFileSystems(command.mounts);
    checkRoots(command.mounts, world.copy);
    lookBeneath(world.copy, this.#objects, rootsOf(command.mounts));
    const marked = this.#objects.markRoots();
    if (marked < 0) throw new Error(rootRefused(marked));
    // A log that ends with the process ends this mount's numbering; a resumed mount goes on where it began.
    const mountedAt = resumed ? world.copy.meta.value.servedFrom - 1 : world.copy.journal.last;
    world.copy.begin("primary", { servedFrom: mountedAt + 1, copy: "uptodate" });
    world.shared.set(WORD.members, command.members);
    // What a peer of an earlier role or line of history had says nothing about this one.
    world.shared.set(WORD.appliedLow, (world.copy.journal.last - 1) | 0);
    this.sequencer = this.#makeSequencer(command, resumed, mountedAt);
    if (resumed) this.sequencer.resume();
    else this.sequencer.begin();
    this.#verification = makeVerification({
      copy: world.copy,
      objects: this.#objects,
      witness: world.witness,
      scrubMs: world.scrubMs,
      tellTime: (id) => this.sequencer.tellTime(id),
      requests: () => this.#requests,
      wall: () => world.now().getTime(),
      onRotten: (place, result) => this.#tellRotten(place, result),
      onVerified: (result) => world.say({ kind: "verified", ...result }),
    });
    this.#catchUp = new CatchUp({
      copy: world.copy,
      shared: world.shared,
      objects: this.#objects,
      tree: this.#tree,
      sequencer: this.sequencer,
      verification: this.#verification,
      resyncBandwidth: world.resyncBandwidth,
      requests: () => this.#requests,
      onCaughtUp: (sequence, resync) =>
        world.say({ kind: "caught-up", session: this.#session, sequence, resync }),
      onLost: (reason) => this.#lost(reason),
    });
    this.outgoing = new Outgoing({
      sequencer: this.sequencer,
      catchUp: this.#catchUp,
      shared: world.shared,
      onLost: (reason, id) =>
        this.#lost(id === undefined ? reason : `${reason}: ${this.#places.pathOf(id)}; restore or remove it`),
      now: bootNanoseconds,
    });
    for (const kept of command.kept) this.#objects.adoptOrphan(kept.id, kept.fd);
    command.mounts.forEach((mount, root) => this.#openServer(mount, root, command.grants[root] ?? null));
    this.#nameMounts(command.mounts);
    if (resumed) askAgain(this.#servers, (message) => world.say({ kind: "log", message }));
    if (command.inherits) this.#inherit();
    else {
      this.#request.done();
      world.shared.forgetSwaps();
    }
  }

  /** Descriptors to wait for, in the order of {@link serve}. */
  get fds(): number[] {
    return this.#servers.map((server) => server.fd);
  }

  /** Whether there is work besides requests. */
  get busy(): boolean {
    return this.outgoing.mayStep && this.#catchUp.busy;
  }

  /** How long the thread may wait for something to happen, milliseconds. */
  get pollMs(): number {
    const catchingUp = this.#catchUp.connected && !this.#catchUp.live;
    if (this.#verification.running || catchingUp) return 1;
    if (this.outgoing.kept > 0) return OFFER_MS;
    return this.sequencer.times.size > 0 ? TELL_MS : 500;
  }

  /** For `status`. */
  status(): Record<string, unknown> {
    const { connected, live, resync } = this.#catchUp;
    return {
      role: "primary",
      epoch: this.epoch,
      connected,
      caughtUp: live,
      members: this.#world.shared.get(WORD.members),
      counters: this.sequencer.counters,
      waiting: this.#world.shared.repliesWaiting,
      behind: this.sequencer.behind,
      acknowledged: live ? this.#world.shared.acknowledged(this.#copy.journal.last) : 0,
      resync,
      packing: this.sequencer.link?.wire.packing ?? null,
      ...this.#verification.status(),
      resend: this.#resends,
      // Who knows the requests that a killed process had in hand.
      inFlight: this.#resends ? "kernel" : "memory",
    };
  }

  /** Serves what has come on descriptor `index`. */
  serve(index: number): void {
    const server = this.#servers[index];
    if (server === undefined || this.#frozen) return;
    // Nobody else waits for the peer: this request is on its own, and so it goes there; nor is another one likely to be here.
    // Who wrote this one may have been answered a moment ago, by a thread that has not said so yet.
    const unsaid = this.#world.shared.repliesWaiting;
    const alone = unsaid === 0 || this.sequencer.behind === 0;
    this.sequencer.prompt = alone && !this.outgoing.unhurried;
    this.#served = 0;
    this.#request.root = index;
    for (let i = 0; i < BURST && this.sequencer.hasRoom; i++) {
      const got = readTo(server.fd, this.#request.address + REQUEST_AT, REQUEST_MAX);
      if (got === -EAGAIN) return;
      // Interrupted, or the request was taken back before we read it: the next one.
      if (got === -EINTR || got === -ENOENT) continue;
      if (got < 0) return this.#gone(server, got);
      if (!this.#request.parse(got)) {
        this.#request.done();
        this.#world.say({
          kind: "log",
          message: `Cannot read a request of ${got} bytes: its header says otherwise`,
        });
        return;
      }
      this.#served++;
      this.#requests++;
      server.handle();
      this.#request.done();
      // One listing of a large directory opens thousands.
      this.#objects.trim();
      if (alone && this.#world.shared.repliesWaiting <= unsaid + 1) return;
      if (i % FLUSH_EVERY === FLUSH_EVERY - 1) this.outgoing.flush();
    }
  }

  /** Whether the next request may be read at all: its answer must find room. */
  get ready(): boolean {
    return !this.#frozen && this.sequencer.hasRoom;
  }

  /** One step of bringing the peer up to date; called between two requests. */
  step(): void {
    this.#objects.trim();
    this.#sweep();
    if (this.sequencer.times.size > 0) this.#tellTimes();
    this.outgoing.step();
  }

  /** Not before an application has written: what was left alone is no history of its own. */
  #sweep(): void {
    if (this.#swept || this.#frozen || this.sequencer.counters.mutations === 0) return;
    this.#swept = this.#servers.every((server) => server.sweep());
  }

  #tellTimes(): void {
    const now = bootNanoseconds();
    if (now - this.#toldAt < TELL_MS * 1e6) return;
    this.#toldAt = now;
    this.sequencer.tellTimes();
  }

  /** A secondary has come; `ids` of a reconciliation include what its activity set names. */
  attach(
    peer: { readonly session: string; readonly data: StreamHandle; readonly version: number },
    plan: Plan,
    ids: Set<number>,
  ): void {
    this.detach(this.#session);
    if (plan.mode === "replay") this.sequencer.keepUnderWay();
    const stream = openStream(peer.data);
    const packing = peer.version < PACKS ? {} : { packing: this.#packing(stream) };
    const wire = new Wire({ stream, crc32, addressOf, gather: true, ...packing });
    this.#session = peer.session;
    const live = plan.mode === "reconcile";
    this.sequencer.link = { wire, live };
    this.outgoing.begin();
    try {
      this.#catchUp.begin(peer, plan, wire, ids);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#lost(error.message);
    }
  }

  #packing(stream: Stream): Packing {
    return new Packing({
      codec: this.#zstd,
      now: () => bootNanoseconds() / 1e6,
      line: () => lineSpeed(stream.fd),
      kept: () => stream.kept,
      bandwidth: this.#world.resyncBandwidth,
    });
  }

  /** The session is over. */
  detach(session: string): void {
    if (session !== this.#session || session === "") return;
    this.#catchUp.end();
    this.sequencer.link?.wire.stream.close();
    this.sequencer.link = null;
    this.#session = "";
  }

  /** Why a secondary on such file systems cannot be a copy of this one; null: it can. */
  objectionTo(theirs: readonly FileSystem[] | null): string | null {
    this.#fileSystems ??= fileSystemsOf(this.#mounts);
    return differenceOf(this.#fileSystems, theirs, this.#mounts.map(({ path }) => path));
  }

  /** Compares all of the secondary with this copy, while both go on. */
  verify(): void {
    this.#verification.begin();
  }

  /** The secondary has told of a difference. Answers where, for people. */
  onDifference(id: number): { readonly path: string } {
    this.#verification.onDifference(id);
    return { path: this.#places.pathOf(id) };
  }

  /** The secondary has told what it has of what the disk here has lost. */
  onGood(id: number, block: number, content: Uint8Array): void {
    this.#verification.onGood(id, block, content);
  }

  #tellRotten({ id, offset, length }: Place, { outcome, why }: Mended): void {
    const path = this.#places.pathOf(id);
    const stale = outcome === "left" ? null : this.#places.inKernel(id);
    this.#world.say({ kind: "rotten", path, offset, length, outcome, why, stale });
  }

  /** The peer is no member any more. Whoever waits for it is answered. */
  solo(epoch: number): void {
    this.#raise(epoch);
    this.sequencer.beginGeneration();
    this.#world.shared.set(WORD.members, 1);
    this.outgoing.bound();
    wake(this.#world.shared.memory.wake.acker);
  }

  /** The peer has caught up: from here every answer waits for it. */
  pair(epoch: number): number {
    if (!this.#catchUp.live) throw new Error("Cannot pair: the secondary has not caught up");
    this.#raise(epoch);
    this.#world.shared.set(WORD.members, 2);
    this.outgoing.bound();
    this.sequencer.beginGeneration();
    return this.#copy.journal.last;
  }

  /** The membership changed: what is written from here on is of the new epoch. */
  #raise(epoch: number): void {
    this.#copy.accept(epoch);
    this.epoch = epoch;
    this.sequencer.epoch = epoch;
  }

  /** Serves what has come, then reads no more. Answers whether nothing waits for the peer. */
  drain(): boolean {
    // An answer may be what the kernel waited for to send the next of its dirty pages.
    let quiet = true;
    for (let i = 0; i < this.#servers.length; i++) {
      this.serve(i);
      quiet &&= this.#served === 0;
    }
    this.sequencer.tellTimes();
    this.outgoing.flushNow();
    const { shared } = this.#world;
    const waiting = shared.repliesWaiting !== 0 || shared.fsyncsWaiting !== 0 || this.sequencer.behind !== 0;
    // Once the peer has all there is, nothing more may be answered here: in a `relaxed` directory it would be without the peer.
    if (quiet && !waiting) this.freeze();
    return quiet && !waiting;
  }

  /** Reads no more requests. */
  freeze(): void {
    this.#frozen = true;
  }

  /** Orphans and the descriptors that keep them, for a keeper that was restarted. */
  orphans(): { readonly id: number; readonly fd: number }[] {
    return this.#objects.keptDescriptors();
  }

  /** See {@link Objects.syncDescriptor}. */
  syncDescriptor(id: number): number | null {
    return this.#objects.syncDescriptor(id);
  }

  /** Lets go of everything; the descriptors of the mounts are the main thread's to close. */
  close(): void {
    this.detach(this.#session);
    // Before their numbers are those of other files.
    this.#nameMounts([]);
    this.#request.done();
    for (const server of this.#servers) server.close();
    this.#objects.close();
    this.#zstd.close();
  }

  #makeSequencer(command: ServeCommand, resumed: boolean, mountedAt: number): Sequencer {
    const { world } = { world: this.#world };
    return new Sequencer({
      backing,
      journal: world.copy.journal,
      objects: this.#objects,
      tree: this.#tree,
      ledger: {
        get nextId() {
          return world.copy.nextId;
        },
        reserve: (nextId) => {
          world.copy.reserve(nextId);
          world.copy.activity.reserve(nextId - 65536);
        },
        begin: (entry) => world.copy.addGeneration(entry),
      },
      activity: world.copy,
      rooms: command.mounts.map((mount) => new Room(backing, mount.backing)),
      shared: world.shared,
      request: this.#request,
      authority: world.authority,
      randomGeneration: randomIncarnation,
      writeReply: writeFrom,
      wake,
      keepOrphan: world.keepOrphan,
      dropOrphan: world.dropOrphan,
      pause: () => pause(200),
      onLinkLost: (error) => this.#lost(error.message),
      now: bootNanoseconds,
      wall: () => world.now().getTime(),
    }, {
      epoch: command.epoch,
      mountedAt,
      // In mid-service the line of history goes on; a new service begins one with its first write. So does whoever was killed between
      // being told of another membership and its first write: under the old line, what it answers alone would look unanswered.
      generation: resumed && world.copy.lastEpoch === command.epoch ? world.copy.lastGeneration : 0n,
    });
  }

  #openServer(mount: Mount, root: number, grant: KeptGrant | null): void {
    if (mount.fuse === null) throw new Error(`Cannot serve ${mount.path}: it is not mounted`);
    setNonblocking(mount.fuse);
    const granted = grant === null ? {} : { granted: grantedBy({ ...grant, flags: BigInt(grant.flags) }) };
    this.#servers.push(
      new FuseServer({
        fd: mount.fuse,
        root,
        rootFd: mount.backing,
        backing,
        objects: this.#objects,
        tree: this.#tree,
        road: this.sequencer,
        request: this.#request,
        durability: mount.durability,
        resend: this.#world.resend,
        statusOf,
        ...granted,
        onGranted: (result) => this.#world.say({ kind: "granted", root, grant: keptGrant(result) }),
        log: (message) => this.#world.say({ kind: "log", message }),
      }),
    );
  }

  /** From here on the acknowledging thread answers, too. */
  #nameMounts(mounts: readonly Mount[]): void {
    const { shared } = this.#world;
    for (let root = 0; root < MOUNTS_MAX; root++) shared.set(WORD.fuse + root, mounts[root]?.fuse ?? 0);
    if (shared.repliesWaiting + shared.fsyncsWaiting > 0) wake(shared.memory.wake.acker);
  }

  get #resends(): boolean {
    return this.#servers.every((server) => server.granted?.resend !== false);
  }

  /**
   * Goes on with what a former process had in flight, where the kernel does not say it again: fsyncs that the disk has not
   * done, and the one request in hand. Replies that wait are in their ring and need nothing.
   */
  #inherit(): void {
    this.sequencer.fsyncs.takeUp();
    if (!this.#request.inherit()) return;
    this.#servers[this.#request.root]?.handle();
    this.#request.done();
  }

  #gone(server: FuseServer, error: number): void {
    this.#frozen = true;
    if (error !== -ENODEV) {
      this.#world.say({
        kind: "log",
        message: `Cannot read requests: errno ${-error}; the mount is given up`,
      });
    }
    this.#world.say({ kind: "unmounted", root: server.root });
  }

  #lost(reason: string): void {
    const session = this.#session;
    this.detach(session);
    if (session !== "") this.#world.say({ kind: "link-lost", session, reason });
  }
}
