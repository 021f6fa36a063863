/**
 * What the keeper needs of the world, so that its rules can be tried without one. The real one is
 * `lib/system/keeper_world.ts`.
 *
 * @module
 */

import type { PlacedVip } from "../effects/types.ts";
import type { ReplicatorDescriptors } from "./types.ts";

/** Everything the keeper touches. */
export interface KeeperWorld {
  readonly pid: number;
  readonly time: Time;
  readonly directories: DirectoryWorld;
  readonly descriptors: DescriptorWorld;
  readonly processes: ProcessWorld;
  readonly memory: MemoryWorld;
  readonly fence: FenceWorld;
  /** One line of log. */
  log(line: string): void;
}

/** Clock and timers. */
export interface Time {
  /** `CLOCK_BOOTTIME`, milliseconds. */
  bootMs(): number;
  delay(ms: number): Promise<void>;
}

/** What lies on a directory now. */
export interface Layers {
  /** Our FUSE mount. `minor` names its connection. */
  readonly fuse: { readonly minor: number; readonly module: string } | null;
  /** How many dead FUSE mounts of ours lie beneath that. */
  readonly dead: number;
  readonly covered: boolean;
}

/** Mounts. Every call throws an error whose message is for the operator. */
export interface DirectoryWorld {
  layers(path: string): Layers;
  /** Why this path cannot be replicated, in words that complete "Cannot … PATH: …". Null: it can. */
  objection(path: string): string | null;
  /**
   * What is open beneath a directory, in any mount namespace, and could write there: one sentence each, at most ten.
   * Read-only ways in are harmless.
   *
   * @param except pids whose descriptors are ours.
   */
  openBeneath(path: string, except: readonly number[]): Promise<string[]>;
  /** The directory itself; nothing of ours may lie on it. */
  open(path: string): number;
  cover(path: string): void;
  /** A new connection; answers its `/dev/fuse` descriptor. */
  mount(path: string, module: string): number;
  /** Ends a connection; the mount stays, and every request fails. */
  abort(path: string): void;
  /** Takes the topmost mount away. A FUSE connection must have been aborted before. */
  detach(path: string): void;
}

/** Descriptors. */
export interface DescriptorWorld {
  /** Copies one out of another process. */
  copy(pid: number, fd: number): number;
  close(fd: number): void;
}

/** A process that is held, not only numbered. */
export interface Held {
  readonly pid: number;
  /** When it started: with the pid, its identity across our own restart. */
  readonly start: string;
  /** Resolves once it has ended; to its exit code when it was our child and was not killed, else to null. */
  readonly ended: Promise<number | null>;
  signal(kind: "terminate" | "kill"): void;
}

/** Replicators. */
export interface ProcessWorld {
  start(module: string): Held;
  /** The pid of the replicator that has its turn; null when it has died, or none has had it. */
  atWork(module: string): number | null;
  /** Null: that process has ended, or its pid is now another's. */
  adopt(pid: number, start: string): Held | null;
  /** The replicator that has its turn, whoever started it; null when it has died, or none has had it. */
  adoptAtWork(module: string): Held | null;
  /** Asks a running replicator for its descriptors; rejects when it does not answer in time. */
  descriptors(module: string): Promise<ReplicatorDescriptors>;
}

/** What a keeper must know after its own death: kept in `RUN`, gone with the power. */
export interface Remembered {
  readonly paths: readonly string[];
  readonly replicator: { readonly pid: number; readonly start: string } | null;
  readonly guard: Guard | null;
}

/** What the dead man's switch takes down. */
export interface Guard {
  readonly vips: readonly PlacedVip[];
  readonly cgroups: readonly string[];
  readonly graceMs: number;
}

/** `RUN/MODULE.keeper`. */
export interface MemoryWorld {
  modules(): string[];
  recall(module: string): Remembered | null;
  remember(module: string, what: Remembered): void;
  forget(module: string): void;
}

/** What the dead man's switch reads and does. */
export interface FenceWorld {
  /** The authority's deadline in milliseconds of `CLOCK_BOOTTIME`; 0 when there is none. */
  authorityMs(module: string): number;
  removeVip(vip: PlacedVip): void;
  /** Kills every process of a group; rejects when some are left after a second. */
  killGroup(cgroup: string): Promise<void>;
  /** Tells the watchdog that we are well. */
  pat(): void;
}
