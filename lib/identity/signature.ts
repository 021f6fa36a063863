/**
 * How one node proves to another that a request is its own: HMAC-SHA256 with the cluster key, inside TLS.
 *
 * Sender and receiver are signed, so that a request cannot be reflected to its author nor carried to a third
 * node. There is no time in it: nodes' clocks may differ, and the TLS below admits no replay.
 */
import { decodeBase64Url, encodeBase64Url } from "./base64.ts";

/** Scheme in the `Authorization` header. */
export const SCHEME = "Binome-Node";

/** What is signed. */
export interface SignedRequest {
  readonly from: string;
  readonly to: string;
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly body: Uint8Array;
}

/** Prepares the cluster key for {@link sign} and {@link verify}. */
export async function importClusterKey(bytes: Uint8Array): Promise<CryptoKey> {
  if (bytes.byteLength !== 32) {
    throw new TypeError(
      `Cannot use the cluster key: it has ${bytes.byteLength} bytes, not 32; copy cluster.key from another node`,
    );
  }
  return await crypto.subtle.importKey("raw", bytes.slice(), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);
}

/** Value of the `Authorization` header. */
export async function sign(key: CryptoKey, request: SignedRequest): Promise<string> {
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, await message(request)));
  return `${SCHEME} ${request.from} ${encodeBase64Url(mac)}`;
}

/** The name of the node that signed, or undefined when it did not, or not this. */
export async function verify(
  key: CryptoKey,
  header: string,
  request: Omit<SignedRequest, "from">,
): Promise<string | undefined> {
  const [scheme, from, mac, ...rest] = header.split(" ");
  if (scheme !== SCHEME || from === undefined || mac === undefined || rest.length > 0) return undefined;
  if (!/^[A-Za-z0-9_-]{43}$/.test(mac)) return undefined;
  const signed = await message({ ...request, from });
  return await crypto.subtle.verify("HMAC", key, decodeBase64Url(mac).slice(), signed) ? from : undefined;
}

/** Compares two secrets in a time that tells nothing of where they differ. */
export async function sameSecret(left: string, right: string): Promise<boolean> {
  const [a, b] = await Promise.all(
    [left, right].map(async (text) =>
      new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)))
    ),
  );
  if (a === undefined || b === undefined) return false;
  let difference = 0;
  for (const [at, byte] of a.entries()) difference |= byte ^ (b[at] ?? 0);
  return difference === 0;
}

async function message(request: SignedRequest): Promise<Uint8Array<ArrayBuffer>> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", request.body.slice()));
  const { from, to, method, path } = request;
  return new TextEncoder().encode(
    ["binome request v1", from, to, method, path, encodeBase64Url(digest)].join("\n"),
  );
}
