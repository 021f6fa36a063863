/**
 * The thread of the data road: one per module, sequencer on a primary, receiver on a secondary. It owns log, object map
 * and activity set; nobody else writes them.
 *
 * It waits in `poll` for the kernel's requests, the peer's frames, and an eventfd that says that the main thread has put
 * a command into the mailbox.
 *
 * @module
 */

import { FileStorage } from "../system/durable_file.ts";
import { syncfs } from "../system/syncfs.ts";
import { KeeperLine } from "../system/keeper_line.ts";
import { backing } from "../system/backing.ts";
import { clock } from "../system/clock.ts";
import { memoryAt } from "../system/libc.ts";
import { O } from "../system/linux.ts";
import { nameThread } from "../system/thread_name.ts";
import { Authority, bootNanoseconds, drainWake, pause, PollSet, wake } from "../system/worker_io.ts";
import { Checkpoints, type SyncOrder } from "./checkpoints.ts";
import { Copy, CopyError } from "./copy.ts";
import { readFileSystems } from "./file_system.ts";
import { INFLIGHT } from "./inflight.ts";
import { orphanKey } from "./orphan_key.ts";
import { OrphanKeeping } from "./orphan_keeping.ts";
import { type Plan, planFor, readPosition, type Verdict } from "./position.ts";
import { type PrimaryMessage, PrimaryRole, type ServeCommand } from "./primary_role.ts";
import { type FollowCommand, type SecondaryMessage, SecondaryRole } from "./secondary_role.ts";
import { DISK_FLAG, Mailbox, Shared, type SharedMemory, WORD } from "./shared.ts";
import { Refusal } from "./refusal.ts";
import type { StreamHandle } from "./stream.ts";
import { openWayBack } from "./way_back/open.ts";
import type { RoadWayBack, WayBackMessage } from "./way_back/road.ts";
import { openWitness } from "./copy_witness.ts";
import type { Witness } from "./witness.ts";

/** Commands to this thread; each is answered by a `reply`. */
export type RoadCommand =
  & { readonly id: number }
  & (
    | { readonly kind: "status" }
    | ServeCommand
    | FollowCommand
    | { readonly kind: "decide"; readonly position: unknown }
    | {
      readonly kind: "attach";
      readonly session: string;
      readonly data: StreamHandle;
      readonly plan: Plan;
      /** Of the protocol, agreed with the peer. */
      readonly version: number;
    }
    | { readonly kind: "hello" }
    | {
      readonly kind: "join";
      readonly session: string;
      readonly data: StreamHandle;
      readonly ack: StreamHandle;
      readonly plan: Plan;
    }
    | { readonly kind: "detach"; readonly session: string }
    | { readonly kind: "solo"; readonly epoch: number }
    | { readonly kind: "pair"; readonly epoch: number }
    | { readonly kind: "accept"; readonly epoch: number }
    | {
      readonly kind: "close";
      readonly epoch: number;
      readonly force: boolean;
      /** The directories beneath, where it may have to go back; none where the keeper does not hold them. */
      readonly roots: readonly number[];
    }
    | { readonly kind: "verify" }
    | { readonly kind: "difference"; readonly object: number }
    /** What the secondary has of what the disk here has lost, in base64. */
    | { readonly kind: "good"; readonly object: number; readonly block: number; readonly content: string }
    | { readonly kind: "orphans" }
    | { readonly kind: "doubt" }
    | { readonly kind: "drain" }
    | { readonly kind: "release" }
    | { readonly kind: "retire"; readonly roots: readonly number[] }
    | { readonly kind: "checkpointed"; readonly token: number; readonly failed: number }
  );

/** What this thread tells. */
export type RoadMessage =
  | { readonly kind: "road-ready"; readonly recovered: string }
  | { readonly kind: "road-failed"; readonly reason: string }
  | {
    readonly kind: "reply";
    readonly id: number;
    readonly result?: unknown;
    readonly error?: string;
    readonly code?: string;
  }
  | PrimaryMessage
  | SecondaryMessage
  | WayBackMessage;

/** What it is started with. */
export interface RoadStart {
  readonly memory: SharedMemory;
  readonly state: string;
  readonly run: string;
  readonly cluster: string;
  readonly module: string;
  readonly node: string;
  readonly bootId: string;
  readonly pid: number;
  readonly logBudgetBytes: number;
  /** Of what stays on the node: `markOf` in `border.ts`. */
  readonly excluded: string;
  readonly scrubMs: number | null;
  /** Bytes a second; null: no bound. */
  readonly resyncBandwidth: number | null;
  /** What a way back may take; null: what there is but a reserve; 0: none is kept. */
  readonly wayBackBytes: number | null;
  /** False: the kernel is not asked to send again what a killed process had in hand. */
  readonly resend: boolean;
}

/** Room set aside for what must be written down on a full disk; it being there again means room for the log. */
const LOG_RESERVE_BYTES = 8 << 20;
/** A question that waits for the end of a replay is looked at so often; frames of the peer wake the thread anyway. */
const DEFERRED_MS = 20;

class RoadThread {
  readonly #start: RoadStart;
  readonly #shared: Shared;
  readonly #mail: Mailbox;
  readonly #poll = new PollSet(20);
  readonly #storage: FileStorage;
  readonly #refusal = new Refusal({
    now: () => bootNanoseconds() / 1e6,
    logHasRoom: () => this.#storage.replenish(),
  });
  readonly #copy: Copy;
  readonly #keeper: KeeperLine;
  readonly #orphans: OrphanKeeping;
  readonly #authority: Authority;
  readonly #wayBack: RoadWayBack;
  readonly #witness: Witness;
  #role: PrimaryRole | SecondaryRole | null = null;
  readonly #checkpoints: Checkpoints;
  /** Questions how things are that wait, see {@link SecondaryRole.passing}. */
  readonly #deferred: RoadCommand[] = [];

  constructor(start: RoadStart, readonly say: (message: RoadMessage) => void) {
    this.#start = start;
    this.#shared = new Shared(start.memory, memoryAt(start.memory.inflight, INFLIGHT.bytes));
    this.#mail = new Mailbox(start.memory.mail.road);
    this.#keeper = new KeeperLine(`${start.run}/keeper.sock`);
    this.#orphans = new OrphanKeeping({
      line: this.#keeper,
      module: start.module,
      pid: start.pid,
      log: (message) => this.say({ kind: "log", message }),
      now: bootNanoseconds,
    });
    this.#authority = new Authority(`${start.run}/${start.module}.authority`);
    this.#storage = FileStorage.open(`${start.state}/modules/${start.module}/log`, LOG_RESERVE_BYTES);
    this.#copy = Copy.open({
      storage: this.#storage,
      cluster: start.cluster,
      module: start.module,
      node: start.node,
      bootId: start.bootId,
      logBudgetBytes: start.logBudgetBytes,
      excluded: start.excluded,
    });
    this.#checkpoints = new Checkpoints({
      copy: this.#copy,
      order: (order) => this.#orderSync(order),
      waiting: () => this.#shared.diskWaiting,
      now: bootNanoseconds,
    });
    this.#wayBack = openWayBack({
      directory: `${start.state}/modules/${start.module}/way-back`,
      copy: this.#copy,
      maxBytes: start.wayBackBytes,
      say: (message) => this.say(message),
    });
    this.#witness = openWitness(
      this.#copy,
      `${start.state}/modules/${start.module}`,
      (message) => this.say({ kind: "log", message }),
    );
  }

  run(): void {
    nameThread("road");
    backing.umask(0);
    this.say({ kind: "road-ready", recovered: this.#copy.crashed ? "after a power cut" : "in order" });
    const wakeFd = this.#start.memory.wake.road;
    while (this.#shared.get(WORD.stopping) === 0) {
      const role = this.#role;
      const fds = role === null || !role.ready ? [] : role.fds;
      this.#poll.assign([wakeFd, ...fds]);
      if (role instanceof PrimaryRole) role.outgoing.flush();
      const pending = this.#wayBack.step();
      const waitMs = role?.busy === true ? 0 : this.#waitMs(role);
      const ready = this.#poll.wait(Math.min(waitMs, pending ?? waitMs));
      if (ready > 0 && this.#poll.ready(0) !== 0) {
        drainWake(wakeFd);
        this.#commands();
        if (this.#role !== role) continue;
      }
      if (this.#deferred.length > 0 && !this.#passing) {
        for (const command of this.#deferred.splice(0)) this.#answer(command);
      }
      if (this.#orphans.waiting) this.#orphans.step();
      if (role === null) continue;
      for (let i = 0; i < fds.length; i++) if (ready > 0 && this.#poll.ready(i + 1) !== 0) role.serve(i);
      if (role instanceof SecondaryRole && role.received) role.serve(0);
      role.step();
      this.#checkpoints.step(role);
    }
    this.#role?.close();
    this.#witness.close();
    this.#keeper.close();
  }

  #waitMs(role: PrimaryRole | SecondaryRole | null): number {
    // A full ring empties without waking us.
    if (role !== null && !role.ready) return 1;
    if (this.#deferred.length > 0) return DEFERRED_MS;
    return this.#checkpoints.busy ? 2 : role?.pollMs ?? 500;
  }

  #commands(): void {
    for (let mail = this.#mail.take(); mail !== undefined; mail = this.#mail.take()) {
      const command = mail as RoadCommand;
      if (command.kind === "status" && this.#passing) this.#deferred.push(command);
      else this.#answer(command);
    }
  }

  get #passing(): boolean {
    return this.#role instanceof SecondaryRole && this.#role.passing;
  }

  #answer(command: RoadCommand): void {
    try {
      const result = this.#do(command);
      this.say({ kind: "reply", id: command.id, result });
    } catch (error) {
      // The main thread passes it to whoever asked; the thread itself is as it was.
      this.say({
        kind: "reply",
        id: command.id,
        error: error instanceof Error ? error.message : String(error),
        ...(error instanceof CopyError && error.code !== null ? { code: error.code } : {}),
      });
    }
  }

  #do(command: RoadCommand): unknown {
    switch (command.kind) {
      case "status":
        return this.#status();
      case "serve":
        return this.#serve(command);
      case "follow":
        return this.#follow(command);
      case "decide":
        return this.#decide(command.position);
      case "attach":
        return this.#attach(command);
      case "hello":
        return this.#secondary().hello();
      case "join":
        return this.#secondary().join(command.session, command, command.plan);
      case "detach":
        return this.#role?.detach(command.session);
      case "solo":
        return this.#primary().solo(command.epoch);
      case "pair":
        return { sequence: this.#primary().pair(command.epoch) };
      case "accept":
        return this.#secondary().accept(command.epoch);
      case "close":
        return this.#close(command);
      case "doubt":
        return this.#doubt();
      case "verify":
        return this.#primary().verify();
      case "difference":
        return this.#primary().onDifference(command.object);
      case "good":
        return this.#primary().onGood(command.object, command.block, Uint8Array.fromBase64(command.content));
      case "orphans":
        return this.#role?.orphans().map(({ id, fd }) => ({ key: orphanKey(id), fd })) ?? [];
      case "drain":
        return { drained: this.#primary().drain(), sequence: this.#copy.journal.last };
      case "release":
        return this.#release();
      case "retire":
        return this.#retire(command.roots);
      case "checkpointed":
        return this.#checkpoints.done(command.token, command.failed, this.#current ? clock.wallMs() : 0);
    }
  }

  #status(): unknown {
    const { copy } = this.#copy.meta.value;
    return {
      role: "idle",
      connected: false,
      caughtUp: false,
      resync: null,
      ...this.#role?.status(),
      epoch: this.#role?.epoch ?? this.#copy.epoch,
      accepted: this.#copy.epoch,
      sequence: this.#copy.journal.last,
      firstLogged: this.#copy.journal.first,
      log: this.#copy.journal.retention,
      history: this.#copy.encodedHistory(),
      copy,
      fresh: this.#copy.fresh,
      crashed: this.#copy.crashed,
      checkpoint: this.#copy.meta.value.checkpoint,
      held: this.#shared.get(WORD.heldByAuthority),
      asOf: this.#copy.meta.value.asOf,
      wayBack: this.#wayBack.status(),
    };
  }

  #serve(command: ServeCommand): unknown {
    if (this.#role instanceof PrimaryRole) {
      if (this.#role.epoch === command.epoch) return { sequence: this.#copy.journal.last };
      throw new Error(
        `Cannot serve under epoch ${command.epoch}: this process serves under ${this.#role.epoch} already`,
      );
    }
    this.#leaveRole();
    if (command.grants.every((grant) => grant === null)) this.#copy.dropInDoubt();
    const resumed = command.grants.some((grant) => grant !== null);
    this.#role = new PrimaryRole(command, {
      copy: this.#copy,
      shared: this.#shared,
      authority: this.#authority,
      say: (message) => this.say(message),
      keepOrphan: (id, fd) => this.#orphans.keep(id, fd),
      dropOrphan: (id) => this.#orphans.drop(id),
      now: () => new Date(clock.wallMs()),
      witness: this.#witness,
      scrubMs: this.#start.scrubMs,
      resyncBandwidth: this.#start.resyncBandwidth,
      resend: this.#start.resend,
    });
    if (!resumed) this.#wayBack.served(command.mounts.map((mount) => mount.backing));
    return { sequence: this.#copy.journal.last };
  }

  #follow(command: FollowCommand): unknown {
    this.#leaveRole();
    this.#role = new SecondaryRole(command, {
      copy: this.#copy,
      shared: this.#shared,
      quarantine: `${this.#start.state}/quarantine/${this.#start.module}`,
      now: () => new Date(clock.wallMs()),
      say: (message) => this.say(message),
      keepOrphan: (id, fd) => this.#orphans.keep(id, fd),
      dropOrphan: (id) => this.#orphans.drop(id),
      pause: () => pause(200),
      refusal: this.#refusal,
      witness: this.#witness,
      wayBack: this.#wayBack.open(command.mounts.map((mount) => mount.backing)),
    });
    return { sequence: this.#copy.journal.last };
  }

  #decide(position: unknown): Verdict {
    const reason = this.#primary().objectionTo(readFileSystems(position));
    if (reason !== null) return { accept: false, code: "file-system", reason };
    return planFor(this.#copy, readPosition(position), this.#primary().epoch);
  }

  #attach(command: Extract<RoadCommand, { kind: "attach" }>): unknown {
    const { plan } = command;
    const ids = plan.mode === "reconcile" && (!plan.whole || plan.from > 0)
      ? this.#copy.touchedSince(plan.since)
      : new Set<number>();
    if (ids === null) {
      throw new Error("Cannot compare: the log dropped what names the objects; the secondary comes again");
    }
    for (const id of this.#copy.doubted) ids.add(id);
    this.#primary().attach(command, plan, ids);
    return undefined;
  }

  /** I2: whatever comes from an older epoch is refused from here on, durably; what was received is applied. */
  #close({ epoch, force, roots }: Extract<RoadCommand, { kind: "close" }>): unknown {
    const role = this.#role;
    if (role instanceof SecondaryRole) {
      role.finish();
      this.#leaveRole();
    }
    // After the last frame: it may have been the one that began a comparison.
    this.#copy.checkServable(force);
    this.#copy.accept(epoch);
    // Also where going back is cut short: what was compared is that no longer.
    if (force) this.#copy.noteCompared(null);
    const restoring = force && !this.#wayBack.goBack(roots);
    return { sequence: this.#copy.journal.last, restoring };
  }

  #release(): unknown {
    const role = this.#primary();
    role.freeze();
    this.#copy.noteCurrent(clock.wallMs());
    this.#leaveRole();
    return { sequence: this.#copy.journal.last };
  }

  /** Clean says that all of it is on disk: a power cut after the stop is no crash. `roots` are the directories beneath. */
  #retire(roots: readonly number[]): unknown {
    this.#leaveRole();
    const synced = roots.length > 0 && roots.every((root) => {
      const fd = backing.reopen(root, O.RDONLY | O.DIRECTORY);
      return fd >= 0 && syncfs(fd) === 0;
    });
    if (synced && !this.#copy.fresh && !this.#copy.crashed) this.#copy.markClean();
    return { sequence: this.#copy.journal.last };
  }

  #leaveRole(): void {
    const role = this.#role;
    this.#role = null;
    const orphans = role?.orphans() ?? [];
    role?.close();
    this.#wayBack.close();
    if (role !== null) this.#orphans.dropAll(orphans.map(({ id }) => id));
  }

  #primary(): PrimaryRole {
    if (this.#role instanceof PrimaryRole) return this.#role;
    throw new Error("Cannot do that: this replicator is not primary");
  }

  #secondary(): SecondaryRole {
    if (this.#role instanceof SecondaryRole) return this.#role;
    throw new Error("Cannot do that: this replicator is not secondary");
  }

  #orderSync({ fd, what, sequence, last }: SyncOrder): void {
    const wide = what === "file-system" ? DISK_FLAG.fileSystem : 0;
    const flags = DISK_FLAG.checkpoint | wide | (last ? DISK_FLAG.barrier : 0);
    this.#shared.pushDisk({ fd, flags, token: sequence, slot: -1 });
    wake(this.#start.memory.wake.disk);
  }

  /** It has all that is to be had, now. */
  get #current(): boolean {
    return this.#role instanceof PrimaryRole || this.#role?.caughtUp === true;
  }

  /** The disk refused a sync: a secondary's copy is out of the set, a primary's is compared once it follows another. */
  #doubt(): { readonly news: boolean; readonly secondary: boolean } {
    const secondary = this.#role instanceof SecondaryRole;
    const news = this.#copy.doubt();
    if (secondary) this.#copy.setCopy("inconsistent");
    return { news, secondary };
  }
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<RoadStart>) => void) | null;
  postMessage(message: RoadMessage): void;
};
scope.onmessage = (event) => {
  scope.onmessage = null;
  const say = (message: RoadMessage): void => scope.postMessage(message);
  try {
    new RoadThread(event.data, say).run();
  } catch (error) {
    // Without its data road the process is of no use: the main thread ends it and the keeper starts another.
    say({
      kind: "road-failed",
      reason: error instanceof Error ? `${error.message}\n${error.stack}` : String(error),
    });
  }
};
