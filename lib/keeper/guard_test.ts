import { assertEquals } from "@std/assert";
import { judge, newWatch } from "./guard.ts";

const GUARD = { vips: [], cgroups: [], graceMs: 300 };

Deno.test("judge() waits until an authority for this mount has been seen", () => {
  const watch = newWatch(1_000, GUARD);
  assertEquals(judge(watch, 0, 9_000), { act: false });
  assertEquals(judge(watch, 999, 9_000), { act: false });
  assertEquals(judge(watch, 9_500, 9_000), { act: false });
  assertEquals(watch.armed, true);
});

Deno.test("judge() acts when the authority has lapsed for longer than the grace, and not before", () => {
  const watch = newWatch(1_000, GUARD);
  assertEquals(judge(watch, 2_000, 1_500), { act: false });
  assertEquals(judge(watch, 2_000, 2_300), { act: false });
  assertEquals(judge(watch, 2_000, 2_301), { act: true, lateMs: 301 });
});

Deno.test("judge() acts when the authority is withdrawn or its file vanishes", () => {
  const watch = newWatch(1_000, GUARD);
  judge(watch, 2_000, 1_500);
  assertEquals(judge(watch, 0, 1_200), { act: false });
  assertEquals(judge(watch, 0, 1_600), { act: true, lateMs: 600 });
});

Deno.test("judge() acts once", () => {
  const watch = newWatch(1_000, GUARD);
  judge(watch, 2_000, 1_500);
  watch.fenced = true;
  assertEquals(judge(watch, 2_000, 99_000), { act: false });
});

Deno.test("judge() takes any authority for an adopted mount, and five seconds without a guard", () => {
  const watch = newWatch(0, null);
  assertEquals(judge(watch, 2_000, 6_999), { act: false });
  assertEquals(judge(watch, 2_000, 7_001), { act: true, lateMs: 5_001 });
});
