/**
 * Asking the keeper from a thread that must not go on before the answer: an orphan's descriptor is in safe hands before
 * the object loses its last name.
 *
 * @module
 */

import { addressOf, openLibrary } from "./libc.ts";
import { PollSet, readTo, writeFrom } from "./worker_io.ts";

const c = openLibrary("libc.so.6", {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int connect(int sockfd, const struct sockaddr *addr, socklen_t addrlen)` */
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
});

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC_NONBLOCK = 1 | 0o2000000 | 0o4000;
const ANSWER_MAX = 65536;

/** A connection to `RUN/keeper.sock` for one thread. It connects when first used, and anew when the keeper was restarted. */
export class KeeperLine {
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #answer = new Uint8Array(ANSWER_MAX);
  readonly #answerAddress = addressOf(this.#answer);
  readonly #poll = new PollSet(1);
  #fd = -1;
  #id = 0;

  constructor(path: string, timeoutMs = 2000) {
    this.#path = path;
    this.#timeoutMs = timeoutMs;
  }

  /** Calls a method; true when the keeper did it. A keeper that was restarted meanwhile is asked once more. */
  call(method: string, params: unknown): boolean {
    const request = new TextEncoder().encode(JSON.stringify({ id: ++this.#id, method, params }) + "\n");
    return this.#ask(request) ?? this.#ask(request) ?? false;
  }

  /** Ends the connection. */
  close(): void {
    if (this.#fd >= 0) c.close(this.#fd);
    this.#fd = -1;
  }

  /** Undefined: the line broke. */
  #ask(request: Uint8Array<ArrayBuffer>): boolean | undefined {
    if (this.#fd < 0 && !this.#connect()) return undefined;
    if (writeFrom(this.#fd, addressOf(request), request.length) !== request.length) return this.#broken();
    let got = 0;
    for (;;) {
      if (this.#poll.wait(this.#timeoutMs) === 0) return this.#broken();
      const read = readTo(this.#fd, this.#answerAddress + got, ANSWER_MAX - got);
      if (read === -11 || read === -4) continue;
      if (read <= 0) return this.#broken();
      got += read;
      const result = this.#find(got);
      if (result !== undefined) return result;
      if (got === ANSWER_MAX) return this.#broken();
    }
  }

  /** The answer among the lines read so far; events are passed over. */
  #find(got: number): boolean | undefined {
    const lines = new TextDecoder().decode(this.#answer.subarray(0, got)).split("\n");
    for (const line of lines.slice(0, -1)) {
      const answer = JSON.parse(line) as { id?: number; error?: unknown };
      if (answer.id === this.#id) return answer.error === undefined;
    }
    return undefined;
  }

  #broken(): undefined {
    this.close();
    return undefined;
  }

  #connect(): boolean {
    const path = new TextEncoder().encode(this.#path);
    const address = new Uint8Array(110);
    new DataView(address.buffer).setUint16(0, AF_UNIX, true);
    address.set(path.subarray(0, 107), 2);
    const fd = c.socket(AF_UNIX, SOCK_STREAM_CLOEXEC_NONBLOCK, 0);
    if (fd < 0) return false;
    if (c.connect(fd, address, 2 + path.length + 1) < 0) {
      c.close(fd);
      return false;
    }
    this.#fd = fd;
    this.#poll.assign([fd]);
    return true;
  }
}
