/**
 * The primary's side of the channel: lets the secondary's connections in.
 *
 * Whatever comes to the port costs little and a bounded time: few connections are looked at at once, each for a few
 * seconds; nothing is read into memory before the peer has proved itself; a source that floods the port pushes out
 * its own connections; and however many sources there are, strangers push out strangers: the addresses where the peer is
 * known to be have room of their own.
 *
 * @module
 */

import { agreeVersion, PROTOCOL, protocolText } from "../protocol.ts";
import type { Crc32 } from "./frame.ts";
import { type ConnectionKind, decodeHello, decodeHelloHeader, encodeHello } from "./hello.ts";
import { type Hello, HELLO_HEADER, type Reply } from "./hello.ts";
import { AuthenticationError, type Connection, type Endpoint, type Limit } from "./network.ts";
import type { Listener, Network, Released } from "./network.ts";
import { type Session, StreamError, type StreamTimeouts } from "./stream.ts";

/** Limits of a door; {@link DOOR_LIMITS} unless said otherwise. */
export interface DoorLimits extends StreamTimeouts {
  /** Connections not yet authenticated: of strangers together, and of one source, known or not. */
  readonly pendingMax: number;
  readonly pendingPerSource: number;
  /** From `accept` to a complete hello, and from the first to the last connection of a session. Milliseconds. */
  readonly handshakeMs: number;
  /** See `ReleaseOptions.userTimeoutMs`. */
  readonly userTimeoutMs: number;
}

/** What the design asks for. Six of one source: a session being made and one being given up. */
export const DOOR_LIMITS: DoorLimits = {
  pendingMax: 8,
  pendingPerSource: 6,
  handshakeMs: 3000,
  sendMs: 3000,
  receiveMs: 1000,
  userTimeoutMs: 5000,
};

/** The data road's answer to a hello. */
export type Decision =
  | { readonly accept: true; readonly body: unknown }
  | { readonly accept: false; readonly code: string; readonly reason: string };

/** What came to the door since it opened. */
export interface DoorCounters {
  accepted: number;
  /** Closed to make room for others. */
  crowded: number;
  /** Not our protocol, or damaged. */
  garbage: number;
  /** Not a node of this cluster, or not the expected one. */
  strangers: number;
  timeouts: number;
  /** The peer left, or the line broke, before it was through. */
  broken: number;
  /** Understood and refused: version, cluster, module, or the data road's decision. */
  refused: number;
  sessions: number;
}

/** Why a connection was not let in. */
export interface Refusal {
  readonly source: Endpoint;
  readonly counter: Exclude<keyof DoorCounters, "accepted" | "sessions">;
  /** In words, for the log. */
  readonly reason: string;
}

/** What a door needs. */
export interface DoorOptions {
  readonly network: Network;
  readonly endpoint: Endpoint;
  readonly crc32: Crc32;
  readonly cluster: string;
  readonly module: string;
  /** This node, named in replies. */
  readonly node: string;
  /** The nodes that may come in. */
  readonly expected: readonly string[];
  /** Where they are known to come from. Others are let in too, by another way of the network, but may have to wait. */
  readonly known: readonly string[];
  /**
   * Asked when all three connections are there; the peer's session before has been cut. Must answer before the
   * handshake's time is over.
   */
  decide(hello: Hello): Decision | Promise<Decision>;
  /** A session is through and belongs to the receiver. `replaces` is the id of the peer's session before, if it had one. */
  onSession(session: Session<Hello>, replaces: string | null): void;
  /** Somebody was not let in. May be called often: count, and log with a limit. */
  onRefused?(refusal: Refusal): void;
  /** The port cannot be listened on any more; the door is closed. */
  onFailed?(error: unknown): void;
  readonly limits?: Partial<DoorLimits>;
  /** Version to speak; for tests. */
  readonly protocol?: typeof PROTOCOL;
}

/** Three connections on their way to be a session. */
interface Gathering {
  readonly session: string;
  readonly node: string;
  readonly until: number;
  readonly connections: Map<ConnectionKind, Connection>;
  readonly abort: AbortController;
  hello: Hello | null;
}

interface Pending {
  readonly connection: Connection;
  readonly abort: AbortController;
}

/** A listening port that hands over sessions. Main thread. */
export class Door {
  readonly counters: DoorCounters = {
    accepted: 0,
    crowded: 0,
    garbage: 0,
    strangers: 0,
    timeouts: 0,
    broken: 0,
    refused: 0,
    sessions: 0,
  };
  /** Where it listens, with the port the kernel chose if 0 was asked for. */
  readonly endpoint: Endpoint;
  readonly #options: DoorOptions;
  readonly #limits: DoorLimits;
  readonly #listener: Listener;
  readonly #closing = new AbortController();
  /** In order of arrival. Of strangers at most `pendingMax`, of each source at most `pendingPerSource`. */
  readonly #pending = new Set<Pending>();
  /** By node, so at most one for each expected one. */
  readonly #gathering = new Map<string, Gathering>();
  readonly #sessions = new Map<string, Session<Hello>>();
  readonly #tasks = new Set<Promise<void>>();

  /** Listens. Throws when the port cannot be had. */
  static open(options: DoorOptions): Door {
    return new Door(options);
  }

  private constructor(options: DoorOptions) {
    this.#options = options;
    this.#limits = { ...DOOR_LIMITS, ...options.limits };
    this.#listener = options.network.listen(options.endpoint);
    this.endpoint = this.#listener.endpoint;
    this.#task(this.#acceptAll());
  }

  /** Stops listening and turns away who is not through. Sessions handed over live on. */
  async close(): Promise<void> {
    this.#closing.abort(new StreamError("closed", "Cannot go on: the door is closed"));
    this.#listener.close();
    for (const pending of this.#pending) pending.abort.abort(this.#closing.signal.reason);
    for (const gathering of [...this.#gathering.values()]) this.#dissolve(gathering);
    await Promise.all(this.#tasks);
  }

  #task(work: Promise<void>): void {
    const tracked = work.finally(() => this.#tasks.delete(tracked));
    this.#tasks.add(tracked);
  }

  async #acceptAll(): Promise<void> {
    const { signal } = this.#closing;
    try {
      for (;;) {
        const connection = await this.#listener.accept(signal);
        this.counters.accepted++;
        this.#makeRoom(connection.peer.address);
        this.#task(this.#greet(connection));
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#listener.close();
      this.#options.onFailed?.(error);
    }
  }

  /**
   * Makes room for one more: of a source that has too many its oldest gives way, of too many strangers the oldest of the one
   * that holds most. A known source is bounded by itself alone.
   */
  #makeRoom(source: string): void {
    const bySource = new Map<string, Pending[]>();
    for (const pending of this.#pending) {
      const { address } = pending.connection.peer;
      const held = bySource.get(address);
      if (held === undefined) bySource.set(address, [pending]);
      else held.push(pending);
    }
    const own = bySource.get(source) ?? [];
    if (own.length >= this.#limits.pendingPerSource) return this.#pushOut(own[0]);
    if (this.#isKnown(source)) return;
    const strangers = [...bySource].filter(([address]) => !this.#isKnown(address)).map(([, held]) => held);
    if (strangers.reduce((sum, held) => sum + held.length, 0) < this.#limits.pendingMax) return;
    this.#pushOut(strangers.reduce((one, other) => other.length > one.length ? other : one, own)[0]);
  }

  #isKnown(address: string): boolean {
    return this.#options.known.includes(address);
  }

  #pushOut(pending: Pending | undefined): void {
    if (pending === undefined) return;
    this.#pending.delete(pending);
    pending.abort.abort(new CrowdedError());
  }

  /** Takes one connection from its first byte to its place in a session. Never rejects. */
  async #greet(connection: Connection): Promise<void> {
    const pending: Pending = { connection, abort: new AbortController() };
    this.#pending.add(pending);
    const until = this.#options.network.now() + this.#limits.handshakeMs;
    try {
      const limit = { until, signal: pending.abort.signal };
      const name = await connection.authenticate(limit);
      if (name !== null) this.#expect(name);
      const hello = await this.#hear(connection, limit);
      this.#pending.delete(pending);
      if (name !== null && name !== hello.node) {
        throw new AuthenticationError(`Cannot let ${hello.node} in: its certificate is that of ${name}`);
      }
      this.#expect(hello.node);
      const refusal = this.#mismatch(hello);
      if (refusal !== null) await this.#refuse(connection, hello.kind, refusal, limit);
      else await this.#gather(connection, hello);
    } catch (error) {
      this.#count(connection, error);
      connection.close();
    } finally {
      this.#pending.delete(pending);
    }
  }

  #expect(name: string): void {
    const { expected } = this.#options;
    if (expected.includes(name)) return;
    throw new AuthenticationError(`Cannot let ${name} in: expected ${expected.join(" or ")}`);
  }

  async #hear(connection: Connection, limit: Limit): Promise<Hello> {
    const header = new Uint8Array(HELLO_HEADER);
    await connection.read(header, limit);
    const { length } = decodeHelloHeader(header);
    const json = new Uint8Array(length);
    await connection.read(json, limit);
    return decodeHello(header, json, this.#options.crc32);
  }

  #mismatch(hello: Hello): { readonly code: string; readonly reason: string } | null {
    const { cluster, module, node, protocol = PROTOCOL } = this.#options;
    if (agreeVersion(hello, protocol) === null) {
      const reason = `${node} speaks protocol ${protocolText(protocol)}, ${hello.node} ` +
        `${protocolText(hello)}; install the newer Binome on the older node`;
      return { code: "version", reason };
    }
    if (hello.cluster !== cluster) {
      return {
        code: "cluster",
        reason: `${node} belongs to cluster "${cluster}", ${hello.node} to "${hello.cluster}"`,
      };
    }
    if (hello.module === module) return null;
    const reason =
      `${node} replicates module "${module}" on this port, not "${hello.module}"; give each its own port`;
    return { code: "module", reason };
  }

  async #refuse(
    connection: Connection,
    kind: ConnectionKind,
    refusal: { readonly code: string; readonly reason: string },
    limit: Limit,
  ): Promise<void> {
    this.#report(connection, "refused", refusal.reason);
    if (kind === "data") await this.#answer(connection, { accept: false, ...refusal }, limit);
    connection.close();
  }

  #answer(connection: Connection, reply: Reply, limit: Limit): Promise<void> {
    return connection.write(encodeHello("reply", reply, this.#options.crc32), limit);
  }

  /** Puts a connection beside the others of its session, and completes the session when it is the last. */
  async #gather(connection: Connection, hello: Hello): Promise<void> {
    const gathering = this.#gatheringOf(hello);
    if (gathering.connections.has(hello.kind)) {
      throw new StreamError(
        "protocol",
        `Cannot let ${hello.node} in: a second connection says it is ${hello.kind}`,
      );
    }
    gathering.connections.set(hello.kind, connection);
    if (hello.kind === "data") gathering.hello = hello;
    const complete = gathering.connections.size === 3 ? gathering.hello : null;
    const { until, abort } = gathering;
    // Completing and watching go on at once: a decision that takes too long ends like a connection that never came.
    if (complete !== null) this.#task(this.#complete(gathering, complete));
    try {
      const stirred = await connection.stirred({ until, signal: abort.signal });
      const failure = stirred ? "closed" : "timeout";
      throw new StreamError(
        failure,
        `Cannot let ${hello.node} in: ${stirred ? "it left" : "its session was not complete in time"}`,
      );
    } catch (error) {
      // Aborted: whoever did it has taken care of the connection.
      if (abort.signal.aborted) return;
      this.#dissolve(gathering);
      throw error;
    }
  }

  #gatheringOf(hello: Hello): Gathering {
    const { node, session } = hello;
    const known = this.#gathering.get(node);
    if (known?.session === session) return known;
    if (known !== undefined) this.#dissolve(known);
    const gathering: Gathering = {
      session,
      node,
      until: this.#options.network.now() + this.#limits.handshakeMs,
      connections: new Map(),
      abort: new AbortController(),
      hello: null,
    };
    this.#gathering.set(node, gathering);
    return gathering;
  }

  /** Gives up a session that is not complete. */
  #dissolve(gathering: Gathering): void {
    if (this.#gathering.get(gathering.node) === gathering) this.#gathering.delete(gathering.node);
    gathering.abort.abort();
    for (const connection of gathering.connections.values()) connection.close();
    gathering.connections.clear();
  }

  async #complete(gathering: Gathering, hello: Hello): Promise<void> {
    const { node } = hello;
    const older = this.#sessions.get(node);
    // A peer that dials anew has given its older session up, even if our kernel does not know yet.
    older?.cut();
    this.#sessions.delete(node);
    const [data, ack, sync] = (["data", "ack", "sync"] as const).map((kind) =>
      gathering.connections.get(kind)
    );
    if (data === undefined || ack === undefined || sync === undefined) return;
    try {
      const decision = await this.#options.decide(hello);
      if (gathering.abort.signal.aborted) return;
      gathering.abort.abort();
      this.#gathering.delete(node);
      const limit = { until: gathering.until, signal: this.#closing.signal };
      if (!decision.accept) {
        await this.#refuse(data, "data", { code: decision.code, reason: decision.reason }, limit);
        return this.#dissolve(gathering);
      }
      const version = agreeVersion(hello, this.#options.protocol ?? PROTOCOL) ?? 0;
      await this.#answer(
        data,
        { accept: true, version, node: this.#options.node, body: decision.body },
        limit,
      );
      this.#handOver({ hello, data, ack, sync, replaces: older?.id ?? null });
    } catch (error) {
      this.#count(data, error);
      this.#dissolve(gathering);
    }
  }

  #handOver(
    { hello, data, ack, sync, replaces }: {
      readonly hello: Hello;
      readonly data: Connection;
      readonly ack: Connection;
      readonly sync: Connection;
      readonly replaces: string | null;
    },
  ): void {
    const session = releaseSession({
      id: hello.session,
      agreement: hello,
      peer: hello.node,
      connections: { data, ack, sync },
      limits: this.#limits,
    });
    this.#sessions.set(hello.node, session);
    this.counters.sessions++;
    this.#options.onSession(session, replaces);
  }

  #count(connection: Connection, error: unknown): void {
    if (this.#closing.signal.aborted) return;
    const reason = error instanceof Error ? error.message : String(error);
    this.#report(connection, counterOf(error), reason);
  }

  #report(connection: Connection, counter: Refusal["counter"], reason: string): void {
    this.counters[counter]++;
    this.#options.onRefused?.({ source: connection.peer, counter, reason });
  }
}

class CrowdedError extends Error {
  constructor() {
    super("Cannot look at this connection any longer: too many came from its source at once");
  }
}

function counterOf(error: unknown): Refusal["counter"] {
  if (error instanceof CrowdedError) return "crowded";
  if (error instanceof AuthenticationError) return "strangers";
  if (!(error instanceof StreamError)) return "broken";
  if (error.failure === "protocol") return "garbage";
  return error.failure === "timeout" ? "timeouts" : "broken";
}

/** Gives three connections away as one session: all of them, or none. */
export function releaseSession<Agreement>(
  parts: {
    readonly id: string;
    readonly agreement: Agreement;
    /** The other node's name, for labels. */
    readonly peer: string;
    readonly connections: Readonly<Record<ConnectionKind, Connection>>;
    readonly limits: StreamTimeouts & { readonly userTimeoutMs: number };
  },
): Session<Agreement> {
  const { id, agreement, peer, connections, limits } = parts;
  const released: Released[] = [];
  const release = (kind: ConnectionKind) => {
    const { address, port } = connections[kind].peer;
    const one = connections[kind].release({ ...limits, label: `${peer} ${address}:${port} ${kind}` });
    released.push(one);
    return one.handle;
  };
  try {
    return {
      id,
      agreement,
      remote: connections.data.peer,
      data: release("data"),
      ack: release("ack"),
      sync: release("sync"),
      cut() {
        for (const one of released) one.cut();
      },
    };
  } catch (error) {
    // Out of descriptors, say: what was given away already has no owner.
    for (const one of released) one.discard();
    throw error;
  }
}
