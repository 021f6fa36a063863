/**
 * Bringing a secondary up to date, on the primary's side: by the log, or by a comparison, between the requests of applications.
 *
 * @module
 */

import { SURVEYS, VERIFIES, WITNESSES } from "../protocol.ts";
import { backing } from "../system/backing.ts";
import { addressOf } from "../system/libc.ts";
import { sha256 } from "../system/sha256.ts";
import { bootNanoseconds } from "../system/worker_io.ts";
import type { Copy } from "./copy.ts";
import { OPEN_MAX } from "./compared_place.ts";
import { Meter, type Moment } from "./meter.ts";
import { ASK_KIND, CONTROL, sessionNumber } from "./mutation.ts";
import type { Objects } from "./objects.ts";
import { Pace } from "./pace.ts";
import type { Plan } from "./position.ts";
import { ReconcileSource } from "./reconcile_source.ts";
import { Replayer } from "./replayer.ts";
import type { Sequencer } from "./sequencer.ts";
import type { Ask, Shared } from "./shared.ts";
import type { Survey } from "./survey_source.ts";
import type { Tree } from "./tree.ts";
import type { Verification } from "./verification.ts";
import type { Wire } from "./wire.ts";

/** How much of a resync is done between two looks at the applications' requests. */
const STEP_BYTES = 512 * 1024;
/** The same while applications ask for something: one of their requests may wait for a step. */
const STEP_ACTIVE = 256 * 1024;
/**
 * Part of the time that a comparison takes beside applications at most. A replay is not held back: it must be faster than what they add
 * to the log.
 */
const RESYNC_SHARE = 0.1;
/** How often the progress of a resync is noted, for its rate. */
const NOTE_MS = 1000;

/** What {@link CatchUp} needs. */
export interface CatchUpOptions {
  readonly copy: Copy;
  readonly shared: Shared;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly sequencer: Sequencer;
  readonly verification: Verification;
  /** The most a resync may send, bytes a second; null: no bound. */
  readonly resyncBandwidth: number | null;
  /** Requests of applications, since the beginning. */
  readonly requests: () => number;
  /** The secondary has everything up to a sequence; `resync`: what was sent for it, as `status` shows it. */
  readonly onCaughtUp: (sequence: number, resync: Readonly<Record<string, unknown>>) => void;
  /** The session must end. */
  readonly onLost: (reason: string) => void;
}

/** How the peer is being brought up to date. */
type State =
  | { readonly kind: "replay"; readonly replayer: Replayer }
  | {
    readonly kind: "reconcile";
    readonly source: ReconcileSource;
    begun: boolean;
    waiting: boolean;
    readonly plan: Extract<Plan, { mode: "reconcile" }>;
    readonly ids: Set<number>;
  }
  | { readonly kind: "live" };

/** The sessions with a secondary, one after the other. Methods throw `StreamError` when the peer is gone. */
export class CatchUp {
  readonly #options: CatchUpOptions;
  readonly #pace = new Pace(RESYNC_SHARE, true);
  #session = "";
  /** The protocol that the peer and we speak. */
  #version = 0;
  /** What is in the ask ring is of this session. */
  #hearing = false;
  #state: State | null = null;
  #meter = new Meter();
  #notedAt = 0;
  /** Of what the session's wire sent, as far as the pace knows. */
  #paced = 0;

  constructor(options: CatchUpOptions) {
    this.#options = options;
  }

  /** Whether there is a session. */
  get connected(): boolean {
    return this.#state !== null;
  }

  /** Whether the secondary has everything, and gets each record as it is made. */
  get live(): boolean {
    return this.#state?.kind === "live";
  }

  /** Whether another step may be done at once. */
  get busy(): boolean {
    const state = this.#state;
    if (state === null) return false;
    if (state.kind === "live") return this.#options.verification.busy;
    if (state.kind === "replay") return this.#pace.affords(bootMs());
    return state.begun && !state.waiting && this.#pace.allows(bootMs(), this.#options.requests());
  }

  /** For `status`; null when nothing is being resynced. */
  get resync(): Record<string, unknown> | null {
    const state = this.#state;
    return state === null || state.kind === "live" ? null : this.#progress(state);
  }

  /** A session begins; `ids` of a comparison include what the secondary's activity set names. */
  begin(
    peer: { readonly session: string; readonly version: number },
    plan: Plan,
    wire: Wire,
    ids: Set<number>,
  ): void {
    this.#session = peer.session;
    this.#version = peer.version;
    this.#hearing = false;
    this.#meter = new Meter();
    this.#paced = 0;
    this.#state = plan.mode === "replay"
      ? this.#beginReplay(plan, wire)
      : this.#beginReconcile(plan, wire, ids);
  }

  /** One step; called between two requests. */
  step(): void {
    const state = this.#state;
    if (state === null) return;
    if (state.kind === "replay") this.#replay(state);
    else if (state.kind === "reconcile") this.#reconcile(state);
    else this.#verify();
  }

  /** The session is over. */
  end(): void {
    if (this.#state?.kind === "replay") this.#state.replayer.close();
    if (this.#state?.kind === "reconcile") this.#state.source.close();
    this.#options.verification.detach();
    this.#state = null;
  }

  #verify(): void {
    const { verification } = this.#options;
    for (let ask = this.#takeAsk(); ask !== undefined; ask = this.#takeAsk()) verification.onAsk(ask);
    verification.step();
  }

  #beginReplay(plan: Extract<Plan, { mode: "replay" }>, wire: Wire): State {
    const { underWay } = this.#options.sequencer;
    const replayer = new Replayer({
      journal: this.#options.copy.journal,
      backing,
      objects: this.#options.objects,
      tree: this.#options.tree,
      wire,
      from: plan.from,
      dataOf: (sequence) => underWay.dataOf(sequence),
      addressOf,
    });
    const hollow = this.#options.copy.hollowSince(plan.from, (sequence) => underWay.has(sequence));
    wire.control(CONTROL.replay, { a: 0, b: hollow ? 1 : 0 }, 0);
    return { kind: "replay", replayer };
  }

  #replay(state: Extract<State, { kind: "replay" }>): void {
    const began = bootMs();
    if (!this.#pace.affords(began)) return;
    const { link } = this.#options.sequencer;
    if (link === null) return;
    const result = link.wire.resync(() => state.replayer.step(STEP_BYTES));
    this.#took(began);
    if (result === false) return;
    if (result === "lost") {
      return this.#options.onLost("the log dropped what it needs; it will be compared instead");
    }
    state.replayer.close();
    link.wire.flush();
    const resync = progressOf(state, link.wire);
    link.live = true;
    link.wire.control(CONTROL.replay, { a: 1 }, 0);
    this.#live(resync);
  }

  /** The peer has everything; what still waits for its disk is asked for again. */
  #live(resync: Readonly<Record<string, unknown>>): void {
    this.#state = { kind: "live" };
    this.#options.sequencer.underWay.clear();
    const { link } = this.#options.sequencer;
    if (link !== null && this.#version >= VERIFIES) {
      this.#options.verification.attach(link.wire, this.#version >= WITNESSES);
    }
    this.#options.sequencer.fsyncs.repeat();
    const { last } = this.#options.copy.journal;
    this.#options.onCaughtUp(last, resync);
  }

  #beginReconcile(plan: Extract<Plan, { mode: "reconcile" }>, wire: Wire, ids: Set<number>): State {
    // What can be listed for a comparison that goes on; else it begins again.
    const from = plan.survey && this.#version >= SURVEYS && ids.size <= OPEN_MAX ? plan.from : 0;
    const source = new ReconcileSource({
      backing,
      objects: this.#options.objects,
      wire,
      addressOf,
      sha256,
      whole: plan.whole,
      ids: plan.whole ? [] : ids,
      known: plan.whole ? this.#options.copy.map.count() : 0,
      lost: (held, block, hash) => this.#options.verification.lost(held, block, hash),
      survey: this.#version >= SURVEYS && plan.survey ? this.#survey(from) : null,
    });
    wire.json(CONTROL.reconcile, {
      whole: plan.whole,
      preserve: plan.preserve,
      sequence: this.#options.copy.journal.last,
      history: this.#options.copy.encodedHistory(),
      nextId: this.#options.copy.nextId,
      from,
      changed: from > 0 ? [...ids] : [],
    });
    return { kind: "reconcile", source, begun: plan.whole, waiting: false, plan, ids };
  }

  #survey(from: number): Survey {
    return {
      exists: (id) => this.#options.copy.map.has(id),
      tellTime: (id) => this.#options.sequencer.tellTime(id),
      from,
      until: this.#options.copy.nextId,
    };
  }

  /**
   * What the secondary asked for in this session. The acknowledging thread has its connections before or after this thread
   * has, so the ring may begin with what another session asked, or hold already what this one did.
   */
  #takeAsk(): Ask | undefined {
    const { shared } = this.#options;
    for (let ask = shared.takeAsk(); ask !== undefined; ask = shared.takeAsk()) {
      if (ask.kind === ASK_KIND.session) this.#hearing = ask.id === sessionNumber(this.#session);
      else if (this.#hearing) return ask;
    }
    return undefined;
  }

  #progress(state: Extract<State, { kind: "replay" | "reconcile" }>): Record<string, unknown> {
    return {
      ...progressOf(state, this.#options.sequencer.link?.wire),
      ...this.#meter.rates(bootMs(), momentOf(state)),
    };
  }

  #took(began: number): void {
    const state = this.#state;
    const due = began - this.#notedAt >= NOTE_MS;
    if (due && state !== null && state.kind !== "live") {
      this.#notedAt = began;
      this.#meter.note(began, momentOf(state));
    }
    // Frames that were only gathered count once they are sent.
    const sent = this.#options.sequencer.link?.wire.resyncBytes.sent ?? this.#paced;
    this.#pace.took(began, bootMs(), sent - this.#paced, this.#options.resyncBandwidth ?? 0);
    this.#paced = sent;
  }

  #reconcile(state: Extract<State, { kind: "reconcile" }>): void {
    for (let ask = this.#takeAsk(); ask !== undefined; ask = this.#takeAsk()) {
      if (ask.kind === ASK_KIND.touched) state.source.offer(ask.id);
      else if (ask.kind === ASK_KIND.touchedAll) state.begun = true;
      else state.source.onAsk(ask);
    }
    // The secondary first says what it touched by itself: without that the set is not whole.
    if (!state.begun) return;
    const now = bootMs();
    if (!this.#pace.allows(now, this.#options.requests())) return;
    const { link } = this.#options.sequencer;
    if (link === null) return;
    const budget = this.#pace.active(now) ? STEP_ACTIVE : STEP_BYTES;
    const result = link.wire.resync(() => state.source.step(budget));
    this.#took(now);
    state.waiting = result === "waiting";
    if (result !== "done") return;
    const { files, compared, bytes } = state.source.progress();
    if (state.plan.whole) this.#options.verification.compared({ objects: files, bytes: compared + bytes });
    this.#options.copy.agreesAfter(state.plan);
    this.#live(progressOf(state, link.wire));
  }
}

function bootMs(): number {
  return bootNanoseconds() / 1e6;
}

function progressOf(
  state: Extract<State, { kind: "replay" | "reconcile" }>,
  wire: Wire | undefined,
): Record<string, unknown> {
  const sent = wire?.resyncBytes.sent ?? 0;
  if (state.kind === "replay") {
    const { records, bytes } = state.replayer.progress;
    const { left } = state.replayer;
    const filesTotal = records + left;
    return {
      phase: "replay",
      files: records,
      filesTotal,
      bytes,
      sent,
      why: `${left} records of the log to go`,
    };
  }
  return { phase: "reconcile", sent, ...state.source.progress() };
}

function momentOf(state: Extract<State, { kind: "replay" | "reconcile" }>): Moment {
  if (state.kind === "replay") {
    const { records, bytes } = state.replayer.progress;
    return { objects: records, bytes, part: records / Math.max(1, records + state.replayer.left) };
  }
  const { files, bytes, compared, part } = state.source.progress();
  return { objects: files, bytes: bytes + compared, part };
}
