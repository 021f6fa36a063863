import { assertEquals } from "@std/assert";
import type { Compared } from "../journal/meta.ts";
import { ComparedPlace, OPEN_MAX } from "./compared_place.ts";

function place(): { place: ComparedPlace; written: (Compared | null)[] } {
  const written: (Compared | null)[] = [];
  const place = new ComparedPlace((compared) => written.push(compared));
  place.begin(null);
  return { place, written };
}

Deno.test("ComparedPlace is written down now and then, with what is open below it", () => {
  const { place: at, written } = place();
  at.open(100);
  at.open(200);
  at.close(200);
  at.reached(5000);
  at.reached(9000);
  assertEquals(written, [{ from: 9000, open: [100] }]);
});

Deno.test("ComparedPlace.open() is durable before it returns where the object was written down as equal", () => {
  const { place: at, written } = place();
  at.reached(9000);
  at.open(50);
  at.open(50);
  at.open(9000);
  assertEquals(written, [{ from: 9000, open: [] }, { from: 9000, open: [50] }]);
});

Deno.test("ComparedPlace forgets the place once too much below it differs", () => {
  const { place: at, written } = place();
  at.reached(9000);
  for (let id = 100; id < 300; id++) at.open(id);
  at.reached(90_000);
  assertEquals(written.at(-1), null);
  assertEquals(written.length, 1 + 64);
});

Deno.test("ComparedPlace stays where it was while more is open than can be listed", () => {
  const { place: at, written } = place();
  for (let id = 100; id < 101 + OPEN_MAX; id++) at.open(id);
  at.reached(20_000);
  assertEquals(written, []);
  at.close(100);
  at.reached(20_001);
  assertEquals(written.length, 1);
});

Deno.test("ComparedPlace.begin() goes on with what was open", () => {
  const { place: at, written } = place();
  at.begin({ from: 9000, open: [7] });
  at.reached(18_000);
  assertEquals(written, [{ from: 18_000, open: [7] }]);
});
