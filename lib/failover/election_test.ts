import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Candidate, elect } from "./election.ts";

type Fields = Candidate["report"];

const FRESH: Fields = {
  epoch: 0,
  primary: null,
  members: [],
  promised: 0,
  copy: "none",
  intact: true,
  handover: false,
  memberAt: 0,
  started: true,
  serving: false,
  history: [],
};
/** The primary of epoch 4, and its member. */
const PRIMARY: Fields = {
  ...FRESH,
  epoch: 4,
  primary: "a",
  members: ["a", "b"],
  copy: "uptodate",
  memberAt: 4,
  history: ["g1"],
};

function a(change: Partial<Fields> = {}): Candidate {
  return { node: "a", report: { ...PRIMARY, ...change } };
}
function b(change: Partial<Fields> = {}): Candidate {
  return { node: "b", report: { ...PRIMARY, ...change } };
}

Deno.test("elect() names the same node from both sides, in every combination", () => {
  const epochs = [3, 4, 5];
  let cases = 0;
  const some = function* (self: string, other: string): Generator<Partial<Fields>> {
    for (const epoch of epochs) {
      for (const members of [[self], [other], [self, other]]) {
        for (const copy of ["none", "uptodate", "inconsistent", "outdated"] as const) {
          for (const intact of [true, false]) {
            for (const promised of [0, 5]) {
              for (const started of [true, false]) {
                const primary = members.includes(self) && members.length === 1 ? self : other;
                yield { epoch, members, copy, intact, promised, started, primary, memberAt: epoch };
              }
            }
          }
        }
      }
    }
  };
  for (const mine of some("a", "b")) {
    for (const theirs of some("b", "a")) {
      cases += 1;
      assertEquals(elect(a(mine), b(theirs)).leader, elect(b(theirs), a(mine)).leader);
    }
  }
  assertEquals(cases, 288 * 288);
});

Deno.test("elect() never names a copy that is none or inconsistent, nor a module that is not started", () => {
  for (const copy of ["none", "inconsistent"] as const) {
    assertEquals(elect(a({ copy }), b({ copy, primary: "a" })).leader, null);
  }
  assertEquals(elect(a({ started: false }), b({ started: false })).leader, null);
});

Deno.test("elect() waits for a person when no node has been primary", () => {
  const election = elect({ node: "a", report: FRESH }, { node: "b", report: FRESH });
  assertEquals(election.leader, null);
  assertMatch(election.why, /start --as primary/);
});

Deno.test("elect() gives the role back to the last primary", () => {
  assertEquals(elect(a(), b()).leader, "a");
});

Deno.test("elect() prefers the member that stayed up over a primary that lost power", () => {
  assertEquals(elect(a({ intact: false }), b()).leader, "b");
  assertEquals(
    elect(a({ intact: false }), b({ intact: false, copy: "outdated", promised: 5, memberAt: 0 })).leader,
    "a",
  );
});

Deno.test("elect() takes back an outdated mark only while the primary's record still stands at that epoch", () => {
  const doubtful = { copy: "outdated", promised: 5, memberAt: 4 } as const;
  assertEquals(elect(a({ intact: false }), b(doubtful)).leader, "b");
  assertEquals(elect(a({ intact: false, epoch: 5, members: ["a"] }), b(doubtful)).leader, "a");
});

Deno.test("elect() follows a hand-over unless the receiver has stood back", () => {
  const given = { epoch: 5, primary: "b", members: ["b"], handover: true };
  assertEquals(elect(a(given), b()).leader, "b");
  assertEquals(elect(a(given), b({ promised: 5, copy: "outdated" })).leader, "a");
});

Deno.test("elect() finds a divergence only when both wrote apart", () => {
  const solo = { epoch: 5, members: ["a"], history: ["g2", "g1"] };
  const took = { epoch: 5, primary: "b", members: ["b"], history: ["g3", "g1"] };
  const both = elect(a(solo), b(took));
  assert(both.leader === null && both.diverged);
  assertEquals(elect(a({ ...solo, history: ["g1"] }), b(took)).leader, "b");
  assertEquals(elect(a(solo), b({ ...took, history: ["g1"] })).leader, "a");
});
