import { assertEquals, assertNotEquals } from "@std/assert";
import { bootId } from "./boot_id.ts";

Deno.test("bootId() is the same for everyone until the directory is gone", () => {
  const run = Deno.makeTempDirSync();
  const first = bootId(run);
  assertEquals(bootId(run), first);
  assertEquals([...Deno.readDirSync(run)].map((entry) => entry.name), ["boot-id"]);
  Deno.removeSync(`${run}/boot-id`);
  assertNotEquals(bootId(run), first);
  Deno.removeSync(run, { recursive: true });
});
