import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { Copy, CopyError } from "./copy.ts";
import { positionOf } from "./position.ts";

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

Deno.test("Copy.doubt() lasts through later checkpoints and restarts, until the copy was compared", () => {
  const storage = new MemoryStorage();
  const before = open(storage);
  before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  before.begin("secondary", { copy: "uptodate" });
  assertEquals(before.exact, true);
  before.touch(20);
  const dirty = before.takeDirty();
  assertEquals([before.doubt(), before.doubt()], [true, false]);
  before.checkpointFailed(dirty);
  // The next sync of the same object succeeds: the kernel has forgotten what it lost.
  before.takeDirty();
  before.checkpointed(0);
  assertEquals(before.exact, false);
  before.close();
  const copy = open(storage);
  copy.begin("primary", { copy: "uptodate" });
  copy.markClean();
  assertEquals([copy.suspect, copy.exact, positionOf(copy, false).activeKnown], [true, false, false]);
  copy.recovered();
  assertEquals([copy.suspect, copy.exact, positionOf(copy, false).activeKnown], [false, true, true]);
  copy.close();
});
