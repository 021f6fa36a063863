import { assertEquals } from "@std/assert";
import { addressOf } from "./libc.ts";
import { sha256, SHA256_BYTES } from "./sha256.ts";

Deno.test("sha256() agrees with the Web Crypto API at every length around a block", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(200));
  const hash = new Uint8Array(SHA256_BYTES);
  const address = addressOf(bytes);
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 200]) {
    sha256(address, length, addressOf(hash));
    const expected = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(0, length)));
    assertEquals(hash, expected);
  }
});
