import { assertEquals } from "@std/assert";
import { type Codec, Packing } from "./packing.ts";

const BLOCK = 256 * 1024;

/** A codec that takes time and makes of each block a part of it, and a line of some speed. */
function harness(
  given: { ratio?: number; speed?: number; line?: number; bandwidth?: number | null; packs?: boolean } = {},
) {
  const { ratio = 0.5, speed = 250e6, line = 10e6, bandwidth = null, packs = true } = given;
  const world = { speed, ms: 0, kept: 1, tries: 0, line, peerFullUs: 0, unsent: 0 };
  const codec: Codec = {
    packs,
    pack(from, into) {
      world.tries++;
      world.ms += from.length / world.speed * 1000;
      const length = Math.ceil(from.length * ratio);
      return length <= into.length ? length : -1;
    },
    unpack: () => -1,
  };
  const packing = new Packing({
    codec,
    now: () => world.ms,
    line: () => ({ bytesPerSecond: world.line, peerFullUs: world.peerFullUs, unsent: world.unsent }),
    kept: () => world.kept,
    bandwidth,
  });
  return { packing, world, pack: (length = BLOCK) => packing.pack(new Uint8Array(length)) };
}

Deno.test("Packing packs while the line is behind and slower than the compressor", () => {
  assertEquals(harness().pack(), BLOCK / 2);
});

Deno.test("Packing packs nothing where it cannot, or no byte waits for the line", () => {
  assertEquals(harness({ packs: false }).pack(), 0);
  const { world, pack } = harness();
  world.kept = 0;
  assertEquals([pack(), world.tries], [0, 0]);
});

Deno.test("Packing packs while the kernel has more than the line takes", () => {
  const { world, pack } = harness();
  world.kept = 0;
  world.unsent = 100_000;
  assertEquals(pack(), BLOCK / 2);
});

Deno.test("Packing leaves a line alone that is faster than the compressor", () => {
  const { world, pack } = harness({ line: 1e9 });
  assertEquals([pack(), world.tries], [0, 0]);
});

Deno.test("Packing learns how fast the compressor is", () => {
  const { world, pack } = harness({ speed: 20e6, line: 100e6 });
  for (let i = 0; i < 20; i++) pack();
  const { tries } = world;
  assertEquals([tries > 0 && tries < 20, pack()], [true, 0]);
});

Deno.test("Packing finds out that the compressor is no longer slow", () => {
  const { world, pack } = harness({ speed: 20e6, line: 100e6 });
  for (let i = 0; i < 20; i++) pack();
  assertEquals(pack(), 0);
  world.speed = 400e6;
  for (let i = 0; i < 256; i++) pack();
  assertEquals(pack(), BLOCK / 2);
});

Deno.test("Packing packs under a bandwidth that is slower than the compressor, whatever waits", () => {
  const slow = harness({ bandwidth: 10e6, line: 1e9 });
  slow.world.kept = 0;
  assertEquals(slow.pack(), BLOCK / 2);
  const fast = harness({ bandwidth: 2e9, line: 1e9 });
  fast.world.kept = 0;
  assertEquals(fast.pack(), 0);
});

Deno.test("Packing leaves it where the peer is what is slow, until it no longer is", () => {
  const { world, pack } = harness();
  pack();
  world.ms += 300;
  world.peerFullUs = 290_000;
  assertEquals(pack(), 0);
  world.ms += 300;
  assertEquals(pack(), BLOCK / 2);
});

Deno.test("Packing sends a block as it is that does not shrink by an eighth", () => {
  assertEquals(harness({ ratio: 0.88 }).pack(), 0);
  assertEquals(harness({ ratio: 0.87 }).pack() > 0, true);
});

Deno.test("Packing tries twice as seldom each time it was in vain, and again as before once it was not", () => {
  const state = { ratio: 1 };
  const { packing, world } = harness();
  const codec: Codec = {
    packs: true,
    pack: (from) => (world.tries++, state.ratio < 1 ? from.length * state.ratio : -1),
    unpack: () => -1,
  };
  const own = new Packing({ codec, now: () => 0, line: () => null, kept: () => 1, bandwidth: null });
  const until = (tries: number): number => {
    let blocks = 0;
    for (; world.tries < tries; blocks++) own.pack(new Uint8Array(BLOCK));
    return blocks;
  };
  assertEquals([1, 2, 3, 4].map(until), [1, 5, 9, 17]);
  for (let i = 5; i < 9; i++) until(i);
  assertEquals(until(9), 33);
  state.ratio = 0.5;
  until(10);
  state.ratio = 1;
  until(11);
  assertEquals(until(12), 5);
  assertEquals(packing.bytes.length > 0, true);
});

Deno.test("Packing leaves little blocks as they are", () => {
  assertEquals(harness().pack(511), 0);
});
