/**
 * The secondary's side of the channel: three connections to the primary, one session. When to try again is the
 * caller's to decide.
 *
 * @module
 */

import { agreeVersion, PROTOCOL } from "../protocol.ts";
import { DOOR_LIMITS, releaseSession } from "./door.ts";
import type { Crc32 } from "./frame.ts";
import { type ConnectionKind, decodeHelloHeader, decodeReply, encodeHello } from "./hello.ts";
import { HELLO_HEADER, type Reply } from "./hello.ts";
import { AuthenticationError, type Connection, type Endpoint, type Limit, type Network } from "./network.ts";
import { type Session, StreamError, type StreamTimeouts } from "./stream.ts";

/** What a dial needs. */
export interface DialOptions {
  readonly network: Network;
  /** The primary's addresses, best first. The next is tried when one does not lead to a session. */
  readonly endpoints: readonly Endpoint[];
  readonly crc32: Crc32;
  readonly cluster: string;
  readonly module: string;
  /** This node. */
  readonly node: string;
  /** The primary's name, which it must prove. */
  readonly expected: string;
  /** JSON for the primary's data road. */
  readonly body: unknown;
  /** For everything together. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly limits?: Partial<StreamTimeouts & { readonly userTimeoutMs: number }>;
  /** Version to speak; for tests. */
  readonly protocol?: typeof PROTOCOL;
}

/** A reply that lets us in. */
export type Agreement = Extract<Reply, { readonly accept: true }>;

/**
 * Why no session came about: nobody answers, somebody who is not the primary or does not know us, a primary that
 * refuses, something that is no replicator.
 */
export type DialFailure = "unreachable" | "stranger" | "refused" | "protocol";

/** No session came about. */
export class DialError extends Error {
  override readonly name = "DialError";
  /** Of the attempt that got furthest. */
  readonly failure: DialFailure;
  /** What the primary said, when it refused. */
  readonly refusal: { readonly code: string; readonly reason: string } | null;

  constructor(
    failure: DialFailure,
    message: string,
    options: ErrorOptions & { readonly refusal?: { readonly code: string; readonly reason: string } } = {},
  ) {
    super(message, options);
    this.failure = failure;
    this.refusal = options.refusal ?? null;
  }
}

/**
 * A dead address among several must not eat the time of the others; but a lost SYN is sent again only after a second.
 * Milliseconds.
 */
const CONNECT_MS = 1500;

const FURTHEST: readonly DialFailure[] = ["unreachable", "protocol", "stranger", "refused"];

/** Connects. Rejects with {@link DialError}, or with the signal's reason. */
export async function dial(options: DialOptions): Promise<Session<Agreement>> {
  const { network, endpoints, signal } = options;
  const until = network.now() + options.timeoutMs;
  const failures: DialError[] = [];
  for (const [index, endpoint] of endpoints.entries()) {
    const left = Math.max(0, until - network.now()) / (endpoints.length - index);
    try {
      return await dialOne(options, endpoint, network.now() + left);
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      failures.push(dialError(endpoint, options.expected, error));
    }
  }
  const furthest =
    failures.toSorted((one, other) => FURTHEST.indexOf(other.failure) - FURTHEST.indexOf(one.failure))[0];
  if (furthest === undefined) {
    throw new DialError(
      "unreachable",
      `Cannot reach ${options.expected}: it has no address; add one in cluster.yaml`,
    );
  }
  if (failures.length === 1) throw furthest;
  const message = failures.map((failure) => failure.message).join("; ");
  throw new DialError(furthest.failure, message, {
    cause: furthest,
    ...(furthest.refusal === null ? {} : { refusal: furthest.refusal }),
  });
}

async function dialOne(options: DialOptions, endpoint: Endpoint, until: number): Promise<Session<Agreement>> {
  const { network } = options;
  const own = new AbortController();
  const abort = () => own.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", abort, { once: true });
  const limit = { until, signal: own.signal };
  const open: Connection[] = [];
  const session = network.randomId();
  const connect = async (kind: ConnectionKind) => {
    const connection = await network.connect(endpoint, {
      ...limit,
      until: Math.min(until, network.now() + CONNECT_MS),
    });
    open.push(connection);
    await introduce(options, connection, { kind, session, limit });
    return connection;
  };
  try {
    if (options.signal?.aborted === true) throw options.signal.reason;
    const [data, ack, sync] = await Promise.all([
      connect("data").then(async (connection) => ({
        connection,
        agreement: await hear(options, connection, limit),
      })),
      connect("ack"),
      connect("sync"),
    ]);
    return releaseSession({
      id: session,
      agreement: data.agreement,
      peer: options.expected,
      connections: { data: data.connection, ack, sync },
      limits: { ...DOOR_LIMITS, ...options.limits },
    });
  } catch (error) {
    // The other two may still be on their way: end their waits, then close what is open.
    own.abort(error);
    for (const connection of open) connection.close();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", abort);
  }
}

/** Proves who we are, sees who they are, says hello. */
async function introduce(
  options: DialOptions,
  connection: Connection,
  hello: { readonly kind: ConnectionKind; readonly session: string; readonly limit: Limit },
): Promise<void> {
  const { cluster, module, node, expected, protocol = PROTOCOL } = options;
  const { kind, session, limit } = hello;
  const name = await connection.authenticate(limit);
  if (name !== null && name !== expected) {
    throw new AuthenticationError(
      `Cannot take ${name} for ${expected}: that address belongs to another node; compare the addresses in cluster.yaml`,
    );
  }
  const body = kind === "data" ? options.body : null;
  const text = { ...protocol, cluster, module, node, kind, session, body };
  await connection.write(encodeHello(kind, text, options.crc32), limit);
}

async function hear(options: DialOptions, connection: Connection, limit: Limit): Promise<Agreement> {
  const header = new Uint8Array(HELLO_HEADER);
  await connection.read(header, limit);
  const { length } = decodeHelloHeader(header);
  const json = new Uint8Array(length);
  await connection.read(json, limit);
  const reply = decodeReply(header, json, options.crc32);
  const { expected, protocol = PROTOCOL } = options;
  if (!reply.accept) {
    const { code, reason } = reply;
    throw new DialError("refused", `Cannot follow ${expected}: ${reason}`, { refusal: { code, reason } });
  }
  if (reply.node !== expected) {
    throw new AuthenticationError(
      `Cannot take ${reply.node} for ${expected}: that address belongs to another node`,
    );
  }
  if (agreeVersion({ version: reply.version, versionMin: reply.version }, protocol) === null) {
    throw new StreamError(
      "protocol",
      `Cannot follow ${expected}: it chose protocol ${reply.version}, which we do not speak`,
    );
  }
  return reply;
}

function dialError(endpoint: Endpoint, expected: string, error: unknown): DialError {
  if (error instanceof DialError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const message = `Cannot reach ${expected} at ${endpoint.address}:${endpoint.port}: ${reason}`;
  if (error instanceof AuthenticationError) return new DialError("stranger", message, { cause: error });
  const protocol = error instanceof StreamError && error.failure === "protocol";
  return new DialError(protocol ? "protocol" : "unreachable", message, { cause: error });
}
