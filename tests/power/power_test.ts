/**
 * Both roads, whole, over disks that lose power: whatever ends in the middle of whatever, nothing that was promised is lost, and
 * the copies are equal once they are paired again. A seed is a history; POWER_SEEDS=1-500 runs more of them.
 */
import { type Dice, dice } from "../replication/chance.ts";
import { Application } from "./application.ts";
import { Ended } from "./node.ts";
import { Plant } from "./plant.ts";

/** In the last of them the first copy is cut short where a power cut takes a part of the object map. */
const SEEDS = [1, 2, 1035];
const ENDS = 8;
/** What may end. The primary twice: it is what matters most. */
const VICTIMS = [
  "line",
  "secondary",
  "primary",
  "primary",
  "both",
  "secondary killed",
  "primary killed",
] as const;
type Victim = (typeof VICTIMS)[number];

function pick<T>(from: readonly [T, ...T[]], chance: Dice): T {
  return from[chance(from.length)] ?? from[0];
}

/** One history. */
class History {
  readonly #dice: Dice;
  readonly #plant: Plant;
  readonly #application: Application;
  readonly ends: string[] = [];

  constructor(seed: number, quarantine: string) {
    this.#dice = dice(seed);
    const durability = seed % 2 === 0 ? "fsync" : "each-write";
    const options = { dice: this.#dice, quarantine, durability, resend: seed % 4 < 2 } as const;
    this.#plant = new Plant(options);
    this.#application = new Application(this.#plant, options);
  }

  run(): void {
    const chance = this.#dice;
    this.#plant.lead(this.#plant.a);
    this.#application.mount();
    while (this.ends.length < ENDS) {
      let victim: Victim = pick(VICTIMS, chance);
      this.#arm();
      try {
        this.#live();
      } catch (error) {
        if (!(error instanceof Ended)) throw error;
        victim = this.#victimOf(error, victim);
      }
      this.#disarm();
      this.ends.push(victim);
      this.#end(victim);
      this.#application.check(this.#plant.leader);
    }
    this.#equal();
  }

  /** Between two steps, or in the middle of a call of a disk. */
  #arm(): void {
    const chance = this.#dice;
    const soon = chance(3) === 0;
    const { a, b } = this.#plant;
    if (chance(2) === 0) this.#plant.endsAt = this.#plant.rounds + 1 + chance(soon ? 30 : 3000);
    else pick([a, b], chance).endAfter(1 + chance(soon ? 100 : 3000));
  }

  #disarm(): void {
    this.#plant.endsAt = Number.MAX_SAFE_INTEGER;
    this.#plant.a.spare();
    this.#plant.b.spare();
  }

  #live(): void {
    const chance = this.#dice;
    if (!this.#plant.connected && chance(3) > 0) this.#plant.connect();
    if (chance(3) === 0) this.#application.work(chance(60));
    if (chance(2) === 0) this.#equal();
    for (let i = 0; i < 20; i++) this.#application.work(20);
  }

  /** Who was in the middle of something is who ends. */
  #victimOf({ victim }: Ended, otherwise: Victim): Victim {
    if (victim === "") return otherwise;
    return victim === this.#plant.leader.name
      ? pick(["primary", "both", "primary killed"], this.#dice)
      : pick(["secondary", "both", "secondary killed"], this.#dice);
  }

  #end(victim: Victim): void {
    const plant = this.#plant;
    const { leader, other, paired } = plant;
    switch (victim) {
      case "line":
        return plant.solo();
      case "secondary killed":
        return plant.kill(other);
      case "primary killed":
        return plant.kill(leader);
      case "secondary":
        other.losePower();
        plant.solo();
        return other.follow(plant.epoch);
      case "primary":
        leader.losePower();
        // A member has all that was answered; whoever was alone is alone again.
        return this.#lead(paired ? [other, leader] : [leader]);
      case "both":
        leader.losePower();
        other.losePower();
        return this.#lead(paired && this.#dice(2) === 0 ? [other, leader] : [leader]);
    }
  }

  #lead(candidates: readonly Plant["leader"][]): void {
    if (!candidates.some((node) => this.#plant.lead(node))) throw new Error("Nobody may lead");
    this.#application.mount();
  }

  #equal(): void {
    const plant = this.#plant;
    plant.settle();
    const [one, other] = [plant.leader, plant.other].map((node) => node.fs.snapshot().split("\n"));
    const only = (of: readonly string[], not: readonly string[]) =>
      of.filter((line) => !not.includes(line)).join("\n  ");
    const [mine, theirs] = [only(one ?? [], other ?? []), only(other ?? [], one ?? [])];
    if (mine !== "" || theirs !== "") {
      throw new Error(`The copies differ: ${plant.leader.name}\n  ${mine}\n${plant.other.name}\n  ${theirs}`);
    }
    for (const node of [plant.a, plant.b]) this.#application.check(node);
  }
}

function seeds(): readonly number[] {
  const [first, last] = (Deno.env.get("POWER_SEEDS") ?? "").split("-").map(Number);
  if (first === undefined || last === undefined) return SEEDS;
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

for (const seed of seeds()) {
  Deno.test(`PrimaryRole and SecondaryRole lose nothing and become equal, whatever ends when; seed ${seed}`, () => {
    const quarantine = Deno.makeTempDirSync();
    const history = new History(seed, quarantine);
    try {
      history.run();
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`After ${history.ends.join(", ") || "nothing"}: ${message}`, { cause: error });
    } finally {
      Deno.removeSync(quarantine, { recursive: true });
    }
  });
}
