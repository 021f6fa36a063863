/**
 * What the door and the dial ask of the world. `lib/system/network.ts` makes the real one.
 *
 * @module
 */

import type { StreamHandle, StreamTimeouts } from "./stream.ts";

/** A place on the network. */
export interface Endpoint {
  /** Dotted IPv4. */
  readonly address: string;
  /** 0 to 65535; 0 asks the kernel to choose when listening. */
  readonly port: number;
}

/** How long to wait. */
export interface Limit {
  /** {@link Network.now} at which to give up. */
  readonly until: number;
  readonly signal?: AbortSignal;
}

/** Timeouts of a stream once a worker has it. */
export interface ReleaseOptions extends StreamTimeouts {
  /** See `Stream.label`. */
  readonly label: string;
  /** Bytes sent and not acknowledged by the peer's kernel for so long: the connection is dead. */
  readonly userTimeoutMs: number;
}

/** A connection given away. */
export interface Released {
  readonly handle: StreamHandle;
  /** Ends it from outside, once; see `Session.cut`. A second call does nothing. */
  cut(): void;
  /** Ends and frees it, when nobody will adopt the handle after all. */
  discard(): void;
}

/** A connection on the main thread. Everything rejects with `StreamError` `"timeout"` when its limit passes. */
export interface Connection {
  readonly peer: Endpoint;
  /**
   * Proves both sides to each other. Resolves to the node name the peer's certificate carries, or null without
   * encryption, where only knowledge of the cluster key is proved.
   */
  authenticate(limit: Limit): Promise<string | null>;
  /** Fills `bytes`. */
  read(bytes: Uint8Array<ArrayBuffer>, limit: Limit): Promise<void>;
  write(bytes: Uint8Array<ArrayBuffer>, limit: Limit): Promise<void>;
  /** Resolves to true when the peer says something or leaves, to false when the limit passes in silence. */
  stirred(limit: Limit): Promise<boolean>;
  /** Makes it blocking and gives it away. */
  release(options: ReleaseOptions): Released;
  /** A second call, or one after {@link Connection.release}, does nothing. */
  close(): void;
}

/** A port that is listened on. */
export interface Listener {
  readonly endpoint: Endpoint;
  /** Rejects with the signal's reason. */
  accept(signal: AbortSignal): Promise<Connection>;
  close(): void;
}

/** Connections secured one way. */
export interface Network {
  /** Monotonic milliseconds. */
  now(): number;
  /** 128 random bits in hex. */
  randomId(): string;
  listen(endpoint: Endpoint): Listener;
  connect(endpoint: Endpoint, limit: Limit): Promise<Connection>;
}

/** The peer is not who it should be, or does not take us for who we are. */
export class AuthenticationError extends Error {
  override readonly name = "AuthenticationError";
}
