import { assert, assertFalse } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { memoryCopy } from "../../tests/sim/memory_copy.ts";
import { identityOf, isOfCopy } from "./copy_witness.ts";

Deno.test("isOfCopy() takes what was noted in the line of history that goes on", () => {
  const copy = memoryCopy();
  copy.addGeneration({ generation: 7n, epoch: 1, first: 1 });
  const identity = identityOf(copy);
  copy.addGeneration({ generation: 8n, epoch: 2, first: 5 });
  assert(isOfCopy(copy, identity));
  assert(isOfCopy(copy, identityOf(copy)));
  copy.close();
});

Deno.test("isOfCopy() refuses what was noted in another line of history, by another module or node, or of nothing", () => {
  const copy = memoryCopy();
  assertFalse(isOfCopy(copy, identityOf(copy)));
  copy.addGeneration({ generation: 7n, epoch: 1, first: 1 });
  const identity = identityOf(copy);
  copy.adopt([{ generation: 9n, epoch: 3, first: 1 }], 10, 100);
  assertFalse(isOfCopy(copy, identity));
  assertFalse(isOfCopy(copy, ""));
  copy.close();
  for (const names of [{ module: "other" }, { node: "n2" }]) {
    const another = memoryCopy(new MemoryStorage(), names);
    another.addGeneration({ generation: 7n, epoch: 1, first: 1 });
    assertFalse(isOfCopy(another, identity));
    another.close();
  }
});
