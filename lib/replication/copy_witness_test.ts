import { assert, assertFalse } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { Copy } from "./copy.ts";
import { identityOf, isOfCopy } from "./copy_witness.ts";

function open(storage = new MemoryStorage(), names: { module?: string; node?: string } = {}): Copy {
  const { module = "m", node = "n1" } = names;
  return Copy.open({ storage, cluster: "c", module, node, bootId: "boot-1", logBudgetBytes: 1 << 20 });
}

Deno.test("isOfCopy() takes what was noted in the line of history that goes on", () => {
  const copy = open();
  copy.addGeneration({ generation: 7n, epoch: 1, first: 1 });
  const identity = identityOf(copy);
  copy.addGeneration({ generation: 8n, epoch: 2, first: 5 });
  assert(isOfCopy(copy, identity));
  assert(isOfCopy(copy, identityOf(copy)));
  copy.close();
});

Deno.test("isOfCopy() refuses what was noted in another line of history, by another module or node, or of nothing", () => {
  const copy = open();
  assertFalse(isOfCopy(copy, identityOf(copy)));
  copy.addGeneration({ generation: 7n, epoch: 1, first: 1 });
  const identity = identityOf(copy);
  copy.adopt([{ generation: 9n, epoch: 3, first: 1 }], 10, 100);
  assertFalse(isOfCopy(copy, identity));
  assertFalse(isOfCopy(copy, ""));
  copy.close();
  for (const names of [{ module: "other" }, { node: "n2" }]) {
    const another = open(new MemoryStorage(), names);
    another.addGeneration({ generation: 7n, epoch: 1, first: 1 });
    assertFalse(isOfCopy(another, identity));
    another.close();
  }
});
