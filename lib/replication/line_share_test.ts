import { assert, assertEquals } from "@std/assert";
import { LineShare } from "./line_share.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

Deno.test("LineShare.allows() any step where little waits for the line", () => {
  const share = new LineShare();
  share.stepped(0, 0);
  assertEquals([0, 256 * KIB, 256 * KIB + 1].map((kept) => share.allows(kept, kept)), [true, true, false]);
});

Deno.test("LineShare has a resync get on beside applications that always have the line full", () => {
  const share = new LineShare();
  let [sent, steps] = [0, 0];
  for (let i = 0; i < 10_000; i++) {
    sent += 4 * KIB;
    const kept = Math.min(sent, MIB);
    if (!share.allows(kept, sent)) continue;
    share.stepped(kept, sent);
    steps++;
  }
  // Those of the beginning, before much waited, and then one for each 2 MiB.
  assert(steps >= 64 + 17 && steps <= 64 + 20, `${steps} steps`);
});

Deno.test("LineShare.allows() no step while the peer takes nothing", () => {
  const share = new LineShare();
  share.stepped(0, 0);
  for (let kept = 300 * KIB; kept < 64 * MIB; kept += 4 * KIB) assert(!share.allows(kept, kept));
});
