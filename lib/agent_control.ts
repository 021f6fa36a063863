/**
 * What the control plane (HTTP, command line) may ask of the agent.
 *
 * Every answer is a plain value that survives `JSON.stringify`: positions are decimal strings, times are ISO 8601.
 *
 * @module
 */

import type { Copy, Readiness, StateName, Verb } from "./failover/types.ts";
import type { ClusterConfig, ModuleConfig } from "./config/types.ts";

export type { Copy, Readiness, StateName, Verb };
export { VERBS } from "./failover/types.ts";

/** Progress of a resync towards, or from, this node. */
export interface ResyncStatus {
  readonly phase: string;
  /** Bytes of content that were sent. */
  readonly bytes: number;
  /** Bytes that went over the network for it, hashes and attributes included, compressed where that pays; 0: not known here. */
  readonly sent: number;
  /** Bytes of content that both nodes have read and compared. */
  readonly compared: number;
  /** Objects, or in a replay records, that are done, and all as far as that is known. */
  readonly files: number;
  readonly filesTotal: number | null;
  /** Bytes sent and compared in a second, and objects. */
  readonly bytesPerSecond: number | null;
  readonly filesPerSecond: number | null;
  /** Null: it cannot be told yet. */
  readonly secondsLeft: number | null;
  /** Why it is not done yet, for a person. */
  readonly why: string;
}

/** What is known of the equality of the two copies. */
export interface VerificationStatus {
  /** When a comparison of everything last ended, ISO 8601, UTC; null: none did. */
  readonly verified: string | null;
  /** Of that one: what the secondary had otherwise, and has as the primary since. */
  readonly differences: number;
  /** Of that one: ranges that the primary's disk had lost, and that are still as they were. */
  readonly rotten: number;
  /** The same, written back from the secondary. */
  readonly mended: number;
  readonly objects: number;
  readonly bytes: number;
  /** The one that goes on. `part` from 0 to 1. `waiting`: for the secondary to have everything. */
  readonly running: {
    readonly part: number;
    readonly objects: number;
    readonly bytes: number;
    readonly differences: number;
    readonly waiting: boolean;
  } | null;
}

/** One module on one node, as that node last said it. */
export interface NodeModuleStatus {
  readonly node: string;
  /** False: nothing heard for longer than the dead time; the rest is what was heard last. */
  readonly heard: boolean;
  readonly state: StateName;
  readonly readiness: Readiness;
  readonly copy: Copy;
  readonly epoch: number;
  readonly role: "primary" | "secondary" | "none";
  readonly members: readonly string[];
  /** Decimal string. */
  readonly sequence: string;
  /** Why it is in this state, and what to do when something is needed. Empty when there is nothing to say. */
  readonly reason: string;
}

/** One module, seen from this node. */
export interface ModuleStatus {
  readonly module: string;
  readonly kind: ModuleConfig["kind"];
  readonly generation: number;
  /** This node's own view first, then the peer's. */
  readonly nodes: readonly NodeModuleStatus[];
  /** Replication channel. */
  readonly peerConnected: boolean;
  /** The network it is to be made over, and the one it is made over; null while it does not stand. */
  readonly network: { readonly preferred: string; readonly used: string | null };
  readonly resync: ResyncStatus | null;
  /** Null when the replicator does not answer. */
  readonly verification: VerificationStatus | null;
  readonly vip: { readonly addresses: readonly string[]; readonly set: boolean };
  readonly service: {
    readonly configured: boolean;
    readonly state: "none" | "starting" | "running" | "failed" | "stopping";
  };
  readonly maintenance: boolean;
  /** What the replicator says of itself, as it says it: counters, lag, encryption. Null when it does not answer. */
  readonly replicator: Readonly<Record<string, unknown>> | null;
}

/** The cluster, seen from this node. */
export interface ClusterStatus {
  readonly cluster: string;
  readonly node: string;
  readonly arbiter: string;
  readonly peers: readonly {
    readonly node: string;
    readonly heard: boolean;
    /** The newest version of the protocol it speaks; null while nothing was heard of it. */
    readonly protocol: number | null;
    /** Per network: milliseconds since the last heartbeat, null when none came yet. */
    readonly networks: Readonly<Record<string, number | null>>;
  }[];
  readonly modules: readonly ModuleStatus[];
  /** Conditions a person should know of: no hardware watchdog, a network lost, no cgroup v2. */
  readonly warnings: readonly string[];
}

/** Answer to a verb. `ok: false` means nothing was done; the message says why and what to try. */
export interface CommandResult {
  readonly ok: boolean;
  readonly code: "accepted" | "refused" | "unknown-module" | "busy";
  readonly message: string;
}

/** One line of the events log. */
export interface EventRow {
  /** Grows by one; `since` takes it. */
  readonly id: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly node: string;
  readonly module: string;
  readonly epoch: number;
  readonly level: "info" | "warning" | "error";
  readonly what: string;
  readonly why: string;
}

/** The running agent, as the control plane sees it. */
export interface AgentControl {
  status(): ClusterStatus;
  /**
   * Asks for a verb. Resolves when the decision is made (accepted or refused), not when the new state is reached:
   * callers that want to wait poll {@link status}. `by` names who asked, for the audit.
   */
  command(
    module: string,
    verb: Verb,
    options: { readonly by: string; readonly force?: boolean },
  ): Promise<CommandResult>;
  /**
   * Compares all of the secondary's copy with this node's, which is primary, while applications go on. Resolves when it has
   * begun, or was refused.
   */
  verify(module: string, options: { readonly by: string }): Promise<CommandResult>;
  /** Events with `id > since`, oldest first, at most `limit` (≤ 1000). */
  events(since: number, limit: number): readonly EventRow[];
  /**
   * Takes a new or changed configuration of a module into use on this node (the file is already stored). A module
   * that runs accepts only changes that need no restart; else the result says to stop it first.
   */
  applyModule(config: ModuleConfig, generation: number): Promise<CommandResult>;
  /** Forgets a module; refused unless it is stopped on this node. Its directory is uncovered. */
  removeModule(module: string): Promise<CommandResult>;
  /**
   * Opens the directories of a stopped module for editing, or covers them again. What is opened is noted durably first: the
   * next start takes for granted that it has changed.
   */
  setCover(module: string, covered: boolean, options: { readonly by: string }): Promise<CommandResult>;
  /** Takes a changed cluster configuration into use: addresses and nodes at once. */
  applyCluster(config: ClusterConfig): Promise<CommandResult>;
  /** Writes an event of the control plane itself (configuration applied, node joined, refused login). */
  note(
    event: {
      readonly level: EventRow["level"];
      readonly module?: string;
      readonly what: string;
      readonly why: string;
    },
  ): void;
}
