// A short run; `deno run -A tests/lab/poweroff.ts` does thirty.
import { assertEquals } from "@std/assert";
import { cutsOf, powerOffs } from "./poweroff.ts";

Deno.test("cutsOf() is told by the seed alone", () => {
  assertEquals(cutsOf(7, 30), cutsOf(7, 30));
  assertEquals(cutsOf(7, 30).length, 30);
});

Deno.test("no acknowledged commit and no synced file is missing after power cuts, and the trees are equal", async () => {
  const lines: string[] = [];
  try {
    await powerOffs({ prefix: "poweroff-test", seed: 20261123, cuts: 5, say: (line) => lines.push(line) });
  } catch (error) {
    throw new Error(`${lines.join("\n")}\n${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
});
