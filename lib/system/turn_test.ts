import { assertEquals, assertRejects } from "@std/assert";
import { openLock, takeTurn, whoWaits } from "./turn.ts";

Deno.test("takeTurn() does not wait where the process that would know of it is gone already", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const other = openLock(`${folder}/turn`);
    assertEquals(other.now(), true);
    // No process has a number so high.
    await assertRejects(() => takeTurn(`${folder}/turn`, 2 ** 30), Error, "Cannot wait for a turn");
    assertEquals(whoWaits(`${folder}/turn`), null);
    other.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
