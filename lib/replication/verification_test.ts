import { crc32 } from "node:zlib";
import { assertEquals } from "@std/assert";
import { memoryCopy } from "../../tests/sim/memory_copy.ts";
import { oneWay, unused } from "../../tests/sim/one_way.ts";
import type { Mended } from "./mend.ts";
import type { Place, Rotten } from "./rot.ts";
import { type Comparing, Verification } from "./verification.ts";
import { Wire } from "./wire.ts";
import { WHOLE, Witness } from "./witness.ts";

function rotten(id: number): Rotten {
  const seen = { id, ctime: 1n, as: 1n, size: 4, quiet: true };
  return {
    id,
    block: WHOLE,
    offset: 0,
    length: 4,
    again: false,
    seen,
    hash: new Uint8Array(32),
    actual: new Uint8Array(32),
    sequence: 0,
  };
}

/** A verification whose objects are what the test says. */
class Fake implements Disposable {
  readonly copy = memoryCopy();
  now = 1000;
  /** Of the wall's clock. */
  date = 5000;
  dates = 0;
  result: "busy" | "waiting" | "done" = "busy";
  waiting: Rotten[] = [];
  onUnreadable: (place: Place) => void = unused;
  readonly rechecked: number[] = [];
  readonly told: string[] = [];
  published = 0;
  mended: Mended = { outcome: "repaired", why: "" };
  readonly source: Comparing;
  readonly verification: Verification;

  constructor(scrubMs: number | null = null) {
    const settle = (id: number): Rotten | undefined => {
      const found = this.waiting.find((one) => one.id === id);
      this.waiting = this.waiting.filter((one) => one !== found);
      return found;
    };
    const reached = (): number => Math.min(50, ...this.waiting.map(({ id }) => id));
    const waiting = (): readonly Rotten[] => this.waiting;
    this.source = {
      get reached() {
        return reached();
      },
      get rotten() {
        return waiting();
      },
      said: 0,
      counters: { objects: 5, bytes: 10 },
      settle,
      recheck: ({ id }) => void this.rechecked.push(id),
      onAsk: () => {},
      step: () => this.result,
      close: () => {},
    };
    this.copy.addGeneration({ generation: 1n, epoch: 1, first: 1 });
    const none = new Uint8Array(0);
    this.verification = new Verification({
      copy: this.copy,
      makeSource: (_wire, { onUnreadable }, witness) => {
        this.onUnreadable = onUnreadable;
        witness?.seek(1);
        return this.source;
      },
      witness: new Witness({
        files: {
          read: () => none,
          cut: () => {},
          append: () => {},
          publish: () => void this.published++,
          close: () => {},
        },
        identity: () => "",
        isOurs: () => true,
        log: unused,
      }),
      see: () => null,
      mend: () => this.mended,
      onRotten: ({ id }, { outcome, why }) =>
        void this.told.push(`${id} ${outcome}${why === "" ? "" : `: ${why}`}`),
      requests: () => 0,
      now: () => this.now,
      wall: () => {
        this.dates++;
        return this.date;
      },
      scrubMs,
      onVerified: ({ rotten, mended, complete }) =>
        void this.told.push(`verified: ${rotten} rotten, ${mended} mended, complete ${complete}`),
    });
  }

  /** A pass with a secondary that understands. */
  begin(): void {
    this.attach();
    this.verification.begin();
    this.verification.step();
  }

  attach(): void {
    this.verification.attach(new Wire({ stream: oneWay(() => {}), crc32, addressOf: () => 0 }), true);
  }

  step(): void {
    this.now += 1000;
    this.verification.step();
  }

  [Symbol.dispose](): void {
    this.copy.close();
  }
}

const GOOD = new Uint8Array([1, 2, 3, 4]);

Deno.test("Verification counts what was written back and what was left, tells of each, and looks again at the first", () => {
  using fake = new Fake();
  fake.begin();
  fake.waiting = [rotten(20), rotten(21), rotten(22)];
  fake.verification.onGood(20, WHOLE, GOOD);
  fake.mended = { outcome: "left", why: "no" };
  fake.verification.onGood(21, WHOLE, GOOD);
  fake.result = "done";
  fake.verification.onGood(22, WHOLE, new Uint8Array(0));
  fake.step();
  assertEquals(fake.told, ["20 repaired", "21 left: no", "verified: 1 rotten, 1 mended, complete true"]);
  assertEquals(fake.rechecked, [20]);
  assertEquals(fake.copy.meta.value.verified, {
    at: 5000,
    objects: 5,
    bytes: 10,
    differences: 0,
    rotten: 1,
    mended: 1,
  });
  assertEquals(fake.published, 1);
});

Deno.test("Verification tells of what the disk does not give where the secondary has not what both had, and of nothing else twice", () => {
  using fake = new Fake();
  fake.begin();
  fake.waiting = [{ ...rotten(20), actual: null }, { ...rotten(21), actual: GOOD }];
  for (const id of [20, 21]) fake.verification.onGood(id, WHOLE, new Uint8Array(0));
  fake.result = "done";
  fake.step();
  assertEquals(fake.told, [
    "20 left: the disk does not give it, and the other node has not what both had; restore it",
    "verified: 1 rotten, 0 mended, complete true",
  ]);
});

Deno.test("Verification counts all that a dying disk does not give, and tells of the first hundred", () => {
  using fake = new Fake();
  fake.begin();
  for (let id = 20; id < 520; id++) fake.onUnreadable({ id, offset: 0, length: 4 });
  fake.waiting = [rotten(600)];
  fake.verification.onGood(600, WHOLE, GOOD);
  fake.result = "done";
  fake.step();
  assertEquals(fake.told.length, 102);
  assertEquals(fake.told.slice(100), ["600 repaired", "verified: 500 rotten, 1 mended, complete true"]);
});

Deno.test("Verification leaves what a secondary says nothing of within a minute, and goes on", () => {
  using fake = new Fake();
  fake.begin();
  fake.waiting = [rotten(20)];
  fake.result = "waiting";
  for (let second = 0; second < 59; second++) fake.step();
  assertEquals(fake.told, []);
  fake.result = "done";
  fake.step();
  fake.step();
  assertEquals(fake.told[0], "20 left: the other node did not say what it has");
  assertEquals(fake.told[1], "verified: 1 rotten, 0 mended, complete true");
});

Deno.test("Verification leaves nothing to a secondary that answers, however long there is something to be answered", () => {
  using fake = new Fake();
  fake.begin();
  for (let id = 20; id < 30; id++) {
    fake.waiting = [rotten(id), rotten(id + 1)];
    for (let second = 0; second < 40; second++) fake.step();
    fake.verification.onGood(id, WHOLE, GOOD);
  }
  assertEquals(fake.told, Array.from({ length: 10 }, (_, index) => `${20 + index} repaired`));
});

Deno.test("Verification goes back to what was not settled when the session ended", () => {
  using fake = new Fake();
  fake.begin();
  fake.waiting = [rotten(20)];
  fake.verification.detach();
  assertEquals(fake.copy.meta.value.verifying?.next, 20);
  fake.verification.onGood(20, WHOLE, GOOD);
  assertEquals(fake.told, []);
  assertEquals(fake.published, 0);
});

Deno.test("Verification looks once a second whether one is due, however many requests come, and begins it then", () => {
  using fake = new Fake(60_000);
  fake.attach();
  fake.dates = 0;
  for (let requests = 0; requests < 1000; requests++) fake.verification.step();
  assertEquals(fake.dates, 1);
  assertEquals(fake.verification.running, false);
  fake.date += 60_000;
  fake.step();
  assertEquals(fake.verification.running, true);
});
