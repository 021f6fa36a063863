/**
 * What the agent asks a replicator to do, as it comes over the socket.
 *
 * @module
 */

/** A node and where it can be reached, the preferred network first. */
export interface Peer {
  readonly name: string;
  readonly addresses: readonly string[];
}

/** The epoch of a command. Throws `TypeError`. */
export function epochOf(params: unknown): number {
  const epoch = (params as { epoch?: unknown } | null)?.epoch;
  if (typeof epoch === "number" && Number.isSafeInteger(epoch) && epoch >= 0) return epoch;
  throw new TypeError("Cannot read the command: epoch is no count");
}

/** Whether a person insists. */
export function isForced(params: unknown): boolean {
  return (params as { force?: unknown } | null)?.force === true;
}

function readPeer(value: unknown): Peer | null {
  const peer = value as { name?: unknown; addresses?: unknown } | null;
  if (peer === null || peer === undefined) return null;
  if (typeof peer.name !== "string" || !Array.isArray(peer.addresses)) {
    throw new TypeError("Cannot read the command: expected a peer with name and addresses");
  }
  return { name: peer.name, addresses: peer.addresses.map(String) };
}

/** Where the peer can be reached, the best first. Throws `TypeError`. */
export function readAddresses(params: unknown): readonly string[] {
  const addresses = (params as { addresses?: unknown } | null)?.addresses;
  if (Array.isArray(addresses) && addresses.length > 0) return addresses.map(String);
  throw new TypeError("Cannot read the command: expected addresses, at least one");
}

/** How to serve. Throws `TypeError`. */
export function readServe(
  params: unknown,
): { epoch: number; members: 1 | 2; peer: Peer | null; port: number } {
  const of = params as { members?: unknown; peer?: unknown; port?: unknown };
  const members = of.members === 2 ? 2 : 1;
  return { epoch: epochOf(params), members, peer: readPeer(of.peer), port: Number(of.port) };
}

/** Whom to follow. Throws `TypeError`. */
export function readFollow(
  params: unknown,
): { epoch: number; primary: Peer; port: number; overwrite: boolean } {
  const of = params as { primary?: unknown; port?: unknown; overwrite?: unknown };
  const primary = readPeer(of.primary);
  if (primary === null) throw new TypeError("Cannot follow: no primary was named");
  return { epoch: epochOf(params), primary, port: Number(of.port), overwrite: of.overwrite === true };
}
