import { assertEquals } from "@std/assert";
import { IdSet } from "./id_set.ts";

Deno.test("IdSet holds what was put in and not taken out, near and far", () => {
  const ids = new IdSet();
  const far = 2 ** 47 + 5;
  for (const id of [0, 31, 32, 32767, 32768, far]) assertEquals(ids.add(id), true);
  assertEquals(ids.add(far), false);
  assertEquals(ids.delete(32), true);
  assertEquals(ids.delete(33), false);
  assertEquals([0, 31, 32, 33, 32767, 32768, far].filter((id) => ids.has(id)), [0, 31, 32767, 32768, far]);
  assertEquals(ids.size, 5);
});

Deno.test("IdSet.clear() leaves nothing", () => {
  const ids = new IdSet();
  ids.add(70000);
  ids.clear();
  assertEquals([ids.has(70000), ids.size], [false, 0]);
});
