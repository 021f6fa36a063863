/**
 * Heartbeats of this node to all its peers: who is told what, and whose word is taken.
 *
 * @module
 */

import type { Report } from "../failover/types.ts";
import { agreeVersion, PROTOCOL, protocolOf } from "../protocol.ts";
import {
  decodeHeartbeat,
  encodeHeartbeat,
  type Envelope,
  PeerLink,
  type Sign,
  splitModules,
} from "../monitor/heartbeat/mod.ts";
import type { Clock, HeartbeatTransport } from "./seams.ts";

/** A refusal is logged at most this often: garbage must not fill a disk. */
const REFUSAL_LOG_MS = 10_000;

/** Another node of the cluster. */
export interface Peer {
  readonly node: string;
  /** Network → its address there. */
  readonly addresses: Readonly<Record<string, string>>;
}

/** What {@link Heartbeats} is made of. */
export interface HeartbeatOptions {
  readonly node: string;
  readonly peers: readonly Peer[];
  readonly sign: Sign;
  readonly incarnation: bigint;
  readonly clock: Clock;
  readonly transport: HeartbeatTransport;
  /** Reports of the modules shared with a node. */
  readonly reports: (node: string) => readonly (readonly [string, Report])[];
  readonly onReport: (node: string, module: string, report: Report, echoedAt: number | null) => void;
  readonly log: (line: string) => void;
  /** Versions to speak; for tests. */
  readonly protocol?: typeof PROTOCOL;
}

interface Link {
  readonly peer: Peer;
  readonly link: PeerLink;
  /** The newest version the peer speaks. Null: not heard yet. */
  newest: number | null;
}

/** Sends and receives. */
export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #links = new Map<string, Link>();
  readonly #protocol: typeof PROTOCOL;
  #counter = 0n;
  #refusedAt = -Infinity;
  #refused = 0;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#protocol = options.protocol ?? PROTOCOL;
    for (const peer of options.peers) {
      this.#links.set(peer.node, { peer, link: this.#newLink(peer.node), newest: null });
    }
  }

  /** Heartbeats refused since the start: wrong key, garbage, replays. */
  get refused(): number {
    return this.#refused;
  }

  /** Per network of a peer: when it was last heard by it. */
  heardBy(node: string): ReadonlyMap<string, number> {
    return this.#links.get(node)?.link.networks ?? new Map();
  }

  /** The newest version of the protocol a peer speaks; null while nothing was heard of it. */
  newestOf(node: string): number | null {
    return this.#links.get(node)?.newest ?? null;
  }

  /** Tells every peer. */
  sendAll(): void {
    for (const node of this.#links.keys()) this.send(node);
  }

  /** Tells one peer, over every network: one that arrives is enough. */
  send(node: string): void {
    const entry = this.#links.get(node);
    if (entry === undefined) return;
    const at = this.#options.clock.now();
    for (const modules of splitModules(this.#options.reports(node))) {
      this.#transmit(entry, entry.link.envelope(at), modules);
    }
  }

  /** Takes what came by a network. */
  receive(network: string, bytes: Uint8Array): void {
    const heartbeat = decodeHeartbeat(bytes, this.#options.sign, this.#protocol);
    if ("refused" in heartbeat) {
      if (heartbeat.speaker !== undefined) this.#lower(heartbeat.speaker);
      return this.#refuse(network, heartbeat.refused);
    }
    const entry = this.#links.get(heartbeat.from);
    if (entry === undefined) return this.#refuse(network, `"${heartbeat.from}" is no node of this cluster`);
    const received = entry.link.receive(heartbeat, network, this.#options.clock.now());
    // Also by a greeting: one that was upgraded, or taken back, must understand our answer to it.
    if (received.kind === "fresh" || received.kind === "greeting") entry.newest = heartbeat.newest;
    switch (received.kind) {
      case "duplicate":
        return;
      case "refused":
        return this.#refuse(network, received.why);
      case "greeting":
        // Our answer carries the echo by which the new run proves itself.
        if (received.answer !== null) this.#answer(entry, received.answer);
        return;
      case "fresh":
        if (received.newRun) this.send(heartbeat.from);
        for (const [module, report] of heartbeat.modules) {
          this.#options.onReport(heartbeat.from, module, report, received.echoedAt);
        }
    }
  }

  /** Down only: what is refused proves no presence, and may be an old one that somebody sends again. */
  #lower({ from, newest }: { readonly from: string; readonly newest: number }): void {
    const entry = this.#links.get(from);
    if (entry !== undefined && entry.newest !== null) entry.newest = Math.min(entry.newest, newest);
  }

  #answer(link: Link, envelope: Envelope): void {
    const [modules] = splitModules(this.#options.reports(link.peer.node));
    this.#transmit(link, envelope, modules ?? []);
  }

  #transmit(
    { peer, newest }: Link,
    envelope: Envelope,
    modules: readonly (readonly [string, Report])[],
  ): void {
    const { node, sign, transport } = this.#options;
    const { version, versionMin } = this.#protocol;
    // One that we do not share a version with gets our oldest: it says in its log what it was sent.
    const spoken = newest === null ? null : agreeVersion(this.#protocol, protocolOf(newest));
    const words = { version: spoken ?? versionMin, newest: version };
    const bytes = encodeHeartbeat({ ...envelope, ...words, from: node, to: peer.node, modules }, sign);
    for (const [network, address] of Object.entries(peer.addresses)) transport.send(network, address, bytes);
  }

  #newLink(peer: string): PeerLink {
    const { node, incarnation } = this.#options;
    return new PeerLink({ me: node, peer, incarnation, nextCounter: () => ++this.#counter });
  }

  #refuse(network: string, why: string): void {
    this.#refused += 1;
    const at = this.#options.clock.now();
    if (at - this.#refusedAt < REFUSAL_LOG_MS) return;
    this.#refusedAt = at;
    this.#options.log(
      `heartbeats: refused a datagram on network ${network}: ${why} (${this.#refused} so far)`,
    );
  }
}
