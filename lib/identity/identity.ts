/** Who this node is: made by `init` on the first node, handed over by `join` to the others. */
import { parseCluster } from "../config/cluster.ts";
import type { ClusterConfig } from "../config/types.ts";
import { encodeBase64Url } from "./base64.ts";
import {
  certificateBytes,
  createAuthority,
  createRequest,
  type Credentials,
  issueCertificate,
} from "./certificate.ts";
import { PUBLIC_MODE, readText, SECRET_MODE, STATE_FILE, type StateFiles } from "./state_files.ts";

/** Chance and clock, handed in. */
export interface Ambient {
  /** Milliseconds since 1970. */
  now(): number;
  randomBytes(length: number): Uint8Array;
}

/** Everything a member of a cluster holds. */
export interface Identity {
  readonly node: string;
  readonly cluster: ClusterConfig;
  readonly clusterText: string;
  /** Certificate of the authority, PEM. */
  readonly authority: string;
  readonly credentials: Credentials;
  /** 32 bytes: heartbeats, requests between nodes. */
  readonly clusterKey: Uint8Array;
  /** Bearer token of the API. */
  readonly token: string;
}

/** The part of an identity that another node hands over. */
export interface Admission {
  readonly node: string;
  readonly clusterText: string;
  readonly authority: string;
  /** Every node can admit the next: a cluster whose first node is gone must still take a replacement. */
  readonly authorityKey: string;
  readonly certificate: string;
  readonly clusterKey: Uint8Array;
  readonly token: string;
}

/**
 * Makes a new cluster with this node in it.
 *
 * @throws {Error} when this node is in a cluster already.
 */
export async function createIdentity(
  files: StateFiles,
  options: { readonly clusterText: string; readonly node: string; readonly file: string },
  ambient: Ambient,
): Promise<ClusterConfig> {
  const cluster = parseCluster(options.clusterText, options.file);
  await refuseMember(files, "make a cluster");
  const addresses = addressesOf(cluster, options.node);
  const at = ambient.now();
  const authority = await createAuthority({ cluster: cluster.cluster, at });
  const { request, key } = await createRequest(options.node);
  const certificate = await issueCertificate(authority, request, { node: options.node, addresses, at });
  await saveAdmission(files, {
    node: options.node,
    clusterText: options.clusterText,
    authority: authority.certificate,
    authorityKey: authority.key,
    certificate,
    clusterKey: ambient.randomBytes(32),
    token: encodeBase64Url(ambient.randomBytes(32)),
  }, key);
  return cluster;
}

/** Writes what `init` made or `join` received. The node's name last: it says that the rest is there. */
export async function saveAdmission(files: StateFiles, admission: Admission, key: string): Promise<void> {
  const text = (value: string) => new TextEncoder().encode(value);
  await files.write(STATE_FILE.authority, text(admission.authority), PUBLIC_MODE);
  await files.write(STATE_FILE.authorityKey, text(admission.authorityKey), SECRET_MODE);
  await files.write(STATE_FILE.certificate, text(admission.certificate), PUBLIC_MODE);
  await files.write(STATE_FILE.key, text(key), SECRET_MODE);
  await files.write(STATE_FILE.clusterKey, admission.clusterKey, SECRET_MODE);
  await files.write(STATE_FILE.token, text(`${admission.token}\n`), SECRET_MODE);
  await files.write(STATE_FILE.cluster, text(admission.clusterText), PUBLIC_MODE);
  await files.write(STATE_FILE.node, text(`${admission.node}\n`), PUBLIC_MODE);
}

/**
 * Refuses to go on where an identity would be overwritten.
 *
 * @throws {Error} when this node is in a cluster already: its keys would be lost.
 */
export async function refuseMember(files: StateFiles, what: string): Promise<void> {
  const node = await readText(files, STATE_FILE.node);
  if (node === null) return;
  throw new Error(
    `Cannot ${what}: this machine is already node ${node.trim()} of a cluster; stop Binome and move its state directory away first`,
  );
}

/**
 * Reads who this node is, and that its parts belong together.
 *
 * @throws {Error} when it is in no cluster yet, or a file is missing or damaged.
 */
export async function loadIdentity(files: StateFiles): Promise<Identity> {
  const node = (await readText(files, STATE_FILE.node))?.trim();
  if (node === undefined) {
    throw new Error(
      'Cannot start: this machine is in no cluster yet; run "binome init" on the first node, "binome join" on the others',
    );
  }
  const need = async (name: string): Promise<Uint8Array> => {
    const bytes = await files.read(name);
    if (bytes === null || bytes.byteLength === 0) {
      throw new Error(`Cannot start: ${name} is missing from the state directory; restore it, or join again`);
    }
    return bytes;
  };
  const text = async (name: string) => new TextDecoder().decode(await need(name));
  const clusterText = await text(STATE_FILE.cluster);
  const cluster = parseCluster(clusterText, STATE_FILE.cluster);
  addressesOf(cluster, node);
  const authority = await text(STATE_FILE.authority);
  certificateBytes(authority);
  return {
    node,
    cluster,
    clusterText,
    authority,
    credentials: { certificate: await text(STATE_FILE.certificate), key: await text(STATE_FILE.key) },
    clusterKey: await need(STATE_FILE.clusterKey),
    token: (await text(STATE_FILE.token)).trim(),
  };
}

/**
 * Addresses of a node, the preferred network first.
 *
 * @throws {Error} when the cluster has no such node.
 */
export function addressesOf(cluster: ClusterConfig, node: string): readonly string[] {
  const found = cluster.nodes.find(({ name }) => name === node);
  if (found === undefined) {
    const names = cluster.nodes.map(({ name }) => name).join(", ");
    throw new Error(`Cannot use node ${JSON.stringify(node)}: cluster ${cluster.cluster} has ${names}`);
  }
  return cluster.networks.flatMap((network) => found.addresses[network] ?? []);
}
