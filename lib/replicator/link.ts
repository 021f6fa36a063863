/**
 * The session with the peer: the door a primary keeps open, a secondary's way to it, and what becomes of a session that
 * ended. There is one at a time; the threads that carry it are told of its beginning and its end in the same order.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { messageOf } from "../message.ts";
import { agreeVersion, PROTOCOL } from "../protocol.ts";
import { dial, DialError } from "../replication/dial.ts";
import { Door } from "../replication/door.ts";
import type { Hello } from "../replication/hello.ts";
import type { Plan, Verdict } from "../replication/position.ts";
import { WORD } from "../replication/shared.ts";
import type { Session } from "../replication/stream.ts";
import type { RealNetwork } from "../system/network.ts";
import { delay, logLine } from "../system/replicator_host.ts";
import type { Peer } from "./commands.ts";
import type { Threads } from "./threads.ts";

/** Attempts to reach the primary: soon at first, since a restarted process is there within a tenth of a second. */
const DIAL_PAUSES_MS = [5, 5, 10, 10, 20, 20, 20, 20, 20, 20, 20, 20, 40, 80, 160, 320, 640, 1000] as const;
const DIAL_TIMEOUT_MS = 3000;

/** What a {@link Link} needs. */
export interface LinkOptions {
  readonly threads: Threads;
  readonly network: () => RealNetwork;
  /** Who is at this end. Asked anew each time: the configuration may be read again. */
  readonly self: () => { readonly cluster: string; readonly module: string; readonly node: string };
  /** How long the peer may hold applications up, milliseconds. */
  readonly peerTimeoutMs: () => number;
  /** Resolves when this process has its role: nobody is let in before. */
  readonly settled: Promise<void>;
  /** Tells the agent. */
  readonly broadcast: (event: string, body: Record<string, unknown>) => void;
}

/** See the file's head. */
export class Link {
  readonly #options: LinkOptions;
  #door: Door | null = null;
  #session: Session<unknown> | null = null;
  readonly #plans = new Map<string, Plan>();
  /** The peer's last session was ended because it held applications up for as long as it may. */
  #late = false;
  #primary: Peer | null = null;
  #following: AbortController | null = null;
  #followed: Promise<void> = Promise.resolve();
  /** Attempts to reach the primary since the last session. */
  #attempt = 0;
  #dialing: AbortController | null = null;
  #dialError = "";
  #over: PromiseWithResolvers<void> | null = null;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** For `status`. */
  status(): Record<string, unknown> {
    return {
      door: this.#door?.counters ?? null,
      unreachable: this.#session === null ? this.#dialError : "",
      late: this.#late,
      via: this.#session?.remote.address ?? null,
    };
  }

  /** Lets the peer in from here on, where that is not done already. */
  openDoor(peer: Peer, port: number): void {
    if (this.#door !== null) return;
    this.#door = Door.open({
      network: this.#options.network(),
      endpoint: { address: "0.0.0.0", port },
      crc32,
      ...this.#options.self(),
      expected: [peer.name],
      known: peer.addresses,
      decide: (hello) => this.#decide(hello),
      onSession: (session) => void this.#attach(session),
      onRefused: (refusal) =>
        logLine(`a connection from ${refusal.source.address} was not let in: ${refusal.reason}`),
      onFailed: (error) => logLine(`the replication port is closed: ${messageOf(error)}`),
    });
  }

  /** Lets nobody in any more. */
  async closeDoor(): Promise<void> {
    const door = this.#door;
    this.#door = null;
    await door?.close();
  }

  /** Keeps a session with the primary, until {@link stopFollowing}. */
  follow(primary: Peer, port: number): void {
    const abort = new AbortController();
    this.#following = abort;
    this.#primary = primary;
    this.#followed = this.#seek(port, abort.signal);
  }

  /** Resolves when no attempt is under way; the session is ended apart. */
  async stopFollowing(): Promise<void> {
    this.#following?.abort(new Error("the role ended"));
    this.#following = null;
    await this.#followed;
    this.#followed = Promise.resolve();
  }

  /** A path was lost, or the better one is back: the session moves to the first address, the others are a way out. */
  async usePaths(primary: Peer): Promise<void> {
    this.#primary = primary;
    const [first] = primary.addresses;
    this.#attempt = 0;
    this.#dialing?.abort(new Error(`${first} is to be tried first`));
    const session = this.#session;
    if (session !== null && session.remote.address !== first) {
      await this.lose(session.id, `it moves from ${session.remote.address} to ${first}`);
    }
  }

  /** A thread gave the peer up. `late`: it held applications up for as long as it may. */
  async partWith(session: string, reason: string, late: boolean): Promise<void> {
    this.#late = late && this.is(session);
    await this.lose(session, reason);
  }

  /** Whether this is the session there is. */
  is(session: string): boolean {
    return this.#session?.id === session;
  }

  /** Ends that session, if it is the one there is; a secondary seeks another. */
  async lose(session: string, reason: string): Promise<void> {
    if (!this.is(session)) return;
    logLine(`the connection to the peer ended: ${reason}`);
    await this.end();
    this.#options.broadcast("disconnected", { reason });
  }

  /** Ends whatever session there is, for a reason that has to do with this copy. */
  async loseAny(reason: string): Promise<void> {
    await this.lose(this.#session?.id ?? "", reason);
  }

  /** Ends whatever session there is, and says nothing. */
  async end(): Promise<void> {
    const session = this.#session;
    if (session === null) return;
    const { threads } = this.#options;
    this.#session = null;
    session.cut();
    threads.toAcker({ kind: "detach", session: session.id });
    threads.toDisk({ kind: "detach", session: session.id });
    await threads.ask({ kind: "detach", session: session.id });
    this.#over?.resolve();
    this.#over = null;
  }

  async #decide(
    hello: Hello,
  ): Promise<{ accept: true; body: unknown } | { accept: false; code: string; reason: string }> {
    await this.#options.settled;
    const verdict = await this.#options.threads.ask({ kind: "decide", position: hello.body }) as Verdict;
    if (!verdict.accept) {
      if (verdict.code === "diverged") this.#options.broadcast("diverged", { detail: verdict.reason });
      return verdict;
    }
    this.#plans.clear();
    this.#plans.set(hello.session, verdict.plan);
    return { accept: true, body: { plan: verdict.plan, epoch: verdict.epoch } };
  }

  /** A secondary was let in. */
  async #attach(session: Session<Hello>): Promise<void> {
    const { threads, peerTimeoutMs, broadcast } = this.#options;
    const plan = this.#plans.get(session.id);
    await this.end();
    if (plan === undefined) return session.cut();
    this.#session = session;
    this.#late = false;
    const position = session.agreement.body as { last: number };
    try {
      threads.toAcker({
        kind: "attach",
        session: session.id,
        ack: session.ack,
        sync: session.sync,
        applied: plan.mode === "replay" ? Math.min(position.last, plan.from - 1) : 0,
        compares: plan.mode === "reconcile",
        timeoutMs: peerTimeoutMs(),
      });
      await threads.ask({
        kind: "attach",
        session: session.id,
        data: session.data,
        plan,
        version: agreeVersion(session.agreement, PROTOCOL) ?? PROTOCOL.versionMin,
      });
    } catch (error) {
      logLine(`Cannot bring the secondary up to date: ${messageOf(error)}`);
      await this.lose(session.id, messageOf(error));
      return;
    }
    logLine(`the secondary is connected: ${plan.mode}`);
    broadcast("connected", { plan });
  }

  async #seek(port: number, signal: AbortSignal): Promise<void> {
    this.#attempt = 0;
    while (!signal.aborted) {
      try {
        // Which of its addresses comes first may have changed since.
        if (this.#session === null && this.#primary !== null) {
          await this.#join(this.#primary, port, signal);
          this.#attempt = 0;
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#dialFailed(error);
      }
      const pause = DIAL_PAUSES_MS[Math.min(this.#attempt++, DIAL_PAUSES_MS.length - 1)] ?? 1000;
      try {
        await (this.#session === null ? delay(pause, signal) : this.#sessionOver(signal));
      } catch {
        // Aborted: the loop ends.
        return;
      }
    }
  }

  #dialFailed(error: unknown): void {
    const reason = messageOf(error);
    const news = reason !== this.#dialError;
    if (news) logLine(reason);
    this.#dialError = reason;
    const refusal = error instanceof DialError ? error.refusal : null;
    if (refusal?.code === "diverged") this.#options.broadcast("diverged", { detail: refusal.reason });
    // Trying again does not help until a person has changed something.
    if (refusal?.code === "file-system" && news) this.#options.broadcast("failed", { reason, errno: 0 });
  }

  async #join(primary: Peer, port: number, following: AbortSignal): Promise<void> {
    const { threads, network, self, broadcast } = this.#options;
    const body = await threads.ask({ kind: "hello" });
    const dialing = new AbortController();
    this.#dialing = dialing;
    const signal = AbortSignal.any([following, dialing.signal]);
    const session = await dial({
      network: network(),
      endpoints: primary.addresses.map((address) => ({ address, port })),
      crc32,
      ...self(),
      expected: primary.name,
      body,
      timeoutMs: DIAL_TIMEOUT_MS,
      signal,
    });
    const { plan } = session.agreement.body as { plan: Plan };
    this.#session = session;
    // The road thread has left the last session and is not yet in this one: what is queued now is not of it.
    const from = threads.shared.get(WORD.diskTail);
    threads.toDisk({ kind: "attach", session: session.id, sync: session.sync, from });
    try {
      await threads.ask({ kind: "join", session: session.id, data: session.data, ack: session.ack, plan });
    } catch (error) {
      await this.end();
      throw error;
    }
    this.#dialError = "";
    logLine(`connected to ${primary.name}: ${plan.mode}`);
    broadcast("connected", { plan });
  }

  #sessionOver(signal: AbortSignal): Promise<void> {
    this.#over ??= Promise.withResolvers<void>();
    const over = this.#over;
    signal.addEventListener("abort", () => over.resolve(), { once: true });
    return over.promise;
  }
}
