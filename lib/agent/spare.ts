/**
 * The spare agent: a second process, loaded, that serves the moment the first one has died.
 *
 * What the supervisor starts anew after a death is the best spare: it is looked after. Until it is there, and where there
 * is none because the supervisor's own process serves, the one that serves starts one itself. There is never more than
 * one for longer than the time between two looks.
 *
 * @module
 */

import type { Timers } from "./seams.ts";

/** How often it is looked whether the supervisor's process waits. */
const LOOK_MS = 1000;
/** The supervisor's process comes first: it needs a moment to start, more of them where the machine is busy. */
const SUPERVISED_MS = 5000;
/** Loading one at once would take the processor from what has just begun to serve. */
const BEGIN_MS = 1000;
/** One that dies is started again this much later. */
const AGAIN_MS = 10_000;

/** A spare that this process has started. */
export interface Spare {
  readonly pid: number;
  /** Resolves once it has ended. */
  readonly ended: Promise<void>;
  kill(): void;
}

/** What {@link SpareKeeper} needs. */
export interface SpareWorld {
  /** Whether the supervisor started this very process. */
  readonly supervised: boolean;
  /** Whether another process that the supervisor started is there. */
  readonly supervisedWaits: () => boolean;
  /** @throws when the program cannot be started. */
  readonly start: () => Spare;
  readonly timers: Timers;
  readonly log: (line: string) => void;
}

/** Sees to it that one process waits. */
export class SpareKeeper {
  readonly #world: SpareWorld;
  readonly #cancel: () => void;
  #spare: Spare | null = null;
  /** Milliseconds until one is started, counted in looks. */
  #pauseMs: number;
  #ended = false;

  constructor(world: SpareWorld) {
    this.#world = world;
    this.#pauseMs = world.supervised ? BEGIN_MS : SUPERVISED_MS;
    this.#cancel = world.timers.every(LOOK_MS, () => this.#look());
  }

  /** The spare that this process started, while it lives. */
  get spare(): Spare | null {
    return this.#spare;
  }

  /** Ends the spare, so that it does not serve once this process is gone. Resolves when it has ended. */
  async close(): Promise<void> {
    this.#ended = true;
    this.#cancel();
    const spare = this.#spare;
    spare?.kill();
    await spare?.ended;
  }

  #look(): void {
    this.#pauseMs = Math.max(0, this.#pauseMs - LOOK_MS);
    if (this.#world.supervisedWaits()) {
      this.#pauseMs = SUPERVISED_MS;
      this.#spare?.kill();
    } else if (this.#spare === null && this.#pauseMs === 0) this.#start();
  }

  #start(): void {
    this.#pauseMs = AGAIN_MS;
    let spare: Spare;
    try {
      spare = this.#world.start();
    } catch (error) {
      return this.#world.log(`no spare agent: ${error instanceof Error ? error.message : error}`);
    }
    this.#spare = spare;
    spare.ended.then(() => {
      this.#spare = null;
      if (!this.#ended) this.#pauseMs = Math.max(this.#pauseMs, AGAIN_MS);
    });
  }
}
