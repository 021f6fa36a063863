/**
 * Which network the replication channel is made over: the module's own, another while that one is silent, and the own
 * one again once it has been heard without a gap for a while.
 *
 * Heartbeats go over every network, so that an agent knows which of them lives before a connection would notice.
 *
 * @module
 */

/** What is remembered of a module's networks. */
export interface Paths {
  /** The network in use. */
  readonly network: string;
  /** Network → since when it is heard without a gap; missing while it is silent. */
  readonly since: ReadonlyMap<string, number>;
  /** Before this nothing could have been heard. */
  readonly startedAt: number;
}

/** How long is long, milliseconds. */
export interface PathTimes {
  /** A network that was not heard for this long is silent. */
  readonly silentMs: number;
  /** The preferred network is used again when it was heard without a gap for this long. */
  readonly returnMs: number;
}

/** Begins with the preferred network: one that was not heard yet is not silent. */
export function firstPath(preferred: string, at: number): Paths {
  return { network: preferred, since: new Map(), startedAt: at };
}

/** Looks at what was heard. `networks`: both nodes are on them, the preferred one first. */
export function choosePath(
  paths: Paths,
  now: {
    readonly at: number;
    readonly networks: readonly string[];
    /** Network → when it was heard last. */
    readonly heard: ReadonlyMap<string, number>;
    readonly times: PathTimes;
  },
): Paths {
  const { at, networks, heard, times } = now;
  const isSilent = (network: string): boolean =>
    at - (heard.get(network) ?? paths.startedAt) >= times.silentMs;
  const lives = (network: string): boolean => heard.has(network) && !isSilent(network);
  const since = new Map(
    networks.filter(lives).map((network): [string, number] => [network, paths.since.get(network) ?? at]),
  );
  const next = (): string => {
    const [preferred = paths.network] = networks;
    // The peer is silent on every network, or on this one alone.
    if (isSilent(paths.network)) return networks.find(lives) ?? paths.network;
    if (paths.network === preferred) return preferred;
    const heardSince = since.get(preferred);
    return heardSince !== undefined && at - heardSince >= times.returnMs ? preferred : paths.network;
  };
  return { network: next(), since, startedAt: paths.startedAt };
}

/** The network in use first, then the others in their order: where a connection is tried. */
export function inOrder(networks: readonly string[], network: string): readonly string[] {
  return [network, ...networks.filter((other) => other !== network)];
}

/** A connection must still be made within the peer bound once a silence is noticed; three heartbeats may get lost. */
export function pathSilentMs(
  times: { readonly heartbeatMs: number; readonly deadMs: number; readonly peerMs: number },
): number {
  return Math.min(times.deadMs, Math.max(3 * times.heartbeatMs, Math.floor(times.peerMs / 2)));
}
