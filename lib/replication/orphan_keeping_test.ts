import { assertEquals } from "@std/assert";
import type { Answer, Called, KeeperRequest } from "../system/keeper_line.ts";
import { OrphanKeeping } from "./orphan_keeping.ts";

/** A keeper that hangs and recovers when the test says so: what was sent to it meanwhile it does afterwards, in order. */
class Keeper {
  readonly kept = new Map<string, number>();
  hangs = false;
  /** It died: the connection is gone, and with it what was on the way. */
  gone = false;
  readonly log: string[] = [];
  /** How often somebody waited for an answer that did not come. */
  waits = 0;
  now = 0;
  refuses = false;
  #posted: readonly KeeperRequest[] | null = null;
  #unread: KeeperRequest[] = [];
  readonly orphans = new OrphanKeeping({
    line: {
      call: (method, params) => this.#call({ method, params }),
      post: (requests) => this.#post(requests),
      answers: () => this.#answers(),
    },
    module: "m",
    pid: 7,
    log: (message) => void this.log.push(message),
    now: () => this.now,
  });

  get keys(): [string, number][] {
    return [...this.kept].sort();
  }

  /** Lets the thread go round a few times. */
  steps(): void {
    for (let i = 0; i < 10; i++) {
      this.now += 1e9;
      this.orphans.step();
    }
  }

  recovers(): void {
    this.hangs = this.gone = false;
    for (const request of this.#unread.splice(0)) this.#do(request);
  }

  dies(): void {
    this.gone = true;
    this.#unread = [];
    this.#posted = null;
    this.kept.clear();
  }

  #call(request: KeeperRequest): Called {
    this.#posted = null;
    if (this.gone || this.hangs) {
      this.waits++;
      if (this.hangs) this.#unread.push(request);
      return "away";
    }
    return this.#do(request);
  }

  #post(requests: readonly KeeperRequest[]): boolean {
    if (this.gone) return false;
    this.#posted = requests;
    if (this.hangs) this.#unread.push(...requests);
    return true;
  }

  #answers(): readonly Answer[] | "lost" | null {
    if (this.#posted === null) return "lost";
    if (this.hangs) return null;
    const posted = this.#posted;
    this.#posted = null;
    return posted.map((request) => this.#do(request));
  }

  #do({ method, params }: KeeperRequest): "done" | "refused" {
    const { key, fd, prefix } = params as { key: string; fd: number; prefix?: string };
    if (prefix !== undefined) this.kept.clear();
    else if (method === "drop") this.kept.delete(key);
    else if (this.refuses) return "refused";
    else if (!this.kept.has(key)) this.kept.set(key, fd);
    return "done";
  }
}

Deno.test("OrphanKeeping.keep() puts a file into the keeper's hands before it answers, and drop() takes it out", () => {
  const keeper = new Keeper();
  assertEquals(keeper.orphans.keep(16, 50), true);
  assertEquals(keeper.keys, [["orphan-16", 50]]);
  keeper.orphans.drop(16);
  assertEquals([keeper.keys, keeper.orphans.waiting], [[], false]);
  keeper.refuses = true;
  assertEquals(keeper.orphans.keep(17, 51), false);
});

Deno.test("OrphanKeeping tells a keeper that hung what was held alone meanwhile, as soon as it answers", () => {
  const keeper = new Keeper();
  keeper.hangs = true;
  for (let id = 16; id < 216; id++) assertEquals(keeper.orphans.keep(id, id + 1000), true);
  assertEquals(keeper.waits, 1, "applications wait for it once");
  keeper.steps();
  assertEquals(keeper.keys, []);
  keeper.recovers();
  keeper.steps();
  assertEquals(keeper.kept.size, 200);
  assertEquals([...keeper.kept].every(([key, fd]) => key === `orphan-${fd - 1000}`), true);
  assertEquals(keeper.orphans.waiting, false);
  assertEquals(keeper.log.length, 2, "that it is away, and that it is back");
  // As before: in safe hands before the answer.
  keeper.orphans.keep(300, 9);
  assertEquals(keeper.kept.get("orphan-300"), 9);
});

Deno.test("OrphanKeeping tells the next keeper what the former one did not hear", () => {
  const keeper = new Keeper();
  keeper.dies();
  assertEquals(keeper.orphans.keep(16, 50), true);
  keeper.steps();
  assertEquals(keeper.orphans.waiting, true);
  keeper.recovers();
  keeper.steps();
  assertEquals([keeper.keys, keeper.orphans.waiting], [[["orphan-16", 50]], false]);
});

Deno.test("OrphanKeeping.drop() takes back what was held alone, whether the keeper has heard of it or not", () => {
  const keeper = new Keeper();
  keeper.hangs = true;
  for (const id of [16, 17, 18]) keeper.orphans.keep(id, id);
  keeper.orphans.drop(16); // asked for while it hung
  keeper.orphans.drop(17); // never sent
  keeper.steps();
  keeper.orphans.drop(18);
  keeper.recovers();
  keeper.steps();
  assertEquals([keeper.keys, keeper.orphans.waiting], [[], false]);
});

Deno.test("OrphanKeeping keeps what lost its name after it had kept it once, also past a keeper that hung", () => {
  const keeper = new Keeper();
  keeper.orphans.keep(16, 50);
  keeper.hangs = true;
  keeper.orphans.drop(16);
  keeper.steps();
  assertEquals(keeper.orphans.keep(16, 60), true);
  keeper.steps();
  keeper.recovers();
  keeper.steps();
  assertEquals([keeper.keys, keeper.orphans.waiting], [[["orphan-16", 60]], false]);
});

Deno.test("OrphanKeeping.drop() is heard later by a keeper that hangs, and nobody waits for it twice", () => {
  const keeper = new Keeper();
  for (let id = 16; id < 26; id++) keeper.orphans.keep(id, id);
  keeper.hangs = true;
  for (let id = 16; id < 25; id++) keeper.orphans.drop(id);
  assertEquals(keeper.waits, 1);
  keeper.steps();
  keeper.recovers();
  keeper.steps();
  assertEquals([keeper.keys, keeper.orphans.waiting], [[["orphan-25", 25]], false]);
});

Deno.test("OrphanKeeping.dropAll() drops what a role held, also at a keeper that hangs, and nothing of the next role", () => {
  const keeper = new Keeper();
  keeper.orphans.keep(16, 50);
  keeper.hangs = true;
  keeper.orphans.keep(17, 51);
  keeper.orphans.dropAll([16, 17]);
  keeper.orphans.keep(18, 52);
  keeper.recovers();
  keeper.steps();
  assertEquals([keeper.keys, keeper.orphans.waiting], [[["orphan-18", 52]], false]);
});

Deno.test("OrphanKeeping says what a keeper refuses that was held alone, and goes on with the others", () => {
  const keeper = new Keeper();
  keeper.hangs = true;
  keeper.orphans.keep(16, 50);
  keeper.refuses = true;
  keeper.recovers();
  keeper.steps();
  assertEquals(keeper.orphans.waiting, false);
  assertEquals(keeper.log.filter((line) => line.includes("object 16")).length, 1);
});
