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
const EINTR = 4;
const EAGAIN = 11;
const NEWLINE = 0x0a;
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
export type Answer = "done" | "refused" | "later";
/** What came of a call. `away`: nobody answered within the time that is waited for a keeper. */
export type Called = "done" | "refused" | "away";

/** One request. */
export interface KeeperRequest {
  readonly method: string;
  readonly params: unknown;
}

/** A connection to `RUN/keeper.sock` for one thread. It connects when first used, and anew when the keeper was restarted. */
export class KeeperLine {
  readonly #path: string;
  readonly #awayMs: number;
  readonly #answerMs: number;
  /** What has come, its first line whole from the beginning. */
  readonly #bytes = new Uint8Array(ANSWER_MAX);
  readonly #address = addressOf(this.#bytes);
  #got = 0;
  readonly #poll = new PollSet(1);
  #fd = -1;
  #id = 0;
  /** When nobody answered for the first time, and for the last; null: somebody has answered since. */
  #away: { readonly since: number; last: number } | null = null;
  /** Ids of what was posted, in order, and what came of it; null: nothing was. */
  #posted: Map<number, Answer | null> | null = null;

  constructor(path: string, limits: { readonly awayMs?: number; readonly answerMs?: number } = {}) {
    this.#path = path;
    this.#awayMs = limits.awayMs ?? AWAY_MS;
    this.#answerMs = limits.answerMs ?? ANSWER_MS;
  }

  /**
   * Calls a method. A keeper that was restarted meanwhile, or is still taking over what its
   * predecessor held, is asked again until the time is over. What was posted and not answered is lost by it.
   */
  call(method: string, params: unknown, awayMs: number = this.#awayMs): Called {
    this.#posted = null;
    const id = ++this.#id;
    const request = encode(id, { method, params });
    const began = bootNanoseconds();
    // Not asked for as long: it may have been there in between. From the beginning, since one that hangs takes the time of an answer.
    if (this.#away === null || began - this.#away.last > awayMs * 1e6) {
      this.#away = { since: began, last: began };
    }
    for (;;) {
      const answer = this.#ask(id, request);
      if (answer !== "later") {
        this.#away = null;
        return answer;
      }
      const now = bootNanoseconds();
      this.#away.last = now;
      if (now - this.#away.since > awayMs * 1e6) return "away";
      pause(AGAIN_MICROSECONDS);
    }
  }

  /** Sends requests and does not wait: {@link answers} tells what came of them. False: nobody is there. */
  post(requests: readonly KeeperRequest[]): boolean {
    this.#posted = null;
    if (this.#fd < 0 && !this.#connect()) return false;
    const posted = new Map<number, Answer | null>();
    const lines = requests.map((request) => {
      posted.set(++this.#id, null);
      return encode(this.#id, request);
    });
    if (!this.#write(join(lines))) {
      this.close();
      return false;
    }
    this.#posted = posted;
    return true;
  }

  /** What came of what was posted, in its order; null while some of it is not answered; `lost`: post it again. */
  answers(): readonly Answer[] | "lost" | null {
    const posted = this.#posted;
    if (posted === null) return "lost";
    for (let more = true; more;) {
      const read = this.#read();
      if (read === "broken") {
        this.close();
        return "lost";
      }
      more = read === "some";
      for (const { id, answer } of this.#lines()) if (posted.has(id)) posted.set(id, answer);
    }
    const answers = [...posted.values()].filter((answer) => answer !== null);
    if (answers.length < posted.size) return null;
    this.#posted = null;
    return answers;
  }

  /** Ends the connection. */
  close(): void {
    if (this.#fd >= 0) c.close(this.#fd);
    this.#fd = -1;
    this.#posted = null;
  }

  #ask(asked: number, request: Uint8Array<ArrayBuffer>): Answer {
    if (this.#fd < 0 && !this.#connect()) return "later";
    if (!this.#write(request)) return this.#broken();
    for (;;) {
      if (this.#poll.wait(this.#answerMs) === 0) return this.#broken();
      if (this.#read() === "broken") return this.#broken();
      // Others are answers nobody waits for any more.
      for (const { id, answer } of this.#lines()) if (id === asked) return answer;
    }
  }

  #write(bytes: Uint8Array<ArrayBuffer>): boolean {
    return writeFrom(this.#fd, addressOf(bytes), bytes.length) === bytes.length;
  }

  #read(): "some" | "none" | "broken" {
    const read = readTo(this.#fd, this.#address + this.#got, ANSWER_MAX - this.#got);
    if (read === -EAGAIN || read === -EINTR) return "none";
    // Also where a line is longer than there is room for.
    if (read <= 0) return "broken";
    this.#got += read;
    return "some";
  }

  /** Takes the answers among the whole lines that have come; events are passed over. */
  #lines(): { readonly id: number; readonly answer: Answer }[] {
    const end = this.#bytes.lastIndexOf(NEWLINE, this.#got - 1) + 1;
    if (this.#got === 0 || end === 0) return [];
    const text = new TextDecoder().decode(this.#bytes.subarray(0, end - 1));
    this.#bytes.copyWithin(0, end, this.#got);
    this.#got -= end;
    return text.split("\n").flatMap((line) => {
      const { id, error } = JSON.parse(line) as { id?: number; error?: { code?: string } };
      if (id === undefined) return [];
      const answer = error === undefined ? "done" : error.code === "adopting" ? "later" : "refused";
      return [{ id, answer }];
    });
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
    this.#got = 0;
    this.#poll.assign([fd]);
    return true;
  }
}

function encode(id: number, { method, params }: KeeperRequest): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify({ id, method, params }) + "\n");
}

function join(lines: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(lines.reduce((sum, line) => sum + line.length, 0));
  let at = 0;
  for (const line of lines) {
    all.set(line, at);
    at += line.length;
  }
  return all;
}
