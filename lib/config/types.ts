/**
 * What the configuration files say, after validation: every default filled in, every unit in its name.
 *
 * The YAML keys are `snake_case` with units in the value (`peer_timeout: 3s`); these are their meaning.
 */

/** A whole cluster: `STATE/cluster.yaml`, the same on every node. */
export interface ClusterConfig {
  /** Name of the cluster, as in `binome init --cluster NAME`. */
  readonly cluster: string;
  /** 1 to 16 nodes. */
  readonly nodes: readonly NodeConfig[];
  /** Names of the networks, the preferred one first. Every name used in `nodes[].addresses` is here. */
  readonly networks: readonly string[];
  readonly arbiter: ArbiterConfig;
  readonly timings: TimingsConfig;
  readonly ports: PortsConfig;
}

/** One server. */
export interface NodeConfig {
  readonly name: string;
  /** Network name → IPv4 address of this node on it. At least one. */
  readonly addresses: Readonly<Record<string, string>>;
}

/** Who is asked before a secondary takes over. `ping` can only veto; `none` leaves it to a person. */
export type ArbiterConfig =
  | {
    readonly kind: "ping";
    /** IPv4 address of a router both nodes reach by the application's network. */
    readonly address: string;
    /** `strict`: a person confirms the takeover of a silent peer. `auto`: all vetoes absent is enough. */
    readonly mode: "strict" | "auto";
  }
  | { readonly kind: "none" };

/** How long is long. Milliseconds; `T_promote = (dead + witness + watchdog) * 1.01 + 500`. */
export interface TimingsConfig {
  readonly heartbeatMs: number;
  /** Silence after which the peer counts as dead. */
  readonly deadMs: number;
  /** How long the witness may need to answer. */
  readonly witnessMs: number;
  /** After this long without authority a node has stopped serving, whatever hangs. */
  readonly watchdogMs: number;
  /** How long the primary waits for a silent secondary before it goes on alone. Default of a module's `peer_timeout`. */
  readonly peerMs: number;
}

/** Ports of the control road; the same on every node. */
export interface PortsConfig {
  /** TCP: HTTPS API. */
  readonly api: number;
  /** UDP: heartbeats. */
  readonly heartbeat: number;
}

/** One thing made highly available: `STATE/modules/NAME.yaml`. */
export interface ModuleConfig {
  readonly name: string;
  readonly kind: "directory" | "service";
  /** The two nodes that hold the module's data. */
  readonly nodes: readonly [string, string];
  /** Preferred network of the replication channel; both nodes have an address on it. */
  readonly network: string;
  /** When {@link network} was gone: how long it must be heard without a gap before the channel returns to it. */
  readonly networkReturnMs: number;
  /** TCP port of the replication channel, on both nodes. */
  readonly port: number;
  /** At least one directory. */
  readonly replicate: readonly ReplicateConfig[];
  readonly virtualIps: readonly VirtualIpConfig[];
  /** Null when the module replicates only. */
  readonly service: ServiceConfig | null;
  readonly failover: FailoverConfig;
  readonly peerTimeoutMs: number;
  /** Payload kept on disk for a peer that is away. */
  readonly logBudgetBytes: number;
  /** The most content a resync moves, bytes a second. Null: as much as there is. */
  readonly resyncBandwidth: number | null;
  /**
   * What a secondary may keep of its former state while it is resynchronised, bytes. Null: as much as there is room for, but
   * a reserve; 0: nothing.
   */
  readonly wayBackBytes: number | null;
  /** Both copies are verified when the last time is so long ago. Null: only when a person asks. */
  readonly scrubMs: number | null;
  /** Whether the replication channel is encrypted. It is authenticated either way. */
  readonly encryption: boolean;
  /** What to do when both copies were written apart. `wait`: a person decides. */
  readonly onDivergence: "wait";
}

/**
 * What an application may rely on when a call returns.
 *
 * `each-write`: every `write` is applied on both nodes. `fsync`: the kernel keeps written pages, as for a local file
 * system; what it has flushed, and everything at close, is applied on both. In both, fsync and O_SYNC mean both disks.
 * `relaxed`: as `fsync`, but nothing waits for the secondary, which may be up to a second behind; fsync means this node's
 * disk.
 */
export type Durability = "each-write" | "fsync" | "relaxed";

/** One replicated directory, in place. */
export interface ReplicateConfig {
  /** Absolute, normalized. */
  readonly path: string;
  readonly durability: Durability;
  /** A file in it without which nothing is started (I7), on either node. Null: any directory that was replicated will do. */
  readonly require: string | null;
  /** Patterns of names (`*.tmp`) and of paths beneath (`cache/**`) that stay on the node. */
  readonly exclude: readonly string[];
}

/** An address that is on the primary only. */
export interface VirtualIpConfig {
  readonly address: string;
  readonly prefix: number;
  /** Null: the interface that has an address of the same subnet. */
  readonly interface: string | null;
}

/** How the service is started on the primary and stopped anywhere. */
export interface ServiceConfig {
  /** Program and arguments. Null when `unit` is given. */
  readonly start: readonly string[] | null;
  /** Null: the service's processes are ended by signals. */
  readonly stop: readonly string[] | null;
  /** systemd unit, started and stopped by `systemctl`. Null when `start` is given. */
  readonly unit: string | null;
  /** User the commands run as. Null: root. */
  readonly user: string | null;
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly environment: Readonly<Record<string, string>>;
}

/** Who serves when there is a choice. */
export interface FailoverConfig {
  /** False: the secondary never takes over by itself. */
  readonly automatic: boolean;
  /** Node that is elected when both copies are current. Null: the last primary. */
  readonly prefer: string | null;
}
