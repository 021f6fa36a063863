/**
 * A command that runs inside a host of the lab while the test goes on.
 *
 * @module
 */
import { killAll, populated, processes, removeTree } from "./cgroup.ts";
import { PATIENCE } from "./process.ts";

/** Most lines kept of one command: a load generator may print for minutes, a runaway must not eat the machine. */
const LINES_MAX = 1_000_000;

/** What {@link Lab.spawn} answers. Its whole control group is the process: what it starts ends with it. */
export class HostProcess implements AsyncDisposable {
  /** Every line printed so far, standard output and error together in the order they came. */
  readonly lines: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #group: string;
  readonly #ended: Promise<number>;
  readonly #waiting = new Set<() => void>();

  /** Starts `argv`, which joins the control group by itself. */
  constructor(argv: readonly string[], group: string, stdin?: string | Uint8Array) {
    this.#group = group;
    this.#child = new Deno.Command(argv[0] ?? "", {
      args: argv.slice(1),
      stdin: stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const fed = stdin === undefined ? undefined : this.#feed(stdin);
    this.#ended = Promise.all([this.#read(this.#child.stdout), this.#read(this.#child.stderr), fed]).then(
      async () => {
        const { code } = await this.#child.status;
        if (!populated(group)) removeTree(group);
        for (const wake of this.#waiting) wake();
        return code;
      },
    );
  }

  /** The status, once it has ended and its output is read. */
  async status(): Promise<number> {
    return await this.#ended;
  }

  /**
   * Waits for the first line that `matches`, printed before or later; throws after the limit or at the end.
   *
   * @param from looks from this line on; `lines.length` means only at what comes.
   */
  async line(matches: (line: string) => boolean, timeoutMs: number, from = 0): Promise<string> {
    const limit = timeoutMs * PATIENCE;
    const end = performance.now() + limit;
    let ended = false;
    const over = (): void => void (ended = true);
    this.#ended.then(over, over);
    for (let next = from;;) {
      for (; next < this.lines.length; next++) {
        if (matches(this.lines[next] ?? "")) return this.lines[next] ?? "";
      }
      const left = end - performance.now();
      if (ended || left <= 0) {
        const why = ended ? "it has ended" : `${limit} ms have passed`;
        throw new Error(`Cannot wait for the line: ${why}; last lines:\n${this.lines.slice(-5).join("\n")}`);
      }
      await this.#something(left);
    }
  }

  /** Sends a signal to every process it is made of; SIGKILL also reaches what it starts meanwhile. */
  signal(name: Deno.Signal): void {
    if (!populated(this.#group)) return;
    if (name === "SIGKILL") return killAll(this.#group);
    for (const pid of processes(this.#group)) {
      try {
        Deno.kill(pid, name);
      } catch (error) {
        // Gone since the list was read.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }

  /** Kills it and waits for its end. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.#ended;
  }

  /** {@link kill}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #feed(stdin: string | Uint8Array): Promise<void> {
    const writer = this.#child.stdin.getWriter();
    try {
      await writer.write(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin);
      await writer.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      this.#add(parts);
    }
    if (rest !== "") this.#add([rest]);
  }

  #add(lines: readonly string[]): void {
    this.lines.push(...lines);
    if (this.lines.length > LINES_MAX) {
      throw new Error(`Cannot keep more than ${LINES_MAX} lines of a command: let it write to a file`);
    }
    for (const wake of this.#waiting) wake();
  }

  async #something(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiting.add(done);
    });
  }
}
