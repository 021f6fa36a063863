/**
 * Asking the keeper from a thread that must not go on before the answer: an orphan's descriptor is in safe hands before
 * the object loses its last name.
 *
 * @module
 */

import { addressOf, openLibrary } from "./libc.ts";
import { bootNanoseconds, pause, PollSet, readTo, writeFrom } from "./worker_io.ts";

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
const AGAIN_MICROSECONDS = 10_000;
/** One answer of a keeper that lives. */
const ANSWER_MS = 3000;
/**
 * How long a keeper may be away, once for each time it goes: whoever asks goes on without it afterwards. A busy machine takes seconds to
 * start another; well below the time after which a thread that answers nothing is taken for one that hangs.
 */
const AWAY_MS = 20_000;

/** `later`: the line broke, or the keeper is not ready. */
type Answer = "done" | "refused" | "later";
/** What came of a call. `away`: nobody answered within the time that is waited for a keeper. */
export type Called = "done" | "refused" | "away";

/** A connection to `RUN/keeper.sock` for one thread. It connects when first used, and anew when the keeper was restarted. */
export class KeeperLine {
  readonly #path: string;
  readonly #awayMs: number;
  readonly #answer = new Uint8Array(ANSWER_MAX);
  readonly #answerAddress = addressOf(this.#answer);
  readonly #poll = new PollSet(1);
  #fd = -1;
  #id = 0;
  /** When nobody answered for the first time, and for the last; null: somebody has answered since. */
  #away: { readonly since: number; last: number } | null = null;

  constructor(path: string, awayMs: number = AWAY_MS) {
    this.#path = path;
    this.#awayMs = awayMs;
  }

  /**
   * Calls a method. A keeper that was restarted meanwhile, or is still taking over what its
   * predecessor held, is asked again until the time is over.
   */
  call(method: string, params: unknown, awayMs: number = this.#awayMs): Called {
    const request = new TextEncoder().encode(JSON.stringify({ id: ++this.#id, method, params }) + "\n");
    for (;;) {
      const answer = this.#ask(request);
      if (answer !== "later") {
        this.#away = null;
        return answer;
      }
      const now = bootNanoseconds();
      // Not asked for as long: it may have been there in between.
      if (this.#away === null || now - this.#away.last > awayMs * 1e6) this.#away = { since: now, last: now };
      this.#away.last = now;
      if (now - this.#away.since > awayMs * 1e6) return "away";
      pause(AGAIN_MICROSECONDS);
    }
  }

  /** Ends the connection. */
  close(): void {
    if (this.#fd >= 0) c.close(this.#fd);
    this.#fd = -1;
  }

  #ask(request: Uint8Array<ArrayBuffer>): Answer {
    if (this.#fd < 0 && !this.#connect()) return "later";
    if (writeFrom(this.#fd, addressOf(request), request.length) !== request.length) return this.#broken();
    let got = 0;
    for (;;) {
      if (this.#poll.wait(ANSWER_MS) === 0) return this.#broken();
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
  #find(got: number): Answer | undefined {
    const lines = new TextDecoder().decode(this.#answer.subarray(0, got)).split("\n");
    for (const line of lines.slice(0, -1)) {
      const answer = JSON.parse(line) as { id?: number; error?: { code?: string } };
      if (answer.id !== this.#id) continue;
      if (answer.error === undefined) return "done";
      return answer.error.code === "adopting" ? "later" : "refused";
    }
    return undefined;
  }

  #broken(): Answer {
    this.close();
    return "later";
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
