import { assertEquals } from "@std/assert";
import { addressOf } from "./address.ts";

Deno.test("addressOf() answers where a view begins, of memory that is shared as of memory that is not", () => {
  for (const buffer of [new ArrayBuffer(4096), new SharedArrayBuffer(4096)]) {
    const start = addressOf(new Uint8Array(buffer));
    assertEquals(addressOf(new Uint8Array(buffer, 100)), start + 100);
    assertEquals(addressOf(new DataView(buffer, 8, 8)), start + 8);
  }
});
