import { assertEquals } from "@std/assert";
import { cachedFilesMax } from "./process.ts";

Deno.test("cachedFilesMax() leaves half of the limit of open files to everything else", () => {
  const line = Deno.readTextFileSync("/proc/self/limits").split("\n").find((text) =>
    text.startsWith("Max open files")
  );
  const soft = Number(line?.split(/\s+/)[3]);
  assertEquals(cachedFilesMax(Number.MAX_SAFE_INTEGER), Math.floor(soft / 2));
  assertEquals(cachedFilesMax(1), 1);
});
