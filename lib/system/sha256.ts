/**
 * SHA-256 by the system's OpenSSL 3, from memory to memory: nothing is allocated per hash.
 *
 * @module
 */

import { openLibrary } from "./libc.ts";

const crypto = openLibrary("libcrypto.so.3", {
  /** `unsigned char *SHA256(const unsigned char *data, size_t count, unsigned char *md_buf)` */
  SHA256: { parameters: ["usize", "usize", "usize"], result: "usize" },
});

/** Bytes of a hash. */
export const SHA256_BYTES = 32;

/** Hashes `length` bytes at `address` into the {@link SHA256_BYTES} bytes at `into`. */
export function sha256(address: number, length: number, into: number): void {
  crypto.SHA256(BigInt(address), BigInt(length), BigInt(into));
}
