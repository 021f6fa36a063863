/**
 * Two nodes, their network, disks, replicators and a witness, simulated: the real core decides, everything it touches is
 * a model. Deterministic by its seed.
 *
 * The model of the data road is one list of acknowledged writes and, per node, what its copy holds, in memory and on
 * disk. That is enough to ask the question that matters: is every acknowledged write on whoever serves?
 *
 * @module
 */

import {
  type Arbiter,
  type ChannelView,
  type DurableRecord,
  type Effect,
  type EventBody,
  initialState,
  newRecord,
  type Report,
  reportOf,
  type State,
  step,
  type Task,
  type Timings,
  type Verb,
  viewOf,
} from "../../lib/failover/mod.ts";

/** Lab timings. */
export const TIMINGS: Timings = {
  heartbeatMs: 250,
  deadMs: 1000,
  witnessMs: 1000,
  watchdogMs: 1000,
  peerMs: 3000,
  leaseMs: 3000,
};

/** A write: its number, and the generation that it belongs to. */
export interface Write {
  readonly id: number;
  readonly generation: string;
}

/** The model of a replicator and its backing directory. */
interface Copy {
  /** Applied, in order. A power cut keeps a prefix not shorter than `synced`. */
  writes: Write[];
  synced: number;
  history: string[];
  /** Lowest epoch accepted (I2), durable. */
  accepted: number;
  role: "idle" | "primary" | "secondary";
  epoch: number;
  members: 1 | 2;
  mintNext: boolean;
  following: boolean;
  overwrite: boolean;
  /** In the middle of a comparison that does not end: no state that ever was. Durable, in `meta.json`. */
  mixed: boolean;
  /** What was overwritten: kept, never discarded (I6). */
  quarantine: Write[];
}

interface Work {
  readonly work: number;
  readonly tasks: readonly Task[];
}

/** One simulated node. */
export class SimNode {
  readonly name: string;
  readonly peer: string;
  readonly copy: Copy = {
    writes: [],
    synced: 0,
    history: [],
    accepted: 0,
    role: "idle",
    epoch: 0,
    members: 1,
    mintNext: false,
    following: false,
    overwrite: false,
    mixed: false,
    quarantine: [],
  };
  state: State;
  durable: DurableRecord;
  powered = true;
  agentUp = true;
  boot = 1;
  mounted = false;
  vip = false;
  service = false;
  authority = 0;
  lanes: { data: Work[]; service: Work[] } = { data: [], service: [] };
  readonly log: string[] = [];
  heard = { at: -1, sentAt: -1 };
  replies: { ok: boolean; message: string }[] = [];
  failNext: { readonly task: Task["do"]; readonly reason: string; readonly until?: number } | null = null;

  constructor(name: string, peer: string, arbiter: Arbiter, at: number) {
    this.name = name;
    this.peer = peer;
    this.durable = newRecord("boot-1");
    this.state = initialState(this.settings(arbiter), this.durable, at);
  }

  settings(arbiter: Arbiter): State["settings"] {
    return {
      module: "m",
      node: this.name,
      peer: this.peer,
      arbiter,
      timings: TIMINGS,
      automatic: true,
      prefer: null,
      vips: true,
    };
  }
}

/** Everything. Time moves only by {@link World.run}. */
export class World {
  readonly arbiter: Arbiter;
  readonly a: SimNode;
  readonly b: SimNode;
  /** A → B and B → A. */
  cut = { ab: false, ba: false };
  channelCut = false;
  /** The replicator ended the channel because the peer held applications up. */
  late = false;
  /** Who reaches the witness. */
  witness: Record<string, boolean> = { a: true, b: true };
  /** Whether hosts answer probes of each other although heartbeats do not pass. */
  probesPass = false;
  now = 10_000;
  acknowledged: Write[] = [];
  #nextWrite = 1;
  #random: () => number;
  #generations = 0;
  /** Set once the known hole of `auto` (row 1b) was entered: both sides cut from each other, both with the witness. */
  holeEntered = false;
  #later: { readonly at: number; readonly run: () => void }[] = [];

  constructor(options: { readonly seed: number; readonly arbiter?: Arbiter }) {
    this.arbiter = options.arbiter ?? { kind: "ping", mode: "auto" };
    this.#random = generator(options.seed);
    this.a = new SimNode("a", "b", this.arbiter, this.now);
    this.b = new SimNode("b", "a", this.arbiter, this.now);
    for (const node of [this.a, this.b]) {
      this.take(node, { kind: "boot", bootId: "boot-1", serving: false, following: false });
    }
  }

  node(name: string): SimNode {
    if (name === "a") return this.a;
    if (name === "b") return this.b;
    throw new Error(`no node ${name}`);
  }

  other(node: SimNode): SimNode {
    return node === this.a ? this.b : this.a;
  }

  random(): number {
    return this.#random();
  }

  /** One event into the real core, its effects into the models. */
  take(node: SimNode, event: EventBody): void {
    const decision = step(node.state, { at: this.now, ...event });
    node.state = decision.state;
    for (const effect of decision.effects) this.#do(node, effect);
  }

  command(name: string, verb: Verb, force = false): { ok: boolean; message: string } {
    const node = this.node(name);
    node.replies = [];
    this.take(node, { kind: "command", verb, id: 1, force });
    return node.replies[0] ?? { ok: false, message: "no answer" };
  }

  powerOff(name: string): void {
    const node = this.node(name);
    node.powered = false;
    node.agentUp = false;
    node.mounted = false;
    node.vip = false;
    node.service = false;
    node.lanes = { data: [], service: [] };
    // What was not synced may be gone.
    const { copy } = node;
    const kept = copy.synced + Math.floor(this.#random() * (copy.writes.length - copy.synced + 1));
    copy.writes = copy.writes.slice(0, kept);
    copy.history = copy.history.filter((generation) =>
      copy.writes.some((write) => write.generation === generation)
    );
    copy.role = "idle";
    copy.following = false;
  }

  powerOn(name: string): void {
    const node = this.node(name);
    node.powered = true;
    node.boot += 1;
    node.authority = 0;
    this.#startAgent(node);
  }

  /** The replicator has to compare its copy, and does not get to the end of it. */
  beginComparison(name: string): void {
    this.node(name).copy.mixed = true;
  }

  endComparison(name: string): void {
    this.node(name).copy.mixed = false;
  }

  killAgent(name: string): void {
    const node = this.node(name);
    node.agentUp = false;
    // Work in flight ends halfway.
    node.lanes = { data: [], service: [] };
  }

  startAgent(name: string): void {
    this.#startAgent(this.node(name));
  }

  #startAgent(node: SimNode): void {
    node.agentUp = true;
    node.lanes = { data: [], service: [] };
    node.heard = { at: -1, sentAt: -1 };
    node.state = initialState(node.settings(this.arbiter), node.durable, this.now);
    this.take(node, { kind: "channel", channel: this.#channel(node) });
    const serving = node.mounted && node.copy.role === "primary" && node.copy.epoch === node.durable.epoch;
    const following = node.copy.role === "secondary";
    this.take(node, { kind: "boot", bootId: `boot-${node.boot}`, serving, following });
  }

  /** Moves time in steps of 50 ms. */
  run(ms: number, eachStep: () => void = () => {}): void {
    const end = this.now + ms;
    while (this.now < end) {
      this.now += 50;
      this.#replicate();
      this.#guard();
      this.#deliver();
      for (const node of [this.a, this.b]) {
        if (!node.agentUp) continue;
        this.#work(node);
        if (this.now % 250 === 0) {
          this.take(node, { kind: "channel", channel: this.#channel(node) });
          this.#send(node);
        }
        this.take(node, { kind: "tick" });
      }
      this.check();
      eachStep();
    }
  }

  /** Runs until a condition holds; fails with both logs when it does not within `limitMs`. */
  until(what: string, condition: () => boolean, limitMs = 20_000): void {
    const start = this.now;
    while (!condition()) {
      if (this.now - start >= limitMs) throw new Error(`not within ${limitMs} ms: ${what}\n${this.dump()}`);
      this.run(50);
    }
  }

  /** An application's write on whoever serves; acknowledged only by the rule I3. */
  write(): boolean {
    for (const node of [this.a, this.b]) {
      const { copy } = node;
      if (!node.powered || !node.mounted || copy.role !== "primary" || node.authority < this.now) continue;
      const other = this.other(node);
      const joined = this.#joined(node);
      if (copy.members === 2 && !joined) continue;
      if (copy.mintNext) {
        copy.history.push(`g${++this.#generations}`);
        copy.mintNext = false;
      }
      const write = { id: this.#nextWrite++, generation: copy.history[copy.history.length - 1] ?? "g0" };
      copy.writes.push(write);
      if (joined) {
        other.copy.writes.push(write);
        if (!other.copy.history.includes(write.generation)) other.copy.history.push(write.generation);
      }
      if (this.#random() < 0.2) {
        // fsync: on every member's disk.
        copy.synced = copy.writes.length;
        if (joined) other.copy.synced = other.copy.writes.length;
      }
      this.acknowledged.push(write);
      return true;
    }
    return false;
  }

  /** The invariants, after every step. */
  check(): void {
    const serving = [this.a, this.b].filter((node) => this.serves(node));
    if (serving.length === 2 && !this.holeEntered) {
      throw new Error(`both nodes answer writes at ${this.now}\n${this.dump()}`);
    }
    for (const node of serving) {
      if (node.copy.mixed) {
        throw new Error(`${node.name} serves a copy in the middle of a comparison\n${this.dump()}`);
      }
      if (
        node.copy.epoch < node.durable.promised && node.durable.primary === node.name &&
        node.copy.epoch < node.durable.promised
      ) {
        throw new Error(
          `${node.name} serves epoch ${node.copy.epoch} after promising ${node.durable.promised}\n${this.dump()}`,
        );
      }
    }
  }

  /** Would answer an application now. */
  serves(node: SimNode): boolean {
    const ready = node.copy.members === 1 || this.#joined(node);
    return node.powered && node.mounted && node.copy.role === "primary" && node.authority >= this.now &&
      ready;
  }

  /** Every acknowledged write is on the node, or was lost with `lossy` said by a person. */
  missing(node: SimNode): readonly Write[] {
    const has = new Set(node.copy.writes.map((write) => write.id));
    return this.acknowledged.filter((write) => !has.has(write.id));
  }

  dump(): string {
    return [this.a, this.b].map((node) =>
      `${node.name}: ${JSON.stringify(viewOf(node.state))} ${
        JSON.stringify(node.durable)
      } copy ${node.copy.role} e${node.copy.epoch} m${node.copy.members} n${node.copy.writes.length}\n  ${
        node.log.slice(-25).join("\n  ")
      }`
    ).join("\n");
  }

  #channelUp(): boolean {
    return this.a.powered && this.b.powered && !this.channelCut && !this.cut.ab && !this.cut.ba;
  }

  /** The secondary's replicator is connected to this primary and has caught up. */
  #joined(primary: SimNode): boolean {
    const other = this.other(primary);
    return this.#channelUp() && other.copy.following && other.copy.role === "secondary" &&
      !other.copy.mixed && primary.copy.epoch >= other.copy.accepted &&
      other.copy.writes.length === primary.copy.writes.length;
  }

  #channel(node: SimNode): ChannelView {
    const { copy } = node;
    const other = this.other(node);
    const connected = this.#channelUp() &&
      ((copy.role === "primary" && other.copy.following) ||
        (copy.following && other.copy.role === "primary"));
    const caughtUp = connected && !copy.mixed && !other.copy.mixed &&
      copy.writes.length === other.copy.writes.length;
    return {
      alive: true,
      role: copy.role,
      epoch: copy.epoch,
      connected,
      late: this.late && !connected && copy.role === "primary",
      since: 0,
      caughtUp,
      sequence: BigInt(copy.writes.length),
      acknowledged: BigInt(other.copy.writes.length),
      history: [...copy.history].reverse(),
      resync: connected && copy.mixed ? "reconcile: 1 files, 1 bytes; receiving" : null,
      wayBack: null,
      copy: copy.mixed ? "inconsistent" : copy.writes.length > 0 ? "uptodate" : null,
    };
  }

  /** A follower catches up at once: from the last common write; what it has beyond goes to quarantine. */
  #replicate(): void {
    for (const target of [this.a, this.b]) {
      const source = this.other(target);
      if (
        !target.copy.following || target.copy.mixed || source.copy.role !== "primary" || !this.#channelUp()
      ) continue;
      if (source.copy.epoch < target.copy.accepted) continue;
      let common = 0;
      while (
        common < target.copy.writes.length &&
        target.copy.writes[common]?.id === source.copy.writes[common]?.id
      ) common++;
      const beyond = target.copy.writes.slice(common);
      const own = beyond.some((write) => !source.copy.history.includes(write.generation));
      const theirs = source.copy.writes.slice(common).some((write) =>
        !target.copy.history.includes(write.generation)
      );
      if (own && theirs && !target.copy.overwrite) {
        target.copy.following = false;
        target.copy.role = "idle";
        if (target.agentUp) this.take(target, { kind: "diverged", detail: "both have writes of their own" });
        continue;
      }
      if (beyond.length > 0) target.copy.quarantine.push(...beyond);
      target.copy.writes = [...source.copy.writes];
      target.copy.history = [...source.copy.history];
      target.copy.synced = Math.min(target.copy.synced, common);
      target.copy.epoch = source.copy.epoch;
    }
  }

  /** The keeper's dead man's switch. */
  #guard(): void {
    for (const node of [this.a, this.b]) {
      if (!node.powered || !node.mounted || node.authority + 300 >= this.now) continue;
      node.mounted = false;
      node.vip = false;
      node.service = false;
      node.copy.role = "idle";
      if (node.agentUp) this.take(node, { kind: "fenced", reason: "the authority has lapsed" });
    }
  }

  #send(node: SimNode): void {
    const other = this.other(node);
    const lost = node === this.a ? this.cut.ab : this.cut.ba;
    if (lost || !node.agentUp) return;
    const report: Report = reportOf(node.state);
    const sentAt = this.now;
    const echo = node.heard.sentAt;
    const boot = other.boot;
    // Within one step, so that a heartbeat never arrives in the future of its sender.
    this.#later.push({
      at: this.now,
      run: () => {
        if (!other.agentUp || other.boot !== boot) return;
        other.heard = { at: this.now, sentAt };
        this.take(other, { kind: "heard", report, echoedAt: echo < 0 ? null : echo });
      },
    });
  }

  #deliver(): void {
    const due = this.#later.filter((one) => one.at <= this.now);
    this.#later = this.#later.filter((one) => one.at > this.now);
    for (const one of due) one.run();
  }

  #do(node: SimNode, effect: Effect): void {
    switch (effect.kind) {
      case "persist":
        if (effect.record.epoch < node.durable.epoch) {
          throw new Error(`${node.name}: the epoch goes back\n${this.dump()}`);
        }
        node.durable = effect.record;
        return;
      case "authority":
        node.authority = effect.until;
        return;
      case "work":
        if (effect.now) node.lanes[effect.lane] = [];
        node.lanes[effect.lane].push({ work: effect.work, tasks: effect.tasks });
        return;
      case "probe":
        return this.#probe(node, effect);
      case "send":
        return this.#send(node);
      case "notify":
        node.log.push(`${this.now} ${effect.level}: ${effect.what}: ${effect.why}`);
        return;
      case "reply":
        node.replies.push({ ok: effect.ok, message: effect.message });
    }
  }

  #probe(node: SimNode, effect: Extract<Effect, { kind: "probe" }>): void {
    const other = this.other(node);
    const cut = this.cut.ab || this.cut.ba;
    const witness = effect.ask.witness ? this.witness[node.name] === true : null;
    const answers = other.powered && (!cut || this.probesPass);
    const findings = {
      witness,
      peer: effect.ask.peer ? answers : null,
      vip: effect.ask.vip ? answers && other.vip : null,
      words: "simulated",
    };
    const boot = node.boot;
    this.#later.push({
      at: this.now + (answers ? 50 : effect.deadlineMs),
      run: () => {
        if (node.agentUp && node.boot === boot) {
          this.take(node, { kind: "probed", round: effect.round, findings });
        }
      },
    });
  }

  #work(node: SimNode): void {
    for (const lane of ["data", "service"] as const) {
      // One piece per step and lane: slow work takes time, and other events come between.
      const piece = node.lanes[lane].shift();
      if (piece === undefined) continue;
      let sequence: bigint | null = null;
      let failed = false;
      for (const task of piece.tasks) {
        const refusal = this.#refusal(node, task);
        if (refusal !== null) {
          this.take(node, { kind: "failed", work: piece.work, task: task.do, ...refusal });
          failed = true;
          break;
        }
        sequence = this.#task(node, task) ?? sequence;
      }
      if (!failed) this.take(node, { kind: "done", work: piece.work, sequence });
    }
  }

  #refusal(node: SimNode, task: Task): { readonly reason: string; readonly code: string } | null {
    if (node.failNext?.task === task.do) {
      const { reason, until = 0 } = node.failNext;
      if (this.now >= until) node.failNext = null;
      return { reason, code: "failed" };
    }
    if (task.do !== "close" || task.force || !node.copy.mixed) return null;
    node.copy.following = false;
    node.copy.role = "idle";
    return { reason: "the copy is in the middle of a comparison", code: "inconsistent" };
  }

  #task(node: SimNode, task: Task): bigint | null {
    const { copy } = node;
    switch (task.do) {
      case "replicator-start":
      case "replicator-stop":
      case "service-start":
        node.service = task.do === "service-start" ? true : node.service;
        return null;
      case "cover":
      case "unmount":
        node.mounted = false;
        if (copy.role === "primary") copy.role = "idle";
        return null;
      case "mount":
        node.mounted = true;
        return null;
      case "close":
        // A person's word: what it is from now on is what counts.
        if (task.force) copy.mixed = false;
        copy.accepted = Math.max(copy.accepted, task.epoch);
        copy.following = false;
        copy.role = "idle";
        return BigInt(copy.writes.length);
      case "serve":
        copy.role = "primary";
        copy.epoch = task.epoch;
        copy.members = task.members;
        copy.mintNext = true;
        return null;
      case "follow":
        copy.role = "secondary";
        copy.following = true;
        copy.overwrite = task.overwrite;
        copy.accepted = Math.max(copy.accepted, task.epoch);
        return null;
      case "solo":
        copy.members = 1;
        copy.epoch = task.epoch;
        copy.mintNext = true;
        return null;
      case "pair":
        copy.members = 2;
        copy.epoch = task.epoch;
        return BigInt(copy.writes.length);
      case "demote":
        copy.role = "idle";
        copy.synced = copy.writes.length;
        return BigInt(copy.writes.length);
      case "retire":
        copy.role = "idle";
        copy.following = false;
        copy.synced = copy.writes.length;
        return null;
      case "vip-add":
        node.vip = true;
        return null;
      case "vip-remove":
        node.vip = false;
        return null;
      case "service-stop":
        node.service = false;
        return null;
    }
  }
}

/** mulberry32: small, good enough to shuffle faults, the same everywhere. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
