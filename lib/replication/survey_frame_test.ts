import { assertEquals, assertThrows } from "@std/assert";
import { StreamError } from "./stream.ts";
import { putSaid, readSaid } from "./survey_frame.ts";

const REG = 0o100000;
const DIR = 0o040000;

function frame(): { view: DataView; end: number } {
  const view = new DataView(new ArrayBuffer(128));
  const print = putSaid(view, 8, { id: 2 ** 40 + 17, type: REG, root: 1, noted: false });
  const next = putSaid(view, print + 32, { id: 18, type: DIR, root: 0, noted: true });
  return { view, end: next };
}

Deno.test("readSaid() reads what putSaid() wrote, with and without prints", () => {
  const { view, end } = frame();
  assertEquals(readSaid(view, 8, end), [
    { id: 2 ** 40 + 17, type: REG, root: 1, print: 20 },
    { id: 18, type: DIR, root: 0, print: -1 },
  ]);
});

Deno.test("readSaid() refuses a frame that is cut anywhere within an object", () => {
  const { view, end } = frame();
  for (let cut = 9; cut < end; cut++) {
    if (cut === 8 + 12 + 32) continue;
    assertThrows(() => readSaid(view, 8, cut), StreamError, "cut off");
  }
});
