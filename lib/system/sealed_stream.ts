/**
 * An encrypted stream in the hands of a worker: records sealed under keys that the TLS handshake of this connection
 * gave ({@link Seal}). Blocking, bounded by the socket's timeouts. One system call sends many records, one receives many.
 *
 * @module
 */

import { type Stream, StreamError, type StreamTimeouts } from "../replication/stream.ts";
import { addressOf, errno, openLibrary } from "./libc.ts";
import { Seal, SEAL_HEADER, SEAL_LIMITS, SEAL_OVERHEAD, type SealLimits, SealSecrets } from "./seal.ts";
import {
  closeSocket,
  receiveBytes,
  setSocketOptions,
  shutdownSocket,
  SOCKET_ERRNO,
  socketReason,
} from "./socket.ts";
import { SocketSender } from "./socket_sender.ts";

const { memcpy } = openLibrary("libc.so.6", {
  /** `void *memcpy(void *dest, const void *src, size_t n)` */
  memcpy: { parameters: ["usize", "usize", "usize"], result: "void" },
});

/** How an encrypted channel is encrypted, for `status`. */
export const SEALED_BY = "AES-256-GCM, keys by TLS 1.3";

/** Full records that travel together: a burst of frames fits, and what a large write goes through stays in cache. */
const TOGETHER = 4;

/** Memory at a known place. */
class Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly address: number;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
    this.address = addressOf(this.bytes);
  }
}

/** What is received: `start <= end`; records from `start` are to be opened. */
interface Incoming {
  readonly sealed: Block;
  /** One opened record that its reader had no room for; `plainAt <= plainEnd`, what lies between is to be given out. */
  readonly plain: Block;
  start: number;
  end: number;
  plainAt: number;
  plainEnd: number;
}

/** A sealed stream. Once it has failed, its keys are gone and every use fails likewise. */
export class SealedStream implements Stream {
  readonly fd: number;
  readonly label: string;
  readonly #limits: SealLimits;
  readonly #send: Seal;
  readonly #receive: Seal;
  // Most streams carry much one way and nothing the other.
  #outgoing: Block | null = null;
  #incoming: Incoming | null = null;
  readonly #out: SocketSender;
  #dead: StreamError | null = null;
  #open = true;

  /**
   * Takes over a connected, blocking socket and the secrets another thread gave away with it.
   *
   * @param secrets the address of {@link SealSecrets}, freed here.
   * @param limits for tests and measurements.
   */
  static adopt(
    { fd, secrets, label }: { readonly fd: number; readonly secrets: number; readonly label: string },
    limits: SealLimits = SEAL_LIMITS,
  ): SealedStream {
    const memory = SealSecrets.at(secrets);
    try {
      return new SealedStream({ fd, label, memory, limits });
    } finally {
      memory.free();
    }
  }

  private constructor(
    { fd, label, memory, limits }: {
      readonly fd: number;
      readonly label: string;
      readonly memory: SealSecrets;
      readonly limits: SealLimits;
    },
  ) {
    this.fd = fd;
    this.label = label;
    this.#out = new SocketSender(fd);
    this.#limits = limits;
    this.#send = new Seal({ direction: "send", secret: memory.send, limits });
    this.#receive = new Seal({ direction: "receive", secret: memory.receive, limits });
  }

  /** Each send within has the socket's timeout; a peer that only just keeps moving is for `Session.cut`. */
  writeAll(address: number, length: number): void {
    this.#check();
    const { recordMax } = this.#limits;
    this.#outgoing ??= new Block(TOGETHER * (recordMax + SEAL_OVERHEAD));
    const out = this.#outgoing;
    let used = 0;
    for (let done = 0; done < length;) {
      const size = Math.min(recordMax, length - done);
      if (used + size + SEAL_OVERHEAD > out.bytes.length) {
        this.#checkSent(this.#out.send(out.address, used));
        used = 0;
      }
      out.view.setUint32(used, size, true);
      this.#sealed(out.address + used, address + done, size);
      used += size + SEAL_OVERHEAD;
      done += size;
    }
    this.#checkSent(this.#out.send(out.address, used));
  }

  sendKept(): void {
    this.#check();
    this.#checkSent(this.#out.sendKept());
  }

  keepUpTo(max: number): void {
    this.#out.keepUpTo(max);
  }

  get kept(): number {
    return this.#out.kept;
  }

  readSome(address: number, max: number): number {
    this.#check();
    this.#incoming ??= {
      sealed: new Block(TOGETHER * (this.#limits.recordMax + SEAL_OVERHEAD)),
      plain: new Block(this.#limits.recordMax),
      start: 0,
      end: 0,
      plainAt: 0,
      plainEnd: 0,
    };
    const incoming = this.#incoming;
    for (;;) {
      const given = this.#give(incoming, address, max);
      if (given > 0) return given;
      if (!this.#fill(incoming)) return 0;
    }
  }

  /** Of several complete records, the first. A failure is something to read at once, too: reading it says so. */
  pending(): number {
    const incoming = this.#incoming;
    if (incoming === null || !this.#open) return 0;
    if (this.#dead !== null) return 1;
    if (incoming.plainEnd > incoming.plainAt) return incoming.plainEnd - incoming.plainAt;
    const length = lengthOf(incoming);
    if (length < 0) return 0;
    if (!this.#lengthIsGood(length)) return 1;
    return incoming.end - incoming.start >= length + SEAL_OVERHEAD ? length : 0;
  }

  setTimeouts(timeouts: StreamTimeouts): void {
    setSocketOptions(this.fd, { sendTimeoutMs: timeouts.sendMs, receiveTimeoutMs: timeouts.receiveMs });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forget();
    shutdownSocket(this.fd);
    closeSocket(this.fd);
  }

  /**
   * Gives out what was opened before, or opens complete records, as many as have room. 0: none is complete. What is good
   * is given before the record behind it ends the stream.
   */
  #give(incoming: Incoming, address: number, max: number): number {
    if (incoming.plainEnd > incoming.plainAt) return givePlain(incoming, address, max);
    let given = 0;
    for (;;) {
      const length = lengthOf(incoming);
      if (length < 0) return given;
      const whole = incoming.end - incoming.start >= length + SEAL_OVERHEAD;
      if (!whole && this.#lengthIsGood(length)) return given;
      const fits = length <= max - given;
      if (!fits && given > 0) return given;
      // Straight to where it is wanted; what a forgery leaves there nobody is told to look at.
      const failure = this.#openRecord(incoming, fits ? address + given : incoming.plain.address, length);
      if (failure !== null && given === 0) throw failure;
      if (failure !== null) return given;
      if (!fits) {
        incoming.plainAt = 0;
        incoming.plainEnd = length;
        return givePlain(incoming, address, max);
      }
      given += length;
    }
  }

  /** Opens the record at `start`. Answers what ended the stream, if that did. */
  #openRecord(incoming: Incoming, data: number, length: number): StreamError | null {
    if (!this.#lengthIsGood(length)) {
      const reason = `a record claims ${length} bytes, 1 to ${this.#limits.recordMax} are accepted`;
      return this.#die("protocol", reason);
    }
    try {
      if (!this.#receive.open(incoming.sealed.address + incoming.start, data, length)) {
        const reason = "a record was altered on the way or is out of its place; the channel is closed";
        return this.#die("protocol", reason);
      }
    } catch (error) {
      return this.#dieOf(error);
    }
    incoming.start += length + SEAL_OVERHEAD;
    return null;
  }

  #sealed(record: number, data: number, length: number): void {
    try {
      this.#send.seal(record, data, length);
    } catch (error) {
      throw this.#dieOf(error);
    }
  }

  /** Receives what is there, at least one byte: false when none came in time. */
  #fill(incoming: Incoming): boolean {
    makeRoom(incoming);
    const { sealed } = incoming;
    for (;;) {
      const got = receiveBytes(this.fd, sealed.address + incoming.end, sealed.bytes.length - incoming.end);
      if (got > 0) {
        incoming.end += got;
        return true;
      }
      if (got === 0) {
        const where = incoming.end > incoming.start ? " in the middle of a record" : "";
        throw this.#die("closed", `the peer has closed the connection${where}`);
      }
      const code = errno();
      if (code === SOCKET_ERRNO.EAGAIN) return false;
      if (code !== SOCKET_ERRNO.EINTR) throw this.#die("closed", socketReason(code));
    }
  }

  #checkSent(code: number): void {
    if (code === 0) return;
    const late = code === SOCKET_ERRNO.EAGAIN;
    const reason = late ? "the peer took nothing in time" : socketReason(code);
    throw this.#die(late ? "timeout" : "closed", reason, "write to");
  }

  #lengthIsGood(length: number): boolean {
    return length >= 1 && length <= this.#limits.recordMax;
  }

  /** A closed number may be somebody else's socket by now; and after a failure nothing is at its place any more. */
  #check(): void {
    if (!this.#open) throw new StreamError("closed", `Cannot use ${this.label}: it is closed`);
    if (this.#dead !== null) {
      throw new StreamError(this.#dead.failure, this.#dead.message, { cause: this.#dead });
    }
  }

  #die(failure: StreamError["failure"], reason: string, action = "read from"): StreamError {
    return this.#dieOf(new StreamError(failure, `Cannot ${action} ${this.label}: ${reason}`));
  }

  #dieOf(error: unknown): StreamError {
    if (!(error instanceof StreamError)) throw error;
    this.#dead = error;
    this.#forget();
    return error;
  }

  #forget(): void {
    this.#send.close();
    this.#receive.close();
  }
}

/** What the record at `start` says of its length; −1 when that is not here yet. */
function lengthOf({ sealed, start, end }: Incoming): number {
  return end - start < SEAL_HEADER ? -1 : sealed.view.getUint32(start, true);
}

function givePlain(incoming: Incoming, address: number, max: number): number {
  const length = Math.min(max, incoming.plainEnd - incoming.plainAt);
  memcpy(BigInt(address), BigInt(incoming.plain.address + incoming.plainAt), BigInt(length));
  incoming.plainAt += length;
  return length;
}

/** Moves a part of a record to the front where its rest would have no room. */
function makeRoom(incoming: Incoming): void {
  const { sealed, start, end } = incoming;
  if (start === end) {
    incoming.start = incoming.end = 0;
    return;
  }
  const length = lengthOf(incoming);
  const needed = length < 0 ? SEAL_HEADER : length + SEAL_OVERHEAD;
  if (start + needed <= sealed.bytes.length) return;
  sealed.bytes.copyWithin(0, start, end);
  incoming.start = 0;
  incoming.end = end - start;
}
