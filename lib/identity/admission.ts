/** How a node is let in: a token printed on a member, redeemed once by the newcomer. */
import { decodeBase64Url, encodeBase64Url } from "./base64.ts";
import { issueCertificate } from "./certificate.ts";
import { addressesOf, type Admission, type Ambient, type Identity } from "./identity.ts";
import { encodeJoinToken, hashSecret, type PendingJoin, SECRET_BYTES, TOKEN_LIFE_MS } from "./join_token.ts";
import { readText, SECRET_MODE, STATE_FILE, type StateFiles } from "./state_files.ts";

const FOLDER = "join";
/** More open tokens than nodes make no sense. */
const PENDING_MAX = 32;

/** Why a node was not let in. `message` is for the person at the newcomer. */
export class AdmissionError extends Error {
  override readonly name = "AdmissionError";
}

/**
 * Makes a token for one node.
 *
 * @param node the node to let in.
 * @returns the line to paste, and until when it is good.
 */
export async function createJoinToken(
  files: StateFiles,
  identity: Identity,
  node: string,
  ambient: Ambient,
): Promise<{ readonly line: string; readonly expiresAt: number }> {
  if (node === identity.node) throw new AdmissionError(`Cannot make a join token: ${node} is this node`);
  addressesOf(identity.cluster, node);
  if (await files.read(STATE_FILE.authorityKey) === null) {
    throw new AdmissionError("Cannot make a join token: ca.key is not on this node; run it on another one");
  }
  const address = addressToReach(identity, node);
  const secret = encodeBase64Url(ambient.randomBytes(SECRET_BYTES));
  const expiresAt = ambient.now() + TOKEN_LIFE_MS;
  await forgetExpired(files, ambient.now());
  if ((await files.list(FOLDER)).length >= PENDING_MAX) {
    throw new AdmissionError(`Cannot make a join token: ${PENDING_MAX} are open; they expire within an hour`);
  }
  const pending: PendingJoin = { node, hash: await hashSecret(secret), expiresAt };
  await files.write(nameOf(pending.hash), new TextEncoder().encode(JSON.stringify(pending)), SECRET_MODE);
  const line = encodeJoinToken({
    address: `${address}:${identity.cluster.ports.api}`,
    node,
    secret,
    authority: identity.authority,
  });
  return { line, expiresAt };
}

/**
 * Redeems a secret: the token is gone from here on, whatever happens after.
 *
 * @throws {AdmissionError} when the secret is unknown, used or expired, or the request is not sound.
 */
export async function admit(
  files: StateFiles,
  identity: Identity,
  options: { readonly secret: string; readonly request: string },
  ambient: Ambient,
): Promise<Admission> {
  const hash = await hashSecret(options.secret);
  const text = await readText(files, nameOf(hash));
  // Found by its hash: there is nothing to compare, hence nothing to time.
  if (text === null) {
    throw new AdmissionError(
      'Cannot join: the token is not known here, or was used before; print a new one with "binome join-token"',
    );
  }
  const pending = JSON.parse(text) as PendingJoin;
  await files.remove(nameOf(hash));
  if (ambient.now() > pending.expiresAt) {
    throw new AdmissionError('Cannot join: the token has expired; print a new one with "binome join-token"');
  }
  const authorityKey = await readText(files, STATE_FILE.authorityKey);
  if (authorityKey === null) throw new AdmissionError("Cannot join: ca.key is not on this node");
  const addresses = addressesOf(identity.cluster, pending.node);
  const authority = { certificate: identity.authority, key: authorityKey };
  let certificate: string;
  try {
    certificate = await issueCertificate(authority, options.request, {
      node: pending.node,
      addresses,
      at: ambient.now(),
    });
  } catch (cause) {
    throw new AdmissionError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
  return {
    node: pending.node,
    clusterText: identity.clusterText,
    authority: identity.authority,
    authorityKey,
    certificate,
    clusterKey: identity.clusterKey,
    token: identity.token,
  };
}

/** An admission as JSON, and back. */
export function admissionToJson(admission: Admission): Record<string, string> {
  const { clusterKey, ...rest } = admission;
  return { ...rest, clusterKey: encodeBase64Url(clusterKey) };
}

/**
 * Reads what {@link admissionToJson} wrote.
 *
 * @throws {TypeError} when the answer is not an admission.
 */
export function admissionFromJson(json: unknown): Admission {
  const fields = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const text = (name: string): string => {
    const value = fields[name];
    if (typeof value !== "string" || value === "") {
      throw new TypeError(`Cannot join: the answer has no ${name}; is the other node of the same version?`);
    }
    return value;
  };
  return {
    node: text("node"),
    clusterText: text("clusterText"),
    authority: text("authority"),
    authorityKey: text("authorityKey"),
    certificate: text("certificate"),
    clusterKey: decodeBase64Url(text("clusterKey")),
    token: text("token"),
  };
}

/** The admitting node's address on the first network both are on: the newcomer has a way to it. */
function addressToReach(identity: Identity, node: string): string {
  const { cluster } = identity;
  const own = cluster.nodes.find(({ name }) => name === identity.node)?.addresses ?? {};
  const other = cluster.nodes.find(({ name }) => name === node)?.addresses ?? {};
  for (const network of cluster.networks) {
    const address = own[network];
    if (address !== undefined && other[network] !== undefined) return address;
  }
  throw new AdmissionError(
    `Cannot make a join token: ${identity.node} and ${node} share no network in cluster.yaml`,
  );
}

async function forgetExpired(files: StateFiles, now: number): Promise<void> {
  for (const name of await files.list(FOLDER)) {
    const text = await readText(files, `${FOLDER}/${name}`);
    const expired = text === null || (JSON.parse(text) as PendingJoin).expiresAt < now;
    if (expired) await files.remove(`${FOLDER}/${name}`);
  }
}

function nameOf(hash: string): string {
  return `${FOLDER}/${hash.slice(0, 32)}.json`;
}
