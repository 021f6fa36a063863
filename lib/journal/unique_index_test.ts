import { assertEquals } from "@std/assert";
import { RECENT, UniqueIndex } from "./unique_index.ts";

Deno.test("UniqueIndex.find() agrees with a plain map of the last records, whatever the ids", () => {
  const steps = [2, 1, 32_768 * 2, 4_294_967_296, 7_777_777];
  for (const step of steps) {
    const index = new UniqueIndex();
    const all: number[] = [];
    for (let i = 1; i <= RECENT * 2; i++) {
      // Every fifth id comes again.
      const unique = i % 5 === 0 ? (i - 3) * step : i * step;
      index.add(unique, i);
      all.push(unique);
    }
    const expected = new Map<number, number>();
    for (const [i, unique] of all.entries()) if (i >= RECENT) expected.set(unique, i + 1);
    for (const unique of all) assertEquals(index.find(unique), expected.get(unique));
  }
});

Deno.test("UniqueIndex.add() reports what falls out, and takes 0 as no request", () => {
  const index = new UniqueIndex();
  const out: number[] = [];
  index.evicted = (unique) => out.push(unique);
  index.add(4, 1);
  for (let i = 0; i < RECENT; i++) index.add(0, 2);
  assertEquals([out, index.find(4), index.find(0)], [[4], undefined, undefined]);
});
