import { assert, assertEquals, assertThrows } from "@std/assert";
import { Pair, Secondary } from "../../tests/sim/data_road.ts";
import { body, Kernel } from "../../tests/sim/kernel.ts";
import { Killed } from "../../tests/sim/memory_backing.ts";
import { OPCODE } from "../fuse/opcode.ts";
import { OFFSET } from "../journal/record.ts";
import { ApplyError } from "./follower.ts";

function served(): { pair: Pair; kernel: Kernel } {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  kernel.mkdir(1, "d");
  pair.settle();
  return { pair, kernel };
}

Deno.test("Follower.apply() refuses a record of an older epoch than it has, and touches nothing", () => {
  const { pair, kernel } = served();
  pair.b.copy.addGeneration({ generation: 99n, epoch: 7, first: pair.b.copy.journal.last + 1 });
  const before = pair.b.fs.snapshot();
  const { last } = pair.b.copy.journal;
  kernel.mkdir(1, "e");
  const error = assertThrows(() => pair.settle(), ApplyError);
  assert(error.message.includes("epoch 1 is older than 7"), error.message);
  assertEquals(pair.b.fs.snapshot(), before);
  assertEquals(pair.b.copy.journal.last, last);
});

Deno.test("Follower.apply() refuses a gap, and touches nothing", () => {
  const { pair, kernel } = served();
  const { link } = pair.primary.sequencer;
  pair.primary.sequencer.link = null;
  kernel.mkdir(1, "unsent");
  pair.primary.sequencer.link = link;
  kernel.mkdir(1, "e");
  const before = pair.b.fs.snapshot();
  const error = assertThrows(() => pair.settle(), ApplyError);
  assert(error.message.includes("were") || error.message.includes("was expected"), error.message);
  assertEquals(pair.b.fs.snapshot(), before);
});

for (const [call, errno] of [["mkdirat", 28], ["mkdirat", 5], ["utimens", 5], ["setxattr", 28]] as const) {
  Deno.test(`Follower.apply() ends the session when ${call} fails with errno ${errno}, and says which`, () => {
    const { pair, kernel } = served();
    kernel.mkdir(1, "e");
    pair.b.fs.fail(call, errno);
    assertEquals(assertThrows(() => pair.settle(), ApplyError).errno, errno);
  });
}

Deno.test("Follower.apply() ends the session when a write finds no room at all", () => {
  const { pair, kernel } = served();
  const id = kernel.create(1, "f");
  kernel.write(id, 0, new Uint8Array(9000));
  pair.b.fs.capacity = 1;
  assertEquals(assertThrows(() => pair.settle(), ApplyError).errno, 28);
});

Deno.test("Follower.apply() ends equal when its process is killed at any step and the record comes again", () => {
  for (let step = 0;; step++) {
    const { pair, kernel } = served();
    const id = kernel.create(1, "f");
    kernel.write(id, 10, Uint8Array.of(1, 2, 3));
    pair.settle();
    kernel.mkdir(1, "m");
    assertEquals(kernel.call(OPCODE.RENAME, 1, body(1n, "f", "g")).error, 0);
    assertEquals(kernel.write(kernel.create(1, "h"), 0, Uint8Array.of(4)), 0);
    assertEquals(kernel.call(OPCODE.UNLINK, 1, body("g")).error, 0);
    let left = step;
    const count = (): undefined => {
      if (left-- === 0) throw new Killed("the process was killed");
    };
    pair.b.fs.before = pair.b.fs.after = count;
    if (!killed(() => pair.settle())) {
      assert(step > 20);
      return;
    }
    pair.b.restart("node2");
    pair.b.copy.dropInDoubt();
    pair.secondary = new Secondary(pair.b);
    pair.secondary.follower.repeat = true;
    pair.primary.replay(pair.secondary.stream, pair.b.copy.journal.last + 1);
    pair.settle();
    assertEquals(pair.b.fs.snapshot(), pair.a.fs.snapshot(), `killed at step ${step}`);
  }
});

function killed(run: () => void): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
    return true;
  }
}

/** Sends a record that no primary makes: `forge` changes the one that is on its way. */
function forged(forge: (frame: Uint8Array, view: DataView) => void): { pair: Pair; error: ApplyError } {
  const { pair, kernel } = served();
  const decode = pair.secondary.follower;
  kernel.mkdir(1, "name");
  const before = pair.b.fs.snapshot();
  const { last } = pair.b.copy.journal;
  const apply = decode.apply.bind(decode);
  decode.apply = (bytes, view, offset, address) => {
    forge(bytes.subarray(offset), new DataView(bytes.buffer, bytes.byteOffset + offset));
    apply(bytes, view, offset, address);
  };
  const error = assertThrows(() => pair.settle(), ApplyError);
  assertEquals(pair.b.fs.snapshot(), before);
  assertEquals(pair.b.copy.journal.last, last);
  return { pair, error };
}

for (
  const [what, forge] of [
    ["a name that leads elsewhere", (frame) => frame.set([0x2e, 0x2e, 0], 96)],
    ["a name with a slash", (frame) => frame.set([0x2f], 97)],
    ["a name without an end", (frame) => frame.fill(0x61, 96, 101)],
    ["no name", (_, view) => view.setUint16(OFFSET.namesLength, 0, true)],
  ] satisfies [string, (frame: Uint8Array, view: DataView) => void][]
) {
  Deno.test(`Follower.apply() ends the session for a record with ${what}, and touches nothing`, () => {
    const { error } = forged(forge);
    assertEquals(error.errno, 0);
    assert(/^Cannot apply record \d+: Cannot read a record/.test(error.message), error.message);
  });
}
