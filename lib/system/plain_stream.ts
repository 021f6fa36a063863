/**
 * A stream without encryption, for `encryption: off`: the peer is authenticated at the start all the same.
 *
 * @module
 */

import { type Stream, StreamError, type StreamTimeouts } from "../replication/stream.ts";
import { errno } from "./libc.ts";
import {
  closeSocket,
  receiveBytes,
  setSocketOptions,
  shutdownSocket,
  SOCKET_ERRNO,
  socketReason,
} from "./socket.ts";
import { SocketSender } from "./socket_sender.ts";

/** A blocking socket as a stream. */
export class PlainStream implements Stream {
  readonly fd: number;
  readonly label: string;
  readonly #out: SocketSender;
  #open = true;

  private constructor(fd: number, label: string) {
    this.fd = fd;
    this.#out = new SocketSender(fd);
    this.label = label;
  }

  /** Takes over a connected, blocking socket. */
  static adopt(fd: number, label: string): PlainStream {
    return new PlainStream(fd, label);
  }

  writeAll(address: number, length: number): void {
    this.#socket();
    this.#checkSent(this.#out.send(address, length));
  }

  sendKept(): void {
    this.#socket();
    this.#checkSent(this.#out.sendKept());
  }

  keepUpTo(max: number): void {
    this.#out.keepUpTo(max);
  }

  get kept(): number {
    return this.#out.kept;
  }

  readSome(address: number, max: number): number {
    for (;;) {
      const got = receiveBytes(this.#socket(), address, max);
      if (got > 0) return got;
      if (got === 0) {
        throw new StreamError("closed", `Cannot read from ${this.label}: the peer has closed the connection`);
      }
      const code = errno();
      if (code === SOCKET_ERRNO.EAGAIN) return 0;
      if (code !== SOCKET_ERRNO.EINTR) {
        throw new StreamError("closed", `Cannot read from ${this.label}: ${socketReason(code)}`);
      }
    }
  }

  pending(): number {
    return 0;
  }

  setTimeouts(timeouts: StreamTimeouts): void {
    setSocketOptions(this.fd, { sendTimeoutMs: timeouts.sendMs, receiveTimeoutMs: timeouts.receiveMs });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    shutdownSocket(this.fd);
    closeSocket(this.fd);
  }

  /** A closed number may be somebody else's socket by now. */
  #socket(): number {
    if (!this.#open) {
      throw new StreamError("closed", `Cannot use ${this.label}: it is closed`);
    }
    return this.fd;
  }

  #checkSent(code: number): void {
    if (code === 0) return;
    if (code === SOCKET_ERRNO.EAGAIN) {
      throw new StreamError("timeout", `Cannot write to ${this.label}: the peer took nothing in time`);
    }
    throw new StreamError("closed", `Cannot write to ${this.label}: ${socketReason(code)}`);
  }
}
