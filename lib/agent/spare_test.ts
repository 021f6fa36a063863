import { assertEquals } from "@std/assert";
import { SpareKeeper } from "./spare.ts";
import { ManualTime } from "./testing.ts";

/** Processes that are only counted. */
class Processes {
  readonly time = new ManualTime();
  readonly log: string[] = [];
  started = 0;
  living = 0;
  waits = false;
  broken = false;
  end: () => void = () => {};

  keep(supervised: boolean): SpareKeeper {
    return new SpareKeeper({
      supervised,
      supervisedWaits: () => this.waits,
      timers: this.time,
      log: (line) => void this.log.push(line),
      start: () => {
        if (this.broken) throw new Error("no such program");
        this.started += 1;
        this.living += 1;
        const ended = Promise.withResolvers<void>();
        this.end = () => {
          this.living -= 1;
          this.end = () => {};
          ended.resolve();
        };
        return { pid: 100 + this.started, ended: ended.promise, kill: () => this.end() };
      },
    });
  }
}

Deno.test("SpareKeeper starts one spare soon, and no second while it lives", async () => {
  const processes = new Processes();
  const keeper = processes.keep(true);
  assertEquals(keeper.spare, null);
  await processes.time.run(1500);
  assertEquals(keeper.spare?.pid, 101);
  await processes.time.run(60_000);
  assertEquals([processes.started, processes.living], [1, 1]);
});

Deno.test("SpareKeeper starts another when the spare has died, not at once", async () => {
  const processes = new Processes();
  const keeper = processes.keep(true);
  await processes.time.run(1500);
  processes.end();
  await processes.time.run(8000);
  assertEquals([keeper.spare, processes.started], [null, 1]);
  await processes.time.run(3000);
  assertEquals([keeper.spare?.pid, processes.started], [102, 2]);
});

Deno.test("SpareKeeper waits for the supervisor's process where a spare has taken over, and starts none beside it", async () => {
  const processes = new Processes();
  processes.keep(false);
  await processes.time.run(3000);
  assertEquals(processes.started, 0);
  processes.waits = true;
  await processes.time.run(60_000);
  assertEquals(processes.started, 0);
});

Deno.test("SpareKeeper starts a spare itself where no supervisor comes, and ends it when one does", async () => {
  const processes = new Processes();
  processes.keep(false);
  await processes.time.run(6000);
  assertEquals(processes.living, 1);
  processes.waits = true;
  await processes.time.run(1000);
  assertEquals([processes.started, processes.living], [1, 0]);
  await processes.time.run(60_000);
  assertEquals(processes.started, 1);
});

Deno.test("SpareKeeper.close() ends the spare and starts none any more", async () => {
  const processes = new Processes();
  const keeper = processes.keep(true);
  await processes.time.run(1500);
  await keeper.close();
  await processes.time.run(60_000);
  assertEquals([processes.started, processes.living], [1, 0]);
});

Deno.test("SpareKeeper says why there is none, and tries again later", async () => {
  const processes = new Processes();
  processes.broken = true;
  processes.keep(true);
  await processes.time.run(9000);
  assertEquals(processes.log, ["no spare agent: no such program"]);
  processes.broken = false;
  await processes.time.run(3000);
  assertEquals(processes.living, 1);
});
