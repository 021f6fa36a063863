import { assertEquals, assertRejects } from "@std/assert";
import { RpcError } from "../system/rpc_error.ts";
import { Replicators } from "./replicators.ts";
import type { Held, KeeperWorld } from "./world.ts";

/** Processes that end when the test says so, and a clock that moves with each pause. */
class Fake {
  now = 0;
  readonly started: { held: Held; end: (code: number | null) => void; signals: string[] }[] = [];
  readonly #living = new Set<Held>();
  readonly pauses: number[] = [];
  readonly retired: string[] = [];
  readonly replicators: Replicators;

  constructor(spares = false) {
    const world = {
      time: {
        bootMs: () => this.now,
        // Limits never pass by themselves here, unless a test has set `late`.
        delay: (ms: number) => {
          if (ms >= 5_000 && ms < 10_000 && !this.late) return new Promise<void>(() => {});
          this.now += ms;
          return Promise.resolve();
        },
      },
      processes: { start: () => this.#start(), atWork: () => this.atWork() },
      log: () => {},
    };
    this.replicators = new Replicators(world as unknown as KeeperWorld, {
      started: () => {},
      died: (_module, _pid, _deaths, restartsInMs) => void this.pauses.push(restartsInMs),
      retired: (module) => void this.retired.push(module),
    }, spares);
  }
  late = false;
  /** Which process has its turn: the oldest that lives, unless a test says otherwise. */
  atWork: () => number | null = () => [...this.#living][0]?.pid ?? null;

  get last() {
    const last = this.started.at(-1);
    if (last === undefined) throw new Error("nothing was started");
    return last;
  }

  #start(): Held {
    let end: (code: number | null) => void = () => {};
    const ended = new Promise<number | null>((resolve) => {
      end = (code) => {
        this.#living.delete(held);
        resolve(code);
      };
    });
    const signals: string[] = [];
    const held: Held = {
      pid: 100 + this.started.length,
      start: "1",
      ended,
      signal: (kind) => void signals.push(kind),
    };
    this.#living.add(held);
    this.started.push({ held, end, signals });
    return held;
  }
}

/** Lets everything happen that waits for nothing. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

Deno.test("Replicators.start() starts one, and starts it again at once when it dies", async () => {
  const fake = new Fake();
  assertEquals(fake.replicators.start("m"), 100);
  assertEquals(fake.replicators.start("m"), 100);
  fake.last.end(null);
  await settle();
  assertEquals(fake.replicators.process("m")?.pid, 101);
  assertEquals(fake.pauses, [0]);
});

Deno.test("Replicators pause after 30 deaths in a minute, and no longer once deaths are rare", async () => {
  const fake = new Fake();
  fake.replicators.start("m");
  for (let death = 0; death < 32; death++) {
    fake.last.end(1);
    await settle();
  }
  assertEquals(fake.pauses.slice(0, 29).every((pause) => pause === 0), true);
  assertEquals(fake.pauses.slice(29), [1_000, 10_000, 10_000]);
  fake.now += 60_001;
  fake.last.end(1);
  await settle();
  assertEquals(fake.pauses.at(-1), 0);
});

Deno.test("Replicators leave one that ended with 0 alone: it was told to retire", async () => {
  const fake = new Fake();
  fake.replicators.start("m");
  fake.last.end(0);
  await settle();
  assertEquals(fake.retired, ["m"]);
  assertEquals(fake.replicators.state("m"), null);
  assertEquals(fake.started.length, 1);
});

Deno.test("Replicators.stop() asks once and does not start it again", async () => {
  const fake = new Fake();
  fake.replicators.start("m");
  const stopped = fake.replicators.stop("m");
  assertEquals(fake.last.signals, ["terminate"]);
  fake.last.end(null);
  await stopped;
  assertEquals(fake.replicators.state("m"), null);
  assertEquals(fake.started.length, 1);
});

Deno.test("Replicators.stop() kills one that does not end, and says when even that does not help", async () => {
  const fake = new Fake();
  fake.late = true;
  fake.replicators.start("m");
  const error = await assertRejects(() => fake.replicators.stop("m"), RpcError, "does not end");
  assertEquals(error.code, "stuck");
  assertEquals(fake.last.signals, ["terminate", "kill"]);
});

Deno.test("Replicators have a spare that takes the place of one that dies, and another behind it", async () => {
  const fake = new Fake(true);
  fake.replicators.start("m");
  await settle();
  const spare = fake.last;
  fake.started[0]?.end(null);
  await settle();
  assertEquals(fake.replicators.process("m")?.pid, spare.held.pid);
  assertEquals(fake.pauses, [0]);
  // One that has died may die again before the next spare is loaded.
  assertEquals(fake.started.length, 4);
});

Deno.test("Replicators start no spare before the replicator has its turn, which a faster one would take", async () => {
  const fake = new Fake(true);
  let looks = 0;
  // Nobody has it for the first looks: a busy machine still loads the program.
  fake.atWork = () => ++looks > 3 ? 100 : null;
  fake.replicators.start("m");
  while (looks < 3) {
    assertEquals(fake.started.length, 1);
    await Promise.resolve();
  }
  await settle();
  assertEquals(fake.started.map(({ held }) => held.pid), [100, 101]);
  assertEquals(fake.replicators.process("m")?.pid, 100);
});

Deno.test("Replicators.process() is the spare that has its turn, whichever it is", async () => {
  const fake = new Fake(true);
  fake.replicators.start("m");
  await settle();
  fake.started[0]?.end(null);
  await settle();
  const [, second, third, fourth] = fake.started;
  assertEquals(fake.replicators.process("m")?.pid, second?.held.pid);
  fake.atWork = () => fourth?.held.pid ?? null;
  second?.end(null);
  await settle();
  assertEquals(fake.replicators.process("m")?.pid, fourth?.held.pid);
  fake.atWork = () => third?.held.pid ?? null;
  fourth?.end(null);
  await settle();
  assertEquals(fake.replicators.process("m")?.pid, third?.held.pid);
});

Deno.test("Replicators start another when no spare takes its turn in 20 seconds", async () => {
  const fake = new Fake(true);
  fake.replicators.start("m");
  await settle();
  const spare = fake.last;
  fake.atWork = () => null;
  fake.started[0]?.end(null);
  for (let looks = 0; looks < 1000; looks++) await settle();
  assertEquals(spare.signals, ["kill"]);
  fake.atWork = () => fake.started[2]?.held.pid ?? null;
  spare.end(null);
  await settle();
  assertEquals(fake.replicators.process("m")?.pid, fake.started[2]?.held.pid);
});

Deno.test("Replicators.stop() ends the spare first, which else would go on in its place", async () => {
  const fake = new Fake(true);
  fake.replicators.start("m");
  await settle();
  const stopping = fake.replicators.stop("m");
  await settle();
  assertEquals(fake.started[1]?.signals, ["kill"]);
  assertEquals(fake.started[0]?.signals, []);
  fake.started[1]?.end(null);
  await settle();
  assertEquals(fake.started[0]?.signals, ["terminate"]);
  fake.started[0]?.end(0);
  await stopping;
});

Deno.test("Replicators end the spare of one that retired", async () => {
  const fake = new Fake(true);
  fake.replicators.start("m");
  await settle();
  fake.started[0]?.end(0);
  await settle();
  assertEquals(fake.started[1]?.signals, ["kill"]);
  fake.started[1]?.end(null);
  await settle();
  assertEquals(fake.retired, ["m"]);
});

Deno.test("Replicators.pids() names those that wait too, from before it is known that one of them is at work", async () => {
  const fake = new Fake(true);
  assertEquals(fake.replicators.pids("m"), []);
  fake.replicators.start("m");
  await settle();
  assertEquals(fake.replicators.pids("m"), [100, 101]);
  fake.atWork = () => null;
  fake.started[0]?.end(null);
  // The lock has passed to it already; the keeper finds out later.
  await Promise.resolve();
  assertEquals(fake.replicators.pids("m"), [101]);
});
