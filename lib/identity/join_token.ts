/**
 * The one line that admits a node.
 *
 * It carries the authority's certificate itself, not only its hash: the joining node trusts exactly this
 * authority from the first byte, and no step of the exchange is unauthenticated. The secret is good once.
 *
 * ```
 * binome1.<base64url of JSON {a: "10.0.0.11:9010", n: "node2", s: secret, c: certificate}>
 * ```
 */
import { decodeBase64Url, encodeBase64Url } from "./base64.ts";
import { certificateBytes, certificatePem } from "./certificate.ts";

const PREFIX = "binome1.";
const TOKEN_MAX = 8192;

/** How long a token is good, milliseconds: the time to walk to the other server. */
export const TOKEN_LIFE_MS = 60 * 60 * 1000;
/** Bytes of the one-time secret. */
export const SECRET_BYTES = 24;

/** What a join token says. */
export interface JoinToken {
  /** `address:port` of the API of the node that admits. */
  readonly address: string;
  /** Name of the node that is admitted. */
  readonly node: string;
  /** One-time secret, base64url. */
  readonly secret: string;
  /** Certificate of the cluster's authority, PEM. */
  readonly authority: string;
}

/** One line, safe to paste into a shell. */
export function encodeJoinToken(token: JoinToken): string {
  const text = JSON.stringify({
    a: token.address,
    n: token.node,
    s: token.secret,
    c: encodeBase64Url(certificateBytes(token.authority)),
  });
  return PREFIX + encodeBase64Url(new TextEncoder().encode(text));
}

/**
 * Reads the line a person pasted.
 *
 * @throws {TypeError} when it is no token, was cut, or is of another version.
 */
export function decodeJoinToken(line: string): JoinToken {
  const text = line.trim();
  const refuse = (why: string, cause?: unknown) =>
    new TypeError(
      `Cannot read the join token: ${why}; copy the whole line that "binome join-token" printed`,
      {
        cause,
      },
    );
  if (!text.startsWith(PREFIX)) throw refuse(`it does not start with ${PREFIX}`);
  if (text.length > TOKEN_MAX) throw refuse(`it has ${text.length} characters`);
  try {
    const fields: unknown = JSON.parse(new TextDecoder().decode(decodeBase64Url(text.slice(PREFIX.length))));
    if (typeof fields !== "object" || fields === null) throw new TypeError("not a map");
    const { a, n, s, c } = fields as Record<"a" | "n" | "s" | "c", unknown>;
    if (typeof a !== "string" || typeof n !== "string" || typeof s !== "string" || typeof c !== "string") {
      throw new TypeError("a field is missing");
    }
    return { address: a, node: n, secret: s, authority: certificatePem(decodeBase64Url(c)) };
  } catch (cause) {
    throw refuse("it is damaged", cause);
  }
}

/** A token as the admitting node remembers it: without the secret. */
export interface PendingJoin {
  readonly node: string;
  /** SHA-256 of the secret, hexadecimal. */
  readonly hash: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** SHA-256 of a secret, hexadecimal. */
export async function hashSecret(secret: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
