/**
 * One node in a simulation: its disks, which lose power, its process, which is killed, and the kernel's end of its mount. Log,
 * copy, roles and comparisons are the real ones; what `road_worker.ts` does with its commands is done here by hand.
 *
 * @module
 */

import { IN_HEADER } from "../../lib/fuse/layout.ts";
import { NOTIFY, OPCODE, UNIQUE_RESEND_HIGH } from "../../lib/fuse/opcode.ts";
import { MemoryStorage } from "../../lib/journal/memory_storage.ts";
import { Checkpoints } from "../../lib/replication/checkpoints.ts";
import { Copy, CopyError } from "../../lib/replication/copy.ts";
import { readFileSystems } from "../../lib/replication/file_system.ts";
import { INFLIGHT, takeOver } from "../../lib/replication/inflight.ts";
import type { KeptGrant, KeptOrphan, Mount } from "../../lib/replication/mounts.ts";
import { type Plan, planFor, readPosition, type Verdict } from "../../lib/replication/position.ts";
import { type PrimaryMessage, PrimaryRole } from "../../lib/replication/primary_role.ts";
import { Refusal } from "../../lib/replication/refusal.ts";
import { type SecondaryMessage, SecondaryRole } from "../../lib/replication/secondary_role.ts";
import { createSharedMemory, DISK_FLAG, Shared, WORD } from "../../lib/replication/shared.ts";
import { RoadWayBack } from "../../lib/replication/way_back/road.ts";
import { Witness } from "../../lib/replication/witness.ts";
import { PROTOCOL } from "../../lib/protocol.ts";
import { backing } from "../../lib/system/backing.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { closeSocket } from "../../lib/system/socket.ts";
import { makeEventfd, readTo, writeFrom } from "../../lib/system/worker_io.ts";
import type { Dice } from "../replication/chance.ts";
import { unused } from "../sim/one_way.ts";
import { addDisk, SOCKET, socketPair } from "./machine.ts";
import { AckerThread, DiskThread } from "./threads.ts";

/** Of a hundred calls of the disk, how many are followed by a commit of its journal. */
const COMMITS = 2;
const REPLY_BYTES = 1 << 16;
const REQUEST_BYTES = 1 << 20;

/** The process ends here: it was killed, or power was lost. `victim`: the node that was in the middle of something; "": none was. */
export class Ended extends Error {
  override readonly name = "Ended";
  constructor(readonly victim: string) {
    super(`${victim === "" ? "nobody" : victim} was in the middle of something`);
  }
}

/** What nodes of one simulation share. */
export interface NodeOptions {
  readonly dice: Dice;
  /** A folder of the machine for what goes into quarantine. */
  readonly quarantine: string;
  readonly durability: "each-write" | "fsync";
  /** Whether the kernel gives again what a killed process had in hand. */
  readonly resend: boolean;
}

/** Sockets of a session, of one end. */
export interface Sockets {
  readonly data: number;
  readonly ack: number;
  readonly sync: number;
}

/** An answer of the mount. */
export interface Reply {
  readonly unique: number;
  readonly error: number;
  readonly body: Uint8Array;
}

/** One node. */
export class PowerNode {
  readonly name: string;
  readonly fs = addDisk();
  /** What the role has told, oldest first; whoever reads it takes it out. */
  readonly said: (PrimaryMessage | SecondaryMessage)[] = [];
  copy: Copy;
  role: PrimaryRole | SecondaryRole | null = null;
  /** Of its own clock, nanoseconds. */
  now = 0;
  readonly #options: NodeOptions;
  readonly #wake = { road: makeEventfd(), acker: makeEventfd(), disk: makeEventfd() };
  #storage = new MemoryStorage();
  #wayStorage = new MemoryStorage();
  #boots = 0;
  #rootFd = -1;
  /** Descriptors in the keeper's hands, by id. */
  readonly #keeper = new Map<number, number>();
  #inflight = new ArrayBuffer(INFLIGHT.bytes);
  #shared: Shared;
  #acker: AckerThread;
  #disk: DiskThread;
  #checkpoints: Checkpoints;
  #wayBack: RoadWayBack;
  #refusal = new Refusal({ now: () => this.now / 1e6, logHasRoom: () => true });
  readonly #witness = new Witness({
    files: { read: () => new Uint8Array(0), cut() {}, append() {}, publish() {}, close() {} },
    identity: () => "",
    isOurs: () => false,
    log: () => {},
  });
  #kernelFd = -1;
  #fuseFd = -1;
  #grant: KeptGrant | null = null;
  /** Requests without a reply, by unique. */
  readonly #pending = new Map<number, Uint8Array<ArrayBuffer>>();
  #dead = false;
  #callsLeft = Number.MAX_SAFE_INTEGER;

  constructor(name: string, options: NodeOptions) {
    this.name = name;
    this.#options = options;
    this.fs.mountDisk();
    this.#rootFd = this.fs.openRoot();
    this.#shared = this.#openShared(false);
    this.copy = this.#openCopy();
    this.#acker = new AckerThread(this.#shared);
    this.#disk = this.#openDisk();
    this.#checkpoints = this.#openCheckpoints();
    this.#wayBack = this.#openWayBack();
    this.#watchCalls();
  }

  /** It serves. Throws when it does not. */
  get primary(): PrimaryRole {
    if (this.role instanceof PrimaryRole) return this.role;
    throw new Error(`${this.name} is not primary`);
  }

  /** It follows. Throws when it does not. */
  get secondary(): SecondaryRole {
    if (this.role instanceof SecondaryRole) return this.role;
    throw new Error(`${this.name} is not secondary`);
  }

  /** In the middle of the call of its disks that is so many from now it ends. */
  endAfter(calls: number): void {
    this.#callsLeft = calls;
  }

  /** Takes {@link endAfter} back. */
  spare(): void {
    this.#callsLeft = Number.MAX_SAFE_INTEGER;
  }

  /** Asks before it serves, under a new epoch. False: its copy is part of a comparison that did not end. */
  mayServe(epoch: number): boolean {
    if (this.role instanceof SecondaryRole) {
      this.role.finish();
      while (this.#disk.step());
      this.#leaveRole();
    }
    try {
      this.copy.checkServable(false);
    } catch (error) {
      if (error instanceof CopyError && error.code === "inconsistent") return false;
      throw error;
    }
    this.copy.accept(epoch);
    return true;
  }

  /** Serves, alone, by a new mount. */
  serve(epoch: number): void {
    this.#leaveRole();
    this.copy.dropInDoubt();
    [this.#kernelFd, this.#fuseFd] = socketPair(SOCKET.messages);
    this.#pending.clear();
    this.#grant = null;
    this.#beginServing(epoch, 1, false);
    this.#wayBack.served([this.#rootFd]);
  }

  /** Follows whoever serves under the epoch. `overwrite`: a person has decided that what was written apart here may go. */
  follow(epoch: number, overwrite = false): void {
    this.#leaveRole();
    const { quarantine } = this.#options;
    const command = {
      kind: "follow",
      epoch,
      mounts: [this.#mount(null)],
      kept: this.#kept(),
      overwrite,
    } as const;
    this.role = new SecondaryRole(command, {
      ...this.#world(),
      quarantine,
      pause: unused,
      refusal: this.#refusal,
      wayBack: this.#wayBack.open([this.#rootFd]),
    });
  }

  /** How a secondary at such a position is brought up to date. */
  decide(position: unknown): Verdict {
    const reason = this.primary.objectionTo(readFileSystems(position));
    if (reason !== null) throw new Error(reason);
    return planFor(this.copy, readPosition(position), this.primary.epoch);
  }

  /** A secondary that stands at `last` has come. */
  attach(session: string, plan: Plan, last: number, sockets: Sockets): void {
    const ids = plan.mode === "reconcile" && (!plan.whole || plan.from > 0)
      ? this.copy.touchedSince(plan.since)
      : new Set<number>();
    if (ids === null) throw new Error("The log dropped what names the objects to be compared");
    for (const id of this.copy.doubted) ids.add(id);
    this.#acker.attach(session, sockets, {
      applied: plan.mode === "replay" ? Math.min(last, plan.from - 1) : 0,
      compares: plan.mode === "reconcile",
    });
    const data = { kind: "plain", fd: sockets.data, label: "data" } as const;
    this.primary.attach({ session, data, version: PROTOCOL.version }, plan, ids);
  }

  /** The primary has let this node in. */
  join(session: string, plan: Plan, { data, ack, sync }: Sockets): void {
    this.#disk.attach(sync);
    this.secondary.join(session, {
      data: { kind: "plain", fd: data, label: "data" },
      ack: { kind: "plain", fd: ack, label: "ack" },
    }, plan);
  }

  /** The session is over. */
  detach(session: string): void {
    this.role?.detach(session);
    this.#acker.drop();
    this.#disk.drop();
  }

  /** What its three threads do next, in no order. */
  get threads(): (() => void)[] {
    return [() => this.#road(), () => this.#acker.step(this.#fuseFd), () => this.#disk.step()];
  }

  /** Power is lost; the node starts again, with what its disks have. */
  losePower(): void {
    const { dice } = this.#options;
    this.#dropProcess();
    for (const fd of [this.#kernelFd, this.#fuseFd]) if (fd >= 0) closeSocket(fd);
    this.#kernelFd = this.#fuseFd = -1;
    this.#storage = this.#storage.crash(() => dice(1000) / 1000);
    this.#wayStorage = this.#wayStorage.crash(() => dice(1000) / 1000);
    const how = dice(3);
    this.fs.cutPower(() => how === 2 ? dice(2) === 0 : how === 1);
    this.#boots++;
    this.#keeper.clear();
    this.#inflight = new ArrayBuffer(INFLIGHT.bytes);
    this.#rootFd = this.fs.openRoot();
    this.#startProcess(false);
  }

  /** Its process is killed, and another goes on with the role under the epoch. */
  kill(epoch: number, members: 1 | 2): void {
    const primary = this.role instanceof PrimaryRole;
    this.#dropProcess();
    // What it had not read comes again with what it had; that a request is given twice is no error.
    const read = new Uint8Array(REQUEST_BYTES);
    while (primary && this.#options.resend && readTo(this.#fuseFd, addressOf(read), read.length) > 0);
    this.fs.killProcess(new Set([this.#rootFd, ...this.#keeper.values()]));
    this.#storage = this.#storage.killed();
    this.#wayStorage = this.#wayStorage.killed();
    this.#startProcess(primary && !this.#options.resend);
    if (!primary) return this.follow(epoch);
    this.#shared.set(WORD.members, members);
    this.#beginServing(epoch, members, true);
  }

  /** Puts a request of an application into the mount. */
  request(opcode: number, nodeid: number, unique: number, content: Uint8Array): void {
    const bytes = new Uint8Array(IN_HEADER.sizeof + content.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(IN_HEADER.len, bytes.length, true);
    view.setUint32(IN_HEADER.opcode, opcode, true);
    view.setUint32(IN_HEADER.unique, unique, true);
    view.setBigUint64(IN_HEADER.nodeid, BigInt(nodeid), true);
    view.setUint32(IN_HEADER.pid, 1, true);
    bytes.set(content, IN_HEADER.sizeof);
    if (opcode !== OPCODE.FORGET) this.#pending.set(unique, bytes);
    this.#give(bytes);
  }

  /** Takes a reply out of the mount; null: there is none. */
  reply(): Reply | null {
    const bytes = new Uint8Array(REPLY_BYTES);
    const got = readTo(this.#kernelFd, addressOf(bytes), bytes.length);
    if (got <= 0) return null;
    const view = new DataView(bytes.buffer);
    const error = view.getInt32(4, true);
    if (view.getBigUint64(8, true) === 0n) {
      if (error !== NOTIFY.RESEND) throw new Error(`The mount got a notice of kind ${error}`);
      this.#giveAgain();
      return this.reply();
    }
    const unique = view.getUint32(8, true);
    this.#pending.delete(unique);
    return { unique, error, body: bytes.slice(16, got) };
  }

  #giveAgain(): void {
    for (const bytes of this.#pending.values()) {
      new DataView(bytes.buffer).setUint32(IN_HEADER.unique + 4, UNIQUE_RESEND_HIGH, true);
      this.#give(bytes);
    }
  }

  #give(bytes: Uint8Array<ArrayBuffer>): void {
    const given = writeFrom(this.#kernelFd, addressOf(bytes), bytes.length);
    if (given !== bytes.length) throw new Error(`The mount takes no request: ${given}`);
  }

  /** As `RoadThread.run` does, once. */
  #road(): void {
    const { role } = this;
    if (role === null) return;
    if (role instanceof PrimaryRole) role.outgoing.flush();
    this.#wayBack.step();
    role.serve(0);
    role.step();
    this.#checkpoints.step(role);
    if (role instanceof PrimaryRole) role.outgoing.flush();
  }

  #beginServing(epoch: number, members: 1 | 2, inherits: boolean): void {
    const kept = inherits ? this.#kept() : [];
    const mounts = [this.#mount(this.#fuseFd)];
    const command = { kind: "serve", epoch, members, mounts, kept, grants: [this.#grant], inherits } as const;
    const { resend } = this.#options;
    this.role = new PrimaryRole(command, {
      ...this.#world(),
      authority: { valid: true },
      scrubMs: null,
      resyncBandwidth: null,
      resend,
    });
  }

  #world() {
    return {
      copy: this.copy,
      shared: this.#shared,
      witness: this.#witness,
      now: () => new Date(1_700_000_000_000 + Math.floor(this.now / 1e6)),
      say: (message: PrimaryMessage | SecondaryMessage) => this.#say(message),
      keepOrphan: (id: number, fd: number) => {
        if (!this.#keeper.has(id)) this.#keeper.set(id, this.fs.dup(fd));
        return true;
      },
      dropOrphan: (id: number) => this.#dropOrphan(id),
    };
  }

  #say(message: PrimaryMessage | SecondaryMessage): void {
    if (message.kind === "granted") this.#grant = message.grant;
    this.said.push(message);
  }

  #kept(): KeptOrphan[] {
    return [...this.#keeper].map(([id, fd]) => ({ id, fd: this.fs.dup(fd) }));
  }

  #dropOrphan(id: number): void {
    const fd = this.#keeper.get(id);
    if (fd !== undefined) this.fs.close(fd);
    this.#keeper.delete(id);
  }

  #mount(fuse: number | null): Mount {
    const { durability } = this.#options;
    return { path: "/data", backing: this.#rootFd, fuse, durability, require: null, exclude: [] };
  }

  #leaveRole(): void {
    const { role } = this;
    this.role = null;
    const orphans = role?.orphans() ?? [];
    role?.close();
    this.#wayBack.close();
    for (const { id } of orphans) this.#dropOrphan(id);
  }

  /** Nothing of it does anything any more. */
  #dropProcess(): void {
    this.role = null;
    this.said.length = 0;
    this.#acker.drop();
    this.#disk.drop();
    this.fs.before = () => undefined;
    this.fs.after = () => {};
  }

  #startProcess(inherits: boolean): void {
    this.#shared = this.#openShared(inherits);
    this.copy = this.#openCopy();
    this.#acker = new AckerThread(this.#shared);
    this.#disk = this.#openDisk();
    this.#checkpoints = this.#openCheckpoints();
    this.#wayBack = this.#openWayBack();
    this.#watchCalls();
  }

  #openShared(inherits: boolean): Shared {
    takeOver(this.#inflight, inherits);
    const shared = new Shared(createSharedMemory(this.#wake, 0), this.#inflight);
    shared.set(WORD.members, 1);
    return shared;
  }

  #openCopy(): Copy {
    return Copy.open({
      storage: this.#storage,
      cluster: "plant",
      module: "data",
      node: this.name,
      bootId: `${this.name}-${this.#boots}`,
      logBudgetBytes: 1 << 20,
    });
  }

  #openDisk(): DiskThread {
    return new DiskThread(this.#shared, this.fs, (token, failed) => {
      const current = this.role instanceof PrimaryRole || this.role?.caughtUp === true;
      this.#checkpoints.done(token, failed, current ? 1 + Math.floor(this.now / 1e6) : 0);
    });
  }

  #openCheckpoints(): Checkpoints {
    const shared = this.#shared;
    return new Checkpoints({
      copy: this.copy,
      order({ fd, what, sequence, last }): void {
        const wide = what === "file-system" ? DISK_FLAG.fileSystem : 0;
        const flags = DISK_FLAG.checkpoint | wide | (last ? DISK_FLAG.barrier : 0);
        shared.pushDisk({ fd, flags, token: sequence, slot: -1 });
      },
      waiting: () => shared.diskWaiting,
      now: () => this.now,
    });
  }

  #openWayBack(): RoadWayBack {
    return new RoadWayBack({
      copy: this.copy,
      backing,
      addressOf: (bytes) => addressOf(bytes as Uint8Array<ArrayBuffer>),
      cloneRange: () => -95,
      // None is kept: `tests/replication/way_back_test.ts` has that.
      maxBytes: 0,
      openStorage: () => ({ storage: this.#wayStorage, fd: this.#rootFd }),
      exists: () => true,
      sync: (root) => this.fs.syncfs(root),
      now: () => this.now,
      say: unused,
    });
  }

  /** The kernel commits when it likes, and the process ends in the middle of a call, see {@link endAfter}. */
  #watchCalls(): void {
    const { dice } = this.#options;
    this.#dead = false;
    this.spare();
    const alive = (): undefined => {
      if (this.#dead) throw new Ended(this.name);
      return undefined;
    };
    const call = (): void => {
      alive();
      if (--this.#callsLeft > 0) return;
      this.#dead = true;
      throw new Ended(this.name);
    };
    this.fs.before = alive;
    this.fs.after = () => {
      if (dice(100) < COMMITS) this.fs.commit(() => false, () => dice(3) === 0);
      call();
    };
    this.#storage.before = call;
  }
}
