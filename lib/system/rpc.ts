/**
 * Calls between the processes of one node: JSON lines over a unix socket, as `lib/README.md` describes.
 *
 * One request is one line, its reply another; events have no id. Only root may connect (the socket's mode is 0600).
 * A peer that sends garbage loses its connection; the others do not notice.
 *
 * @module
 */

import { messageOf } from "../message.ts";
import { encodeLine, LineSplitter, parseMessage, parseRequest, ProtocolError } from "./rpc_lines.ts";
import { RpcError } from "./rpc_error.ts";

export { LINE_MAX, ProtocolError } from "./rpc_lines.ts";
export { RpcError } from "./rpc_error.ts";

/** Requests of one connection that may wait for their answer; more is a caller gone wrong. */
const INFLIGHT_MAX = 256;

/** Bytes that may wait to be sent to one connection: a reader that stopped must not fill our memory. */
const OUTGOING_MAX = 4 << 20;

/** How long `RpcClient.call` waits when it is not told. */
const CALL_TIMEOUT_MS = 10_000;

/** One connected caller, as the server sees it. */
export interface RpcConnection {
  /** Counts connections since the server started, from 1. */
  readonly number: number;
  /** Sends an event to this caller alone. */
  send(event: string, params: unknown): void;
  /** Resolves once the caller is gone. */
  readonly closed: Promise<void>;
}

/** Answers one method. What it returns becomes the result (`undefined` becomes `{}`). */
export type RpcHandler = (params: unknown, connection: RpcConnection) => unknown;

/** What {@link serveRpc} may be told besides its methods. */
export interface RpcServerOptions {
  /** Called for each new caller, before its first request is read. */
  readonly onConnection?: (connection: RpcConnection) => void;
  /** One line of log: why a connection was closed, which handler failed. */
  readonly log?: (line: string) => void;
}

/** A listening server. */
export interface RpcServer {
  readonly path: string;
  /** Sends an event to every caller. One that does not read loses its connection, not our memory. */
  broadcast(event: string, params: unknown): void;
  /** Stops listening, ends every connection and removes the socket. */
  close(): Promise<void>;
}

/**
 * Listens on a unix socket. A socket file left by a dead server is replaced; a live one is refused.
 *
 * @throws {RpcError} `in-use` when another process answers at `path`.
 */
export async function serveRpc(
  path: string,
  handlers: Readonly<Record<string, RpcHandler>>,
  options: RpcServerOptions = {},
): Promise<RpcServer> {
  const listener = await listenAlone(path);
  const connections = new Map<ServerConnection, Promise<void>>();
  const log = options.log ?? (() => {});
  let counter = 0;

  const accepting = (async () => {
    for await (const socket of listener) {
      const connection = new ServerConnection(++counter, socket, handlers, log);
      options.onConnection?.(connection);
      connections.set(connection, connection.run().finally(() => connections.delete(connection)));
    }
  })();

  return {
    path,
    broadcast(event, params) {
      for (const connection of connections.keys()) connection.send(event, params);
    },
    async close() {
      listener.close();
      await accepting;
      for (const connection of connections.keys()) connection.end();
      await Promise.all(connections.values());
      await Deno.remove(path).catch(ignoreMissing);
    },
  };
}

/** Binds the socket, after making sure that nobody else serves there. */
async function listenAlone(path: string): Promise<Deno.UnixListener> {
  if (await answers(path)) {
    throw new RpcError("in-use", `Cannot listen on "${path}": another process answers there; stop it first`);
  }
  await Deno.remove(path).catch(ignoreMissing);
  // By umask, not by chmod afterwards: between the two, anybody could connect.
  const before = Deno.umask(0o177);
  try {
    return Deno.listen({ transport: "unix", path });
  } finally {
    Deno.umask(before);
  }
}

async function answers(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return false;
    throw new RpcError("in-use", `Cannot listen on "${path}": ${messageOf(error)}`, { cause: error });
  }
}

class ServerConnection implements RpcConnection {
  readonly closed: Promise<void>;
  readonly #writer: LineWriter;
  #inflight = 0;
  #leave: () => void = () => {};

  constructor(
    readonly number: number,
    readonly socket: Deno.UnixConn,
    readonly handlers: Readonly<Record<string, RpcHandler>>,
    readonly log: (line: string) => void,
  ) {
    this.#writer = new LineWriter(socket, (reason) => log(`connection ${number} closed: ${reason}`));
    this.closed = new Promise((resolve) => this.#leave = resolve);
  }

  send(event: string, params: unknown): void {
    this.#writer.send({ event, params });
  }

  end(): void {
    this.#writer.end();
  }

  async run(): Promise<void> {
    try {
      await readLines(this.socket, (line) => this.#receive(line));
    } catch (error) {
      if (!this.#writer.ended) this.log(`connection ${this.number} closed: ${messageOf(error)}`);
    } finally {
      this.#writer.end();
      this.#leave();
    }
  }

  #receive(line: string): void {
    const request = parseRequest(line);
    if (this.#inflight >= INFLIGHT_MAX) {
      throw new ProtocolError(`more than ${INFLIGHT_MAX} requests wait for answers`);
    }
    this.#inflight++;
    void this.#answer(request.id, request.method, request.params).finally(() => this.#inflight--);
  }

  async #answer(id: number, method: string, params: unknown): Promise<void> {
    try {
      const handler = Object.hasOwn(this.handlers, method) ? this.handlers[method] : undefined;
      if (handler === undefined) {
        throw new RpcError("unknown-method", `Cannot call ${method}: this process has no such method`);
      }
      this.#writer.send({ id, result: (await handler(params, this)) ?? {} });
    } catch (error) {
      const code = error instanceof RpcError ? error.code : "failed";
      if (code === "failed") this.log(`${method} failed: ${messageOf(error)}`);
      this.#writer.send({ id, error: { code, message: messageOf(error) } });
    }
  }
}

/** Options of {@link RpcClient.connect}. */
export interface RpcClientOptions {
  /** Called for each event the server pushes. Must not throw. */
  readonly onEvent?: (event: string, params: unknown) => void;
}

/** Options of {@link RpcClient.call}. */
export interface RpcCallOptions {
  /** After this long the call fails with the code `timeout`; a late answer is ignored. 10 s when not given. */
  readonly timeoutMs?: number;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: RpcError) => void;
  readonly timer: number;
}

/** The calling side. Never reconnects by itself: who holds it knows what has to be said again after a break. */
export class RpcClient {
  /** Resolves, never rejects, once the connection is gone; every waiting call has failed with `closed` by then. */
  readonly closed: Promise<void>;
  /** Called for each event the server pushes; may be replaced at any time. */
  events: (event: string, params: unknown) => void;

  readonly #waiting = new Map<number, Waiting>();
  readonly #writer: LineWriter;
  #next = 1;
  #reason = "the connection was closed";

  private constructor(readonly path: string, socket: Deno.UnixConn, options: RpcClientOptions) {
    this.events = options.onEvent ?? (() => {});
    this.#writer = new LineWriter(socket, (reason) => this.#reason = reason);
    this.closed = this.#run(socket);
  }

  /**
   * Connects to the process that serves at `path`.
   *
   * @throws {RpcError} `unreachable` when nobody answers there.
   */
  static async connect(path: string, options: RpcClientOptions = {}): Promise<RpcClient> {
    try {
      return new RpcClient(path, await Deno.connect({ transport: "unix", path }), options);
    } catch (cause) {
      throw new RpcError("unreachable", `Cannot connect to "${path}": ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Calls a method and waits for its result.
   *
   * @throws {RpcError} with the server's code, or `timeout`, or `closed`.
   */
  call(method: string, params: unknown = {}, options: RpcCallOptions = {}): Promise<unknown> {
    const id = this.#next++;
    const timeoutMs = options.timeoutMs ?? CALL_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      if (this.#writer.ended) return reject(this.#gone(method));
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new RpcError("timeout", `Cannot call ${method}: no answer within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.set(id, {
        resolve,
        reject: (error) => reject(error.code === "closed" ? this.#gone(method) : error),
        timer,
      });
      try {
        this.#writer.send({ id, method, params });
      } catch (error) {
        clearTimeout(timer);
        this.#waiting.delete(id);
        reject(error);
      }
    });
  }

  /** Ends the connection. Waiting calls fail with `closed`. */
  close(): void {
    this.#writer.end();
  }

  async #run(socket: Deno.UnixConn): Promise<void> {
    try {
      await readLines(socket, (line) => this.#receive(line));
    } catch (error) {
      if (!this.#writer.ended) this.#reason = messageOf(error);
    }
    this.#writer.end();
    for (const id of [...this.#waiting.keys()]) this.#settle(id)?.reject(new RpcError("closed", ""));
  }

  #receive(line: string): void {
    const message = parseMessage(line);
    if (message.kind === "event") return this.events(message.event, message.params);
    const waiting = this.#settle(message.id);
    if (message.kind === "result") waiting?.resolve(message.result);
    else waiting?.reject(new RpcError(message.code, message.message));
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    return waiting;
  }

  #gone(method: string): RpcError {
    return new RpcError("closed", `Cannot call ${method} on "${this.path}": ${this.#reason}`);
  }
}

/** Writes whole lines in order, one write at a time, and gives up on a reader that does not read. */
class LineWriter {
  ended = false;
  #queue: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;
  #busy = false;

  constructor(readonly socket: Deno.UnixConn, readonly onLost: (reason: string) => void) {}

  send(value: unknown): void {
    if (this.ended) return;
    const line = encodeLine(value);
    if (this.#bytes + line.length > OUTGOING_MAX) {
      return this.#lose(`${this.#bytes} bytes wait and the reader does not read`);
    }
    this.#bytes += line.length;
    this.#queue.push(line);
    if (!this.#busy) void this.#flush();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.#queue = [];
    this.socket.close();
  }

  async #flush(): Promise<void> {
    this.#busy = true;
    try {
      for (let line = this.#queue.shift(); line !== undefined; line = this.#queue.shift()) {
        for (let at = 0; at < line.length;) at += await this.socket.write(line.subarray(at));
        this.#bytes -= line.length;
      }
    } catch (error) {
      if (!this.ended) this.#lose(messageOf(error));
    } finally {
      this.#busy = false;
    }
  }

  #lose(reason: string): void {
    this.onLost(reason);
    this.end();
  }
}

async function readLines(socket: Deno.UnixConn, receive: (line: string) => void): Promise<void> {
  const splitter = new LineSplitter();
  const buffer = new Uint8Array(64 << 10);
  for (let got = await socket.read(buffer); got !== null; got = await socket.read(buffer)) {
    for (const line of splitter.push(buffer.subarray(0, got))) receive(line);
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
