import { assertEquals } from "@std/assert";
import { Pace } from "./pace.ts";

Deno.test("Pace allows steps one after the other while applications are silent", () => {
  const pace = new Pace(0.01);
  pace.allows(1000, 7);
  pace.took(1000, 1002);
  assertEquals(pace.allows(1006, 7), true);
  pace.took(1006, 1008);
  assertEquals(pace.allows(1008, 7), true);
});

Deno.test("Pace gives a step its share of the time beside applications", () => {
  const pace = new Pace(0.01);
  pace.allows(1000, 7);
  pace.took(1000, 1002);
  let requests = 7;
  let at = 1002;
  while (!pace.allows(at, ++requests)) at++;
  assertEquals(at, 1200);
  assertEquals(pace.active(at), true);
});

Deno.test("Pace lets one request in 128 find the thread busy", () => {
  const pace = new Pace(0.5, true);
  pace.allows(1000, 7);
  pace.took(1000, 1001);
  let requests = 7;
  let at = 1001;
  while (!pace.allows(at, ++requests)) at += 0.02;
  assertEquals(requests, 7 + 128);
});

Deno.test("Pace counts all that waited for a step, where many requests are under way at a time", () => {
  const pace = new Pace(0.5, true);
  pace.allows(1000, 7);
  pace.took(1000, 1001);
  let requests = 7 + 4;
  let at = 1001;
  while (!pace.allows(at, requests)) {
    at += 0.01;
    requests++;
  }
  assertEquals(requests, 7 + 4 * 128);
});

Deno.test("Pace guarantees a step every 25 ms, however long a step took and however few requests come", () => {
  const pace = new Pace(0.01, true);
  pace.allows(1000, 7);
  // Mostly the time of others: the thread did not run.
  pace.took(1000, 1030);
  let requests = 7;
  let at = 1030;
  while (!pace.allows(at, ++requests)) at++;
  assertEquals(at, 1055);
});

Deno.test("Pace keeps to a bandwidth also while applications are silent", () => {
  const pace = new Pace(0.01);
  pace.allows(0, 7);
  pace.took(10, 11, 1_000_000, 50_000_000);
  assertEquals(pace.allows(29, 7), false);
  assertEquals(pace.allows(30, 7), true);
  pace.took(30, 31, 1_000_000, 50_000_000);
  assertEquals(pace.allows(49, 7), false);
  assertEquals(pace.allows(50, 7), true);
});

Deno.test("Pace.allows() lets short steps follow one another by their part of the time alone", () => {
  const pace = new Pace(0.1, true);
  pace.allows(0, 0);
  pace.took(0, 0.4);
  // Ten requests have waited for it, for 0.4 ms at most.
  assertEquals([pace.allows(2, 10), pace.allows(4.1, 11)], [false, true]);
  pace.took(10, 11);
  assertEquals([pace.allows(12, 20), pace.allows(21, 21)], [false, false]);
});
