import { assertEquals } from "@std/assert";
import { INFLIGHT, takeOver } from "../replication/inflight.ts";
import { mapInflight } from "./inflight_file.ts";
import { memoryAt } from "./libc.ts";

Deno.test("mapInflight() gives a later process what an earlier one left, at an address of its own", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/m.inflight`;
    const first = mapInflight(path, INFLIGHT.bytes);
    assertEquals(takeOver(first.bytes, true), false);
    new Uint8Array(memoryAt(first.address, INFLIGHT.bytes))[INFLIGHT.request] = 7;
    const second = mapInflight(path, INFLIGHT.bytes);
    assertEquals(new Uint8Array(second.bytes)[INFLIGHT.request], 7);
    assertEquals(takeOver(second.bytes, true), true);
    const { size, mode } = await Deno.stat(path);
    assertEquals([size, (mode ?? 0) & 0o777], [INFLIGHT.bytes, 0o600]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
