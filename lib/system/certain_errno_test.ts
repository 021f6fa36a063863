import { assertEquals } from "@std/assert";
import { once, repeated } from "./certain_errno.ts";

/** Answers one result after the other, then the last for ever; counts its calls. */
function answering(...results: number[]): { call: (...parameters: number[]) => number; asked: number[][] } {
  const asked: number[][] = [];
  return {
    asked,
    call: (...parameters) => {
      asked.push(parameters.filter((value) => value !== undefined));
      return results[Math.min(asked.length, results.length) - 1] ?? 0;
    },
  };
}

Deno.test("repeated() makes a call again, the same, until it says why it failed", () => {
  const { call, asked } = answering(-11, -4, -2);
  assertEquals(repeated(call)(1, 2, 3, 4, 5), -2);
  assertEquals(asked, [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]);
});

Deno.test("repeated() makes a call once that succeeds, or says why not", () => {
  for (const result of [0, 7, -2, -17, -5]) {
    const { call, asked } = answering(result);
    assertEquals(repeated(call)(1), result);
    assertEquals(asked, [[1]]);
  }
});

Deno.test("repeated() believes what is said four times", () => {
  const { call, asked } = answering(-11);
  assertEquals(repeated(call)(1), -11);
  assertEquals(asked.length, 4);
});

Deno.test("once() makes a call once, and takes a lost reason for the worst", () => {
  for (const [said, result] of [[0, 0], [-28, -28], [-11, -5], [-4, -5], [-110, -5]] as const) {
    const { call, asked } = answering(said);
    assertEquals(once(call)(3), result);
    assertEquals(asked, [[3]]);
  }
});
