import { assert, assertEquals } from "@std/assert";
import { Pair } from "../../tests/sim/data_road.ts";
import { Kernel } from "../../tests/sim/kernel.ts";
import { Program } from "../../tests/sim/program.ts";

for (const budget of [0, 1 << 20]) {
  for (const seed of [11, 12, 13, 14, 15, 16]) {
    Deno.test(`Replayer brings a peer that was away to the same tree, ${budget} bytes of data kept, seed ${seed}`, () => {
      const pair = new Pair();
      pair.a.copy.journal.payloadBudget = budget;
      const program = new Program(new Kernel(pair.primary), seed);
      const { link } = pair.primary.sequencer;
      for (let round = 0; round < 4; round++) {
        pair.primary.sequencer.link = null;
        for (let i = 0; i < 120; i++) {
          program.step();
          pair.tick();
        }
        pair.primary.sequencer.tellTimes();
        pair.primary.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
        pair.settle();
        assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `seed ${seed}, round ${round}`);
        assertEquals(pair.b.copy.journal.last, pair.a.copy.journal.last);
        pair.primary.sequencer.link = link;
        for (let i = 0; i < 20; i++) program.step();
        pair.settle();
        assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `live, seed ${seed}, round ${round}`);
      }
      assert(program.done > 100);
    });
  }
}
