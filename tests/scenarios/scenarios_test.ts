import { assert, assertEquals } from "@std/assert";
import { play } from "../sim/transcript.ts";

// `UPDATE_SCENARIOS=1 deno test -A tests/scenarios` writes what comes out; read the difference before committing it.
const update = Deno.env.get("UPDATE_SCENARIOS") === "1";
const folder = new URL(".", import.meta.url);
const files = [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) => name.endsWith(".txt"))
  .sort();

Deno.test("step() has scenarios to play", () => {
  assert(files.length >= 10, `${files.length} scenarios`);
});

for (const file of files) {
  const path = new URL(file, folder);
  const text = Deno.readTextFileSync(path);
  const title = text.split("\n")[0]?.replace(/^#\s*/, "") ?? file;
  Deno.test(`step() ${title} (${file})`, () => {
    const played = play(text);
    if (update) Deno.writeTextFileSync(path, played);
    else assertEquals(played, text);
  });
}
