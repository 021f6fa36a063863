/**
 * Heartbeat sockets: one per network, bound to this node's address there.
 *
 * An address that is not there yet (the interface comes up late, the cable is out) is tried again; the others work.
 *
 * @module
 */

import { messageOf } from "../message.ts";

/** Receives what came by a network. */
export type OnDatagram = (network: string, bytes: Uint8Array, from: string) => void;

/** How often a missing address is tried again. */
const RETRY_MS = 1000;

/** Sockets of all networks of this node. */
export class UdpNetworks {
  readonly #port: number;
  readonly #onDatagram: OnDatagram;
  readonly #log: (line: string) => void;
  readonly #sockets = new Map<string, Deno.DatagramConn>();
  readonly #retries = new Map<string, number>();
  readonly #loops = new Set<Promise<void>>();
  #closed = false;

  constructor(options: {
    readonly port: number;
    /** Network → this node's IPv4 address on it. */
    readonly addresses: Readonly<Record<string, string>>;
    readonly onDatagram: OnDatagram;
    readonly log: (line: string) => void;
  }) {
    this.#port = options.port;
    this.#onDatagram = options.onDatagram;
    this.#log = options.log;
    for (const [network, address] of Object.entries(options.addresses)) this.#open(network, address, true);
  }

  /** Sends, or does nothing while the network is not there: the next heartbeat comes soon. */
  send(network: string, address: string, bytes: Uint8Array): void {
    const socket = this.#sockets.get(network);
    if (socket === undefined) return;
    // A network that is down refuses (ENETUNREACH); silence is what heartbeats are judged by, so it needs no report.
    socket.send(bytes, { transport: "udp", hostname: address, port: this.#port }).catch(() => {});
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#retries.values()) clearTimeout(timer);
    for (const socket of this.#sockets.values()) socket.close();
    await Promise.all(this.#loops);
  }

  #open(network: string, address: string, first: boolean): void {
    if (this.#closed) return;
    try {
      const socket = Deno.listenDatagram({ transport: "udp", hostname: address, port: this.#port });
      this.#sockets.set(network, socket);
      const loop = this.#receive(network, address, socket).finally(() => this.#loops.delete(loop));
      this.#loops.add(loop);
      if (!first) this.#log(`heartbeats: ${address} on network ${network} is there now`);
    } catch (error) {
      // Another agent on the same port is an operator's mistake that no waiting repairs.
      if (error instanceof Deno.errors.AddrInUse) {
        throw new Error(
          `Cannot listen for heartbeats on ${address}:${this.#port}: the port is taken; stop the other program, ` +
            "or change `ports.heartbeat` in cluster.yaml on every node",
          { cause: error },
        );
      }
      if (first) {
        this.#log(`heartbeats: no ${address} on network ${network} yet (${messageOf(error)}); trying again`);
      }
      this.#retryLater(network, address);
    }
  }

  #retryLater(network: string, address: string): void {
    const timer = setTimeout(() => {
      this.#retries.delete(network);
      this.#open(network, address, false);
    }, RETRY_MS);
    this.#retries.set(network, timer);
  }

  async #receive(network: string, address: string, socket: Deno.DatagramConn): Promise<void> {
    while (!this.#closed) {
      try {
        const [bytes, from] = await socket.receive(new Uint8Array(65536));
        this.#onDatagram(network, bytes, from.transport === "udp" ? from.hostname : "");
      } catch (error) {
        if (this.#closed) return;
        // An ICMP error for something sent earlier: the peer's agent is not up. The socket is fine.
        if (error instanceof Deno.errors.ConnectionRefused) continue;
        this.#log(`heartbeats: lost ${address} on network ${network} (${messageOf(error)}); trying again`);
        this.#sockets.delete(network);
        try {
          socket.close();
        } catch (closing) {
          if (!(closing instanceof Deno.errors.BadResource)) throw closing;
        }
        return this.#retryLater(network, address);
      }
    }
  }
}
