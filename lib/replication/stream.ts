/**
 * What the data road asks of a connection, whether it is encrypted or not.
 *
 * A stream belongs to **one thread at a time**. The main thread accepts or connects it, authenticates the peer and
 * gives it away as plain numbers ({@link StreamHandle}); a worker adopts those numbers (`openStream` in
 * `lib/system/stream.ts`) and from then on it alone reads, writes and closes. To end a stream that another thread is
 * blocked in, use {@link Session.cut}: it shuts the socket down without touching what the worker owns.
 *
 * @module
 */

import type { Endpoint } from "./network.ts";

/**
 * A stream as plain numbers, so that `postMessage` can carry it to a worker of the same process. Whoever receives it
 * owns it: adopted once, closed once.
 */
export type StreamHandle =
  | { readonly kind: "plain"; readonly fd: number; readonly label: string }
  /** `secrets`: the address of what its keys come from; freed by whoever adopts it. */
  | { readonly kind: "sealed"; readonly fd: number; readonly secrets: number; readonly label: string };

/** Limits of one blocking read or write. `0` is not "for ever": every wait is bounded, so it is refused. */
export interface StreamTimeouts {
  /** A write that made no progress for this long ends the stream. Milliseconds, `>= 1`. */
  readonly sendMs: number;
  /** A read that got nothing for this long answers "nothing yet". Milliseconds, `>= 1`. */
  readonly receiveMs: number;
}

/** A connection used by one thread, blocking, with addresses and lengths as numbers. */
export interface Stream {
  /** The socket, for `poll` only. Look at {@link Stream.pending} before waiting for it. */
  readonly fd: number;
  /** Who is at the other end and for what, for messages: `"node2 10.0.0.12:40122 data"`. */
  readonly label: string;
  /**
   * Writes `length` bytes (`1` to `2^31 − 1`) from `address`, all of them. Throws {@link StreamError}: after that the
   * peer may hold half of it, so the stream can only be closed.
   */
  writeAll(address: number, length: number): void;
  /** From here on {@link writeAll} keeps what the peer does not take at once, and waits only beyond `max` bytes. */
  keepUpTo(max: number): void;
  /** Bytes kept. */
  readonly kept: number;
  /** Sends of what is kept as much as the peer takes now. Throws {@link StreamError}. */
  sendKept(): void;
  /**
   * Reads what is there, at most `max` bytes, and waits for the first byte no longer than the receive timeout.
   * Answers 0 when nothing came in that time. Throws {@link StreamError} `"closed"` at the end of the stream.
   */
  readSome(address: number, max: number): number;
  /** Bytes that {@link Stream.readSome} has to give without asking the kernel, at least; 0 only when there are none. */
  pending(): number;
  setTimeouts(timeouts: StreamTimeouts): void;
  /** Tells the peer, frees everything. A second call does nothing. */
  close(): void;
}

/** How a stream failed: the peer is gone, it is too slow, what it sent breaks the protocol, or the system refused. */
export type StreamFailure = "closed" | "timeout" | "protocol" | "system";

/** A stream ended before its time. */
export class StreamError extends Error {
  override readonly name = "StreamError";
  readonly failure: StreamFailure;

  constructor(failure: StreamFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.failure = failure;
  }
}

/** The three connections of one replication session and what was agreed on them. */
export interface Session<Agreement> {
  /** Random, made by the secondary; the same on all three connections. */
  readonly id: string;
  /** Primary's side: the secondary's hello. Secondary's side: the primary's reply. */
  readonly agreement: Agreement;
  /** Where the other node is, as the kernel sees it. */
  readonly remote: Endpoint;
  /** Primary → secondary: records and control frames. */
  readonly data: StreamHandle;
  /** Secondary → primary: applied acknowledgements and requests. */
  readonly ack: StreamHandle;
  /** Secondary → primary: fsync acknowledgements. */
  readonly sync: StreamHandle;
  /**
   * Ends the session from the main thread, at any time, whatever thread holds the streams: a blocked read sees the end,
   * a blocked write fails. The owners still close their streams. Call it once per session, also after they closed:
   * until then the sockets' descriptors are kept. A second call does nothing.
   */
  cut(): void;
}
