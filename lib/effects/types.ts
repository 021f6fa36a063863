/**
 * What the agent may do to the host: virtual addresses and services. The agent calls these, tests hand in their own.
 *
 * All of it is idempotent: adding what is there and removing what is not succeed.
 *
 * @module
 */

import type { ServiceConfig, VirtualIpConfig } from "../config/types.ts";

/** A virtual address on a known interface. */
export interface PlacedVip {
  /** Dotted IPv4. */
  readonly address: string;
  /** Length of the network part, 1 to 32. */
  readonly prefix: number;
  readonly interface: string;
}

/** Virtual IPv4 addresses of this host. */
export interface VipEffects {
  /**
   * Finds the interface: the configured one, else the one that has an address of the same subnet.
   *
   * @throws {EffectError} when there is none.
   */
  place(vip: VirtualIpConfig): PlacedVip;
  /**
   * Sets the address and announces it by gratuitous ARP; announcements go on for some seconds by themselves.
   * Resolves once the address is set and announced for the first time.
   *
   * @throws {EffectError}
   */
  add(vip: VirtualIpConfig): Promise<PlacedVip>;
  /**
   * Stops announcing, then takes the address away from every interface that has it.
   *
   * @throws {EffectError}
   */
  remove(vip: VirtualIpConfig): Promise<void>;
  /** Whether this host has the address now. */
  has(vip: VirtualIpConfig): boolean;
  /** Stops all announcements; addresses stay. For the end of the agent. */
  close(): void;
}

/** A service of a module, with what its scripts are told. */
export interface ServiceSpec {
  readonly module: string;
  readonly config: ServiceConfig;
  /** `BINOME_NODE` */
  readonly node: string;
  /** `BINOME_ROLE`: what the module is, or is becoming, on this node. */
  readonly role: "primary" | "secondary" | "stopped";
  /** `BINOME_VIP`, separated by spaces. */
  readonly vips: readonly string[];
}

/** The service of a module: all its processes are one group, killed whole. */
export interface ServiceEffects {
  /**
   * Runs the start command (or starts the unit) and waits until it has returned 0. Its processes outlive the agent.
   *
   * @throws {EffectError} when it fails or exceeds its time; what it had started is killed by then.
   */
  start(spec: ServiceSpec): Promise<void>;
  /**
   * Stop command, then SIGTERM to what is left, then the kill of the whole group. Resolves only when no process is
   * left, however badly the stop command went (that is in the log).
   *
   * @throws {EffectError} when processes survive even SIGKILL (they wait for a disk, or for a mount).
   */
  stop(spec: ServiceSpec): Promise<void>;
  /** Whether any process of the service lives. For a unit: whether systemd calls it active. */
  running(spec: ServiceSpec): Promise<boolean>;
  /** The cgroup of a module's service, for the keeper's `guard`. Null: this host has no cgroup v2. */
  cgroup(module: string): string | null;
  /** What an operator should know, for instance that there is no cgroup v2. */
  readonly warnings: readonly string[];
}

/** The world did not do what was asked. The message is for the operator. */
export class EffectError extends Error {
  override readonly name = "EffectError";
}
