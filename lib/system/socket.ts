/**
 * TCP sockets of the C library: made and connected without blocking by the main thread, then switched to blocking with
 * timeouts for the worker that owns them.
 *
 * IPv4 today: {@link Endpoint} and the address codec are the only places that know it.
 *
 * @module
 */

import type { Endpoint } from "../replication/network.ts";
import type { LineSpeed } from "../replication/packing.ts";
import { errno, openLibrary } from "./libc.ts";

export type { Endpoint } from "../replication/network.ts";

/**
 * Results that are `ssize_t` in C are read as `i32`: every length here is below 2^31, so the low half says all, and
 * Deno answers a number where it would make a bigint of the whole. Addresses go in as bigint: measured, that is the
 * fast road into C (11 ns; 170 ns with a number).
 */
const SYMBOLS = {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int bind(int fd, const struct sockaddr *addr, socklen_t addrlen)` */
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** `int listen(int fd, int backlog)` */
  listen: { parameters: ["i32", "i32"], result: "i32" },
  /** `int accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags)` */
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  /** `int connect(int fd, const struct sockaddr *addr, socklen_t addrlen)` */
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** `int getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen)` */
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  /** `int setsockopt(int fd, int level, int name, const void *value, socklen_t length)` */
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  /** `int getsockopt(int fd, int level, int name, void *value, socklen_t *length)` */
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  /** `ssize_t send(int fd, const void *buf, size_t len, int flags)` */
  send: { parameters: ["i32", "usize", "usize", "i32"], result: "i32" },
  /** `ssize_t recv(int fd, void *buf, size_t len, int flags)` */
  recv: { parameters: ["i32", "usize", "usize", "i32"], result: "i32" },
  /** `int shutdown(int fd, int how)` */
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
  /** `int fcntl(int fd, int cmd, int arg)` */
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const c = openLibrary("libc.so.6", SYMBOLS);

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const SHUT_RDWR = 2;
const OPTION = {
  reuseAddress: [SOL_SOCKET, 2],
  error: [SOL_SOCKET, 4],
  sendBuffer: [SOL_SOCKET, 7],
  receiveBuffer: [SOL_SOCKET, 8],
  keepAlive: [SOL_SOCKET, 9],
  receiveTimeout: [SOL_SOCKET, 20],
  sendTimeout: [SOL_SOCKET, 21],
  noDelay: [IPPROTO_TCP, 1],
  keepIdle: [IPPROTO_TCP, 4],
  keepInterval: [IPPROTO_TCP, 5],
  keepCount: [IPPROTO_TCP, 6],
  userTimeout: [IPPROTO_TCP, 18],
} as const;

/** `errno(3)` values a caller tells apart. x86-64 and arm64 agree on them. */
export const SOCKET_ERRNO = {
  EINTR: 4,
  EAGAIN: 11,
  EACCES: 13,
  EINVAL: 22,
  EMFILE: 24,
  EPIPE: 32,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
} as const;

const REASONS: Readonly<Record<number, string>> = {
  [SOCKET_ERRNO.EACCES]: "the port is reserved for root (EACCES); run as root or choose a port above 1023",
  [SOCKET_ERRNO.EMFILE]: "this process has too many open files (EMFILE); raise its limit of open files",
  [SOCKET_ERRNO.EPIPE]: "the peer has closed the connection (EPIPE)",
  [SOCKET_ERRNO.EADDRINUSE]:
    'the port is taken (EADDRINUSE); see who has it with "ss -ltnp", stop it or give the module another port',
  [SOCKET_ERRNO.EADDRNOTAVAIL]:
    'no interface of this host has that address (EADDRNOTAVAIL); compare "ip address" with the nodes in cluster.yaml',
  [SOCKET_ERRNO.ENETUNREACH]:
    "there is no route to that network (ENETUNREACH); check the cable and the route",
  [SOCKET_ERRNO.ECONNRESET]: "the peer cut the connection (ECONNRESET)",
  [SOCKET_ERRNO.ETIMEDOUT]: "the peer does not answer (ETIMEDOUT)",
  [SOCKET_ERRNO.ECONNREFUSED]:
    "nothing listens there (ECONNREFUSED); is the module started as primary on that node?",
  [SOCKET_ERRNO.EHOSTUNREACH]: "that host does not answer on its network (EHOSTUNREACH); check that it runs",
};

/** In words, why a socket call failed. */
export function socketReason(code: number): string {
  return REASONS[code] ?? `errno ${code}`;
}

/** A socket call failed. */
export class SocketError extends Error {
  override readonly name = "SocketError";
  /** `errno(3)` of the call; compare with {@link SOCKET_ERRNO}. */
  readonly errno: number;

  constructor(action: string, code: number) {
    super(`Cannot ${action}: ${socketReason(code)}`);
    this.errno = code;
  }
}

/** `10.0.0.11:9020` */
export function endpointText(endpoint: Endpoint): string {
  return `${endpoint.address}:${endpoint.port}`;
}

/** `struct sockaddr_in` of `ip(7)`: family in host order, port and address in network order. */
function encodeAddress(endpoint: Endpoint): Uint8Array<ArrayBuffer> {
  const parts = endpoint.address.split(".");
  const numbers = parts.map((part) => /^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256);
  if (numbers.length !== 4 || numbers.some((number) => number > 255)) {
    throw new TypeError(
      `Cannot use address "${endpoint.address}": expected four numbers 0 to 255, as in 10.0.0.11`,
    );
  }
  const { port } = endpoint;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`Cannot use port ${port} of ${endpoint.address}: expected 0 to 65535`);
  }
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port, false);
  bytes.set(numbers, 4);
  return bytes;
}

function decodeAddress(bytes: Uint8Array<ArrayBuffer>): Endpoint {
  return { address: bytes.subarray(4, 8).join("."), port: new DataView(bytes.buffer).getUint16(2, false) };
}

function makeSocket(action: string): number {
  const fd = c.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SocketError(action, errno());
  return fd;
}

/** Does the steps that may throw; when one does, closes the descriptor before passing it on. */
function closingOnFailure(fd: number, steps: () => void): void {
  try {
    steps();
  } catch (error) {
    c.close(fd);
    throw error;
  }
}

/** A socket that listens, non-blocking. */
export interface ListeningSocket {
  readonly fd: number;
  /** With the port the kernel chose, when 0 was asked for. */
  readonly endpoint: Endpoint;
}

/**
 * Connections the kernel keeps until they are accepted. A burst beyond it makes a peer wait a second for its next SYN:
 * sixteen were too few to let the secondary in beside a crowd.
 */
const BACKLOG = 64;

/** Listens. Throws {@link SocketError}. */
export function listenSocket(endpoint: Endpoint): ListeningSocket {
  const address = encodeAddress(endpoint);
  const action = `listen on ${endpointText(endpoint)}`;
  const fd = makeSocket(action);
  const bound = new Uint8Array(16);
  closingOnFailure(fd, () => {
    setOption(fd, OPTION.reuseAddress, 1);
    if (c.bind(fd, address, address.length) < 0) throw new SocketError(action, errno());
    if (c.listen(fd, BACKLOG) < 0) throw new SocketError(action, errno());
    if (c.getsockname(fd, bound, new Uint32Array([bound.length])) < 0) throw new SocketError(action, errno());
  });
  return { fd, endpoint: decodeAddress(bound) };
}

/** A connection just accepted, non-blocking. */
export interface AcceptedSocket {
  readonly fd: number;
  readonly peer: Endpoint;
}

/** Takes a connection that waits, or null when none does. Throws {@link SocketError}. */
export function acceptSocket(listener: ListeningSocket): AcceptedSocket | null {
  const address = new Uint8Array(16);
  for (let attempt = 0; attempt < 16; attempt++) {
    const fd = c.accept4(
      listener.fd,
      address,
      new Uint32Array([address.length]),
      SOCK_NONBLOCK | SOCK_CLOEXEC,
    );
    if (fd >= 0) return { fd, peer: decodeAddress(address) };
    const code = errno();
    if (code === SOCKET_ERRNO.EAGAIN) return null;
    // accept(2): errors of a connection that died in the queue come out here and mean "try the next".
    if (
      code !== SOCKET_ERRNO.EINTR && code !== SOCKET_ERRNO.ECONNABORTED && code !== SOCKET_ERRNO.ECONNRESET
    ) {
      throw new SocketError(`accept on ${endpointText(listener.endpoint)}`, code);
    }
  }
  return null;
}

/**
 * Begins to connect, non-blocking. Wait until the socket is writable, then call {@link finishConnect}. Throws
 * {@link SocketError} when the kernel refuses at once.
 */
export function startConnect(endpoint: Endpoint): number {
  const address = encodeAddress(endpoint);
  const action = `connect to ${endpointText(endpoint)}`;
  const fd = makeSocket(action);
  closingOnFailure(fd, () => {
    if (c.connect(fd, address, address.length) === 0) return;
    const code = errno();
    if (code !== SOCKET_ERRNO.EINPROGRESS) throw new SocketError(action, code);
  });
  return fd;
}

/** After a connecting socket became writable: throws {@link SocketError} when it did not connect. The fd stays open. */
export function finishConnect(fd: number, endpoint: Endpoint): void {
  const value = new Int32Array(1);
  const action = `connect to ${endpointText(endpoint)}`;
  if (c.getsockopt(fd, ...OPTION.error, value, new Uint32Array([4])) < 0) {
    throw new SocketError(action, errno());
  }
  const code = value[0] ?? 0;
  if (code !== 0) throw new SocketError(action, code);
}

/** What {@link setSocketOptions} can set. What is left out stays as it is. */
export interface SocketOptions {
  /** Send small frames at once: a record must not wait for the acknowledgement of the one before. */
  readonly noDelay?: boolean;
  /** Unacknowledged for so long, the connection is dead (`TCP_USER_TIMEOUT`). */
  readonly userTimeoutMs?: number;
  /** One blocking send (`SO_SNDTIMEO`), `>= 1`. */
  readonly sendTimeoutMs?: number;
  /** One blocking receive (`SO_RCVTIMEO`), `>= 1`. */
  readonly receiveTimeoutMs?: number;
  /** Probe an idle connection after this many seconds, every second, four times. */
  readonly keepAliveSeconds?: number;
  readonly sendBuffer?: number;
  readonly receiveBuffer?: number;
}

/** Sets options. Throws {@link SocketError}. */
export function setSocketOptions(fd: number, options: SocketOptions): void {
  if (options.noDelay !== undefined) setOption(fd, OPTION.noDelay, options.noDelay ? 1 : 0);
  if (options.userTimeoutMs !== undefined) setOption(fd, OPTION.userTimeout, options.userTimeoutMs);
  if (options.sendTimeoutMs !== undefined) setTimeoutOption(fd, OPTION.sendTimeout, options.sendTimeoutMs);
  if (options.receiveTimeoutMs !== undefined) {
    setTimeoutOption(fd, OPTION.receiveTimeout, options.receiveTimeoutMs);
  }
  if (options.sendBuffer !== undefined) setOption(fd, OPTION.sendBuffer, options.sendBuffer);
  if (options.receiveBuffer !== undefined) setOption(fd, OPTION.receiveBuffer, options.receiveBuffer);
  if (options.keepAliveSeconds !== undefined) {
    setOption(fd, OPTION.keepAlive, 1);
    setOption(fd, OPTION.keepIdle, options.keepAliveSeconds);
    setOption(fd, OPTION.keepInterval, 1);
    setOption(fd, OPTION.keepCount, 4);
  }
}

function setOption(fd: number, option: readonly [number, number], value: number): void {
  if (c.setsockopt(fd, ...option, new Int32Array([value]), 4) < 0) {
    throw new SocketError(`set option ${option.join("/")} of socket ${fd} to ${value}`, errno());
  }
}

/** `struct timeval`: seconds and microseconds, 8 bytes each. */
function setTimeoutOption(fd: number, option: readonly [number, number], milliseconds: number): void {
  if (!(milliseconds >= 1)) {
    throw new RangeError(`Cannot set a socket timeout of ${milliseconds} ms: expected 1 or more`);
  }
  const seconds = Math.floor(milliseconds / 1000);
  const value = new BigInt64Array([
    BigInt(seconds),
    BigInt(Math.round((milliseconds - seconds * 1000) * 1000)),
  ]);
  if (c.setsockopt(fd, ...option, value, 16) < 0) {
    throw new SocketError(`set a timeout of socket ${fd}`, errno());
  }
}

/** `struct tcp_info` of `linux/tcp.h`: what of it {@link lineSpeed} reads, and how much there is up to its end. */
const TCP_INFO = { option: 11, unsent: 144, deliveryRate: 160, receiverFull: 176, bytes: 184 } as const;

/** What the kernel knows of a connection; null on a kernel before 4.10. */
export function lineSpeed(fd: number): LineSpeed | null {
  const value = new DataView(new ArrayBuffer(TCP_INFO.bytes));
  const length = new Uint32Array([TCP_INFO.bytes]);
  const failed = c.getsockopt(fd, IPPROTO_TCP, TCP_INFO.option, new Uint8Array(value.buffer), length);
  if (failed < 0 || length[0] !== TCP_INFO.bytes) return null;
  return {
    bytesPerSecond: Number(value.getBigUint64(TCP_INFO.deliveryRate, true)),
    peerFullUs: Number(value.getBigUint64(TCP_INFO.receiverFull, true)),
    unsent: value.getUint32(TCP_INFO.unsent, true),
  };
}

/** Switches between blocking (a worker's socket) and not (the main thread's). */
export function setBlocking(fd: number, blocking: boolean): void {
  const flags = c.fcntl(fd, F_GETFL, 0);
  const wanted = blocking ? flags & ~SOCK_NONBLOCK : flags | SOCK_NONBLOCK;
  if (flags < 0 || c.fcntl(fd, F_SETFL, wanted) < 0) {
    throw new SocketError(`make socket ${fd} ${blocking ? "blocking" : "non-blocking"}`, errno());
  }
}

/**
 * A second descriptor of the same socket. Its number stays ours whoever closes the first, so that
 * {@link shutdownSocket} by another thread can never hit a stranger that got the number anew.
 */
export function duplicateSocket(fd: number): number {
  const copy = c.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw new SocketError(`duplicate socket ${fd}`, errno());
  return copy;
}

/** Ends both directions at once, also under threads blocked in them. Harmless on a socket that is already cut. */
export function shutdownSocket(fd: number): void {
  c.shutdown(fd, SHUT_RDWR);
}

/** Closes a descriptor. */
export function closeSocket(fd: number): void {
  c.close(fd);
}

/** `send(2)` without SIGPIPE: bytes sent, or −1 with {@link errno}. `length` below 2^31. */
export function sendBytes(fd: number, address: number, length: number): number {
  return c.send(fd, BigInt(address), BigInt(length), MSG_NOSIGNAL);
}

/** `send(2)` that does not wait: bytes sent, or −1 with {@link errno}, `EAGAIN` where the socket takes none now. */
export function sendBytesNow(fd: number, address: number, length: number): number {
  return c.send(fd, BigInt(address), BigInt(length), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/** `recv(2)`: bytes received, 0 at the end, or −1 with {@link errno}. `max` below 2^31. */
export function receiveBytes(fd: number, address: number, max: number): number {
  return c.recv(fd, BigInt(address), BigInt(max), 0);
}
