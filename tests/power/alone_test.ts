import { assert, assertEquals } from "@std/assert";
import { dice } from "../replication/chance.ts";
import { Application } from "./application.ts";
import { Plant } from "./plant.ts";

Deno.test("PrimaryRole begins a line of history with what it writes alone, also where its process was killed on the way there", () => {
  const quarantine = Deno.makeTempDirSync();
  const options = { dice: dice(7), quarantine, durability: "each-write", resend: true } as const;
  const plant = new Plant(options);
  const application = new Application(plant, options);
  assert(plant.lead(plant.a));
  application.mount();
  plant.settle();
  application.work(20);
  const { lastGeneration } = plant.leader.copy;
  plant.killAlone();
  application.work(20);
  const { copy } = plant.leader;
  assertEquals(copy.lastEpoch, plant.epoch);
  assert(copy.lastGeneration !== lastGeneration);
  plant.settle();
  assertEquals(plant.other.fs.snapshot(), plant.leader.fs.snapshot());
  Deno.removeSync(quarantine, { recursive: true });
});
