/**
 * The one loop: heartbeats, replicators, finished work, commands and ticks become events in one queue; each is decided
 * by the pure core and its effects are done before the next is looked at.
 *
 * @module
 */

import type { AgentControl, ClusterStatus, CommandResult, EventRow, Verb } from "../agent_control.ts";
import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import type { ServiceEffects, VipEffects } from "../effects/types.ts";
import {
  type EventBody,
  initialState,
  newRecord,
  promoteAfterMs,
  type Report,
  reportOf,
} from "../failover/mod.ts";
import type { Sign } from "../monitor/heartbeat/mod.ts";
import type { Probes } from "../monitor/probe_types.ts";
import { Heartbeats } from "./heartbeats.ts";
import { LocalLink, pause } from "./local_link.ts";
import { ModuleRunner } from "./module_runner.ts";
import { fieldsOf } from "./replicator_status.ts";
import type { Authority, Clock, Connect, HeartbeatTransport, Store, Timers } from "./seams.ts";
import { pathSilentMs } from "./paths.ts";
import { endpointOf, networksOf, settingsOf, timingsOf } from "./settings.ts";
import { moduleStatus } from "./status.ts";

/** Events that may wait. The queue is emptied at once; more than this is our mistake, and stops the agent. */
const QUEUE_MAX = 10_000;
const EVENTS_LIMIT_MAX = 1000;
const TICK_MIN_MS = 50;
/** The keeper gives a replicator 10 s to end, the second half after SIGKILL. */
const STOP_MS = 12_000;

/** What the agent is made of. */
export interface AgentWorld {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly store: Store;
  readonly connect: Connect;
  readonly vips: VipEffects;
  readonly services: ServiceEffects;
  readonly probes: Probes;
  readonly sign: Sign;
  readonly incarnation: bigint;
  readonly bootId: string;
  /** Path of `RUN/keeper.sock`, or of a module's socket. */
  readonly socket: (name: string) => string;
  /** Notes durably that a module's directories may be changed by anybody from now on. */
  readonly markEdited: (module: string) => Promise<void>;
  readonly openAuthority: (module: string) => Authority;
  /** Opens the heartbeat sockets. */
  readonly openTransport: (onDatagram: (network: string, bytes: Uint8Array) => void) => HeartbeatTransport;
  readonly log: (line: string) => void;
}

/** Who this node is. */
export interface AgentIdentity {
  readonly node: string;
  readonly cluster: ClusterConfig;
  readonly modules: readonly { readonly config: ModuleConfig; readonly generation: number }[];
}

interface Running {
  readonly runner: ModuleRunner;
  readonly generation: number;
  readonly peer: string;
}

/** The agent of one node. */
export class Agent implements AgentControl {
  readonly #world: AgentWorld;
  readonly #node: string;
  readonly #abort = new AbortController();
  readonly #keeper: LocalLink;
  readonly #modules = new Map<string, Running>();
  readonly #queue: { readonly module: string; readonly event: EventBody }[] = [];
  readonly #toSend = new Set<string>();
  readonly #stops: (() => void)[] = [];
  #transport: HeartbeatTransport;
  #cluster: ClusterConfig;
  #heartbeats: Heartbeats;
  #draining = false;
  #fail: (reason: unknown) => void = () => {};
  /** Rejects when a decision went wrong: the agent must not go on from a state it does not understand. */
  readonly failed: Promise<never>;

  constructor(identity: AgentIdentity, world: AgentWorld) {
    this.#world = world;
    this.#node = identity.node;
    this.#cluster = identity.cluster;
    this.failed = new Promise((_, reject) => this.#fail = reject);
    // A rejection that nobody has asked for yet is no unhandled one.
    this.failed.catch(() => {});
    this.#keeper = new LocalLink({
      path: world.socket("keeper"),
      connect: world.connect,
      timers: world.timers,
      onEvent: (event, params) => this.#onKeeperEvent(event, params),
      onChange: (connected) => this.#onKeeperChange(connected),
    });
    this.#heartbeats = this.#newHeartbeats(identity.cluster);
    this.#transport = world.openTransport((network, bytes) => this.#heartbeats.receive(network, bytes));
    this.#keeper.want(true);
    for (const { config, generation } of identity.modules) this.#add(config, generation);
    const { heartbeatMs } = identity.cluster.timings;
    // The peer is greeted while it is found out what runs here: an authority that is running out waits for its echo.
    this.#stops.push(world.timers.after(0, () => this.#heartbeats.sendAll()));
    this.#stops.push(world.timers.every(heartbeatMs, () => this.#heartbeats.sendAll()));
    this.#stops.push(
      world.timers.every(Math.max(TICK_MIN_MS, Math.floor(heartbeatMs / 4)), () => this.#tick()),
    );
    this.#stops.push(world.timers.every(heartbeatMs, () => this.#poll()));
  }

  status(): ClusterStatus {
    const at = this.#world.clock.now();
    const { deadMs } = this.#cluster.timings;
    return {
      cluster: this.#cluster.cluster,
      node: this.#node,
      arbiter: this.#cluster.arbiter.kind,
      peers: this.#peers().map((peer) => {
        const heard = this.#heartbeats.heardBy(peer.name);
        const networks = Object.keys(peer.addresses).map((network): [string, number | null] => {
          const when = heard.get(network);
          return [network, when === undefined ? null : at - when];
        });
        const recent = networks.some(([, ago]) => ago !== null && ago < deadMs);
        const protocol = this.#heartbeats.newestOf(peer.name);
        return { node: peer.name, heard: recent, protocol, networks: Object.fromEntries(networks) };
      }),
      modules: [...this.#modules.values()].map(({ runner, generation }) =>
        moduleStatus(runner, generation, { at, wall: this.#world.clock.wall() })
      ),
      warnings: [
        ...this.#world.services.warnings,
        ...(this.#keeper.connected ? [] : ["the keeper does not answer: nothing can be mounted or guarded"]),
      ],
    };
  }

  async command(
    module: string,
    verb: Verb,
    options: { readonly by: string; readonly force?: boolean },
  ): Promise<CommandResult> {
    const running = this.#modules.get(module);
    if (running === undefined) {
      return {
        ok: false,
        code: "unknown-module",
        message: `Cannot ${verb}: no module "${module}" on ${this.#node}`,
      };
    }
    if (!running.runner.booted) {
      return {
        ok: false,
        code: "busy",
        message: `Cannot ${verb}: the keeper does not answer yet; try again`,
      };
    }
    const result = await running.runner.command(verb, options.force ?? false);
    const what = `${verb}${options.force === true ? " --force" : ""} by ${options.by}`;
    this.note({ level: result.ok ? "info" : "warning", module, what, why: result.message });
    return result;
  }

  async verify(module: string, { by }: { readonly by: string }): Promise<CommandResult> {
    const running = this.#modules.get(module);
    if (running === undefined) {
      const message = `Cannot verify: no module "${module}" on ${this.#node}`;
      return { ok: false, code: "unknown-module", message };
    }
    const result = await running.runner.verify();
    this.note({
      level: result.ok ? "info" : "warning",
      module,
      what: `verify by ${by}`,
      why: result.message,
    });
    return result;
  }

  events(since: number, limit: number): readonly EventRow[] {
    return this.#world.store.events(since, Math.max(1, Math.min(limit, EVENTS_LIMIT_MAX)));
  }

  async applyModule(config: ModuleConfig, generation: number): Promise<CommandResult> {
    if (!config.nodes.includes(this.#node)) {
      return { ok: true, code: "accepted", message: `${config.name} does not run on ${this.#node}` };
    }
    const running = this.#modules.get(config.name);
    if (running !== undefined && running.runner.state.phase.kind !== "stopped") {
      const message = `Cannot apply "${config.name}": it runs on ${this.#node}; stop it there first`;
      return { ok: false, code: "refused", message };
    }
    if (running !== undefined) await this.#drop(config.name, running);
    this.#add(config, generation);
    return {
      ok: true,
      code: "accepted",
      message: `${config.name} is known on ${this.#node}, generation ${generation}`,
    };
  }

  async removeModule(module: string): Promise<CommandResult> {
    const running = this.#modules.get(module);
    if (running === undefined) {
      return {
        ok: false,
        code: "unknown-module",
        message: `Cannot remove: no module "${module}" on ${this.#node}`,
      };
    }
    if (running.runner.state.phase.kind !== "stopped") {
      return { ok: false, code: "refused", message: `Cannot remove "${module}": stop it first` };
    }
    // Its log stays, and would be believed if the module were applied again.
    await this.#open(running.runner.config);
    await this.#drop(module, running);
    this.#world.store.forget(module);
    return { ok: true, code: "accepted", message: `${module} is forgotten; its directories are plain again` };
  }

  async setCover(module: string, covered: boolean, options: { readonly by: string }): Promise<CommandResult> {
    const word = covered ? "cover" : "uncover";
    const running = this.#modules.get(module);
    if (running === undefined) {
      const message = `Cannot ${word}: no module "${module}" on ${this.#node}`;
      return { ok: false, code: "unknown-module", message };
    }
    const { runner } = running;
    if (!runner.booted || runner.state.phase.kind !== "stopped") {
      const message = `Cannot ${word} "${module}": it runs on ${this.#node}; stop it there first`;
      return { ok: false, code: "refused", message };
    }
    const paths = runner.config.replicate.map(({ path }) => path);
    try {
      if (!covered) await this.#open(runner.config);
      else for (const path of paths) await this.#keeper.call("cover", { module, path }, 10_000);
    } catch (error) {
      return { ok: false, code: "refused", message: error instanceof Error ? error.message : String(error) };
    }
    const what = covered ? "Directories are covered again" : "Directories are open for editing";
    this.note({ level: "warning", module, what, why: `${paths.join(", ")}, asked by ${options.by}` });
    const message = covered
      ? `${module} is read-only on ${this.#node} until it is started`
      : `${module} can be edited on ${this.#node}; the next start compares all of it`;
    return { ok: true, code: "accepted", message };
  }

  /**
   * Takes everything off a module's directories. A replicator that a failed stop has left would not see the mark, and who
   * comes after it would; power may go between the mark and the uncovering, so the mark comes first.
   */
  async #open({ name, replicate }: ModuleConfig): Promise<void> {
    await this.#keeper.call("replicator.stop", { module: name }, STOP_MS);
    await this.#world.markEdited(name);
    for (const { path } of replicate) await this.#keeper.call("uncover", { module: name, path }, 10_000);
  }

  async applyCluster(config: ClusterConfig): Promise<CommandResult> {
    const { name, addresses } = this.#me(config);
    const before = this.#me(this.#cluster);
    const same = JSON.stringify(addresses) === JSON.stringify(before.addresses) &&
      JSON.stringify([config.ports, config.timings, config.arbiter]) ===
        JSON.stringify([this.#cluster.ports, this.#cluster.timings, this.#cluster.arbiter]);
    if (!same) {
      const message =
        `Cannot apply the cluster at once: addresses of ${name}, ports, timings or arbiter changed; ` +
        "it is taken when the agent is restarted (the modules go on)";
      return await Promise.resolve({ ok: false, code: "refused", message });
    }
    this.#cluster = config;
    this.#heartbeats = this.#newHeartbeats(config);
    return { ok: true, code: "accepted", message: "the cluster is applied" };
  }

  note(event: {
    readonly level: EventRow["level"];
    readonly module?: string;
    readonly what: string;
    readonly why: string;
  }): void {
    const { level, module = "", what, why } = event;
    const epoch = this.#modules.get(module)?.runner.state.record.epoch ?? 0;
    this.#record(module, level, what, why, epoch);
  }

  /** Ends the loop. Modules, addresses and services go on as they are. */
  async close(): Promise<void> {
    this.#abort.abort(new Error("the agent ends"));
    for (const stop of this.#stops) stop();
    this.#keeper.want(false);
    await Promise.all([...this.#modules.values()].map(({ runner }) => runner.close()));
    this.#world.vips.close();
  }

  #add(config: ModuleConfig, generation: number): void {
    const { store, bootId, clock } = this.#world;
    const settings = settingsOf(this.#cluster, config, this.#node);
    const record = store.load(config.name) ?? newRecord(bootId);
    const runner = new ModuleRunner(config, initialState(settings, record, clock.now()), {
      ...this.#world,
      authority: this.#world.openAuthority(config.name),
      keeper: this.#keeper,
      socket: this.#world.socket(config.name),
      networks: networksOf(this.#cluster, config).map((name) => ({
        name,
        peer: endpointOf(this.#cluster, config, settings.peer, name),
      })),
      pathTimes: { silentMs: pathSilentMs(settings.timings), returnMs: config.networkReturnMs },
      heard: () => this.#heartbeats.heardBy(settings.peer),
      targets: {
        witness: this.#cluster.arbiter.kind === "ping" ? this.#cluster.arbiter.address : null,
        peerAddresses: endpointOf(this.#cluster, config, settings.peer).addresses,
        peerPort: this.#cluster.ports.api,
        vips: config.virtualIps,
      },
      graceMs: graceMs(this.#cluster, config),
      post: (event) => this.#post(config.name, event),
      send: () => this.#toSend.add(settings.peer),
      note: (level, what, why, epoch) => this.#record(config.name, level, what, why, epoch),
    });
    this.#modules.set(config.name, { runner, generation, peer: settings.peer });
    this.#boot(config.name, runner).catch((error) => {
      if (!this.#abort.signal.aborted) this.#fail(error);
    });
  }

  /** The keeper is asked until it answers: without it nothing is known of what runs. */
  async #boot(module: string, runner: ModuleRunner): Promise<void> {
    const { signal } = this.#abort;
    let said = false;
    while (this.#modules.get(module)?.runner === runner) {
      try {
        await this.#keeper.ready(5000, signal);
        await runner.boot(this.#world.bootId, signal);
        return this.#heartbeats.send(runner.state.settings.peer);
      } catch (error) {
        if (signal.aborted) return;
        if (!said) {
          this.#record(module, "warning", "Cannot look at what runs yet; tries again", String(error), 0);
        }
        said = true;
        await pause(this.#world.timers, 200, signal).catch(() => {});
      }
    }
  }

  async #drop(module: string, running: Running): Promise<void> {
    this.#modules.delete(module);
    await running.runner.close();
  }

  #post(module: string, event: EventBody): void {
    if (this.#abort.signal.aborted) return;
    if (this.#queue.length >= QUEUE_MAX) return this.#fail(new Error(`more than ${QUEUE_MAX} events wait`));
    this.#queue.push({ module, event });
    if (!this.#draining) this.#drain();
  }

  /** Synchronous from end to end: nothing happens between a decision and the disk that holds it. */
  #drain(): void {
    this.#draining = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        this.#modules.get(next.module)?.runner.take(next.event);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#draining = false;
    }
    for (const node of this.#toSend) this.#heartbeats.send(node);
    this.#toSend.clear();
  }

  #tick(): void {
    for (const [module, { runner }] of this.#modules) {
      if (runner.booted) this.#post(module, { kind: "tick" });
    }
  }

  #poll(): void {
    for (const { runner } of this.#modules.values()) runner.poll();
  }

  #newHeartbeats(cluster: ClusterConfig): Heartbeats {
    const { sign, incarnation, clock, log } = this.#world;
    return new Heartbeats({
      node: this.#node,
      peers: this.#peers(cluster).map(({ name, addresses }) => ({ node: name, addresses })),
      sign,
      incarnation,
      clock,
      transport: { send: (network, address, bytes) => this.#transport.send(network, address, bytes) },
      reports: (node) => this.#reportsFor(node),
      onReport: (node, module, report, echoedAt) => this.#onReport(node, module, report, echoedAt),
      log,
    });
  }

  #reportsFor(node: string): readonly (readonly [string, Report])[] {
    return [...this.#modules]
      .filter(([, { runner, peer }]) => peer === node && runner.booted && !runner.mute)
      .map(([module, { runner }]): readonly [string, Report] => [module, reportOf(runner.state)]);
  }

  #onReport(node: string, module: string, report: Report, echoedAt: number | null): void {
    const running = this.#modules.get(module);
    // A module this node does not share with the sender is a difference of configuration, not of the data.
    if (running?.peer !== node || !running.runner.booted) return;
    this.#post(module, { kind: "heard", report, echoedAt });
  }

  #onKeeperEvent(event: string, params: unknown): void {
    const fields = fieldsOf(params);
    const module = String(fields["module"] ?? "");
    const level = event === "fenced" || event === "mount-lost" ? "error" : "info";
    this.#record(module, level, `Keeper says ${event}`, JSON.stringify(params), 0);
    this.#modules.get(module)?.runner.onKeeperEvent(event, fields);
  }

  #onKeeperChange(connected: boolean): void {
    this.#record("", connected ? "info" : "error", connected ? "Keeper is there" : "Keeper is gone", "", 0);
  }

  #record(module: string, level: EventRow["level"], what: string, why: string, epoch: number): void {
    const { clock, store, log } = this.#world;
    const time = clock.wall();
    store.append({ time, node: this.#node, module, epoch, level, what, why });
    log(`${time} ${this.#node} ${module === "" ? "-" : module} epoch ${epoch} ${level}: ${what}: ${why}`);
  }

  #peers(cluster = this.#cluster): ClusterConfig["nodes"] {
    return cluster.nodes.filter((node) => node.name !== this.#node);
  }

  #me(cluster: ClusterConfig): ClusterConfig["nodes"][number] {
    const me = cluster.nodes.find((node) => node.name === this.#node);
    if (me === undefined) throw new Error(`Cannot run: "${this.#node}" is no node of cluster.yaml`);
    return me;
  }
}

/** The keeper's patience ends before a peer may take over, whatever the configured watchdog time. */
function graceMs(cluster: ClusterConfig, config: ModuleConfig): number {
  const timings = timingsOf(cluster, config);
  return Math.max(100, Math.min(timings.watchdogMs, promoteAfterMs(timings) - timings.leaseMs - 200));
}
