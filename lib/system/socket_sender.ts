/**
 * The sending side of a socket that one thread uses.
 *
 * A thread that waits in `send` for a slow peer serves nobody meanwhile, and cannot even tell how long those whose requests
 * it has not read have been waiting. So it may have what the socket does not take kept, and go on.
 *
 * @module
 */

import { addressOf, errno, openLibrary } from "./libc.ts";
import { sendBytes, sendBytesNow, SOCKET_ERRNO } from "./socket.ts";

const { memmove } = openLibrary("libc.so.6", {
  /** `void *memmove(void *dest, const void *src, size_t n)` */
  memmove: { parameters: ["usize", "usize", "usize"], result: "void" },
});

/** The first memory for what is kept; it doubles as needed. */
const KEPT_MIN = 1 << 20;

/** Sends in order, all of it; what failed once must not be used again. Methods answer an errno, 0 for none. */
export class SocketSender {
  readonly #fd: number;
  /** Bytes kept at most; 0: every send waits. */
  #max = 0;
  #bytes = new Uint8Array(0);
  #address = 0;
  // What is kept lies between them.
  #start = 0;
  #end = 0;

  /** @param fd a connected, blocking socket. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** From here on what the socket does not take at once is kept; only beyond `max` bytes is waited for it. */
  keepUpTo(max: number): void {
    this.#max = max;
  }

  /** Bytes kept. */
  get kept(): number {
    return this.#end - this.#start;
  }

  /** Sends `length` bytes, or keeps them. `EAGAIN`: the peer took nothing within the socket's timeout. */
  send(address: number, length: number): number {
    if (this.#max === 0) return this.#sendAll(address, length);
    const failed = this.sendKept();
    if (failed !== 0) return failed;
    let done = 0;
    while (this.kept === 0 && done < length) {
      const sent = sendBytesNow(this.#fd, address + done, length - done);
      if (sent > 0) done += sent;
      else if (errno() === SOCKET_ERRNO.EAGAIN) break;
      else if (errno() !== SOCKET_ERRNO.EINTR) return errno();
    }
    if (done === length) return 0;
    this.#keep(address + done, length - done);
    const over = this.kept - this.#max;
    if (over <= 0) return 0;
    const late = this.#sendAll(this.#address + this.#start, over);
    this.#start += over;
    return late;
  }

  /** Sends of what is kept as much as the socket takes now. */
  sendKept(): number {
    while (this.#start < this.#end) {
      const sent = sendBytesNow(this.#fd, this.#address + this.#start, this.kept);
      if (sent > 0) this.#start += sent;
      else if (errno() === SOCKET_ERRNO.EAGAIN) return 0;
      else if (errno() !== SOCKET_ERRNO.EINTR) return errno();
    }
    return 0;
  }

  #keep(address: number, length: number): void {
    if (this.#end + length > this.#bytes.length) this.#makeRoom(this.kept + length);
    memmove(BigInt(this.#address + this.#end), BigInt(address), BigInt(length));
    this.#end += length;
  }

  /** Moves what is kept to the front, of a larger memory where this one is too small. */
  #makeRoom(needed: number): void {
    const { kept } = this;
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(KEPT_MIN, 2 ** Math.ceil(Math.log2(needed))));
      larger.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = larger;
      this.#address = addressOf(larger);
    } else {
      this.#bytes.copyWithin(0, this.#start, this.#end);
    }
    this.#start = 0;
    this.#end = kept;
  }

  #sendAll(address: number, length: number): number {
    for (let done = 0; done < length;) {
      const sent = sendBytes(this.#fd, address + done, length - done);
      if (sent > 0) done += sent;
      else if (errno() !== SOCKET_ERRNO.EINTR) return errno();
    }
    return 0;
  }
}
