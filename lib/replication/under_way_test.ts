import { assertEquals } from "@std/assert";
import { Pair, Secondary } from "../../tests/sim/data_road.ts";
import { body, Kernel } from "../../tests/sim/kernel.ts";
import { FATTR, OPCODE } from "../fuse/opcode.ts";

const FILES = ["f0", "f1", "f2"];

/** A pair with files, whose secondary takes nothing from here on. */
class Parting {
  readonly pair = new Pair();
  readonly kernel = new Kernel(this.pair.primary);
  readonly ids: readonly number[];
  /** What the primary's files held after each record. */
  readonly states = new Map<number, string>();
  #byte = 0;

  constructor() {
    this.ids = FILES.map((name) => this.kernel.create(1, name));
    for (const id of this.ids) this.kernel.write(id, 0, new Uint8Array(4000));
    this.pair.settle();
  }

  get last(): number {
    return this.pair.a.copy.journal.last;
  }

  write(file: number, offset: number, length: number): number {
    this.kernel.write(this.ids[file] ?? 0, offset, new Uint8Array(length).fill(++this.#byte));
    this.states.set(this.last, this.content("a"));
    return this.last;
  }

  truncate(file: number, size: bigint): void {
    const content = body(FATTR.SIZE, 0, 0n, size, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0);
    assertEquals(this.kernel.call(OPCODE.SETATTR, this.ids[file] ?? 0, content).error, 0);
    this.states.set(this.last, this.content("a"));
  }

  /** The line is lost; what the secondary has not read of it, too. */
  part(): void {
    this.pair.primary.sequencer.link = null;
    this.pair.secondary = new Secondary(this.pair.b);
  }

  content(node: "a" | "b"): string {
    return FILES.map((name) => this.pair[node].fs.find(name)?.content.describe()).join("\n");
  }

  /** Replays; answers after which records the secondary was not what the primary had been. */
  replay(): number[] {
    const { primary, secondary, b } = this.pair;
    const replayer = primary.replayer(secondary.stream, b.copy.journal.last + 1);
    const wrong: number[] = [];
    for (let done: boolean | "lost" = false; done === false;) {
      done = replayer.step(1);
      secondary.receive();
      const { last } = b.copy.journal;
      const state = this.states.get(last);
      if (state !== undefined && state !== this.content("b")) wrong.push(last);
    }
    replayer.close();
    assertEquals(this.content("b"), this.content("a"));
    return wrong;
  }

  get hollow(): boolean {
    const { primary, a, b } = this.pair;
    primary.sequencer.keepUnderWay();
    const { underWay } = primary.sequencer;
    return a.copy.hollowSince(b.copy.journal.last + 1, (sequence) => underWay.has(sequence));
  }
}

for (const then of ["nothing", "writes over all of it", "cuts all of it off"] as const) {
  Deno.test(`UnderWay keeps what a peer lacks whose line was lost: each state of a replay is one that was; the application then does ${then}`, () => {
    const parting = new Parting();
    for (let i = 0; i < 30; i++) parting.write(i % 3, 100 * i, 100);
    parting.part();
    for (let file = 0; file < 3; file++) {
      if (then === "writes over all of it") parting.write(file, 0, 4000);
      if (then === "cuts all of it off") parting.truncate(file, 0n);
    }
    assertEquals(parting.hollow, false);
    assertEquals(parting.replay(), []);
  });
}

Deno.test("UnderWay keeps what lay there of writes that others under way went over, or cut off", () => {
  const parting = new Parting();
  const written = [parting.write(0, 0, 100), parting.write(0, 50, 100)];
  const cut = [parting.write(1, 3950, 100), parting.write(1, 4050, 100)];
  parting.truncate(1, 4000n);
  parting.part();
  parting.write(0, 0, 4000);
  parting.truncate(1, 0n);
  assertEquals(parting.hollow, false);
  const { underWay } = parting.pair.primary.sequencer;
  const lay = (sequence: number): number[] => [...new Set(underWay.dataOf(sequence))];
  assertEquals(written.map(lay), [[1, 2], [2]]);
  assertEquals(cut.map((sequence) => underWay.dataOf(sequence)?.length), [50, 0]);
  assertEquals(parting.replay(), [written[0], ...cut]);
});

Deno.test("UnderWay leaves to the replay what cannot be read", () => {
  const parting = new Parting();
  parting.write(0, 0, 100);
  parting.part();
  // Behind one for each file that was filled in the beginning.
  parting.pair.a.fs.fail("pread", 5, FILES.length);
  assertEquals(parting.hollow, true);
  assertEquals(parting.replay(), []);
});

Deno.test("UnderWay keeps what was taken when the next line is lost, too, and lets go of it once a peer has everything", () => {
  const parting = new Parting();
  const sequence = parting.write(0, 0, 100);
  parting.part();
  parting.write(0, 0, 4000);
  const { sequencer } = parting.pair.primary;
  parting.pair.primary.connect(parting.pair.secondary.stream);
  parting.part();
  parting.write(1, 0, 1);
  assertEquals(sequencer.underWay.dataOf(sequence)?.length, 100);
  assertEquals(parting.hollow, false);
  assertEquals(parting.replay(), []);
  sequencer.underWay.clear();
  assertEquals(sequencer.underWay.dataOf(sequence), undefined);
});

Deno.test("UnderWay takes what is written while the line is being lost as it is in the end", () => {
  const parting = new Parting();
  parting.pair.secondary.stream.room = 0;
  const sequence = parting.write(0, 0, 100);
  assertEquals(parting.pair.primary.sequencer.link, null);
  parting.part();
  parting.write(0, 0, 100);
  assertEquals(parting.pair.primary.sequencer.underWay.dataOf(sequence), new Uint8Array(100).fill(1));
  assertEquals(parting.replay(), []);
});
