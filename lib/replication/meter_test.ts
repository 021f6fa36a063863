import { assertEquals } from "@std/assert";
import { Meter } from "./meter.ts";

Deno.test("Meter.rates() are those of the near past, not of all that was", () => {
  const meter = new Meter();
  for (let second = 0; second <= 100; second++) {
    // Slow at first, ten times as fast since.
    const objects = second <= 50 ? second : 50 + (second - 50) * 10;
    meter.note(second * 1000, { objects, bytes: objects * 100, part: objects / 1000 });
  }
  const rates = meter.rates(100_000, { objects: 550, bytes: 55_000, part: 0.55 });
  assertEquals(rates.objectsPerSecond, 10);
  assertEquals(rates.bytesPerSecond, 1000);
  assertEquals(Math.round(rates.secondsLeft ?? 0), 45);
});

Deno.test("Meter.rates() tells no time that is left where the part is not known or does not grow", () => {
  const meter = new Meter();
  meter.note(0, { objects: 0, bytes: 0, part: null });
  assertEquals(meter.rates(5000, { objects: 10, bytes: 10, part: null }).secondsLeft, null);

  const still = new Meter();
  still.note(0, { objects: 0, bytes: 0, part: 0.5 });
  assertEquals(still.rates(5000, { objects: 0, bytes: 0, part: 0.5 }).secondsLeft, null);
});
