import { assertEquals } from "@std/assert";
import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

Deno.test("parseDuration() takes one number and one unit", () => {
  assertEquals(["250ms", "5s", "1.5s", "2m", "1h", "1d"].map(parseDuration), [
    250,
    5000,
    1500,
    120_000,
    3_600_000,
    86_400_000,
  ]);
  assertEquals(["", "5", "s", "-1s", "5 s", "1e3s", "5S"].map(parseDuration), Array(7).fill(undefined));
});

Deno.test("parseSize() takes binary units only", () => {
  assertEquals(["512B", "4KiB", "64MiB", "2GiB"].map(parseSize), [512, 4096, 67_108_864, 2_147_483_648]);
  assertEquals(["64MB", "64", "1.5GiB", "MiB"].map(parseSize), Array(4).fill(undefined));
});

Deno.test("formatDuration() and parseDuration() agree", () => {
  for (const millis of [0, 1, 999, 1000, 1500, 60_000, 3_600_000, 86_400_000, 90_061_000]) {
    assertEquals(parseDuration(formatDuration(millis)), millis);
  }
});

Deno.test("formatSize() shows at most one decimal", () => {
  assertEquals([0, 1023, 1024, 1536, 5_000_000].map(formatSize), [
    "0 B",
    "1023 B",
    "1 KiB",
    "1.5 KiB",
    "4.8 MiB",
  ]);
});
