import { assert, assertEquals, assertThrows } from "@std/assert";
import { ACTIVITY_NAME, ActivitySet, BLOCK_IDS, RANGE_BYTES } from "./activity.ts";
import { MemoryStorage } from "./memory_storage.ts";
import { RANGES_MAX } from "./range_set.ts";

const BIG = 2 ** 45;

function fresh(): { storage: MemoryStorage; set: ActivitySet } {
  const storage = new MemoryStorage();
  return { storage, set: new ActivitySet({ storage, fresh: true }) };
}

function reopened(storage: MemoryStorage): ActivitySet {
  return new ActivitySet({ storage: storage.crash(() => 0.9), fresh: false });
}

Deno.test("ActivitySet.touch() is durable when it returns, and costs one write for a block", () => {
  const { storage, set } = fresh();
  const syncs = storage.syncs;
  assertEquals([set.touch(5), set.touch(6), set.touch(255), set.touch(256), set.touch(BIG)], [
    false,
    true,
    true,
    false,
    false,
  ]);
  assertEquals(storage.syncs, syncs + 3);
  const later = reopened(storage);
  assertEquals([later.found, later.has(0), later.has(300), later.has(512), later.has(BIG)], [
    "whole",
    true,
    true,
    false,
    true,
  ]);
});

Deno.test("ActivitySet.touch() names ranges beyond the first of an object", () => {
  const { storage, set } = fresh();
  set.touch(1, 0, RANGE_BYTES);
  assertEquals(set.rangesOf(1), []);
  assertEquals(set.touch(1, RANGE_BYTES * 3 - 1, 2), false);
  assertEquals(set.touch(1, RANGE_BYTES * 2, 1), true);
  assertEquals(reopened(storage).rangesOf(1), [2, 3]);
  set.touch(1, 0, RANGE_BYTES * (RANGES_MAX + 2));
  assertEquals(reopened(storage).rangesOf(1), "all");
});

Deno.test("ActivitySet.cool() keeps what was touched since the checkpoint began", () => {
  const { storage, set } = fresh();
  set.touch(0);
  set.touch(BLOCK_IDS);
  set.touch(0, RANGE_BYTES, 1);
  set.touch(0, RANGE_BYTES * 2, 1);
  set.beginCheckpoint();
  set.touch(1);
  set.touch(1, RANGE_BYTES, 1);
  set.touch(0, RANGE_BYTES * 2, 1);
  set.cool();
  for (const each of [set, reopened(storage)]) {
    assertEquals([each.has(0), each.has(BLOCK_IDS)], [true, false]);
    assertEquals([each.rangesOf(0), each.rangesOf(1)], [[2], [1]]);
  }
  assertThrows(() => set.cool(), Error, "without a checkpoint");
});

Deno.test("ActivitySet.reserve() spares creates the write, also after cool()", () => {
  const { storage, set } = fresh();
  assertEquals(set.reserve(1000), false);
  const syncs = storage.syncs;
  for (let id = 1000; id < 1000 + BLOCK_IDS * 31; id += 100) {
    assertEquals(set.touch(id), true);
    assertEquals(set.reserve(id), true);
  }
  assertEquals(storage.syncs, syncs);
  set.beginCheckpoint();
  set.cool();
  assertEquals([set.has(1000), set.touch(1000 + BLOCK_IDS * 40)], [false, true]);
});

Deno.test("ActivitySet.touch() takes larger pieces when many blocks are cold", () => {
  const { storage, set } = fresh();
  set.reserve(BLOCK_IDS * 4096);
  const syncs = storage.syncs;
  for (let id = 0; id < BLOCK_IDS * 4096; id += BLOCK_IDS) set.touch(id);
  assert(storage.syncs - syncs < 130, `${storage.syncs - syncs} writes`);
  const runs: number[][] = [];
  set.forEachIds((first, count) => runs.push([first, count]));
  assertEquals(runs, [[0, BLOCK_IDS * (4096 + 64)]]);
});

Deno.test("ActivitySet.touch() passes a full disk on, and nothing is active then", () => {
  const { storage, set } = fresh();
  storage.capacity = 0;
  assertThrows(() => set.touch(1), Error, "no space left");
  assertEquals(set.has(1), false);
  storage.capacity = 4096;
  assertEquals(set.touch(1), false);
});

Deno.test("ActivitySet reads its file cut at every byte as what was whole", () => {
  const { storage, set } = fresh();
  for (const id of [0, 1000, 2000]) set.touch(id);
  const whole = storage.readAll(ACTIVITY_NAME) ?? new Uint8Array(0);
  assertEquals(whole.length, 32 * 4);
  for (let length = 32; length < whole.length; length++) {
    const cut = storage.killed();
    cut.cut(ACTIVITY_NAME, length);
    const later = new ActivitySet({ storage: cut, fresh: false });
    const entries = Math.floor(length / 32) - 1;
    assertEquals(later.found, "whole");
    assertEquals([0, 1000, 2000].filter((id) => later.has(id)).length, entries);
    later.touch(5000);
    assertEquals(reopened(cut).has(5000), true);
  }
});

Deno.test("ActivitySet that is missing or damaged stays incomplete until a checkpoint proved the rest", () => {
  const { storage, set } = fresh();
  for (let i = 0; i < 40; i++) set.touch(i * BLOCK_IDS * 64);
  const damaged = storage.killed();
  damaged.damage(ACTIVITY_NAME, 32 * 5 + 20, new Uint8Array([9]));
  const missing = new MemoryStorage();
  for (const each of [damaged, missing]) {
    for (let i = 0; i < 2; i++) {
      const later = new ActivitySet({ storage: each, fresh: false });
      assertEquals(later.found, "incomplete");
      later.touch(7);
    }
    const last = new ActivitySet({ storage: each, fresh: false });
    last.beginCheckpoint();
    last.cool();
    assertEquals(reopened(each).found, "whole");
  }
});

Deno.test("ActivitySet writes the bytes of version 1", () => {
  const { storage, set } = fresh();
  set.touch(256 * 3);
  set.touch(256 * 3, RANGE_BYTES * 2, 1);
  const golden = "42414331" + "5831e24b" + "0500000000000000" + "0000000000000000" + "0000000000000000" +
    "42414331" + "6b1b86c7" + "0100000000000000" + "0300000000000000" + "0100000000000000" +
    "42414331" + "2b6ba229" + "0200000000000000" + "0003000000000000" + "0200000000000000";
  assertEquals(storage.readAll(ACTIVITY_NAME)?.toHex(), golden);
});
