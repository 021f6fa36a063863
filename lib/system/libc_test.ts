import { assertEquals } from "@std/assert";
import { addressOf, memoryAt } from "./libc.ts";

Deno.test("addressOf() stays good for a small array while the garbage collector moves things", () => {
  const arrays: { readonly bytes: Uint8Array<ArrayBuffer>; readonly address: number }[] = [];
  for (let size = 1; size <= 96; size++) {
    const bytes = new Uint8Array(size);
    arrays.push({ bytes, address: addressOf(bytes) });
  }
  let garbage: unknown[] = [];
  for (let i = 0; i < 2_000_000; i++) {
    garbage.push({ i });
    if (garbage.length > 10_000) garbage = [];
  }
  for (const { bytes, address } of arrays) {
    bytes.fill(bytes.length);
    assertEquals(new Uint8Array(memoryAt(address, bytes.length)), bytes);
  }
});

Deno.test("addressOf() counts from the start of a view, not of its buffer", () => {
  const whole = new Uint8Array([1, 2, 3, 4]);
  assertEquals(addressOf(whole.subarray(2)) - addressOf(whole), 2);
});
