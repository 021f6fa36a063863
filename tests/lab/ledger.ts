/**
 * The rows a client of the database was promised: `rows.py` in the lab's client, and its account of them.
 *
 * @module
 */
import { type HostProcess, type Lab, until } from "./lab.ts";

const PROGRAM = "/run/lab/tests/rows.py";
/** Shown of a list that is too long to be read. */
const SHOWN_MAX = 20;

/** What became of the rows. */
export interface Account {
  /** COMMIT was answered. */
  readonly acknowledged: number;
  /** In the database. */
  readonly found: number;
  /** Acknowledged and not in the database: must be none. */
  readonly missing: readonly number[];
  /** In the database and not acknowledged: their commits were in flight when a connection ended. */
  readonly extra: readonly number[];
  /** Of {@link extra}, those that no connection had in flight, and rows whose check value is wrong: must be none. */
  readonly wrong: readonly string[];
}

/** A client that inserts rows through an address, for as long as it is let. */
export class Ledger implements AsyncDisposable {
  /** Number of the row → when its commit was answered, in milliseconds since 1970. */
  readonly acknowledged: Map<number, number> = new Map();
  /** Rows whose answer never came, and when that was known. */
  readonly lost: Map<number, number> = new Map();
  /** When a session was connected. */
  readonly connected: number[] = [];
  readonly #lab: Lab;
  readonly #host: string;
  #client: HostProcess | undefined;
  #read = 0;

  private constructor(lab: Lab, host: string) {
    this.#lab = lab;
    this.#host = host;
  }

  /** Starts the client. It tries until the address answers. */
  static start(
    lab: Lab,
    host: string,
    options: { readonly sessions: number; readonly pauseMs: number },
  ): Ledger {
    const ledger = new Ledger(lab, host);
    const { sessions, pauseMs } = options;
    const argv = ["python3", "-u", PROGRAM, host, "--sessions", `${sessions}`, "--pause-ms", `${pauseMs}`];
    ledger.#client = lab.spawn("client", argv);
    return ledger;
  }

  /** Takes in what the client has printed since. */
  read(): void {
    const lines = this.#client?.lines ?? [];
    for (; this.#read < lines.length; this.#read++) this.#line(lines[this.#read] ?? "");
  }

  /** Waits until a row is acknowledged whose answer came after `since`; answers when that was. */
  async acknowledgedAfter(since: number, timeoutMs: number): Promise<number> {
    let first: number | undefined;
    await until(`an acknowledged row`, () => {
      this.read();
      first = undefined;
      // Newest last: looked at from the end, as the account grows long.
      for (const at of [...this.acknowledged.values()].reverse()) {
        if (at <= since) break;
        first = at;
      }
      return first !== undefined;
    }, { timeoutMs, everyMs: 20 });
    return first ?? since;
  }

  /** Rows acknowledged so far. */
  get count(): number {
    this.read();
    return this.acknowledged.size;
  }

  /** Ends the client once every session has its last answer. */
  async stop(): Promise<void> {
    const client = this.#client;
    if (client === undefined) return;
    client.signal("SIGTERM");
    await client.line((line) => line === "end", 10_000);
    await client.status();
    this.read();
    this.#client = undefined;
  }

  /**
   * Compares what was acknowledged up to now with what the database has. While the client runs, a row may be there whose
   * answer is on its way: those count as in flight.
   */
  async account(): Promise<Account> {
    this.read();
    const acknowledged = [...this.acknowledged.keys()];
    const running = this.#client !== undefined;
    const text = await this.#lab.sh("client", `python3 ${PROGRAM} ${this.#host} --list`, {
      timeoutMs: 180_000,
    });
    this.read();
    const lines = text.split("\n").filter(Boolean);
    const found = new Set(lines.map((line) => Number.parseInt(line)));
    const extra = [...found].filter((row) => !this.acknowledged.has(row));
    return {
      acknowledged: acknowledged.length,
      found: lines.length,
      missing: acknowledged.filter((row) => !found.has(row)).sort((a, b) => a - b),
      extra: extra.sort((a, b) => a - b),
      wrong: [
        ...lines.filter((line) => line.includes("damaged")).map((line) => `row ${line}`),
        ...(running
          ? []
          : extra.filter((row) => !this.lost.has(row)).map((row) => `row ${row} was never sent`)),
      ],
    };
  }

  /** Kills the client. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client?.kill();
    this.#client = undefined;
  }

  #line(line: string): void {
    const [word, first = "", second = ""] = line.split(" ");
    if (word === "ack") this.acknowledged.set(Number(first), Number(second));
    else if (word === "lost") this.lost.set(Number(first), Number(second));
    else if (word === "up") this.connected.push(Number(first));
    else if (word !== "down" && word !== "end") throw new Error(`Cannot understand the client: ${line}`);
  }
}

/** A list for a person: its first numbers, and how many there are. */
export function listed(rows: readonly (number | string)[]): string {
  if (rows.length === 0) return "none";
  const rest = rows.length > SHOWN_MAX ? `, … (${rows.length} in all)` : "";
  return rows.slice(0, SHOWN_MAX).join(", ") + rest;
}
