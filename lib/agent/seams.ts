/**
 * What the agent needs of the world. `lib/system` has the real ones, tests hand in their own.
 *
 * @module
 */

import type { EventRow } from "../agent_control.ts";
import type { DurableRecord } from "../failover/types.ts";

/** Time. */
export interface Clock {
  /** Whole milliseconds of `CLOCK_BOOTTIME`. */
  now(): number;
  /** ISO 8601, UTC. */
  wall(): string;
}

/** Timers; each answers the function that stops it. */
export interface Timers {
  every(ms: number, run: () => void): () => void;
  after(ms: number, run: () => void): () => void;
}

/** The disk that holds the agent's memory has no room. Nothing was changed; it may be tried again. */
export class StoreFullError extends Error {
  override readonly name = "StoreFullError";
}

/** Durable memory. `save` returns once a power cut cannot take it back. `append` never fails for want of room. */
export interface Store {
  load(module: string): DurableRecord | null;
  /** @throws {StoreFullError} */
  save(module: string, record: DurableRecord): void;
  forget(module: string): void;
  append(event: Omit<EventRow, "id">): EventRow;
  events(since: number, limit: number): readonly EventRow[];
}

/** Datagrams over named networks. */
export interface HeartbeatTransport {
  send(network: string, address: string, bytes: Uint8Array): void;
}

/** A connected caller of a local process. */
export interface Caller {
  call(method: string, params?: unknown, options?: { readonly timeoutMs?: number }): Promise<unknown>;
  close(): void;
  readonly closed: Promise<void>;
}

/** Connects to `RUN/….sock`. Rejects when nobody answers there. */
export type Connect = (path: string, onEvent: (event: string, params: unknown) => void) => Promise<Caller>;

/** Where the authority to serve is granted. */
export interface Authority {
  /** `untilMs` 0 withdraws. */
  write(untilMs: number, epoch: number): void;
  close(): void;
}
