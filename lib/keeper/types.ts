/**
 * What is said on `RUN/keeper.sock` and, from keeper to replicator, on `RUN/MODULE.sock`.
 *
 * Descriptor numbers are those of the process that answers: copy them with `pidfd_getfd(2)`.
 *
 * @module
 */

import type { PlacedVip } from "../effects/types.ts";

/** Answer to `list {module}`: descriptor numbers in the keeper. */
export interface KeeperList {
  readonly pid: number;
  readonly mounts: readonly KeptMount[];
  readonly kept: readonly KeptDescriptor[];
}

/** One replicated directory. */
export interface KeptMount {
  readonly path: string;
  /** The directory beneath, opened before anything was mounted over it. */
  readonly backing: number;
  /** `/dev/fuse` of the mount; null while the directory is only covered. */
  readonly fuse: number | null;
}

/** An orphan's descriptor under the replicator's own key. */
export interface KeptDescriptor {
  readonly key: string;
  readonly fd: number;
}

/**
 * Answer of a replicator to `descriptors {}`, asked by a keeper that has just been restarted: descriptor numbers in
 * the replicator.
 */
export interface ReplicatorDescriptors {
  readonly pid: number;
  readonly mounts: readonly KeptMount[];
  readonly kept: readonly KeptDescriptor[];
}

/** Parameters of `guard`. */
export interface GuardParams {
  readonly module: string;
  readonly vips: readonly PlacedVip[];
  readonly cgroups: readonly string[];
  readonly graceMs: number;
}

/** Answer to `status {}`. */
export interface KeeperStatus {
  readonly pid: number;
  /** What an operator should know: no watchdog, memory not locked. */
  readonly warnings: readonly string[];
  readonly modules: readonly {
    readonly module: string;
    /** Null: none is wanted. `pid` null: between two attempts. */
    readonly replicator: { readonly pid: number | null; readonly deaths: number } | null;
    readonly paths: readonly { readonly path: string; readonly mounted: boolean }[];
    /** The dead man's switch has taken this module down since its last `mount`. */
    readonly fenced: boolean;
  }[];
}

/**
 * Events pushed to every caller:
 * - `replicator-died {module, pid, deaths, restartsInMs}`
 * - `replicator-started {module, pid}`
 * - `fenced {module, reason, failures}`: the dead man's switch took the module down
 * - `mount-lost {module, path}`: found at start without descriptors, and taken away
 */
export type KeeperEvent = "replicator-died" | "replicator-started" | "fenced" | "mount-lost";
