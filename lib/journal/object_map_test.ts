import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "./memory_storage.ts";
import { HANDLE_MAX, OBJECT_MAP_NAME, ObjectMap, SLOT_BYTES } from "./object_map.ts";
import { DiskFullError } from "./storage.ts";

const HANDLE = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);

Deno.test("ObjectMap.get() gives what was set, across chunks and processes", () => {
  const storage = new MemoryStorage();
  const map = new ObjectMap(storage);
  const long = new Uint8Array(HANDLE_MAX).fill(9);
  map.set(1, 1, HANDLE);
  map.set(16_383, -5, long);
  map.set(40_000, 129, HANDLE.subarray(0, 1));
  for (const each of [map, new ObjectMap(storage.killed())]) {
    assertEquals(each.get(1), { type: 1, bytes: HANDLE });
    assertEquals(each.get(16_383), { type: -5, bytes: long });
    assertEquals(each.get(40_000), { type: 129, bytes: HANDLE.subarray(0, 1) });
    assertEquals([each.get(0), each.get(2), each.get(20_000), each.get(9e9)], [
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    const ids: number[] = [];
    each.forEach((id) => ids.push(id));
    assertEquals(ids, [1, 16_383, 40_000]);
  }
});

Deno.test("ObjectMap.delete() makes an object absent, ObjectMap.clear() all", () => {
  const map = new ObjectMap(new MemoryStorage());
  map.set(1, 1, HANDLE);
  map.set(2, 1, HANDLE);
  map.delete(1);
  map.delete(77_777);
  assertEquals([map.get(1), map.get(2)?.type], [undefined, 1]);
  map.clear();
  assertEquals(map.get(2), undefined);
  map.set(2, 3, HANDLE);
  assertEquals(map.get(2)?.type, 3);
});

Deno.test("ObjectMap.get() takes a slot with any bit changed as absent", () => {
  const storage = new MemoryStorage();
  new ObjectMap(storage).set(3, 1, HANDLE);
  const slot = (storage.readAll(OBJECT_MAP_NAME) ?? new Uint8Array(0)).slice(3 * SLOT_BYTES, 4 * SLOT_BYTES);
  for (let at = 0; at < SLOT_BYTES; at++) {
    for (let bit = 0; bit < 8; bit++) {
      storage.damage(OBJECT_MAP_NAME, 3 * SLOT_BYTES + at, new Uint8Array([(slot[at] ?? 0) ^ (1 << bit)]));
      assertEquals(new ObjectMap(storage).get(3), undefined, `byte ${at} bit ${bit}`);
    }
    storage.damage(OBJECT_MAP_NAME, 3 * SLOT_BYTES, slot);
  }
  // A whole slot at another's place is not that one's.
  storage.damage(OBJECT_MAP_NAME, 5 * SLOT_BYTES, slot);
  assertEquals([new ObjectMap(storage).get(5), new ObjectMap(storage).get(3)?.type], [undefined, 1]);
});

Deno.test("ObjectMap.sync() makes what was set survive a power cut", () => {
  const storage = new MemoryStorage();
  const map = new ObjectMap(storage);
  map.set(3, 1, HANDLE);
  map.sync();
  map.set(4, 1, HANDLE);
  const later = new ObjectMap(storage.crash(() => 0.9));
  assertEquals([later.get(3)?.type, later.get(4)], [1, undefined]);
});

Deno.test("ObjectMap.set() refuses a handle that does not fit, and passes a full disk on", () => {
  const storage = new MemoryStorage();
  const map = new ObjectMap(storage);
  for (const length of [0, HANDLE_MAX + 1]) {
    assertThrows(() => map.set(1, 1, new Uint8Array(length)), RangeError, "use ext4, xfs or btrfs");
  }
  storage.capacity = 100;
  assertThrows(() => map.set(1, 1, HANDLE), DiskFullError);
  assertEquals(map.get(1), undefined);
});

Deno.test("ObjectMap writes the slot of version 1", () => {
  const storage = new MemoryStorage();
  new ObjectMap(storage).set(3, 129, HANDLE);
  const slot = storage.readAll(OBJECT_MAP_NAME)?.subarray(3 * SLOT_BYTES, 4 * SLOT_BYTES);
  const golden = "e1058dce" + "81000000" + "08" + "00000000000000" + "0102030405060708".padEnd(80, "0") +
    "0300000000000000";
  assertEquals(slot?.toHex(), golden);
});
