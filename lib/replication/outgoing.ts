/**
 * What goes from a primary to its peer, and how much of it at a time: gathered where nobody waits for it, kept where the peer
 * does not take it, and held back where a resync would stand in the applications' way.
 *
 * @module
 */

import type { CatchUp } from "./catch_up.ts";
import { LineShare } from "./line_share.ts";
import { type Shared, WORD } from "./shared.ts";
import { SourceRefused } from "./source_refused.ts";
import { type Stream, StreamError } from "./stream.ts";
import type { Wire } from "./wire.ts";

/**
 * What a slow peer has not taken yet is kept up to so much, so that requests go on being read: the bound on how long a peer may
 * hold applications up counts from there. It is more than the kernel has under way at a time.
 */
const KEPT_MAX = 64 << 20;
/**
 * While it catches up, though, applications wait for it past so much: what it has not taken is what it still has to catch up
 * with, and with more of it on the way than it applies it never would.
 */
const KEPT_CATCHING_UP = 1 << 20;
/** A comparison with a member goes no further while so much is kept: what applications write would wait behind it. */
const STEP_KEPT_MAX = 256 << 10;
/**
 * While nobody waits for the peer, what it is to get is gathered for so long: a system call for each write, and the wakening of whoever
 * receives it, would cost an application more than the resync itself.
 */
const GATHER_NS = 1e6;

/** What it needs of a link. */
export interface Line {
  readonly wire: Pick<Wire, "flush" | "sent"> & {
    readonly stream: Pick<Stream, "kept" | "keepUpTo" | "sendKept">;
  };
}

/** What {@link Outgoing} needs. */
export interface OutgoingOptions {
  /** Has the link. */
  readonly sequencer: { readonly link: Line | null };
  readonly catchUp: Pick<CatchUp, "connected" | "live" | "step">;
  readonly shared: Pick<Shared, "get">;
  /** `id`: of the object that the disk here did not let us look at. */
  readonly onLost: (reason: string, id?: number) => void;
  /** Nanoseconds of a clock that only goes forward. */
  readonly now: () => number;
}

/** The line to the peer, of one role. */
export class Outgoing {
  readonly #sequencer: { readonly link: Line | null };
  readonly #catchUp: Pick<CatchUp, "connected" | "live" | "step">;
  readonly #shared: Pick<Shared, "get">;
  readonly #onLost: OutgoingOptions["onLost"];
  readonly #now: () => number;
  #flushedAt = 0;
  /** Of the session's line. */
  #share = new LineShare();

  constructor(options: OutgoingOptions) {
    this.#sequencer = options.sequencer;
    this.#catchUp = options.catchUp;
    this.#shared = options.shared;
    this.#onLost = options.onLost;
    this.#now = options.now;
  }

  /** A link stands that was not there before. */
  begin(): void {
    this.#share = new LineShare();
    this.bound();
  }

  /** Says how much may be kept; called when the membership has changed. */
  bound(): void {
    const member = this.#shared.get(WORD.members) === 2;
    this.#sequencer.link?.wire.stream.keepUpTo(member ? KEPT_MAX : KEPT_CATCHING_UP);
  }

  /** Bytes that the peer has not taken. */
  get kept(): number {
    return this.#sequencer.link?.wire.stream.kept ?? 0;
  }

  /** Bytes that the peer was sent, or is to be. */
  get #sent(): number {
    return this.#sequencer.link?.wire.sent ?? 0;
  }

  /** Whether a step may add to what the peer has not taken. */
  get mayStep(): boolean {
    const { connected, live } = this.#catchUp;
    const catchingUp = connected && !live;
    return catchingUp ? this.#share.allows(this.kept, this.#sent) : this.kept <= STEP_KEPT_MAX;
  }

  /** Nobody waits for the peer, which is being brought up to date. */
  get unhurried(): boolean {
    const { connected, live } = this.#catchUp;
    return connected && !live && this.#shared.get(WORD.members) === 1;
  }

  /** One step of bringing the peer up to date, where one may be made. */
  step(): void {
    if (!this.mayStep) return;
    try {
      const before = this.#sent;
      this.#catchUp.step();
      if (this.#sent > before) this.#share.stepped(this.kept, this.#sent);
    } catch (error) {
      if (error instanceof SourceRefused) return this.#onLost(error.message, error.id);
      if (!(error instanceof StreamError)) throw error;
      this.#onLost(error.message);
    }
  }

  /** Sends what the requests served so far have for the peer, unless it may wait for more. */
  flush(): void {
    if (this.unhurried && this.#now() - this.#flushedAt < GATHER_NS) return;
    this.flushNow();
  }

  /** Sends it in any case. */
  flushNow(): void {
    this.#flushedAt = this.#now();
    try {
      const wire = this.#sequencer.link?.wire;
      wire?.flush();
      wire?.stream.sendKept();
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#onLost(error.message);
    }
  }
}
