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

interface Supervised {
  wanted: boolean;
  process: Held | null;
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

  constructor(readonly world: KeeperWorld, readonly events: ReplicatorEvents) {}

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
    const one: Supervised = { wanted: true, process: null, deaths: [], total: 0 };
    this.#supervised.set(module, one);
    void this.#watch(module, one, process);
  }

  async #watch(module: string, one: Supervised, first: Held): Promise<void> {
    let process: Held | null = first;
    while (process !== null) {
      one.process = process;
      this.events.started(module, process);
      const code = await process.ended;
      one.process = null;
      if (!one.wanted) return;
      if (code === 0) {
        this.#supervised.delete(module);
        return this.events.retired(module);
      }
      process = await this.#again(module, one, process.pid);
    }
  }

  /** The next attempt, once one succeeds. Null: it is not wanted any more. */
  async #again(module: string, one: Supervised, pid: number): Promise<Held | null> {
    for (;;) {
      const pauseMs = this.#pause(one);
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
