/**
 * The real network of the replication channel: TCP, with TLS or with a proof of the cluster key.
 *
 * @module
 */

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import {
  AuthenticationError,
  type Connection,
  type Limit,
  type Listener,
  type Network,
} from "../replication/network.ts";
import type { Released, ReleaseOptions } from "../replication/network.ts";
import { StreamError, type StreamHandle } from "../replication/stream.ts";
import { addressOf, errno } from "./libc.ts";
import { Poller } from "./poller.ts";
import {
  acceptSocket,
  closeSocket,
  duplicateSocket,
  type Endpoint,
  endpointText,
  finishConnect,
  listenSocket,
  receiveBytes,
  sendBytes,
  setBlocking,
  setSocketOptions,
  shutdownSocket,
  SOCKET_ERRNO,
  socketReason,
  startConnect,
} from "./socket.ts";
import { openStream } from "./stream.ts";
import { TlsContext, type TlsFiles, type Want } from "./tls.ts";

/** How connections are secured. */
export type Security =
  | { readonly encryption: "on"; readonly files: TlsFiles }
  /** Nothing is hidden, and who can change packets can change data; but only nodes of the cluster come in. */
  | { readonly encryption: "off"; readonly clusterKey: Uint8Array };

/** A network with descriptors of its own. Close it when doors and dials are done. */
export interface RealNetwork extends Network {
  close(): Promise<void>;
}

/**
 * Opens the network. Throws `TlsMissingError` when encryption is on and the host has no OpenSSL 3, and an error that
 * names the file when certificates cannot be used.
 */
export function openNetwork(security: Security): RealNetwork {
  const secure = securing(security);
  const poller = new Poller();
  return {
    now: () => performance.now(),
    randomId: () => randomBytes(16).toString("hex"),
    listen: (endpoint) => listen(endpoint, poller, secure.connection),
    connect: (endpoint, limit) => connect({ endpoint, limit, poller, secure: secure.connection }),
    async close() {
      await poller.close();
      secure.close();
    },
  };
}

/** What TLS and plain sockets have in common on the main thread. Both own the socket. */
interface Transport {
  readonly fd: number;
  read(address: number, max: number): number | Want;
  write(address: number, length: number): number | Want;
  /** Gives the socket away. When it throws, the transport is still its owner. */
  describe(label: string): StreamHandle;
  close(): void;
}

type Secure = (
  socket: {
    readonly fd: number;
    readonly side: "server" | "client";
    readonly peer: Endpoint;
    readonly poller: Poller;
  },
) => Connection;

function securing(security: Security): { readonly connection: Secure; close(): void } {
  if (security.encryption === "on") {
    const context = new TlsContext(security.files);
    return {
      connection: ({ fd, side, peer, poller }) => {
        const transport = context.connection(fd, side);
        return new SocketConnection({
          transport,
          peer,
          poller,
          async authenticate(connection, limit) {
            for (let want = transport.handshakeStep(); want !== null; want = transport.handshakeStep()) {
              await connection.wait(want, limit);
            }
            return transport.peerName();
          },
        });
      },
      close: () => context.close(),
    };
  }
  const key = security.clusterKey;
  if (key.length < 16) {
    throw new RangeError(`Cannot use the cluster key: it has ${key.length} bytes, expected 16 or more`);
  }
  return {
    connection: ({ fd, side, peer, poller }) =>
      new SocketConnection({
        transport: new PlainTransport(fd),
        peer,
        poller,
        authenticate: (connection, limit) =>
          side === "server" ? challengePeer(connection, key, limit) : proveToPeer(connection, key, limit),
      }),
    close: () => {},
  };
}

function listen(endpoint: Endpoint, poller: Poller, secure: Secure): Listener {
  const socket = listenSocket(endpoint);
  let open = true;
  return {
    endpoint: socket.endpoint,
    async accept(signal) {
      for (;;) {
        signal.throwIfAborted();
        const accepted = acceptSocket(socket);
        if (accepted !== null) {
          setSocketOptions(accepted.fd, { noDelay: true, keepAliveSeconds: 2 });
          return secure({ fd: accepted.fd, side: "server", peer: accepted.peer, poller });
        }
        await poller.ready({ fd: socket.fd, for: "read", signal });
      }
    },
    close() {
      if (open) closeSocket(socket.fd);
      open = false;
    },
  };
}

async function connect(
  { endpoint, limit, poller, secure }: {
    readonly endpoint: Endpoint;
    readonly limit: Limit;
    readonly poller: Poller;
    readonly secure: Secure;
  },
): Promise<Connection> {
  const fd = startConnect(endpoint);
  try {
    if (!await poller.ready({ fd, for: "write", ...limit })) {
      throw new StreamError(
        "timeout",
        `Cannot connect to ${endpointText(endpoint)}: the host does not answer in time`,
      );
    }
    finishConnect(fd, endpoint);
    setSocketOptions(fd, { noDelay: true, keepAliveSeconds: 2 });
  } catch (error) {
    closeSocket(fd);
    throw error;
  }
  return secure({ fd, side: "client", peer: endpoint, poller });
}

class PlainTransport implements Transport {
  readonly fd: number;
  #open = true;

  constructor(fd: number) {
    this.fd = fd;
  }

  read(address: number, max: number): number | Want {
    const got = receiveBytes(this.fd, address, max);
    return got >= 0 ? got : this.#want("read", "read");
  }

  write(address: number, length: number): number | Want {
    const sent = sendBytes(this.fd, address, length);
    return sent >= 0 ? sent : this.#want("write", "write");
  }

  describe(label: string): StreamHandle {
    this.#open = false;
    return { kind: "plain", fd: this.fd, label };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    shutdownSocket(this.fd);
    closeSocket(this.fd);
  }

  #want(action: string, want: Want): Want {
    const code = errno();
    if (code === SOCKET_ERRNO.EAGAIN || code === SOCKET_ERRNO.EINTR) return want;
    throw new StreamError("closed", `Cannot ${action}: ${socketReason(code)}`);
  }
}

interface SocketConnectionOptions {
  readonly transport: Transport;
  readonly peer: Endpoint;
  readonly poller: Poller;
  authenticate(connection: SocketConnection, limit: Limit): Promise<string | null>;
}

class SocketConnection implements Connection {
  readonly peer: Endpoint;
  readonly #options: SocketConnectionOptions;
  #open = true;

  constructor(options: SocketConnectionOptions) {
    this.#options = options;
    this.peer = options.peer;
  }

  async authenticate(limit: Limit): Promise<string | null> {
    return await this.#options.authenticate(this, limit);
  }

  async read(bytes: Uint8Array<ArrayBuffer>, limit: Limit): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const got = this.#transport().read(addressOf(bytes) + done, bytes.length - done);
      if (typeof got === "string") await this.wait(got, limit);
      else if (got === 0) throw new StreamError("closed", "Cannot read: the peer has closed the connection");
      else done += got;
    }
  }

  async write(bytes: Uint8Array<ArrayBuffer>, limit: Limit): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const sent = this.#transport().write(addressOf(bytes) + done, bytes.length - done);
      if (typeof sent === "string") await this.wait(sent, limit);
      else done += sent;
    }
  }

  stirred(limit: Limit): Promise<boolean> {
    return this.#options.poller.ready({ fd: this.#transport().fd, for: "read", ...limit });
  }

  /** Resolves when the socket is ready; the transport is to be asked again. */
  async wait(want: Want, limit: Limit): Promise<void> {
    if (await this.#options.poller.ready({ fd: this.#transport().fd, for: want, ...limit })) return;
    throw new StreamError("timeout", `Cannot ${want}: ${endpointText(this.peer)} was silent for too long`);
  }

  release(options: ReleaseOptions): Released {
    const transport = this.#transport();
    const { fd } = transport;
    setSocketOptions(fd, {
      sendTimeoutMs: options.sendMs,
      receiveTimeoutMs: options.receiveMs,
      userTimeoutMs: options.userTimeoutMs,
    });
    setBlocking(fd, true);
    const guard = duplicateSocket(fd);
    const handle = describeOr(() => closeSocket(guard), transport, options.label);
    this.#open = false;
    let isCut = false;
    const cut = () => {
      if (isCut) return;
      isCut = true;
      shutdownSocket(guard);
      closeSocket(guard);
    };
    return {
      handle,
      cut,
      discard() {
        openStream(handle).close();
        cut();
      },
    };
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#options.transport.close();
  }

  /** After a wait the connection may have been closed by another task. */
  #transport(): Transport {
    if (!this.#open) throw new StreamError("closed", "Cannot go on: the connection was closed here");
    return this.#options.transport;
  }
}

/** Gives the transport away; when it refuses to go, does `undo` first. */
function describeOr(undo: () => void, transport: Transport, label: string): StreamHandle {
  try {
    return transport.describe(label);
  } catch (error) {
    undo();
    throw error;
  }
}

/** `BPH1`, the first bytes of an unencrypted connection. */
const GREETING = new Uint8Array([0x42, 0x50, 0x48, 0x31]);
const NONCE = 32;
const PROOF = 32;

/**
 * Each side proves that it knows the cluster key, on nonces of both, so that nothing recorded can be used again. The
 * words "client" and "server" keep a proof from being sent back to who made it.
 *
 * client: greeting, nonce · server: nonce, proof · client: proof
 */
async function challengePeer(connection: Connection, key: Uint8Array, limit: Limit): Promise<null> {
  const greeting = new Uint8Array(GREETING.length);
  await connection.read(greeting, limit);
  if (!greeting.every((byte, index) => byte === GREETING[index])) {
    throw new StreamError("protocol", "Cannot understand the peer: is encryption set alike on both nodes?");
  }
  const theirs = new Uint8Array(NONCE);
  await connection.read(theirs, limit);
  const ours = nonce();
  await connection.write(joined(ours, proof(key, "server", theirs, ours)), limit);
  const answer = new Uint8Array(PROOF);
  await connection.read(answer, limit);
  if (!timingSafeEqual(answer, proof(key, "client", theirs, ours))) throw wrongKey();
  return null;
}

async function proveToPeer(connection: Connection, key: Uint8Array, limit: Limit): Promise<null> {
  const ours = nonce();
  await connection.write(joined(GREETING, ours), limit);
  const answer = new Uint8Array(NONCE + PROOF);
  await connection.read(answer, limit);
  const theirs = answer.subarray(0, NONCE);
  if (!timingSafeEqual(answer.subarray(NONCE), proof(key, "server", ours, theirs))) throw wrongKey();
  await connection.write(proof(key, "client", ours, theirs), limit);
  return null;
}

function proof(
  key: Uint8Array,
  side: "client" | "server",
  client: Uint8Array,
  server: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const digest = createHmac("sha256", key).update(`binome replication ${side}`).update(client).update(server)
    .digest();
  return new Uint8Array(digest);
}

function nonce(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(randomBytes(NONCE));
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(one.length + other.length);
  bytes.set(one);
  bytes.set(other, one.length);
  return bytes;
}

function wrongKey(): AuthenticationError {
  return new AuthenticationError(
    'Cannot authenticate the peer: it holds another cluster key; "binome join" gives a node the cluster\'s key',
  );
}
