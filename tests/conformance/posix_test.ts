import { assertEquals } from "@std/assert";
import { CHECKS, runPosix } from "./posix.ts";

Deno.test("every POSIX check passes over a plain directory", async () => {
  const root = await Deno.makeTempDir({ dir: "/var/tmp" });
  try {
    assertEquals(await runPosix(root, 240_000), { passed: Object.keys(CHECKS).length, failed: [] });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("runPosix() says so when the checks cannot run", async () => {
  const { passed, failed } = await runPosix("/nonexistent", 30_000);
  assertEquals([passed, failed.length], [0, 1]);
});
