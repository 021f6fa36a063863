/**
 * A lasting connection to a local process: it comes back by itself when the process does.
 *
 * @module
 */

import type { Caller, Connect, Timers } from "./seams.ts";

/** A killed replicator is up again in some 100 ms: asking often is what keeps its death unnoticed. */
const RETRY_FAST_MS = 10;
const RETRY_SLOW_MS = 250;
/** Fast retries before going slow: two seconds' worth. */
const FAST_TRIES = 200;

/** Keeps one connection to `path`. */
export class LocalLink {
  readonly #path: string;
  readonly #connect: Connect;
  readonly #timers: Timers;
  readonly #onEvent: (event: string, params: unknown) => void;
  readonly #onChange: (connected: boolean) => void;
  #caller: Caller | null = null;
  #wanted = false;
  #trying = false;
  #tries = 0;
  #cancelRetry: () => void = () => {};

  constructor(options: {
    readonly path: string;
    readonly connect: Connect;
    readonly timers: Timers;
    readonly onEvent: (event: string, params: unknown) => void;
    readonly onChange: (connected: boolean) => void;
  }) {
    this.#path = options.path;
    this.#connect = options.connect;
    this.#timers = options.timers;
    this.#onEvent = options.onEvent;
    this.#onChange = options.onChange;
  }

  get connected(): boolean {
    return this.#caller !== null;
  }

  /** Starts, or stops, keeping the connection. */
  want(wanted: boolean): void {
    this.#wanted = wanted;
    if (!wanted) {
      this.#cancelRetry();
      this.#caller?.close();
    } else if (this.#caller === null && !this.#trying) {
      this.#tries = 0;
      this.#try();
    }
  }

  /** Calls a method; rejects at once while there is no connection. */
  async call(method: string, params: unknown, timeoutMs: number): Promise<unknown> {
    if (this.#caller === null) throw new Error(`Cannot call "${method}": nobody answers at ${this.#path}`);
    return await this.#caller.call(method, params, { timeoutMs });
  }

  /** Resolves when connected; rejects after `limitMs` or when aborted. */
  async ready(limitMs: number, signal: AbortSignal): Promise<void> {
    for (let waitedMs = 0; !this.connected; waitedMs += RETRY_FAST_MS) {
      if (waitedMs >= limitMs) {
        throw new Error(`Cannot reach ${this.#path}: nobody answered for ${limitMs} ms`);
      }
      await pause(this.#timers, RETRY_FAST_MS, signal);
    }
  }

  #try(): void {
    this.#trying = true;
    this.#connect(this.#path, this.#onEvent).then(
      (caller) => this.#connected(caller),
      () => {
        this.#trying = false;
        this.#retry();
      },
    );
  }

  #connected(caller: Caller): void {
    this.#trying = false;
    if (!this.#wanted) return caller.close();
    this.#caller = caller;
    this.#tries = 0;
    caller.closed.then(() => {
      this.#caller = null;
      this.#onChange(false);
      this.#retry();
    });
    this.#onChange(true);
  }

  #retry(): void {
    if (!this.#wanted) return;
    this.#tries += 1;
    this.#cancelRetry = this.#timers.after(this.#tries < FAST_TRIES ? RETRY_FAST_MS : RETRY_SLOW_MS, () => {
      if (this.#wanted && this.#caller === null && !this.#trying) this.#try();
    });
  }
}

/** Waits; rejects when aborted. */
export function pause(timers: Timers, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const abort = (): void => {
      stop();
      reject(signal.reason);
    };
    const stop = timers.after(ms, () => {
      signal.removeEventListener("abort", abort);
      resolve();
    });
    signal.addEventListener("abort", abort, { once: true });
  });
}
