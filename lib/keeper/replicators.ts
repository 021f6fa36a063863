/**
 * Starts replicators and starts them again when they die.
 *
 * @module
 */

import { RpcError } from "../system/rpc_error.ts";
import type { Held, KeeperWorld } from "./world.ts";

/** This many deaths within {@link WINDOW_MS} mean that starting again at once does not help. */
const DEATHS_MAX = 30;
const WINDOW_MS = 60_000;
/** Pauses after that many: first the one, then always the other. */
const BACKOFF_MS = { first: 1_000, later: 10_000 } as const;
/** How long a replicator has to end by itself when it is stopped. */
const STOP_MS = 5_000;
/** How long a killed process may take to disappear: it may wait for a disk. */
const KILL_MS = 5_000;

/** A spare is started this long after its module's replicator: at once it would take the processor from it. */
const SPARE_DELAY_MS = 1_000;
/** A spare that dies is started again this much later. */
const SPARE_AGAIN_MS = 10_000;

interface Supervised {
  wanted: boolean;
  process: Held | null;
  /** Loaded, and waiting for the replicator to die: see `lib/system/turn.ts`. */
  spare: Held | null;
  /** When it died, lately. */
  deaths: number[];
  total: number;
}

/** What the keeper wants to hear of its replicators. */
export interface ReplicatorEvents {
  started(module: string, held: Held): void;
  died(module: string, pid: number, deaths: number, restartsInMs: number): void;
  /** It ended by itself with 0: it was told to retire. */
  retired(module: string): void;
}

/** One replicator per module. */
export class Replicators {
  readonly #supervised = new Map<string, Supervised>();

  constructor(
    readonly world: KeeperWorld,
    readonly events: ReplicatorEvents,
    /** Whether a second process waits beside each one. */
    readonly spares: boolean = true,
  ) {}

  /** The running process, null between two attempts or when none is wanted. */
  process(module: string): Held | null {
    return this.#supervised.get(module)?.process ?? null;
  }

  /** For `status`. Null: none is wanted. */
  state(module: string): { readonly pid: number | null; readonly deaths: number } | null {
    const one = this.#supervised.get(module);
    return one === undefined ? null : { pid: one.process?.pid ?? null, deaths: one.total };
  }

  /** Modules that have one. */
  modules(): string[] {
    return [...this.#supervised.keys()];
  }

  /** Starts one, unless it runs already. */
  start(module: string): number | null {
    const running = this.#supervised.get(module);
    if (running !== undefined) return running.process?.pid ?? null;
    // A program that cannot be started at all fails here, at the caller; later attempts are tried again.
    const process = this.world.processes.start(module);
    this.#supervise(module, process);
    return process.pid;
  }

  /** Takes a process over that an earlier keeper started. */
  adopt(module: string, process: Held): void {
    this.#supervise(module, process);
  }

  /**
   * Ends a replicator and does not start it again.
   *
   * @throws {RpcError} `stuck` when even SIGKILL does not end it.
   */
  async stop(module: string): Promise<void> {
    const one = this.#supervised.get(module);
    if (one === undefined) return;
    one.wanted = false;
    if (one.spare !== null) await this.#endSpare(module, one);
    const { process } = one;
    if (process !== null) {
      process.signal("terminate");
      if (!await this.#endsWithin(process, STOP_MS)) {
        process.signal("kill");
        if (!await this.#endsWithin(process, KILL_MS)) {
          throw new RpcError(
            "stuck",
            `Cannot stop replicator ${module}: process ${process.pid} does not end; it waits for a disk that does not answer`,
          );
        }
      }
    }
    this.#supervised.delete(module);
  }

  #supervise(module: string, process: Held): void {
    const one: Supervised = { wanted: true, process: null, spare: null, deaths: [], total: 0 };
    this.#supervised.set(module, one);
    void this.#watch(module, one, process);
  }

  async #watch(module: string, one: Supervised, first: Held): Promise<void> {
    let process: Held | null = first;
    while (process !== null) {
      one.process = process;
      this.events.started(module, process);
      if (one.spare === null) void this.#haveSpare(module, one, SPARE_DELAY_MS);
      const code = await process.ended;
      one.process = null;
      if (!one.wanted) return;
      if (code === 0) {
        one.wanted = false;
        await this.#endSpare(module, one);
        this.#supervised.delete(module);
        return this.events.retired(module);
      }
      process = await this.#again(module, one, process.pid);
    }
  }

  /** Starts a process that waits for its turn, and another when it dies before that. */
  async #haveSpare(module: string, one: Supervised, delayMs: number): Promise<void> {
    await this.world.time.delay(delayMs);
    if (!this.spares || !one.wanted || one.spare !== null || one.process === null) return;
    let spare: Held;
    try {
      spare = this.world.processes.start(module);
    } catch (error) {
      return this.world.log(
        `${module}: no spare replicator: ${error instanceof Error ? error.message : error}`,
      );
    }
    one.spare = spare;
    await spare.ended;
    if (one.spare !== spare) return;
    one.spare = null;
    void this.#haveSpare(module, one, SPARE_AGAIN_MS);
  }

  /** Before the replicator ends on purpose: else the spare would take its place. */
  async #endSpare(module: string, one: Supervised): Promise<void> {
    const { spare } = one;
    if (spare === null) return;
    one.spare = null;
    spare.signal("kill");
    if (!await this.#endsWithin(spare, KILL_MS)) this.world.log(`${module}: spare ${spare.pid} does not end`);
  }

  /** The next attempt, once one succeeds. Null: it is not wanted any more. */
  async #again(module: string, one: Supervised, pid: number): Promise<Held | null> {
    for (;;) {
      const pauseMs = this.#pause(one);
      const { spare } = one;
      if (spare !== null) {
        // It is at work already. Where replicators die again and again, the next one is not spared its pause.
        one.spare = null;
        this.events.died(module, pid, one.total, 0);
        return spare;
      }
      this.events.died(module, pid, one.total, pauseMs);
      if (pauseMs > 0) await this.world.time.delay(pauseMs);
      if (!one.wanted) return null;
      try {
        return this.world.processes.start(module);
      } catch (error) {
        this.world.log(`${module}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  #pause(one: Supervised): number {
    const now = this.world.time.bootMs();
    one.total++;
    one.deaths = [...one.deaths.filter((at) => at > now - WINDOW_MS), now].slice(-DEATHS_MAX - 1);
    if (one.deaths.length < DEATHS_MAX) return 0;
    return one.deaths.length === DEATHS_MAX ? BACKOFF_MS.first : BACKOFF_MS.later;
  }

  #endsWithin(process: Held, ms: number): Promise<boolean> {
    return Promise.race([process.ended.then(() => true), this.world.time.delay(ms).then(() => false)]);
  }
}
