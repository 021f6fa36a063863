/**
 * One queue of slow work: each piece in order, its tasks in order, its end reported once.
 *
 * @module
 */

import type { Task } from "../failover/types.ts";

/** Pieces that may wait; the core has at most a handful, more is our mistake. */
const WAITING_MAX = 64;

/** Does one task; rejects with the reason in words. Must stop soon after `signal` aborts. */
export type RunTask = (task: Task, signal: AbortSignal) => Promise<bigint | null>;

/** How a piece of work ended. A dropped piece reports nothing: who dropped it has moved on. */
export interface LaneEnds {
  done(work: number, sequence: bigint | null): void;
  failed(work: number, task: Task["do"], reason: string, code: string): void;
}

interface Piece {
  readonly work: number;
  readonly tasks: readonly Task[];
}

/** The word programs act on, of an error that has one. */
function codeOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "failed";
}

/** Runs pieces of work one after another. */
export class Lane {
  readonly #run: RunTask;
  readonly #ends: LaneEnds;
  #waiting: Piece[] = [];
  #abort: AbortController | null = null;
  #running: Promise<void> | null = null;

  constructor(run: RunTask, ends: LaneEnds) {
    this.#run = run;
    this.#ends = ends;
  }

  /** Adds a piece. `now`: what waits is dropped and what runs is aborted first. */
  add(work: number, tasks: readonly Task[], now: boolean): void {
    if (now) {
      this.#waiting = [];
      this.#abort?.abort(new Error("something more urgent came"));
    }
    if (this.#waiting.length >= WAITING_MAX) {
      throw new Error(`Cannot queue work ${work}: ${WAITING_MAX} pieces wait`);
    }
    this.#waiting.push({ work, tasks });
    this.#running ??= this.#drain().finally(() => this.#running = null);
  }

  /** Aborts everything and waits for its end. */
  async close(): Promise<void> {
    this.#waiting = [];
    this.#abort?.abort(new Error("the agent ends"));
    await this.#running;
  }

  async #drain(): Promise<void> {
    for (let piece = this.#waiting.shift(); piece !== undefined; piece = this.#waiting.shift()) {
      const abort = new AbortController();
      this.#abort = abort;
      await this.#do(piece, abort.signal);
      this.#abort = null;
    }
  }

  async #do(piece: Piece, signal: AbortSignal): Promise<void> {
    let sequence: bigint | null = null;
    for (const task of piece.tasks) {
      try {
        sequence = await this.#run(task, signal) ?? sequence;
      } catch (error) {
        if (!signal.aborted) {
          const reason = error instanceof Error ? error.message : String(error);
          this.#ends.failed(piece.work, task.do, reason, codeOf(error));
        }
        return;
      }
      if (signal.aborted) return;
    }
    this.#ends.done(piece.work, sequence);
  }
}
