import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "./memory_storage.ts";
import { decodeMeta, encodeMeta, type Meta, META_NAME, MetaStore } from "./meta.ts";

const META: Meta = {
  clusterId: "c0ffee",
  module: "bms",
  node: "node1",
  epoch: 4,
  history: [{ generation: 0xabcn, epoch: 3, first: 1 }],
  checkpoint: 17,
  gap: 12,
  clean: true,
  bootId: "6d1c",
  copy: "uptodate",
  role: "secondary",
  nextId: 300,
  servedFrom: 0,
  doubted: [],
  suspect: false,
  edited: false,
  excluded: "",
  verified: null,
  verifying: null,
  asOf: 0,
  compared: { from: 9000, open: [17], bootId: "of that run" },
};

Deno.test("decodeMeta() reads what encodeMeta() writes", () => {
  assertEquals(decodeMeta(encodeMeta(META)), META);
});

Deno.test("decodeMeta() reads a file from before `suspect` was known", () => {
  const { suspect: _, edited: __, ...before } = META;
  assertEquals(decodeMeta(encodeMeta(before as Meta)), META);
});

Deno.test("decodeMeta() refuses the file cut at any byte, or with any byte changed", () => {
  const whole = encodeMeta(META);
  // The last byte is the newline after the text.
  for (let length = 0; length < whole.length - 1; length++) {
    assertThrows(() => decodeMeta(whole.subarray(0, length)), Error, "Cannot read meta.json");
  }
  for (let at = 0; at < whole.length; at++) {
    const bytes = whole.slice();
    bytes[at] = 0x23;
    assertThrows(() => decodeMeta(bytes), Error, "Cannot read meta.json");
  }
});

Deno.test("decodeMeta() refuses fields that cannot be", () => {
  const bad: Record<string, unknown>[] = [{ epoch: -1 }, { copy: "fine" }, { role: "x" }, { nextId: 1.5 }, {
    clean: 1,
  }, { node: 5 }];
  for (const change of bad) {
    assertThrows(() => decodeMeta(encodeMeta({ ...META, ...change })), Error, "Cannot read meta.json");
  }
});

Deno.test("MetaStore.open() answers null for a new copy and refuses a damaged or foreign one", () => {
  const storage = new MemoryStorage();
  assertEquals(MetaStore.open(storage, META), null);
  storage.writeAtomic(META_NAME, new Uint8Array(0));
  assertThrows(() => MetaStore.open(storage, META), Error, "copy all data from the other node");
  storage.writeAtomic(META_NAME, encodeMeta(META));
  assertThrows(() => MetaStore.open(storage, { ...META, module: "erp" }), Error, 'belongs to module "bms"');
  assertEquals(MetaStore.open(storage, META)?.value, META);
});

Deno.test("MetaStore.update() never lets the epoch or the next id go down", () => {
  const storage = new MemoryStorage();
  const store = MetaStore.create(storage, META);
  assertThrows(() => store.update({ epoch: 3 }), RangeError, "Cannot accept epoch 3");
  assertThrows(() => store.update({ nextId: 299 }), RangeError, "Cannot set the next id");
  assertEquals(MetaStore.open(storage, META)?.value, META);
  store.update({ epoch: 5, clean: false });
  assertEquals(MetaStore.open(storage, META)?.value, { ...META, epoch: 5, clean: false });
});

Deno.test("MetaStore.update() changes nothing when the disk refuses, and writes nothing when nothing changes", () => {
  const storage = new MemoryStorage();
  const store = MetaStore.create(storage, META);
  const syncs = storage.syncs;
  store.update({ epoch: 4 });
  assertEquals(storage.syncs, syncs);
  storage.before = () => {
    throw new Error("disk");
  };
  assertThrows(() => store.update({ epoch: 9 }), Error, "disk");
  assertEquals(store.value.epoch, 4);
});

Deno.test("MetaStore.create() does not replace a file", () => {
  const storage = new MemoryStorage();
  MetaStore.create(storage, META);
  assertThrows(() => MetaStore.create(storage, META), Error, "it exists");
});
