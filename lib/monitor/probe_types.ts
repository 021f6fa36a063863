/**
 * Questions to the network that the arbiter asks before a takeover. None of them is ever proof that a host is dead.
 *
 * @module
 */

/** How long a probe may take. It never rejects for lack of an answer; it rejects when it could not even ask. */
export interface ProbeLimits {
  readonly deadlineMs: number;
  /** Aborting makes the probe reject with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** `accepted` and `refused` both mean that the host lives. */
export type TcpAnswer = "accepted" | "refused" | "silent";

/** The probes. Each asks several times within its deadline and resolves at the first answer. */
export interface Probes {
  /** Whether an IPv4 address answers an ICMP echo. */
  ping(address: string, limits: ProbeLimits): Promise<boolean>;
  /** What a TCP port says. */
  tcp(address: string, port: number, limits: ProbeLimits): Promise<TcpAnswer>;
  /**
   * Who claims an IPv4 address on the wire of an interface (RFC 5227 probe: it disturbs nobody's ARP cache). Null
   * interface: the one with an address of the same subnet.
   *
   * @returns the MAC address that answered, `02:00:…`, or null. Our own interfaces do not answer.
   */
  arp(address: string, interfaceName: string | null, limits: ProbeLimits): Promise<string | null>;
}
