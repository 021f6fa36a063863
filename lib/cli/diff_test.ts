import { assertEquals } from "@std/assert";
import { encodeGenerations, type Generation } from "../journal/mod.ts";
import { forecastOf } from "./diff.ts";

const G1 = { generation: 1n, epoch: 1, first: 1 };
const G2 = { generation: 2n, epoch: 2, first: 101 };
const OTHER = { generation: 7n, epoch: 1, first: 1 };

function status(generations: readonly Generation[], sequence: number, more: Record<string, unknown> = {}) {
  return { history: encodeGenerations(generations), sequence, firstLogged: 1, copy: "uptodate", ...more };
}

const PRIMARY = status([G1, G2], 200);

Deno.test("forecastOf() says that there is nothing to move to a secondary that has everything", () => {
  const connected = { ...PRIMARY, connected: true, caughtUp: true };
  assertEquals(forecastOf(connected, null, "b").mode, "nothing");
  assertEquals(forecastOf(PRIMARY, status([G1, G2], 200), "b").mode, "nothing");
});

Deno.test("forecastOf() replays from where the secondary stands, or from where this node went on alone", () => {
  const known = forecastOf(PRIMARY, status([G1], 80), "b");
  assertEquals([known.mode, known.from], ["replay", 81]);
  const away = forecastOf(PRIMARY, null, "b");
  assertEquals([away.mode, away.from], ["replay", 101]);
});

Deno.test("forecastOf() compares what is named after a power cut, from the secondary's checkpoint on", () => {
  const { mode, from } = forecastOf(PRIMARY, status([G1], 80, { crashed: true, checkpoint: 60 }), "b");
  assertEquals([mode, from], ["named", 61]);
});

Deno.test("forecastOf() compares everything where nothing names what differs, and says why", () => {
  const late = { ...PRIMARY, firstLogged: 150 };
  const cases: [Record<string, unknown>, Record<string, unknown> | null, string][] = [
    [PRIMARY, status([], 0, { fresh: true }), "b has no copy yet"],
    [PRIMARY, status([G1], 80, { copy: "inconsistent" }), "b is part of a comparison that was cut short"],
    [PRIMARY, status([OTHER], 80), "b has data of another history"],
    [late, status([G1], 80), "the log begins at record 150, b lacks what came since 81"],
    [late, null, "the log begins at record 150, b lacks what came since 101"],
  ];
  for (const [own, peer, why] of cases) {
    assertEquals(forecastOf(own, peer, "b"), { mode: "everything", why, from: 0 });
  }
});
