/**
 * A port that anybody may connect to, in front of a server on this machine: it passes bytes on and bounds what connections
 * cost. Deno's own server takes as many as come, for as long as they like.
 *
 * Strangers push out strangers: of those, the one that is idle longest of the source that holds most gives way. Addresses
 * that are known, this cluster's nodes, have room of their own.
 *
 * @module
 */

/** Limits of a front; {@link FRONT_LIMITS} unless said otherwise. */
export interface FrontLimits {
  /** Connections of strangers together, and of one source, known or not. */
  readonly strangersMax: number;
  readonly perSource: number;
  /** The server has said nothing for so long. Longer than any request takes: a client gains no time by dribbling bytes. */
  readonly idleMs: number;
  /** From `accept` to the first byte of the server: for TLS, until the client has said hello. And from its last to the end. */
  readonly helloMs: number;
}

/** A browser opens six, a script perhaps ten. */
export const FRONT_LIMITS: FrontLimits = {
  strangersMax: 96,
  perSource: 32,
  idleMs: 120_000,
  helloMs: 10_000,
};

/** Pause before accepting again, after the last descriptor was taken. */
const ACCEPT_AGAIN_MS = 500;
const PIECE_BYTES = 16_384;
/** What said something so recently is not idle. */
const BUSY_MS = 1000;

/** What a {@link Front} needs. */
export interface FrontOptions {
  readonly hostname: string;
  readonly port: number;
  /** Port of the server on this machine, asked for each connection. */
  readonly to: () => number;
  /** Addresses of this cluster's nodes. */
  readonly known?: readonly string[];
  readonly limits?: Partial<FrontLimits>;
}

interface Carried {
  readonly source: string;
  readonly client: Deno.TcpConn;
  server: Deno.TcpConn | null;
  /** The server is in a conversation with it. */
  answered: boolean;
  /** When the server said something, or it came. */
  lastAt: number;
}

/** A listening port. */
export class Front {
  readonly #options: FrontOptions;
  readonly #limits: FrontLimits;
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Carried>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #timer: ReturnType<typeof setInterval>;
  #again: (() => void) | null = null;
  #closed = false;
  /** Closed to make room, or not let in; and closed for being silent. */
  readonly counters = { crowded: 0, silent: 0 };

  /** Listens. Throws what `Deno.listen` throws. */
  constructor(options: FrontOptions) {
    this.#options = options;
    this.#limits = { ...FRONT_LIMITS, ...options.limits };
    this.#listener = Deno.listen({ hostname: options.hostname, port: options.port });
    const { idleMs, helloMs } = this.#limits;
    this.#timer = setInterval(() => this.#endSilent(), Math.max(10, Math.min(idleMs, helloMs) / 4));
    this.#task(this.#acceptAll());
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** Connections now. */
  get size(): number {
    return this.#open.size;
  }

  /** Takes no more connections; those that are open go on. */
  stop(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listener.close();
    this.#again?.();
  }

  /** {@link stop}, and ends those that are open. */
  async close(): Promise<void> {
    this.stop();
    clearInterval(this.#timer);
    for (const carried of this.#open) this.#end(carried);
    await Promise.all(this.#tasks);
  }

  #task(work: Promise<void>): void {
    const tracked = work.finally(() => this.#tasks.delete(tracked));
    this.#tasks.add(tracked);
  }

  async #acceptAll(): Promise<void> {
    while (!this.#closed) {
      try {
        const client = await this.#listener.accept();
        if (this.#admit(client.remoteAddr.hostname)) this.#task(this.#carry(client));
        else client.close();
      } catch {
        if (!this.#closed) await this.#pause();
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ACCEPT_AGAIN_MS);
      this.#again = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Makes room for one more of a source. False: those that are there are all busy. */
  #admit(source: string): boolean {
    const own = [...this.#open].filter((carried) => carried.source === source);
    if (own.length >= this.#limits.perSource) return this.#makeRoom(own);
    if (this.#isKnown(source)) return true;
    const strangers = [...this.#open].filter((carried) => !this.#isKnown(carried.source));
    if (strangers.length < this.#limits.strangersMax) return true;
    const bySource = Object.values(Object.groupBy(strangers, (carried) => carried.source));
    const most = bySource.reduce<Carried[]>(
      (one, other) => (other?.length ?? 0) > one.length ? other ?? one : one,
      own,
    );
    return this.#makeRoom(most);
  }

  #makeRoom(among: readonly Carried[]): boolean {
    this.counters.crowded++;
    const [oldest] = [...among].sort((a, b) => a.lastAt - b.lastAt);
    // One that has not even said hello never counts as busy.
    if (oldest === undefined || (oldest.answered && performance.now() - oldest.lastAt < BUSY_MS)) {
      return false;
    }
    this.#end(oldest);
    return true;
  }

  #isKnown(source: string): boolean {
    return this.#options.known?.includes(source) === true;
  }

  async #carry(client: Deno.TcpConn): Promise<void> {
    const source = client.remoteAddr.hostname;
    const carried: Carried = { source, client, server: null, answered: false, lastAt: performance.now() };
    this.#open.add(carried);
    try {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#options.to() });
      if (!this.#open.has(carried)) return server.close();
      carried.server = server;
      const answers = pump(server, client, () => {
        carried.answered = true;
        carried.lastAt = performance.now();
      }).then(() => carried.answered = false);
      await Promise.all([pump(client, server, () => {}), answers]);
    } catch {
      // Either side left, or was ended here: nothing is owed to a connection.
    } finally {
      this.#end(carried);
    }
  }

  #endSilent(): void {
    const now = performance.now();
    for (const carried of this.#open) {
      const limit = carried.answered ? this.#limits.idleMs : this.#limits.helloMs;
      if (now - carried.lastAt < limit) continue;
      this.counters.silent++;
      this.#end(carried);
    }
  }

  #end(carried: Carried): void {
    if (!this.#open.delete(carried)) return;
    carried.client.close();
    carried.server?.close();
  }
}

async function pump(from: Deno.TcpConn, to: Deno.TcpConn, passed: () => void): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  for (let got = await from.read(piece); got !== null; got = await from.read(piece)) {
    passed();
    for (let done = 0; done < got;) done += await to.write(piece.subarray(done, got));
  }
  await to.closeWrite();
}
