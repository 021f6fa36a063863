import { assertEquals, assertMatch } from "@std/assert";
import { judgeSilence, judgeTakeover, promoteAfterMs, type TakeoverCase } from "./arbiter.ts";
import type { Arbiter } from "./types.ts";

const ARBITERS: readonly Arbiter[] = [
  { kind: "none" },
  { kind: "ping", mode: "strict" },
  { kind: "ping", mode: "auto" },
];
const BOOLEANS = [true, false] as const;
const ANSWERS = [true, false, null] as const;

function* takeoverCases(): Generator<TakeoverCase> {
  for (const arbiter of ARBITERS) {
    for (const automatic of BOOLEANS) {
      for (const maintenance of BOOLEANS) {
        for (const inStep of BOOLEANS) {
          for (const vips of BOOLEANS) {
            for (const witness of ANSWERS) {
              for (const peer of ANSWERS) {
                for (const vip of ANSWERS) {
                  const findings = { witness, peer, vip, words: "" };
                  yield { arbiter, automatic, maintenance, inStep, vips, findings };
                }
              }
            }
          }
        }
      }
    }
  }
}

Deno.test("judgeTakeover() promotes in exactly the cases without any doubt", () => {
  const promoted: TakeoverCase[] = [];
  let cases = 0;
  for (const of of takeoverCases()) {
    cases += 1;
    const verdict = judgeTakeover(of);
    assertEquals(verdict.promote, verdict.reasons.length === 0);
    if (verdict.promote) promoted.push(of);
  }
  assertEquals(cases, 3 * 16 * 27);
  // The only free choice left is the answer about a virtual IP that the module does not have.
  assertEquals(promoted.length, 1 + 3);
  for (const of of promoted) {
    assertEquals(of.arbiter, { kind: "ping", mode: "auto" });
    assertEquals([of.automatic, of.maintenance, of.inStep], [true, false, true]);
    assertEquals([of.findings.witness, of.findings.peer], [true, false]);
    if (of.vips) assertEquals(of.findings.vip, false);
  }
});

Deno.test("judgeTakeover() names each veto", () => {
  const verdict = judgeTakeover({
    arbiter: { kind: "ping", mode: "strict" },
    automatic: false,
    maintenance: true,
    inStep: false,
    vips: true,
    findings: { witness: false, peer: true, vip: true, words: "" },
  });
  assertEquals(verdict.reasons.length, 7);
  assertMatch(
    verdict.reasons.join("; "),
    /in step.*automatic.*maintenance.*strict.*witness.*host.*virtual IP/,
  );
});

Deno.test("judgeSilence() goes on alone only with a witness, without a rival, or without an arbiter", () => {
  for (const arbiter of ARBITERS) {
    for (const witness of ANSWERS) {
      for (const vip of ANSWERS) {
        for (const vips of BOOLEANS) {
          for (const overdue of BOOLEANS) {
            const verdict = judgeSilence({
              arbiter,
              vips,
              overdue,
              findings: { witness, peer: null, vip, words: "" },
            });
            const rival = vips && vip === true;
            const expected = arbiter.kind === "none"
              ? "solo"
              : rival
              ? "isolated"
              : witness === true
              ? "solo"
              : overdue
              ? "isolated"
              : "ask";
            assertEquals(verdict, expected);
          }
        }
      }
    }
  }
});

Deno.test("promoteAfterMs() is 10.6 s by default and below 4 s with lab timings", () => {
  const rest = { heartbeatMs: 250, peerMs: 3000, leaseMs: 3000 };
  assertEquals(promoteAfterMs({ deadMs: 2000, witnessMs: 3000, watchdogMs: 5000, ...rest }), 10_600);
  assertEquals(promoteAfterMs({ deadMs: 1000, witnessMs: 1000, watchdogMs: 1000, ...rest }), 3530);
});
