/**
 * One module on this node: its state, its two lanes of work, its replicator.
 *
 * Everything that happens becomes an event in the agent's queue; this class takes them one by one, asks the core and
 * does the effects in order.
 *
 * @module
 */

import type { CommandResult } from "../agent_control.ts";
import type { ModuleConfig } from "../config/types.ts";
import {
  type ChannelView,
  type Effect,
  type EventBody,
  isServing,
  learn,
  noChannel,
  type State,
  step,
  STORE_FULL,
  type Task,
} from "../failover/mod.ts";
import { HeldEvents } from "./held_events.ts";
import { Lane } from "./lane.ts";
import { LocalLink } from "./local_link.ts";
import { choosePath, firstPath, type Paths, type PathTimes } from "./paths.ts";
import { probeRound, type ProbeTargets } from "./probing.ts";
import { channelOf, type Fields, fieldsOf } from "./replicator_status.ts";
import {
  type Authority,
  type Clock,
  type Connect,
  type Store,
  StoreFullError,
  type Timers,
} from "./seams.ts";
import { guard, mountedPaths, runTask, type TaskWorld, wasFenced } from "./tasks.ts";
import type { Probes } from "../monitor/probe_types.ts";
import type { ServiceEffects, VipEffects } from "../effects/types.ts";
import type { Endpoint } from "./tasks.ts";
import {
  tellDifference,
  tellFailure,
  tellResync,
  tellRotten,
  tellTask,
  tellVerified,
  tellWayBack,
  type Told,
} from "./telling.ts";

/** A status takes microseconds; one that does not come means a stopped process. */
const STATUS_MS = 2000;
/** After the agent's start a replicator that runs is given this long to answer before it counts as absent. */
const DISCOVER_MS = 3000;

/** What a module needs of its agent. */
export interface ModuleWorld {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly store: Store;
  readonly authority: Authority;
  readonly connect: Connect;
  readonly keeper: LocalLink;
  readonly vips: VipEffects;
  readonly services: ServiceEffects;
  readonly probes: Probes;
  readonly targets: ProbeTargets;
  /** The networks both nodes are on, the preferred one first, each with the order of addresses that begins with it. */
  readonly networks: readonly { readonly name: string; readonly peer: Endpoint }[];
  readonly pathTimes: PathTimes;
  /** Network → when the peer was heard by it last. */
  readonly heard: () => ReadonlyMap<string, number>;
  readonly socket: string;
  readonly graceMs: number;
  /** Puts an event in the agent's queue. */
  readonly post: (event: EventBody) => void;
  /** Sends a heartbeat to the peer at once. */
  readonly send: () => void;
  readonly note: (level: "info" | "warning" | "error", what: string, why: string, epoch: number) => void;
}

/** Runs one module. */
export class ModuleRunner {
  readonly config: ModuleConfig;
  readonly #world: ModuleWorld;
  readonly #tasks: TaskWorld;
  readonly #lanes: Readonly<Record<"data" | "service", Lane>>;
  readonly #replies = new Map<number, (result: CommandResult) => void>();
  readonly #replicator: LocalLink;
  #state: State;
  #status: Fields | null = null;
  #asking = false;
  #nextCommand = 1;
  #booted = false;
  #vipsSet = false;
  /** What was put up and not yet taken down: taking down is also done to be sure, and then nothing to tell of. */
  readonly #there = new Set<string>();
  readonly #held = new HeldEvents();
  #diskFull = false;
  #unwritten = false;
  #paths: Paths;
  /** The replicator knows the order of addresses. */
  #pathTold = false;
  /** The network told of last. */
  #network: string | null = null;
  /** When the replicator's channel to the peer was made. */
  #connectedAt = 0;

  constructor(config: ModuleConfig, state: State, world: ModuleWorld) {
    this.config = config;
    this.#state = state;
    this.#world = world;
    this.#paths = firstPath(config.network, world.clock.now());
    this.#replicator = new LocalLink({
      path: world.socket,
      connect: world.connect,
      timers: world.timers,
      onEvent: (event, params) => this.#onReplicatorEvent(event, fieldsOf(params)),
      onChange: (connected) => this.#onReplicatorChange(connected),
    });
    const { keeper, vips, services, graceMs } = world;
    const peer = (): Endpoint => this.#peer();
    const role = (): "primary" | "secondary" | "stopped" => roleOf(this.#state);
    const node = state.settings.node;
    this.#tasks = { config, node, peer, graceMs, keeper, replicator: this.#replicator, vips, services, role };
    const lane = (): Lane =>
      new Lane((task, signal) => this.#work(task, signal), {
        done: (work, sequence) => world.post({ kind: "done", work, sequence }),
        failed: (work, task, reason, code) => world.post({ kind: "failed", work, task, reason, code }),
      });
    this.#lanes = { data: lane(), service: lane() };
  }

  get state(): State {
    return this.#state;
  }
  /** False until it is known what was running: nothing is said to the peer before. */
  get booted(): boolean {
    return this.#booted;
  }
  /** The replicator's last word on itself. */
  get status(): Fields | null {
    return this.#status;
  }
  /** The network the replication channel is made over; null while it does not stand. */
  get network(): string | null {
    const via = this.#status?.["via"];
    const found = this.#world.networks.find(({ peer }) => peer.addresses[0] === via);
    return this.#state.channel.connected ? found?.name ?? null : null;
  }
  get vipsSet(): boolean {
    return this.#vipsSet;
  }

  /** Looks at what runs already, then reports the boot. The keeper must be connected. */
  async boot(bootId: string, signal: AbortSignal): Promise<void> {
    const mounted = await mountedPaths(this.#tasks);
    const whole = mounted.length === this.config.replicate.length;
    const expected = whole || this.#state.record.running;
    if (expected && this.#state.record.bootId === bootId) {
      this.#replicator.want(true);
      // A replicator that is just being restarted by the keeper counts as running: waiting is cheaper than a failover.
      await this.#replicator.ready(DISCOVER_MS, signal).catch(() => {});
      await this.#ask();
    }
    const channel = this.#channel();
    const { record } = this.#state;
    // While no agent ran the keeper may have taken the module down: its mounts answer nothing but EIO.
    const fenced = await wasFenced(this.#tasks);
    const serving = whole && !fenced && channel.role === "primary" && channel.epoch <= record.epoch;
    if (serving) await guard(this.#tasks);
    this.#booted = true;
    if (channel.alive) this.#world.post({ kind: "channel", channel });
    this.#world.post({ kind: "boot", bootId, serving, following: channel.role === "secondary" });
  }

  /**
   * A decision cannot be written down: this node can promise its peer nothing, so it must not seem to be there. Its primary
   * goes on without it, as it does when a node is dead, instead of waiting for its word.
   */
  get mute(): boolean {
    return this.#unwritten && !isServing(this.#state);
  }

  /** One event of the queue. On a full disk what cannot be written down is not decided; it is tried again later. */
  take(event: EventBody): void {
    try {
      if (event.kind === "tick") this.#retry();
      if (this.#held.blocks(event)) this.#held.hold(event);
      else this.#decide(event);
    } catch (error) {
      if (!(error instanceof StoreFullError)) throw error;
      this.#tellDisk(error.message);
      this.#putOff(event, error.message);
    }
  }

  /** Decides what is held, as soon as the record can be written at all. */
  #retry(): void {
    if (!this.#diskFull) return;
    this.#world.store.save(this.config.name, this.#state.record);
    this.#held.retry((held) => this.#decide(held));
    this.#unwritten = false;
    this.#tellDisk(null);
  }

  #putOff(event: EventBody, problem: string): void {
    if (event.kind === "command") {
      const message = `Cannot ${event.verb}: ${problem}; make room on that disk`;
      return this.#do({ kind: "reply", id: event.id, ok: false, message });
    }
    this.#unwritten = true;
    this.#state = learn(this.#state, { at: this.#world.clock.now(), ...event });
    const { phase } = this.#state;
    if (event.kind === "done" && phase.kind === "promoting" && phase.step === "closing") {
      const { work } = event;
      return this.#decide({ kind: "failed", work, task: "close", reason: problem, code: STORE_FULL });
    }
    this.#held.hold(event);
  }

  /**
   * The record first, once: effects listed before it may not depend on it, those after it do, and when it cannot be
   * written nothing has been done.
   */
  #decide(event: EventBody): void {
    const decision = step(this.#state, { at: this.#world.clock.now(), ...event });
    if (decision.state.record !== this.#state.record) {
      this.#world.store.save(this.config.name, decision.state.record);
    }
    this.#state = decision.state;
    for (const effect of decision.effects) this.#do(effect);
  }

  #tellDisk(problem: string | null): void {
    const full = problem !== null;
    if (full === this.#diskFull) return;
    this.#diskFull = full;
    const { note } = this.#world;
    const { epoch } = this.#state.record;
    if (full) note("error", "Cannot write down a decision", `${problem}; make room on that disk`, epoch);
    else note("info", "Writes decisions down again", "there is room on the disk", epoch);
  }

  /** Asks for a verb; resolves with the decision. */
  command(verb: Extract<EventBody, { kind: "command" }>["verb"], force: boolean): Promise<CommandResult> {
    const id = this.#nextCommand++;
    return new Promise((resolve) => {
      this.#replies.set(id, resolve);
      this.#world.post({ kind: "command", verb, id, force });
    });
  }

  /** Has the copies compared. */
  async verify(): Promise<CommandResult> {
    const { peer } = this.#state.settings;
    if (roleOf(this.#state) !== "primary") {
      const message = `Cannot verify: this node is not primary; ask the one that is, perhaps ${peer}`;
      return { ok: false, code: "refused", message };
    }
    try {
      await this.#replicator.call("verify", {}, STATUS_MS);
      // Whoever asks next sees that it runs.
      await this.#ask();
    } catch (error) {
      return { ok: false, code: "busy", message: error instanceof Error ? error.message : String(error) };
    }
    const ready = this.#state.channel.connected && this.#state.channel.caughtUp;
    const message = ready
      ? `every object is compared with ${peer}`
      : `it begins when ${peer} is connected and has everything`;
    return { ok: true, code: "accepted", message };
  }

  /** Refreshes what is known of the replicator; at most one question is out. */
  poll(): void {
    if (!this.#booted || this.#asking || !this.#replicator.connected) return;
    this.#asking = true;
    this.#choosePath();
    this.#ask().then(() => {
      this.#asking = false;
      if (this.#replicator.connected) this.#world.post({ kind: "channel", channel: this.#channel() });
      this.#tellNetwork();
    });
  }

  /** The peer, the address on the network in use first. */
  #peer(): Endpoint {
    const { networks } = this.#world;
    const found = networks.find(({ name }) => name === this.#paths.network) ?? networks[0];
    return found?.peer ?? { name: this.#state.settings.peer, addresses: [] };
  }

  #choosePath(): void {
    const { networks, pathTimes, heard, clock } = this.#world;
    const before = this.#paths.network;
    this.#paths = choosePath(this.#paths, {
      at: clock.now(),
      networks: networks.map(({ name }) => name),
      heard: heard(),
      times: pathTimes,
    });
    if (this.#paths.network !== before) this.#pathTold = false;
    if (this.#pathTold || this.#state.phase.kind !== "following") return;
    this.#pathTold = true;
    const { addresses } = this.#peer();
    // One that has just died is told by the next look.
    this.#replicator.call("paths", { addresses }, STATUS_MS).catch(() => this.#pathTold = false);
  }

  /** What the channel is made over in fact, not what was chosen: a connection may find its own way. */
  #tellNetwork(): void {
    const { network } = this;
    if (network === null || network === this.#network) return;
    const before = this.#network;
    this.#network = network;
    const preferred = this.config.network;
    const { epoch } = this.#state.record;
    if (network !== preferred) {
      const why = `${preferred} does not lead to ${this.#state.settings.peer}`;
      this.#world.note("warning", `Replicates over ${network}`, why, epoch);
    } else if (before !== null) {
      this.#world.note("info", `Replicates over ${network} again`, "it is the module's own network", epoch);
    }
  }

  /** A keeper's event about this module. */
  onKeeperEvent(event: string, params: Fields): void {
    if (event === "fenced") {
      this.#world.post({ kind: "fenced", reason: String(params["reason"] ?? "authority lapsed") });
    } else if (event === "mount-lost") this.#world.post({ kind: "fenced", reason: "the mount was lost" });
  }

  /** Ends without touching what runs. */
  async close(): Promise<void> {
    this.#replicator.want(false);
    await Promise.all([this.#lanes.data.close(), this.#lanes.service.close()]);
    this.#world.authority.close();
  }

  #do(effect: Effect): void {
    const { authority, note, send } = this.#world;
    switch (effect.kind) {
      case "persist":
        // Done before: see `#decide`.
        return;
      case "authority":
        return authority.write(effect.until, effect.epoch);
      case "work":
        for (const task of effect.tasks) {
          if (task.do === "vip-add") this.#vipsSet = true;
          if (task.do === "vip-remove") this.#vipsSet = false;
        }
        return this.#lanes[effect.lane].add(effect.work, effect.tasks, effect.now);
      case "probe":
        return this.#probe(effect);
      case "send":
        return send();
      case "notify":
        return note(effect.level, effect.what, effect.why, this.#state.record.epoch);
      case "reply": {
        const reply = this.#replies.get(effect.id);
        this.#replies.delete(effect.id);
        return reply?.({ ok: effect.ok, code: effect.ok ? "accepted" : "refused", message: effect.message });
      }
    }
  }

  #probe(effect: Extract<Effect, { kind: "probe" }>): void {
    const { probes, targets, post } = this.#world;
    probeRound(probes, targets, effect.ask, effect.deadlineMs)
      .then((findings) => post({ kind: "probed", round: effect.round, findings }));
  }

  async #work(task: Task, signal: AbortSignal): Promise<bigint | null> {
    const { clock } = this.#world;
    const began = clock.now();
    const result = await runTask(this.#tasks, task, signal);
    const [thing = "", way] = task.do.split("-");
    const idle = (way === "remove" || way === "stop") && !this.#there.delete(thing);
    if (way === "add" || way === "start") this.#there.add(thing);
    if (!idle) this.#tell(tellTask(this.config, task.do, clock.now() - began));
    return result;
  }

  #tell(told: Told | null, level: "info" | "warning" | "error" = "info"): void {
    if (told !== null) this.#world.note(level, told.what, told.why, this.#state.record.epoch);
  }

  async #ask(): Promise<void> {
    try {
      this.#status = fieldsOf(await this.#replicator.call("status", {}, STATUS_MS));
    } catch {
      // Dead or hung: the link tells of a death, and an old status must not pass for a new one.
      this.#status = null;
    }
  }

  #channel(): ChannelView {
    if (this.#status === null) {
      return { ...this.#state.channel, alive: false, connected: false, caughtUp: false };
    }
    const channel = channelOf(this.#status);
    // As it is now: that it once was so, perhaps as a secondary before this node took over, says nothing of the peer.
    return { ...channel, caughtUp: channel.connected && channel.caughtUp };
  }

  #onReplicatorChange(connected: boolean): void {
    if (connected) return this.poll();
    this.#status = null;
    this.#pathTold = false;
    if (!this.#booted) return;
    const { sequence, history, role, epoch } = this.#state.channel;
    this.#world.post({
      kind: "channel",
      channel: { ...noChannel(0), sequence, history, role, epoch },
    });
  }

  #onReplicatorEvent(event: string, params: Fields): void {
    const reason = String(params["reason"] ?? params["detail"] ?? "");
    switch (event) {
      case "caught-up":
        this.#tell(
          tellResync(params, this.#state.settings.peer, this.#world.clock.now() - this.#connectedAt),
        );
        return this.poll();
      case "connected":
        this.#connectedAt = this.#world.clock.now();
        return this.poll();
      case "resync":
      case "disconnected":
        return this.poll();
      case "diverged":
        return this.#world.post({
          kind: "diverged",
          detail: reason === "" ? JSON.stringify(params) : reason,
        });
      case "failed":
        return this.#world.post({ kind: "copy-failed", reason: tellFailure(reason, params) });
      case "difference":
        return this.#tell(tellDifference(params, this.#state.settings.peer), "warning");
      case "rotten":
        return this.#tell(
          tellRotten(params, this.#state.settings.peer),
          params["outcome"] === "left" ? "error" : "warning",
        );
      case "verified":
        this.poll();
        return this.#tell(tellVerified(params), params["complete"] === true ? "info" : "error");
      case "way-back": {
        const told = tellWayBack(params);
        this.poll();
        return this.#tell(told, told.level);
      }
      case "quarantined":
        return this.#world.note(
          "warning",
          "Kept in quarantine",
          `${String(params["path"])}: ${String(params["bytes"])} bytes`,
          this.#state.record.epoch,
        );
      default:
        return this.#world.note(
          "info",
          `Replicator says ${event}`,
          JSON.stringify(params),
          this.#state.record.epoch,
        );
    }
  }
}

/** What the module is, or is becoming, for the service's scripts. */
export function roleOf(state: State): "primary" | "secondary" | "stopped" {
  switch (state.phase.kind) {
    case "serving":
    case "promoting":
      return "primary";
    case "following":
      return "secondary";
    default:
      return "stopped";
  }
}
