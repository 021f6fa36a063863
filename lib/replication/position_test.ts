import { assertEquals, assertThrows } from "@std/assert";
import { encodeGenerations, type History } from "../journal/mod.ts";
import type { Copy } from "./copy.ts";
import { planFor, type Position, readPosition } from "./position.ts";

const G1 = { generation: 1n, epoch: 1, first: 1 };
const G2 = { generation: 2n, epoch: 2, first: 101 };
const THEIRS = { generation: 9n, epoch: 2, first: 51 };
const OTHER = { generation: 7n, epoch: 1, first: 1 };
const EPOCH = 5;

/** The source stands at 200 of its second generation. */
function source(logFirst: number, doubted: readonly number[] = []): Copy {
  const history: History = { generations: [G1, G2], last: 200 };
  return {
    history,
    journal: { last: 200 },
    logFirst,
    doubted,
    meta: { value: { excluded: "" } },
  } as unknown as Copy;
}

const RELATIONS = {
  new: { history: [], last: 0, common: 0 },
  same: { history: [G1, G2], last: 200, common: 200 },
  behind: { history: [G1, G2], last: 160, common: 160 },
  "behind, a generation ago": { history: [G1], last: 80, common: 80 },
  "unacknowledged tail": { history: [G1, G2], last: 210, common: 200 },
  "unacknowledged tail, a generation ago": { history: [G1], last: 110, common: 100 },
  diverged: { history: [G1, THEIRS], last: 70, common: 50 },
  foreign: { history: [OTHER], last: 30, common: 0 },
} as const;

/** What the rules say, written once more and as plainly as can be. */
function expected(relation: keyof typeof RELATIONS, position: Position, logFirst: number): string {
  const { common } = RELATIONS[relation];
  const away = relation === "diverged" || relation === "foreign";
  if (away && !position.overwrite) return `refused ${relation}`;
  if (relation === "new") return "all";
  if (relation === "foreign") return "all, preserve";
  const tail = relation.startsWith("unacknowledged");
  if (!away && !tail && position.exact && common + 1 >= logFirst) return `replay from ${common + 1}`;
  const preserve = away || tail || position.served ? ", preserve" : "";
  const since = position.exact ? common : Math.min(common, position.checkpoint);
  const own = position.logFirst <= common + 1 || (!position.exact && position.checkpoint <= common);
  return position.activeKnown && own && since + 1 >= logFirst
    ? `named since ${since}${preserve}`
    : `all${preserve}`;
}

function said(copy: Copy, position: Position): string {
  const verdict = planFor(copy, position, EPOCH);
  if (!verdict.accept) return `refused ${verdict.code}`;
  assertEquals(verdict.epoch, EPOCH);
  const { plan } = verdict;
  if (plan.mode === "replay") {
    return `replay from ${plan.from}`;
  }
  return `${plan.whole ? "all" : `named since ${plan.since}`}${plan.preserve ? ", preserve" : ""}`;
}

Deno.test("planFor() replays nothing from a copy that a verification found to differ: what differs is in no log", () => {
  const position: Position = {
    epoch: 2,
    history: encodeGenerations([G1, G2]),
    last: 160,
    exact: true,
    checkpoint: 150,
    logFirst: 100,
    served: false,
    activeKnown: true,
    holds: true,
    compared: 0,
    overwrite: false,
    excluded: "",
  };
  assertEquals(said(source(1), position), "replay from 161");
  assertEquals(said(source(1, [20]), position), "named since 160");
});

Deno.test("planFor() follows the rules for every kind of position", () => {
  const flags = [false, true];
  let cases = 0;
  for (const relation of Object.keys(RELATIONS) as (keyof typeof RELATIONS)[]) {
    for (const logFirst of [1, 61, 81, 82, 151, 161, 162, 201]) {
      for (const checkpoint of [0, 60, 155]) {
        for (let bits = 0; bits < 32; bits++) {
          const [exact, activeKnown, served, overwrite, forgot] = [1, 2, 4, 8, 16].map((bit) =>
            flags[bits & bit ? 1 : 0] ?? false
          );
          const position: Position = {
            epoch: 2,
            history: encodeGenerations(RELATIONS[relation].history),
            last: RELATIONS[relation].last,
            checkpoint,
            logFirst: forgot === true ? RELATIONS[relation].last + 1 : 1,
            exact: exact === true,
            activeKnown: activeKnown === true,
            served: served === true,
            holds: overwrite === true,
            compared: 0,
            overwrite: overwrite === true,
            excluded: "",
          };
          assertEquals(
            said(source(logFirst), position),
            expected(relation, position, logFirst),
            `${relation}, log from ${logFirst}, ${JSON.stringify(position)}`,
          );
          cases++;
        }
      }
    }
  }
  assertEquals(cases, 8 * 8 * 3 * 32);
});

const WELL: Position = {
  epoch: 2,
  history: encodeGenerations([G1]),
  last: 80,
  exact: true,
  checkpoint: 60,
  logFirst: 1,
  served: false,
  activeKnown: true,
  holds: false,
  compared: 0,
  overwrite: false,
  excluded: "",
};

Deno.test("planFor() compares everything when the target cannot name what it did beyond the common point", () => {
  // It went on alone for long, lost power, and a person gives its writes up: its log is gone, and its activity set
  // names only what came after its checkpoint.
  const alone: Position = {
    ...WELL,
    history: encodeGenerations([G1, THEIRS]),
    last: 70,
    logFirst: 71,
    exact: false,
    overwrite: true,
  };
  assertEquals(said(source(1), { ...alone, checkpoint: 60 }), "all, preserve");
  assertEquals(said(source(1), { ...alone, checkpoint: 50 }), "named since 50, preserve");
  assertEquals(said(source(1), { ...alone, exact: true, checkpoint: 50 }), "all, preserve");
});

Deno.test("planFor() refuses a secondary that accepted a later epoch: the primary is the old one", () => {
  const verdict = planFor(source(1), { ...WELL, epoch: EPOCH + 1 }, EPOCH);
  assertEquals(!verdict.accept && verdict.code, "epoch");
});

Deno.test("planFor() refuses a secondary of which other names stay on its node", () => {
  const verdict = planFor(source(1), { ...WELL, excluded: "other" }, EPOCH);
  assertEquals(!verdict.accept && verdict.code, "exclude");
});

Deno.test("readPosition() reads what was said, and refuses anything else", () => {
  assertEquals(readPosition(JSON.parse(JSON.stringify(WELL))), WELL);
  for (
    const bad of [null, 5, {}, { ...WELL, last: -1 }, { ...WELL, epoch: "2" }, { ...WELL, history: [{}] }, {
      ...WELL,
      checkpoint: 0.5,
    }]
  ) {
    assertThrows(() => readPosition(bad), TypeError, "Cannot read");
  }
});

Deno.test("planFor() goes on with a comparison that was cut short, where the log names what changed since", () => {
  const cut = { ...WELL, exact: false, activeKnown: false, holds: true, compared: 9000 };
  const from = (position: Position, logFirst = 1): number | undefined => {
    const verdict = planFor(source(logFirst), position, 2);
    return verdict.accept && verdict.plan.mode === "reconcile" && verdict.plan.whole
      ? verdict.plan.from
      : undefined;
  };
  assertEquals(from(cut), 9000);
  assertEquals(from(cut, 82), 0);
  assertEquals(from({ ...cut, served: true }), 0);
  assertEquals(from({ ...cut, compared: 0 }), 0);
});
