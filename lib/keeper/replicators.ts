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
const SPARE_DELAY_MS = 250;
/** Spares of a module whose replicator died within {@link WINDOW_MS}: the next death may come before another is loaded. */
const SPARES_AFTER_DEATH = 2;
/** The second is started this long after the first: two that load at once are ready later than one after the other. */
const SPARE_LOADS_MS = 600;
/** How long a spare may take to load and take its turn; one that does not is ended. */
const TURN_MS = 20_000;
/** Between two looks at which spare has its turn. */
const TURN_LOOK_MS = 5;
/** A spare that dies is started again this much later. */
const SPARE_AGAIN_MS = 10_000;

interface Supervised {
  wanted: boolean;
  process: Held | null;
  /** Loaded, and waiting for the replicator to die: see `lib/system/turn.ts`. */
  readonly spares: Set<Held>;
  /** One is on its way. */
  sparing: boolean;
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

  /** All that were started for a module: one that waited may be at work before its keeper knows that the other died. */
  pids(module: string): number[] {
    const one = this.#supervised.get(module);
    return one === undefined
      ? []
      : [...one.process === null ? [] : [one.process], ...one.spares].map(({ pid }) => pid);
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
    if (one.spares.size > 0) await this.#endSpares(module, one);
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
    const one: Supervised = {
      wanted: true,
      process: null,
      spares: new Set(),
      sparing: false,
      deaths: [],
      total: 0,
    };
    this.#supervised.set(module, one);
    void this.#watch(module, one, process);
  }

  async #watch(module: string, one: Supervised, first: Held): Promise<void> {
    let process: Held | null = first;
    while (process !== null) {
      one.process = process;
      this.events.started(module, process);
      void this.#haveSpares(module, one, SPARE_DELAY_MS);
      const code = await process.ended;
      one.process = null;
      if (!one.wanted) return;
      if (code === 0) {
        one.wanted = false;
        await this.#endSpares(module, one);
        this.#supervised.delete(module);
        return this.events.retired(module);
      }
      process = await this.#again(module, one, process.pid);
    }
  }

  /** Starts processes that wait for their turn, one after the other. */
  async #haveSpares(module: string, one: Supervised, delayMs: number): Promise<void> {
    if (!this.spares || one.sparing) return;
    one.sparing = true;
    await this.world.time.delay(delayMs);
    one.sparing = false;
    if (!one.wanted || one.process === null || one.spares.size >= this.#sparesWanted(one)) return;
    if (this.world.processes.atWork(module) !== one.process.pid) {
      // On a busy machine it may still be loading: a spare that is faster would take its turn, and nobody would know.
      return void this.#haveSpares(module, one, SPARE_LOADS_MS);
    }
    let spare: Held;
    try {
      spare = this.world.processes.start(module);
    } catch (error) {
      return this.world.log(
        `${module}: no spare replicator: ${error instanceof Error ? error.message : error}`,
      );
    }
    one.spares.add(spare);
    void spare.ended.then(() => {
      if (one.spares.delete(spare)) void this.#haveSpares(module, one, SPARE_AGAIN_MS);
    });
    void this.#haveSpares(module, one, SPARE_LOADS_MS);
  }

  #sparesWanted(one: Supervised): number {
    return this.#deathsLately(one).length === 0 ? 1 : SPARES_AFTER_DEATH;
  }

  #deathsLately(one: Supervised): number[] {
    const now = this.world.time.bootMs();
    return one.deaths.filter((at) => at > now - WINDOW_MS);
  }

  /** Before the replicator ends on purpose: else a spare would take its place. */
  async #endSpares(module: string, one: Supervised): Promise<void> {
    const spares = [...one.spares];
    one.spares.clear();
    for (const spare of spares) spare.signal("kill");
    for (const spare of spares) {
      if (!await this.#endsWithin(spare, KILL_MS)) {
        this.world.log(`${module}: spare ${spare.pid} does not end`);
      }
    }
  }

  /** The spare that has its turn now. Null: there is none. */
  async #spareAtWork(module: string, one: Supervised): Promise<Held | null> {
    const { processes, time } = this.world;
    for (let waited = 0; one.spares.size > 0; waited += TURN_LOOK_MS) {
      const pid = processes.atWork(module);
      for (const spare of one.spares) {
        if (spare.pid !== pid) continue;
        one.spares.delete(spare);
        return spare;
      }
      if (waited >= TURN_MS) await this.#endSpares(module, one);
      await time.delay(TURN_LOOK_MS);
    }
    return null;
  }

  /** The next attempt, once one succeeds. Null: it is not wanted any more. */
  async #again(module: string, one: Supervised, pid: number): Promise<Held | null> {
    for (;;) {
      const pauseMs = this.#pause(one);
      // Where replicators die again and again, one that waits is at work already: it is not spared its pause the next time.
      this.events.died(module, pid, one.total, one.spares.size > 0 ? 0 : pauseMs);
      const spare = await this.#spareAtWork(module, one);
      if (spare !== null) {
        if (one.wanted) return spare;
        // Stopped just now, when it was among the spares no more.
        spare.signal("kill");
        return null;
      }
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
    one.total++;
    one.deaths = [...this.#deathsLately(one), this.world.time.bootMs()].slice(-DEATHS_MAX - 1);
    if (one.deaths.length < DEATHS_MAX) return 0;
    return one.deaths.length === DEATHS_MAX ? BACKOFF_MS.first : BACKOFF_MS.later;
  }

  #endsWithin(process: Held, ms: number): Promise<boolean> {
    return Promise.race([process.ended.then(() => true), this.world.time.delay(ms).then(() => false)]);
  }
}
