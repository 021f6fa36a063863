import { assertEquals } from "@std/assert";
import { Spans } from "./spans.ts";

Deno.test("Spans.missing() answers what was not added, whatever the order", () => {
  let state = 7;
  const roll = (below: number): number => (state = (state * 1103515245 + 12345) & 0x7fffffff) % below;
  for (let round = 0; round < 300; round++) {
    const spans = new Spans();
    const model = new Uint8Array(64);
    for (let i = 0; i < 12; i++) {
      const start = roll(60);
      const end = start + roll(8);
      spans.add(start, end);
      model.fill(1, start, end);
      const [from, to] = [roll(32), 32 + roll(32)];
      const found = new Uint8Array(64).fill(1, from, to);
      for (const span of spans.missing(from, to)) found.fill(0, span.start, span.end);
      assertEquals(found.slice(from, to), model.slice(from, to));
    }
  }
});

Deno.test("Spans.add() joins neighbours", () => {
  const spans = new Spans();
  for (const start of [0, 20, 10, 40, 30]) spans.add(start, start + 10);
  assertEquals([spans.count, spans.missing(0, 60)], [1, [{ start: 50, end: 60 }]]);
});
