/** The files beneath `STATE`, as identity and configuration need them. */
export interface StateFiles {
  /** Null when there is no such file. Throws when it cannot be read. */
  read(name: string): Promise<Uint8Array | null>;
  /**
   * Replaces the file whole: after a power cut there is the old content or the new, never a part. Returns when it
   * survives one. Folders on the way are made with mode 0700.
   */
  write(name: string, bytes: Uint8Array, mode: number): Promise<void>;
  /** Names in a folder, sorted; empty when there is no such folder. */
  list(folder: string): Promise<readonly string[]>;
  /** Does nothing when there is no such file. */
  remove(name: string): Promise<void>;
}

/** A file as text; null when there is none. */
export async function readText(files: StateFiles, name: string): Promise<string | null> {
  const bytes = await files.read(name);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

/** Names and modes of the identity's files. */
export const STATE_FILE = {
  /** Name of this node. Written last: where it is, the rest is complete. */
  node: "node",
  cluster: "cluster.yaml",
  authority: "ca.crt",
  authorityKey: "ca.key",
  certificate: "node.crt",
  key: "node.key",
  clusterKey: "cluster.key",
  token: "token",
} as const;

/** For secrets. */
export const SECRET_MODE = 0o600;
/** For what `curl --cacert` reads. */
export const PUBLIC_MODE = 0o644;
