import { assertEquals } from "@std/assert";
import { boottimeMs } from "./clock.ts";
import { KeeperLine } from "./keeper_line.ts";

Deno.test("KeeperLine.call() waits once for a keeper that is away, not for each question", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const awayMs = 500;
    const line = new KeeperLine(`${folder}/keeper.sock`, awayMs);
    const began = boottimeMs();
    assertEquals(line.call("keep", {}), "away");
    const first = boottimeMs();
    assertEquals(first - began >= awayMs, true);
    for (let i = 0; i < 10; i++) assertEquals(line.call("keep", {}), "away");
    // Ten times as long, were it waited for each time.
    assertEquals(boottimeMs() - first < 9 * awayMs, true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
