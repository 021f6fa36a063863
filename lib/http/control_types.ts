/** What the API needs besides the agent: other nodes, this host, who we are. */
import type { ModuleConfig } from "../config/types.ts";
import type { Ambient, Identity, StateFiles } from "../identity/mod.ts";

/** Requests to other nodes' APIs, signed with the cluster key. */
export interface PeerClient {
  /**
   * Sends one request, by the node's addresses in turn.
   *
   * @throws {PeerUnreachable} when no address answered in time.
   */
  request(node: string, request: PeerRequest): Promise<PeerAnswer>;
}

/** One request to another node. */
export interface PeerRequest {
  readonly method: string;
  /** Path and query, `/api/v1/…`. */
  readonly path: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What it answered. */
export interface PeerAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** No address of the node answered. */
export class PeerUnreachable extends Error {
  override readonly name = "PeerUnreachable";
}

/** What only the machine can say of a configuration. */
export interface HostChecks {
  /** Sentences; empty when this host can run the module. */
  check(config: ModuleConfig): Promise<readonly string[]>;
}

/** What {@link createApp} is made of. */
export interface AppOptions {
  readonly identity: Identity;
  readonly files: StateFiles;
  readonly ambient: Ambient;
  readonly clusterKey: CryptoKey;
  readonly peers: PeerClient;
  readonly host: HostChecks;
  readonly version: string;
}
