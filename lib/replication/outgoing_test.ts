import { assertEquals } from "@std/assert";
import { Outgoing } from "./outgoing.ts";
import { StreamError } from "./stream.ts";

/** A line of which the test says what it takes; each step of a resync puts 256 KiB on it. */
class Line {
  kept = 0;
  sent = 0;
  keepsUpTo = 0;
  flushes = 0;
  steps = 0;
  now = 0;
  members = 1;
  breaks = false;
  readonly lost: string[] = [];
  readonly catchUp = { connected: true, live: false, step: () => this.#step() };
  readonly outgoing: Outgoing;

  constructor() {
    // deno-lint-ignore no-this-alias
    const line = this;
    const stream = {
      get kept() {
        return line.kept;
      },
      keepUpTo: (bytes: number) => void (line.keepsUpTo = bytes),
      sendKept: () => {},
    };
    const wire = {
      stream,
      get sent() {
        return line.sent;
      },
      flush: () => this.#flush(),
    };
    this.outgoing = new Outgoing({
      sequencer: { link: { wire } },
      catchUp: this.catchUp,
      shared: { get: () => this.members },
      onLost: (reason) => void this.lost.push(reason),
      now: () => this.now,
    });
    this.outgoing.begin();
  }

  /** The line takes so much of what is kept. */
  takes(bytes: number): void {
    this.kept = Math.max(0, this.kept - bytes);
  }

  #flush(): void {
    if (this.breaks) throw new StreamError("closed", "the line broke");
    this.flushes++;
  }

  #step(): void {
    this.#flush();
    this.steps++;
    this.kept += 256 << 10;
    this.sent += 256 << 10;
  }
}

Deno.test("Outgoing.flush() gathers while nobody waits for a peer that catches up, and for a member never", () => {
  const line = new Line();
  line.now = 5e6;
  for (let i = 0; i < 5; i++) line.outgoing.flush();
  assertEquals(line.flushes, 1);
  line.now += 1e6;
  line.outgoing.flush();
  assertEquals(line.flushes, 2);
  line.members = 2;
  for (let i = 0; i < 5; i++) line.outgoing.flush();
  assertEquals(line.flushes, 7);
});

Deno.test("Outgoing.bound() keeps much for a member, whose bound on time counts, and little for one that catches up", () => {
  const line = new Line();
  assertEquals(line.keepsUpTo, 1 << 20);
  line.members = 2;
  line.outgoing.bound();
  assertEquals(line.keepsUpTo, 64 << 20);
});

Deno.test("Outgoing.step() goes on while the line takes what a resync sends, and no further than that", () => {
  const line = new Line();
  for (let i = 0; i < 9; i++) line.outgoing.step();
  assertEquals(line.steps, 2, "the line takes nothing");
  for (let i = 0; i < 9; i++) {
    line.takes(256 << 10);
    line.outgoing.step();
  }
  assertEquals(line.steps, 11);
});

Deno.test("Outgoing.step() gives a resync its part of a line that applications keep full", () => {
  const line = new Line();
  line.kept = line.sent = 1 << 20;
  line.outgoing.step();
  assertEquals(line.steps, 0);
  // They write as fast as it takes.
  for (let i = 0; i < 64; i++) {
    line.sent += 256 << 10;
    line.outgoing.step();
    line.kept = 1 << 20;
  }
  assertEquals(line.steps >= 5 && line.steps <= 9, true, `${line.steps} steps`);
});

Deno.test("Outgoing.step() does nothing for a member while much is kept: applications would wait behind it", () => {
  const line = new Line();
  line.catchUp.live = true;
  line.members = 2;
  line.kept = (256 << 10) + 1;
  line.outgoing.step();
  assertEquals([line.outgoing.mayStep, line.steps], [false, 0]);
  line.takes(1);
  line.outgoing.step();
  assertEquals(line.steps, 1);
});

Deno.test("Outgoing tells that the line broke, whether it flushed or made a step", () => {
  const line = new Line();
  line.breaks = true;
  line.outgoing.step();
  line.outgoing.flushNow();
  assertEquals(line.lost, ["the line broke", "the line broke"]);
});
