import { assertEquals } from "@std/assert";
import { LagBound } from "./lag_bound.ts";

Deno.test("LagBound.required() lets 4096 records be under way", () => {
  const bound = new LagBound();
  assertEquals(bound.required(100, 0, 0), 0);
  assertEquals(bound.required(5000, 0, 1), 904);
});

Deno.test("LagBound.required() waits for what has been under way for too long, and for nothing later", () => {
  const bound = new LagBound();
  assertEquals(bound.required(10, 0, 0), 0);
  assertEquals(bound.required(20, 9, 0.5e9), 0);
  assertEquals(bound.required(30, 9, 0.5e9 + 1), 10);
  // The peer has moved on: from here the time runs anew.
  assertEquals(bound.required(40, 10, 0.6e9), 0);
  assertEquals(bound.required(41, 39, 1.1e9 + 1), 40);
});
