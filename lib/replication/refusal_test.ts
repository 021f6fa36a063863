import { assertEquals, assertThrows } from "@std/assert";
import { CopyError } from "./copy.ts";
import { isDiskRefusal, Refusal } from "./refusal.ts";

/** A refusal with a clock and a disk of the test's. */
function refusal(): { refusal: Refusal; world: { at: number; room: boolean; asked: number } } {
  const world = { at: 0, room: true, asked: 0 };
  const logHasRoom = (): boolean => {
    world.asked++;
    return world.room;
  };
  return { refusal: new Refusal({ now: () => world.at, logHasRoom }), world };
}

Deno.test("Refusal lets a copy try at once when nothing was refused", () => {
  const { refusal: fresh, world } = refusal();
  fresh.check(() => false);
  assertEquals(world.asked, 0);
});

Deno.test("Refusal keeps a copy away until both disks have room", () => {
  const { refusal: full, world } = refusal();
  full.note(28);
  world.at = 500;
  assertThrows(() => full.check(() => true), CopyError, "tries again");
  world.at = 60_000;
  assertThrows(() => full.check(() => false), CopyError, "make room");
  world.room = false;
  assertThrows(() => full.check(() => true), CopyError, "make room");
  world.room = true;
  full.check(() => true);
});

Deno.test("Refusal doubles its pause up to a bound, and forgets once the copy has everything", () => {
  const { refusal: failing, world } = refusal();
  const pauses: number[] = [];
  for (let i = 0; i < 7; i++) {
    failing.note(5);
    const from = world.at;
    for (let waits = true; waits;) {
      world.at += 500;
      try {
        failing.check(() => false);
        waits = false;
      } catch (error) {
        if (!(error instanceof CopyError)) throw error;
      }
    }
    pauses.push(world.at - from);
  }
  assertEquals(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  failing.note(5);
  failing.forget();
  failing.check(() => false);
});

Deno.test("isDiskRefusal() tells a disk that refuses from copies that differ", () => {
  assertEquals([5, 28, 30, 122].map(isDiskRefusal), [true, true, true, true]);
  assertEquals([0, 2, 17, 39].map(isDiskRefusal), [false, false, false, false]);
});
