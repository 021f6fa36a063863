/**
 * One turn of the core: the state being changed and the effects being listed, in order.
 *
 * @module
 */

import type {
  ChannelView,
  Decision,
  DurableRecord,
  Effect,
  Lane,
  Phase,
  ProbeAsk,
  Report,
  Settings,
  State,
  Task,
} from "./types.ts";

/** A position no copy reaches: a membership announced with it makes nobody uptodate yet. */
export const NEVER = (1n << 63n) - 1n;

/** Collects what one event changes. Lives for one call of `step()`. */
export class Turn {
  readonly at: number;
  readonly #effects: Effect[] = [];
  #state: State;

  constructor(state: State, at: number) {
    this.#state = state;
    this.at = at;
  }

  get state(): State {
    return this.#state;
  }
  get record(): DurableRecord {
    return this.#state.record;
  }
  get phase(): Phase {
    return this.#state.phase;
  }
  get channel(): ChannelView {
    return this.#state.channel;
  }
  get settings(): Settings {
    return this.#state.settings;
  }

  /** Latest report of the peer, only while in contact both ways. */
  get peer(): Report | null {
    return this.silentMs < this.settings.timings.deadMs ? this.#state.peer.report : null;
  }

  /** How long the worse direction has been silent: a peer that does not hear us is as good as silent. */
  get silentMs(): number {
    const { heardAt, echoedAt } = this.#state.peer;
    return this.at - Math.min(heardAt, echoedAt);
  }

  set(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
  }

  become(phase: Phase): void {
    this.set({ phase });
  }

  /** On disk before every effect listed later. */
  persist(change: Partial<DurableRecord>): void {
    const record = { ...this.record, ...change };
    this.set({ record });
    this.#effects.push({ kind: "persist", record });
  }

  /** Queues slow work and returns its number; its end comes back as `done` or `failed`. */
  work(lane: Lane, tasks: readonly Task[], now = false): number {
    const work = this.#number();
    this.#effects.push({ kind: "work", lane, work, tasks, now });
    return work;
  }

  probe(ask: ProbeAsk, deadlineMs: number): number {
    const round = this.#number();
    this.#effects.push({ kind: "probe", round, ask, deadlineMs });
    return round;
  }

  /** Never shortens what was given: only {@link withdraw} takes authority back. */
  extend(until: number): void {
    if (until <= this.#state.authorityUntil) return;
    this.set({ authorityUntil: until });
    this.#effects.push({ kind: "authority", until, epoch: this.record.epoch });
  }

  withdraw(): void {
    this.set({ authorityUntil: 0 });
    this.#effects.push({ kind: "authority", until: 0, epoch: this.record.epoch });
  }

  send(): void {
    this.#effects.push({ kind: "send" });
  }

  info(what: string, why: string): void {
    this.#effects.push({ kind: "notify", level: "info", what, why });
  }

  warn(what: string, why: string): void {
    this.#effects.push({ kind: "notify", level: "warning", what, why });
  }

  alarm(what: string, why: string): void {
    this.#effects.push({ kind: "notify", level: "error", what, why });
  }

  reply(id: number, ok: boolean, message: string): void {
    // Number 0: the wish came from the peer by heartbeat; nobody here waits for an answer.
    if (id !== 0) this.#effects.push({ kind: "reply", id, ok, message });
    else if (!ok) this.warn(`Did not do what ${this.settings.peer} asked`, message);
  }

  decision(): Decision {
    return { state: this.#state, effects: this.#effects };
  }

  #number(): number {
    const number = this.#state.nextNumber;
    this.set({ nextNumber: number + 1 });
    return number;
  }
}

/** Changes to waiting, and says why once: a repeated reason makes no second event. */
export function wait(
  turn: Turn,
  ready: "transient" | "not-ready",
  why: string,
  hold: "none" | "person" | "secondary" | "isolated",
): void {
  const { phase } = turn;
  if (phase.kind === "waiting" && phase.why === why && phase.ready === ready && phase.hold === hold) return;
  const since = phase.kind === "waiting" ? phase.since : turn.at;
  turn.become({ kind: "waiting", ready, why, hold, since });
  if (ready === "not-ready") turn.warn("Waits", why);
  turn.send();
}
