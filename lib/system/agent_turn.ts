/**
 * Which of the processes `binome agent` serves, which waits, and how they end together.
 *
 * | file in `RUN` | held (`flock`) and named (`PID START`) in it     |
 * | ------------- | ------------------------------------------------ |
 * | `agent.turn`  | the process that serves                          |
 * | `agent.unit`  | the process that the supervisor (systemd) started |
 *
 * `agent.turn.next` names the process that waits, loaded.
 *
 * Both are often the same. After a death they are not: the spare serves, and what the supervisor started anew waits. A
 * supervisor that stops what it started means the agent, so the one that waits ends the one that serves.
 *
 * @module
 */

import { type Spare, SpareKeeper } from "../agent/spare.ts";
import { timers } from "./clock.ts";
import { libc } from "./libc.ts";
import { logLine } from "./log.ts";
import { openPidfd, signalPidfd, signalProcess } from "./pidfd.ts";
import { Poller } from "./poller.ts";
import { ownEnvironment, reap, selfCommand, SIGNAL, spawn } from "./process.ts";
import { isAlive, type Lock, type Named, nameWaiting, openLock, readName, writeName } from "./turn.ts";

/** A supervisor may start the next one before the kernel has taken everything from the last. */
const UNIT_MS = 2000;
const TRY_MS = 5;
/** How often a spare looks whether the process that started it lives. */
const PARENT_MS = 1000;
/** What serves has this long to end in order when the supervisor stops the agent. */
const END_MS = 20_000;
const KILL_MS = 5000;
const END_LOOK_MS = 20;

/** How this process came to be. */
export interface AgentOrigin {
  readonly run: string;
  /** Number of the agent that started this process as its spare. Null: the supervisor, or a person, started it. */
  readonly spareOf: number | null;
  /** Patience, for tests. */
  readonly unitMs?: number;
  readonly parentMs?: number;
}

/** One process of the agent. */
export class AgentTurn {
  readonly #origin: AgentOrigin;
  readonly #turnFile: string;
  readonly #unitFile: string;
  readonly #lock: Lock;
  #unit: Lock | null = null;
  #waiting: Promise<void> = Promise.resolve();

  private constructor(origin: AgentOrigin) {
    this.#origin = origin;
    this.#turnFile = `${origin.run}/agent.turn`;
    this.#unitFile = `${origin.run}/agent.unit`;
    this.#lock = openLock(this.#turnFile);
  }

  /**
   * Says that this process is there. First of all: who serves starts a spare unless it sees one.
   *
   * @throws {Error} when another process that is no spare is there.
   */
  static async announce(origin: AgentOrigin): Promise<AgentTurn> {
    await Deno.mkdir(origin.run, { recursive: true, mode: 0o700 });
    const turn = new AgentTurn(origin);
    if (origin.spareOf === null) await turn.#takeUnit();
    return turn;
  }

  /**
   * Waits for the turn. `late`: another process served before, whose ports the kernel may still be closing. Null: this
   * process is not needed any more, or was told to end, and with it what served.
   */
  async take(stop: AbortSignal): Promise<{ readonly late: boolean } | null> {
    if (this.#lock.now()) return stop.aborted ? null : this.#taken(false);
    nameWaiting(this.#turnFile);
    this.#waiting = this.#lock.wait();
    const mine = this.#waiting.then(() => "mine" as const);
    logLine(`${now()} the spare agent waits: process ${readName(this.#turnFile)?.pid} serves`);
    const end = new AbortController();
    const why = await Promise.race([mine, aborted(stop), this.#orphaned(end.signal)]);
    end.abort();
    if (why === "mine" && !stop.aborted) return this.#taken(true);
    // The supervisor stops the agent: what serves is the agent, though the supervisor does not know it.
    if (this.#origin.spareOf === null) await endServing(this.#turnFile, this.#lock);
    return null;
  }

  /** Has a spare beside this process, which serves, until closed. */
  keepSpare(): SpareKeeper {
    const poller = new Poller();
    return new SpareKeeper({
      supervised: this.#origin.spareOf === null,
      supervisedWaits: () => {
        const unit = readName(this.#unitFile);
        return unit !== null && unit.pid !== Deno.pid && isAlive(unit);
      },
      start: () => startSpare(poller),
      timers,
      log: (line) => logLine(`${now()} ${line}`),
    });
  }

  /** Gives up what was taken, once the wait for it is over. A process that ends need not. */
  async close(): Promise<void> {
    await this.#waiting;
    this.#unit?.close();
    this.#lock.close();
  }

  async #takeUnit(): Promise<void> {
    const unit = openLock(this.#unitFile);
    const { unitMs = UNIT_MS } = this.#origin;
    for (let waitedMs = 0; !unit.now(); waitedMs += TRY_MS) {
      if (waitedMs >= unitMs) {
        const pid = readName(this.#unitFile)?.pid;
        unit.close();
        this.#lock.close();
        throw new Error(
          `Cannot start the agent: process ${pid} is the agent of ${this.#origin.run} already; ` +
            "stop it first (systemctl stop binome-agent), or set BINOME_RUN",
        );
      }
      await pause(TRY_MS);
    }
    this.#unit = unit;
    writeName(this.#unitFile);
  }

  #taken(late: boolean): { readonly late: boolean } {
    writeName(this.#turnFile);
    return { late };
  }

  /** A spare whose agent is gone has its turn at once. Where it has not, another serves that does not know of it. */
  async #orphaned(end: AbortSignal): Promise<"orphaned"> {
    const { spareOf, parentMs = PARENT_MS } = this.#origin;
    // Twice: at the first look its agent may be about to end, and the turn about to come.
    for (let looks = 0; looks < 2;) {
      await pause(parentMs, end);
      if (spareOf !== null && Deno.ppid !== spareOf) looks += 1;
    }
    return "orphaned";
  }
}

/**
 * Ends what serves in `run`, whoever started it: the supervisor may have stopped its process before that could do so.
 *
 * @throws {Error} when it does not end.
 */
export async function endAgent(run: string): Promise<void> {
  await Deno.mkdir(run, { recursive: true, mode: 0o700 });
  const file = `${run}/agent.turn`;
  const lock = openLock(file);
  try {
    await endServing(file, lock);
  } finally {
    lock.close();
  }
}

/** SIGTERM, after a while SIGKILL, until nobody has the turn: a spare may take it in between. */
async function endServing(file: string, lock: Lock): Promise<void> {
  let told = "";
  for (let waitedMs = 0; !lock.now(); waitedMs += END_LOOK_MS) {
    const serves = readName(file);
    if (serves !== null && serves.pid !== Deno.pid) {
      const signal = waitedMs < END_MS ? SIGNAL.TERM : SIGNAL.KILL;
      // Once each: SIGTERM again would cut what ends in order.
      const what = `${signal} ${serves.pid} ${serves.start}`;
      if (what !== told) signalNamed(serves, signal);
      told = what;
    }
    if (waitedMs >= END_MS + KILL_MS) {
      throw new Error(`Cannot end the agent: process ${serves?.pid} does not end; it waits for a disk`);
    }
    await pause(END_LOOK_MS);
  }
}

function startSpare(poller: Poller): Spare {
  const argv = selfCommand(["agent", "--spare", String(Deno.pid)]);
  const pid = spawn({ argv, environment: ownEnvironment(), output: null, directory: "/" });
  const pidfd = openPidfd(pid);
  let open = true;
  const ended = (async () => {
    // Readable once it has ended (pidfd_open(2)).
    while (!await poller.ready({ fd: pidfd, for: "read" }));
    open = false;
    libc.close(pidfd);
    reap(pid);
  })();
  return {
    pid,
    ended,
    kill() {
      if (open) signalPidfd(pidfd, SIGNAL.KILL);
    },
  };
}

function signalNamed(process: Named, signal: number): void {
  signalProcess(process.pid, signal, () => isAlive(process));
}

function aborted(signal: AbortSignal): Promise<"stopped"> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("stopped");
    signal.addEventListener("abort", () => resolve("stopped"), { once: true });
  });
}

/** Waits; for ever once aborted. */
function pause(ms: number, end?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    end?.addEventListener("abort", () => clearTimeout(timer), { once: true });
  });
}

function now(): string {
  return new Date().toISOString();
}
