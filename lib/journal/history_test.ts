import { assertEquals, assertThrows } from "@std/assert";
import {
  compareHistories,
  decodeGenerations,
  encodeGenerations,
  type Generation,
  GENERATIONS_MAX,
  historyUpTo,
  withGeneration,
} from "./history.ts";

/** `"a1 b5:9"`: generation a from sequence 1, b from 5, the last record is 9. */
function history(text: string): { generations: Generation[]; last: number } {
  const [names = "", last = "0"] = text.split(":");
  const generations = names.split(" ").filter((name) => name !== "").map((name, i) => ({
    generation: BigInt(name.charCodeAt(0)),
    epoch: i + 1,
    first: Number(name.slice(1)),
  }));
  return { generations, last: Number(last) };
}

function kind(source: string, target: string): string {
  const { kind, common } = compareHistories(history(source), history(target));
  return `${kind} ${common}`;
}

Deno.test("compareHistories() takes a target without history as new", () => {
  assertEquals(kind("a1:9", ":0"), "new 0");
  assertEquals(kind(":0", ":0"), "new 0");
});

Deno.test("compareHistories() takes data with nothing in common as foreign", () => {
  assertEquals(kind("a1:9", "b1:9"), "foreign 0");
  assertEquals(kind(":0", "a1:9"), "foreign 0");
  assertEquals(kind("a1:9", "a2:9"), "foreign 0");
});

Deno.test("compareHistories() says for all ways to be beyond the common point what follows", () => {
  // Both share a from 1. Beyond 5, each has nothing, more of a, a generation of its own, or both.
  const table: readonly (readonly [string, readonly string[]])[] = [
    ["a1:5", ["same 5", "target-ahead-unacknowledged 5", "diverged 5", "diverged 5"]],
    ["a1:7", ["replay 5", "same 7", "diverged 5", "diverged 7"]],
    ["a1 b6:9", ["replay 5", "target-ahead-unacknowledged 5", "diverged 5", "diverged 5"]],
    ["a1 b8:9", ["replay 5", "replay 7", "diverged 5", "diverged 7"]],
  ];
  const targets = ["a1:5", "a1:7", "a1 c6:9", "a1 c8:9"];
  for (const [source, expected] of table) {
    assertEquals(targets.map((target) => kind(source, target)), expected, source);
  }
});

Deno.test("compareHistories() works from the newest common generation, when old ones were dropped", () => {
  const source = history("a1 b6 c9:20");
  const target = { ...source, generations: source.generations.slice(1), last: 14 };
  assertEquals(compareHistories(source, target), { kind: "replay", common: 14 });
  assertEquals(compareHistories(target, source), { kind: "target-ahead-unacknowledged", common: 14 });
});

Deno.test("compareHistories() is the same for equal histories of any length", () => {
  for (const text of ["a1:0", "a1:1", "a1 b2:2", "a1 b2 c3:17"]) {
    assertEquals(kind(text, text), `same ${history(text).last}`);
  }
});

Deno.test("withGeneration() refuses what does not follow, and keeps a bounded number", () => {
  const { generations } = history("a1 b6:9");
  assertThrows(
    () => withGeneration(generations, { generation: 1n, epoch: 1, first: 7 }),
    RangeError,
    "epoch 1",
  );
  assertThrows(
    () => withGeneration(generations, { generation: 1n, epoch: 2, first: 6 }),
    RangeError,
    "sequence 6",
  );
  let many: readonly Generation[] = [];
  for (let i = 1; i <= GENERATIONS_MAX + 5; i++) {
    many = withGeneration(many, { generation: BigInt(i), epoch: i, first: i });
  }
  assertEquals([many.length, many[0]?.first], [GENERATIONS_MAX, 6]);
});

Deno.test("historyUpTo() drops generations that begin after a sequence", () => {
  const { generations } = history("a1 b6 c9:20");
  assertEquals(historyUpTo(generations, 8), generations.slice(0, 2));
});

Deno.test("decodeGenerations() reads what encodeGenerations() writes, in 16 hexadecimal digits", () => {
  const generations = [{ generation: 255n, epoch: 1, first: 1 }, {
    generation: 2n ** 64n - 1n,
    epoch: 2,
    first: 9,
  }];
  const json = encodeGenerations(generations);
  assertEquals(json.map((each) => each.generation), ["00000000000000ff", "ffffffffffffffff"]);
  assertEquals(decodeGenerations(JSON.parse(JSON.stringify(json))), generations);
});

Deno.test("decodeGenerations() refuses what is no history", () => {
  const good = { generation: "00000000000000ff", epoch: 1, first: 1 };
  for (
    const bad of [{}, null, [null], [{ ...good, generation: "ff" }], [{ ...good, epoch: -1 }], [{
      ...good,
      first: 0,
    }], [
      good,
      good,
    ]]
  ) {
    assertThrows(() => decodeGenerations(bad), Error, "Cannot");
  }
});
