/**
 * Two agents in memory: real loop, real core, real heartbeats; the hosts, the wire and the time are the test's.
 *
 * @module
 */

import type { EventRow } from "../agent_control.ts";
import type { ClusterConfig, ModuleConfig } from "../config/types.ts";
import type { DurableRecord } from "../failover/mod.ts";
import { Agent } from "./agent.ts";
import { type Caller, StoreFullError, type Timers } from "./seams.ts";

/** A cluster of two nodes on two networks, with lab timings. */
export const CLUSTER: ClusterConfig = {
  cluster: "test",
  nodes: [
    { name: "n1", addresses: { lan: "10.0.0.1", repl: "10.1.0.1" } },
    { name: "n2", addresses: { lan: "10.0.0.2", repl: "10.1.0.2" } },
  ],
  networks: ["lan", "repl"],
  arbiter: { kind: "ping", address: "10.0.0.254", mode: "auto" },
  timings: { heartbeatMs: 250, deadMs: 1000, witnessMs: 1000, watchdogMs: 1000, peerMs: 3000 },
  ports: { api: 9010, heartbeat: 9011 },
};

/** A module with an address and a service. */
export const MODULE: ModuleConfig = {
  name: "m",
  kind: "service",
  nodes: ["n1", "n2"],
  network: "repl",
  port: 9020,
  replicate: [{ path: "/srv/m", durability: "fsync", require: null, exclude: [] }],
  virtualIps: [{ address: "10.0.0.100", prefix: 24, interface: null }],
  service: {
    start: ["/bin/start"],
    stop: null,
    unit: null,
    user: null,
    startTimeoutMs: 1000,
    stopTimeoutMs: 1000,
    environment: {},
  },
  failover: { automatic: true, prefer: "n1" },
  networkReturnMs: 30_000,
  peerTimeoutMs: 3000,
  logBudgetBytes: 1 << 20,
  resyncBandwidth: null,
  wayBackBytes: null,
  scrubMs: null,
  encryption: false,
  onDivergence: "wait",
};

/** Time that moves when the test says so. */
export class ManualTime implements Timers {
  now = 1_000_000;
  #entries: { at: number; every: number; run: () => void; live: boolean }[] = [];

  every(ms: number, run: () => void): () => void {
    return this.#add(ms, ms, run);
  }
  after(ms: number, run: () => void): () => void {
    return this.#add(ms, 0, run);
  }

  /** Moves on, timer by timer, letting every promise settle between. */
  async run(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await settle();
      const next = this.#entries.filter((one) => one.live && one.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.now = Math.max(this.now, next.at);
      if (next.every > 0) next.at += next.every;
      else next.live = false;
      next.run();
      this.#entries = this.#entries.filter((one) => one.live);
    }
    this.now = end;
    await settle();
  }

  /** Moves on until it holds; throws after `limitMs`. */
  async until(what: string, holds: () => boolean, limitMs = 20_000): Promise<number> {
    const start = this.now;
    while (!holds()) {
      if (this.now - start >= limitMs) throw new Error(`not within ${limitMs} ms: ${what}`);
      await this.run(10);
    }
    return this.now - start;
  }

  #add(ms: number, every: number, run: () => void): () => void {
    const entry = { at: this.now + ms, every, run, live: true };
    this.#entries.push(entry);
    return () => entry.live = false;
  }
}

/** Lets everything that waits only for other code go on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 60; i++) await Promise.resolve();
}

/** One host: its keeper, replicator, addresses and service, as far as an agent can tell. */
export class FakeHost {
  readonly name: string;
  readonly events: EventRow[] = [];
  readonly calls: string[] = [];
  records = new Map<string, DurableRecord>();
  bootId = "boot-1";
  powered = true;
  mounted = false;
  replicatorRuns = false;
  role: "idle" | "primary" | "secondary" = "idle";
  epoch = 0;
  sequence = 0;
  /** The replicator is in the middle of a comparison. */
  comparing = false;
  /** Of the peer, as a secondary was told them: it connects to the first. */
  addresses: readonly string[] = [];
  vip = false;
  service = false;
  serviceStarts = 0;
  fenced = false;
  authority = { untilMs: 0, epoch: 0 };
  agent: Agent | null = null;
  onDatagram: (network: string, bytes: Uint8Array) => void = () => {};
  failService: string | null = null;
  diskFull = false;
  /** Modules whose directories were noted as open to anybody. */
  readonly edited: string[] = [];
  readonly #callers = new Set<{ path: string; end: () => void }>();

  constructor(name: string) {
    this.name = name;
  }

  /** Connects to the keeper or the replicator. */
  connect(path: string, peer: () => FakeHost): Promise<Caller> {
    const alive = this.powered && (path === "keeper" || this.replicatorRuns);
    if (!alive) return Promise.reject(new Error("nobody answers"));
    const ended = Promise.withResolvers<void>();
    const entry = { path, end: () => ended.resolve() };
    this.#callers.add(entry);
    return Promise.resolve({
      closed: ended.promise,
      close: () => ended.resolve(),
      call: (method, params) => {
        this.calls.push(method);
        return Promise.resolve().then(() =>
          path === "keeper" ? this.#keeper(method) : this.#replicator(method, params, peer())
        );
      },
    });
  }

  /** SIGKILL of the replicator; the keeper starts another that knows from its disk what it was. */
  killReplicator(): void {
    this.replicatorRuns = false;
    this.#end("m");
  }

  powerOff(): void {
    this.powered = false;
    this.replicatorRuns = false;
    this.mounted = false;
    this.vip = false;
    this.service = false;
    this.role = "idle";
    this.bootId += "+";
    this.#end(null);
  }

  #end(path: string | null): void {
    for (const caller of this.#callers) {
      if (path !== null && caller.path !== path) continue;
      this.#callers.delete(caller);
      caller.end();
    }
  }

  #keeper(method: string): unknown {
    switch (method) {
      case "replicator.start":
        this.replicatorRuns = true;
        return {};
      case "replicator.stop":
        this.killReplicator();
        return {};
      case "mount":
        this.mounted = true;
        this.fenced = false;
        return {};
      case "unmount":
        this.mounted = false;
        return {};
      case "status":
        return { modules: [{ module: "m", fenced: this.fenced }] };
      case "list":
        return { pid: 1, mounts: [{ path: "/srv/m", backing: 3, fuse: this.mounted ? 4 : null }], kept: [] };
      default:
        return {};
    }
  }

  #replicator(method: string, params: unknown, peer: FakeHost): unknown {
    const epoch = Number((params as { epoch?: unknown }).epoch ?? this.epoch);
    switch (method) {
      case "close":
        if (this.comparing && (params as { force?: unknown }).force !== true) {
          throw Object.assign(new Error("the copy is part of a resync"), { code: "inconsistent" });
        }
        break;
      case "status":
        return this.#status(peer);
      case "serve":
        this.role = "primary";
        this.epoch = epoch;
        return {};
      case "follow":
        this.addresses = (params as { primary: { addresses: readonly string[] } }).primary.addresses;
        this.role = "secondary";
        this.epoch = epoch;
        return {};
      case "paths":
        this.addresses = (params as { addresses: readonly string[] }).addresses;
        return {};
      case "solo":
      case "pair":
        this.epoch = epoch;
        return { sequence: String(this.sequence) };
    }
    this.role = "idle";
    return { sequence: String(this.sequence) };
  }

  #via(peer: FakeHost): string | undefined {
    if (this.role === "secondary") return this.addresses[0];
    // The primary sees the other end of the same network.
    const [mine, other] = [this.name, peer.name].map((name) =>
      CLUSTER.nodes.find((node) => node.name === name)
    );
    const network = CLUSTER.networks.find((one) => mine?.addresses[one] === peer.addresses[0]);
    return network === undefined ? undefined : other?.addresses[network];
  }

  #status(peer: FakeHost): unknown {
    const roles = [this.role, peer.role].sort().join();
    const connected = peer.powered && peer.replicatorRuns && roles === "primary,secondary";
    if (connected && this.role === "secondary") this.sequence = peer.sequence;
    return {
      role: this.role,
      epoch: this.epoch,
      connected,
      caughtUp: connected && !this.comparing && !peer.comparing,
      copy: this.comparing ? "inconsistent" : "uptodate",
      via: connected ? this.#via(peer) : null,
      sequence: String(this.sequence),
      acknowledged: String(peer.sequence),
      history: [{ generation: "00000000000000aa", epoch: 1, first: "0" }],
    };
  }
}

/** Both hosts with their agents. */
export class Pair {
  readonly time = new ManualTime();
  readonly n1 = new FakeHost("n1");
  readonly n2 = new FakeHost("n2");
  readonly cutNetworks = new Set<string>();
  #incarnation = 1n;

  /** Starts, or restarts, the agent of a host. */
  startAgent(host: FakeHost): Agent {
    const other = host === this.n1 ? this.n2 : this.n1;
    const { time } = this;
    const agent = new Agent({
      node: host.name,
      cluster: CLUSTER,
      modules: [{ config: MODULE, generation: 1 }],
    }, {
      clock: { now: () => time.now, wall: () => `t${time.now}` },
      timers: time,
      store: {
        load: (module) => host.records.get(module) ?? null,
        save: (module, record) => {
          if (host.diskFull) {
            throw new StoreFullError(`Cannot write the record of "${module}": no space left`);
          }
          host.records.set(module, record);
        },
        forget: (module) => void host.records.delete(module),
        append(event) {
          const row = { id: host.events.length + 1, ...event };
          host.events.push(row);
          return row;
        },
        events: (since, limit) => host.events.filter((event) => event.id > since).slice(0, limit),
      },
      connect: (path) => host.connect(path, () => other),
      markEdited: (module) => Promise.resolve(void host.edited.push(module)),
      vips: {
        place: (vip) => ({ address: vip.address, prefix: vip.prefix, interface: "eth0" }),
        add(vip) {
          host.vip = true;
          return Promise.resolve({ address: vip.address, prefix: vip.prefix, interface: "eth0" });
        },
        remove() {
          host.vip = false;
          return Promise.resolve();
        },
        has: () => host.vip,
        close: () => {},
      },
      services: {
        start() {
          if (host.failService !== null) return Promise.reject(new Error(host.failService));
          host.service = true;
          host.serviceStarts += 1;
          return Promise.resolve();
        },
        stop() {
          host.service = false;
          return Promise.resolve();
        },
        running: () => Promise.resolve(host.service),
        cgroup: () => null,
        warnings: [],
      },
      probes: {
        ping: (address) => Promise.resolve(address === "10.0.0.254" || other.powered),
        tcp: () => Promise.resolve(other.powered ? "refused" : "silent"),
        arp: (address) =>
          Promise.resolve(
            (address === "10.0.0.100" ? other.vip : other.powered) ? "02:00:00:00:00:01" : null,
          ),
      },
      sign: weakSign,
      incarnation: this.#incarnation++,
      bootId: host.bootId,
      socket: (name) => name,
      openAuthority: () => ({
        write: (untilMs, epoch) => void (host.authority = { untilMs, epoch }),
        close: () => {},
      }),
      openTransport: (onDatagram) => {
        host.onDatagram = onDatagram;
        return {
          send: (network, _address, bytes) => {
            if (!host.powered || !other.powered || host.agent !== agent || this.cutNetworks.has(network)) {
              return;
            }
            queueMicrotask(() => other.onDatagram(network, bytes));
          },
        };
      },
      log: () => {},
    });
    host.agent = agent;
    return agent;
  }

  /** SIGKILL: nothing is said, nothing is undone. */
  async killAgent(host: FakeHost): Promise<void> {
    const { agent } = host;
    host.agent = null;
    host.onDatagram = () => {};
    await agent?.close();
  }

  /** State and readiness of a host, as its own agent says. */
  shows(host: FakeHost): string {
    const own = host.agent?.status().modules[0]?.nodes[0];
    return own === undefined ? "off" : `${own.state} ${own.readiness}`;
  }

  /** Both agents started and paired, n1 primary. */
  async pair(): Promise<void> {
    this.startAgent(this.n1);
    this.startAgent(this.n2);
    await this.time.run(500);
    await this.n1.agent?.command("m", "start-primary", { by: "test" });
    await this.n2.agent?.command("m", "start", { by: "test" });
    await this.time.until(
      "a pair",
      () => this.shows(this.n1) === "primary ready" && this.shows(this.n2) === "secondary ready",
    );
  }
}

/** 32 bytes that depend on every byte: enough where nobody forges. */
function weakSign(bytes: Uint8Array): Uint8Array {
  const mac = new Uint8Array(32);
  bytes.forEach((byte, i) => mac[i % 32] = ((mac[i % 32] ?? 0) * 31 + byte + i) & 255);
  return mac;
}
