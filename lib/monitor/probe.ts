/**
 * The arbiter's questions to the network, over sockets that never block.
 *
 * @module
 */

import { addressBytes, claimant, probe } from "../effects/arp.ts";
import { findInterface, type VipAddress, type VipLink } from "../effects/vip.ts";
import { EffectError } from "../effects/types.ts";
import { encodeEcho, isEchoReply } from "./icmp.ts";
import type { ProbeLimits, Probes, TcpAnswer } from "./probe_types.ts";

/** Between two looks at a socket. */
const LOOK_MS = 3;
/** Between two questions: a single lost packet must not speak for a host. */
const REPEAT_MS = 200;
/** Packets taken at one look; a flood must not keep the event loop. */
const LOOK_MAX = 64;

/** A socket for one kind of packet. */
export interface RawSocket {
  send(packet: Uint8Array<ArrayBuffer>): void;
  /** The next packet that came, null when there is none. */
  receive(): Uint8Array | null;
  close(): void;
}

/** A connection on its way. */
export interface Connecting {
  /** Null: no answer yet. */
  answer(): "accepted" | "refused" | "unreachable" | null;
  close(): void;
}

/** What the probes need of the world. */
export interface ProbeWorld {
  links(): readonly VipLink[];
  addresses(): readonly VipAddress[];
  openIcmp(address: string): RawSocket;
  openArp(index: number): RawSocket;
  connect(address: string, port: number): Connecting;
  /** Monotonic. */
  nowMs(): number;
  delay(ms: number): Promise<void>;
  /** Chance, 0 to `below` − 1. */
  random(below: number): number;
}

/** The real {@link Probes}, over a world. */
export class NetworkProbes implements Probes {
  constructor(readonly world: ProbeWorld) {}

  async ping(address: string, limits: ProbeLimits): Promise<boolean> {
    const from = addressBytes(address);
    const identifier = this.world.random(0x10000);
    let sequence = 0;
    const socket = this.world.openIcmp(address);
    try {
      return await this.#ask(limits, {
        ask: () => socket.send(encodeEcho(identifier, sequence++)),
        look: () => drain(socket, (packet) => isEchoReply(packet, from, identifier) ? true : null),
      }) ?? false;
    } finally {
      socket.close();
    }
  }

  async arp(address: string, interfaceName: string | null, limits: ProbeLimits): Promise<string | null> {
    const links = this.world.links();
    const index = findInterface({ address, interface: interfaceName }, links, this.world.addresses());
    const link = links.find((link) => link.index === index);
    if (link === undefined || link.mac.length !== 6) {
      const where = interfaceName ?? "an interface of its subnet";
      throw new EffectError(`Cannot ask who has ${address}: there is no ${where} that knows ARP`);
    }
    const socket = this.world.openArp(link.index);
    try {
      return await this.#ask(limits, {
        ask: () => socket.send(probe(address, link.mac)),
        look: () => drain(socket, (packet) => claimant(packet, address, link.mac)),
      });
    } finally {
      socket.close();
    }
  }

  async tcp(address: string, port: number, limits: ProbeLimits): Promise<TcpAnswer> {
    let connecting: Connecting | null = null;
    try {
      // The kernel repeats the SYN by itself after a second; a refusal by the network is asked again.
      return await this.#ask(limits, {
        ask: () => connecting ??= this.world.connect(address, port),
        look: () => {
          const answer = connecting?.answer() ?? null;
          if (answer !== "unreachable") return answer;
          connecting?.close();
          connecting = null;
          return null;
        },
      }) ?? "silent";
    } finally {
      (connecting as Connecting | null)?.close();
    }
  }

  /** Asks again and again until there is an answer, or the time is over. */
  async #ask<T>(limits: ProbeLimits, probe: { ask(): void; look(): T | null }): Promise<T | null> {
    const until = this.world.nowMs() + limits.deadlineMs;
    let next = -Infinity;
    for (;;) {
      limits.signal?.throwIfAborted();
      const now = this.world.nowMs();
      if (now >= next) {
        probe.ask();
        next = now + REPEAT_MS;
      }
      const answer = probe.look();
      if (answer !== null) return answer;
      if (now >= until) return null;
      await this.world.delay(LOOK_MS);
    }
  }
}

function drain<T>(socket: RawSocket, read: (packet: Uint8Array) => T | null): T | null {
  for (let count = 0; count < LOOK_MAX; count++) {
    const packet = socket.receive();
    if (packet === null) return null;
    const answer = read(packet);
    if (answer !== null) return answer;
  }
  return null;
}
