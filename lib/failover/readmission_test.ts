import { assertEquals } from "@std/assert";
import {
  afterDrop,
  dropsInWords,
  FORGIVEN,
  mayReturn,
  observe,
  pauseMs,
  type Readmission,
  returnAt,
  type Sight,
  spanInWords,
} from "./readmission.ts";

const MINUTE_MS = 60_000;

function dropped(...at: readonly number[]): Readmission {
  return at.reduce(afterDrop, FORGIVEN);
}

function sight(change: Partial<Sight> & { readonly at: number }): Sight {
  return { live: true, sequence: 10n, acknowledged: 10n, boundMs: 1000, ...change };
}

Deno.test("pauseMs() forgives one drop and doubles with each further one, up to five minutes", () => {
  const pauses = Array.from(
    { length: 12 },
    (_, count) => pauseMs(dropped(...Array.from({ length: count }, (_, index) => index)), 100) / 1000,
  );
  assertEquals(pauses, [0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
});

Deno.test("pauseMs() forgets a drop after an hour", () => {
  const readmission = dropped(0, 30 * MINUTE_MS, 40 * MINUTE_MS);
  assertEquals(pauseMs(readmission, 50 * MINUTE_MS), 10_000);
  assertEquals(pauseMs(readmission, 60 * MINUTE_MS), 5000);
  assertEquals(pauseMs(readmission, 90 * MINUTE_MS), 0);
});

Deno.test("afterDrop() keeps no more drops than it needs", () => {
  const many = dropped(...Array.from({ length: 1000 }, (_, index) => index));
  assertEquals([many.drops.length, pauseMs(many, 1000)], [16, 300_000]);
});

Deno.test("mayReturn() takes a peer that was dropped once in at once", () => {
  assertEquals(mayReturn(dropped(50), 60), true);
});

Deno.test("mayReturn() waits until the peer has held up for the whole pause", () => {
  let readmission = observe(dropped(0, 10), sight({ at: 1000 }));
  assertEquals([mayReturn(readmission, 5999), mayReturn(readmission, 6000)], [false, true]);
  assertEquals(returnAt(readmission, 1000), 6000);
  readmission = observe(readmission, sight({ at: 5000, live: false }));
  assertEquals([mayReturn(readmission, 6000), returnAt(readmission, 6000)], [false, null]);
  readmission = observe(readmission, sight({ at: 7000 }));
  assertEquals([mayReturn(readmission, 11_999), mayReturn(readmission, 12_000)], [false, true]);
});

Deno.test("observe() takes a peer that lags for one that does not hold up, until it has delivered", () => {
  let readmission = observe(dropped(0, 10), sight({ at: 1000, sequence: 50n, acknowledged: 50n }));
  readmission = observe(readmission, sight({ at: 1200, sequence: 80n, acknowledged: 50n }));
  assertEquals(readmission.steadySince, 1000);
  readmission = observe(readmission, sight({ at: 1400, sequence: 90n, acknowledged: 70n }));
  readmission = observe(readmission, sight({ at: 2200, sequence: 90n, acknowledged: 70n }));
  assertEquals(readmission.steadySince, 1000);
  readmission = observe(readmission, sight({ at: 2300, sequence: 95n, acknowledged: 79n }));
  assertEquals(readmission.steadySince, null);
  readmission = observe(readmission, sight({ at: 2500, sequence: 95n, acknowledged: 80n }));
  assertEquals(readmission.steadySince, 2500);
});

Deno.test("observe() keeps a busy peer steady that always is a little behind", () => {
  let readmission = dropped(0, 10);
  for (let at = 1000; at < 20_000; at += 200) {
    const sequence = BigInt(at);
    readmission = observe(readmission, sight({ at, sequence, acknowledged: sequence - 500n }));
  }
  assertEquals(readmission.steadySince, 1000);
});

Deno.test("dropsInWords() says how often within how long", () => {
  assertEquals(dropsInWords(dropped(0, 5000, 600_000), 600_000), "dropped 3 times in 10 min");
  assertEquals([spanInWords(0), spanInWords(44_001), spanInWords(601_000)], ["1 s", "45 s", "11 min"]);
});
