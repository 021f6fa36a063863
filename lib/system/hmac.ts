/** HMAC-SHA256, synchronous: a heartbeat must not wait for a thread pool. */
import { createHmac } from "node:crypto";

/** Makes the signer of one key. */
export function hmacSha256(key: Uint8Array): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => createHmac("sha256", key).update(bytes).digest();
}
