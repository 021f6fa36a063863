import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { Copy, CopyError } from "./copy.ts";

function open(storage: MemoryStorage, bootId = "boot-1"): Copy {
  return Copy.open({ storage, cluster: "c", module: "m", node: "n1", bootId, logBudgetBytes: 1 << 20 });
}

Deno.test("Copy.checkServable() refuses a copy in mid-comparison, also after a restart, unless a person forces it", () => {
  const storage = new MemoryStorage();
  const before = open(storage);
  before.adopt([{ generation: 1n, epoch: 1, first: 1 }], 10, 100);
  before.close();
  const copy = open(storage);
  const error = assertThrows(() => copy.checkServable(false), CopyError, "force-primary");
  assertEquals(error.code, "inconsistent");
  copy.checkServable(true);
  copy.recovered();
  copy.checkServable(false);
  copy.close();
});

Deno.test("Copy.checkServable() lets a new copy begin", () => {
  const copy = open(new MemoryStorage());
  copy.checkServable(false);
  copy.close();
});
