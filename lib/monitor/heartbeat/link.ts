/**
 * One peer as its heartbeats show it: what is fresh, what is a replay, what was echoed.
 *
 * A run of the peer (its incarnation) is believed once it has echoed a recent datagram of ours: a recorded one cannot.
 * Before that its datagrams are greetings: they are answered, so that the proof can follow, and say nothing.
 * Invariant: within a believed run, only growing counters are taken.
 *
 * @module
 */

import type { Envelope, Heartbeat as Datagram } from "./codec.ts";

type Heartbeat = Omit<Datagram, "version" | "newest">;

/** An echo older than this proves no presence. Longer than any round trip, shorter than anyone needs to replay by hand. */
const PROOF_MAX_MS = 5000;
/** Finished runs that are remembered, so that their datagrams are never believed again. */
const RETIRED_MAX = 64;
/** Greetings answered at most this often: an attacker must not make us talk. */
const GREETING_MIN_MS = 20;

/** What a datagram was. */
export type Received =
  /**
   * To be used. `echoedAt`: when we sent what the peer has received, null when it echoes another run of ours.
   * `newRun`: the peer waits for our echo of its new run, as proof of ours.
   */
  | { readonly kind: "fresh"; readonly echoedAt: number | null; readonly newRun: boolean }
  /** The same came already, by another network. */
  | { readonly kind: "duplicate" }
  /** A run that has not proved itself. Send `answer` back, with our reports. */
  | { readonly kind: "greeting"; readonly answer: Envelope | null }
  | { readonly kind: "refused"; readonly why: string };

/** The heartbeats exchanged with one peer. */
export class PeerLink {
  readonly #me: string;
  readonly #peer: string;
  readonly #incarnation: bigint;
  readonly #nextCounter: () => bigint;
  readonly #retired: bigint[] = [];
  readonly #networks = new Map<string, number>();
  /** `freshAt`: when its newest datagram came first. */
  #run: { readonly incarnation: bigint; counter: bigint; sentAt: number; freshAt: number } | null = null;
  #greetedAt = -Infinity;

  constructor(options: {
    readonly me: string;
    readonly peer: string;
    readonly incarnation: bigint;
    readonly nextCounter: () => bigint;
  }) {
    this.#me = options.me;
    this.#peer = options.peer;
    this.#incarnation = options.incarnation;
    this.#nextCounter = options.nextCounter;
  }

  /** Network → when a datagram of the believed run came by it. */
  get networks(): ReadonlyMap<string, number> {
    return this.#networks;
  }

  /** The envelope of our next datagram. */
  envelope(at: number): Envelope {
    return this.#envelope(at, this.#run?.incarnation ?? 0n, this.#run?.sentAt ?? 0);
  }

  /** Judges a datagram whose signature was right. */
  receive(heartbeat: Heartbeat, network: string, at: number): Received {
    const { from, to, incarnation, counter } = heartbeat;
    if (from !== this.#peer || to !== this.#me) {
      return { kind: "refused", why: `it is from ${from} to ${to}, expected ${this.#peer} to ${this.#me}` };
    }
    if (this.#run?.incarnation === incarnation) return this.#receiveKnown(this.#run, heartbeat, network, at);
    if (this.#retired.includes(incarnation)) {
      return { kind: "refused", why: "it is a replay of a finished run" };
    }
    if (!this.#proves(heartbeat, at)) return this.#greet(heartbeat, at);
    if (this.#run !== null) this.#retire(this.#run.incarnation);
    this.#run = { incarnation, counter, sentAt: heartbeat.sentAt, freshAt: at };
    this.#networks.set(network, at);
    return { kind: "fresh", echoedAt: heartbeat.echoSentAt, newRun: true };
  }

  #receiveKnown(
    run: { counter: bigint; sentAt: number; freshAt: number },
    heartbeat: Heartbeat,
    network: string,
    at: number,
  ): Received {
    if (heartbeat.counter <= run.counter) {
      if (run.counter - heartbeat.counter > 64n) return { kind: "refused", why: "it is a replay" };
      // The same datagram by a second network says that this network lives, but no longer than the peer was heard at all:
      // one that was recorded and is sent again and again must not keep a dead peer alive.
      this.#networks.set(network, Math.max(this.#networks.get(network) ?? 0, run.freshAt));
      return { kind: "duplicate" };
    }
    run.counter = heartbeat.counter;
    run.sentAt = heartbeat.sentAt;
    run.freshAt = at;
    this.#networks.set(network, at);
    const ours = heartbeat.echoIncarnation === this.#incarnation && heartbeat.echoSentAt <= at;
    return { kind: "fresh", echoedAt: ours ? heartbeat.echoSentAt : null, newRun: false };
  }

  #proves(heartbeat: Heartbeat, at: number): boolean {
    const age = at - heartbeat.echoSentAt;
    return heartbeat.echoIncarnation === this.#incarnation && age >= 0 && age <= PROOF_MAX_MS;
  }

  #greet(heartbeat: Heartbeat, at: number): Received {
    if (at - this.#greetedAt < GREETING_MIN_MS) return { kind: "greeting", answer: null };
    this.#greetedAt = at;
    return { kind: "greeting", answer: this.#envelope(at, heartbeat.incarnation, heartbeat.sentAt) };
  }

  #envelope(at: number, echoIncarnation: bigint, echoSentAt: number): Envelope {
    return {
      incarnation: this.#incarnation,
      counter: this.#nextCounter(),
      sentAt: at,
      echoIncarnation,
      echoSentAt,
    };
  }

  #retire(incarnation: bigint): void {
    this.#retired.push(incarnation);
    if (this.#retired.length > RETIRED_MAX) this.#retired.shift();
  }
}
