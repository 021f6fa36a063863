import { assertEquals, assertThrows } from "@std/assert";
import { KEEP, OP, STATE } from "../journal/mod.ts";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { emptyFields } from "../journal/record.ts";
import { memoryCopy } from "../../tests/sim/memory_copy.ts";
import { type Copy, CopyError } from "./copy.ts";
import { EDITED_MARK } from "./edited_mark.ts";
import { positionOf } from "./position.ts";

function open(storage: MemoryStorage, bootId = "boot-1"): Copy {
  return memoryCopy(storage, { bootId });
}

Deno.test("Copy.checkServable() refuses a copy in mid-comparison, also after a restart, unless a person forces it", () => {
  const storage = new MemoryStorage();
  const before = open(storage);
  before.adopt([{ generation: 1n, epoch: 1, first: 1 }], 10, 100);
  before.close();
  const copy = open(storage);
  const error = assertThrows(() => copy.checkServable(false), CopyError, "force-primary");
  assertEquals(error.code, "inconsistent");
  copy.checkServable(true);
  copy.recovered();
  copy.checkServable(false);
  copy.close();
});

Deno.test("Copy.adopt() makes a power cut one also for a copy that has never been whole, until it was compared", () => {
  const storage = new MemoryStorage();
  open(storage).adopt([{ generation: 1n, epoch: 1, first: 1 }], 10, 100);
  assertEquals(open(storage.killed()).crashed, false);
  const after = storage.killed();
  const crashed = open(after, "boot-2");
  assertEquals(crashed.crashed, true);
  // Whoever goes on with that comparison after a kill: the map was built anew, but what it knows is on no disk.
  crashed.adopt([{ generation: 1n, epoch: 1, first: 1 }], 20, 100);
  const next = open(after.killed(), "boot-2");
  assertEquals(next.crashed, true);
  next.recovered();
  assertEquals([next.crashed, open(after.killed(), "boot-2").crashed], [false, true]);
});

Deno.test("Copy.checkServable() lets a new copy begin", () => {
  const copy = open(new MemoryStorage());
  copy.checkServable(false);
  copy.close();
});

Deno.test("Copy.doubt() lasts through later checkpoints and restarts, until the copy was compared", () => {
  const storage = new MemoryStorage();
  const before = open(storage);
  before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  before.begin("secondary", { copy: "uptodate" });
  assertEquals(before.exact, true);
  before.touch(20);
  const dirty = before.takeDirty();
  assertEquals([before.doubt(), before.doubt()], [true, false]);
  before.checkpointFailed(dirty.ids);
  // The next sync of the same object succeeds: the kernel has forgotten what it lost.
  before.takeDirty();
  before.checkpointed(0, 0);
  assertEquals(before.exact, false);
  before.close();
  const copy = open(storage);
  copy.begin("primary", { copy: "uptodate" });
  copy.markClean();
  assertEquals([copy.suspect, copy.exact, positionOf(copy, false).activeKnown], [true, false, false]);
  copy.recovered();
  assertEquals([copy.suspect, copy.exact, positionOf(copy, false).activeKnown], [false, true, true]);
  copy.close();
});

Deno.test("Copy.distrust() lasts through a killed process, until the copy was compared", () => {
  const storage = new MemoryStorage();
  const killed = open(storage);
  killed.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  killed.begin("secondary", { copy: "uptodate" });
  killed.distrust([30]);
  killed.distrust([30, 40]);
  const copy = open(storage);
  assertEquals([copy.exact, copy.doubted], [false, [30, 40]]);
  copy.recovered();
  assertEquals([copy.exact, copy.doubted], [true, []]);
  copy.close();
});

Deno.test("Copy.activeIds() names directories and objects that there are", () => {
  const copy = open(new MemoryStorage());
  copy.map.set(20, 1, new Uint8Array(8));
  copy.touch(20);
  copy.touch(21);
  // Which of the first ids are directories of the module, the copy does not know. No object has the id 0.
  assertEquals(copy.activeIds(), [...Array.from({ length: 15 }, (_, index) => index + 1), 20]);
  copy.close();
});

/** A copy that stood at one sequence and was opened for a person to edit while it was stopped. */
function editedCopy(): MemoryStorage {
  const storage = new MemoryStorage();
  const before = open(storage);
  before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  before.begin("secondary", { copy: "uptodate" });
  before.markClean();
  before.close();
  storage.writeAtomic(EDITED_MARK, new Uint8Array(0));
  return storage;
}

Deno.test("Copy that was edited is compared in full and what it has is kept, until it was compared", () => {
  const storage = editedCopy();
  open(storage).close();
  // The second start finds no mark, and knows it all the same.
  assertEquals(storage.size(EDITED_MARK), null);
  const copy = open(storage);
  const { exact, activeKnown, served } = positionOf(copy, false);
  assertEquals([copy.edited, copy.crashed, exact, activeKnown, served], [true, true, false, false, true]);
  copy.recovered();
  assertEquals([copy.edited, copy.crashed, positionOf(copy, false).exact], [false, false, true]);
  copy.close();
});

Deno.test("Copy that was edited and serves is what is true", () => {
  const copy = open(editedCopy());
  copy.begin("primary", { copy: "uptodate" });
  assertEquals(copy.edited, false);
  copy.close();
});

Deno.test("Copy that is new has nothing that could have been edited", () => {
  const storage = new MemoryStorage();
  storage.writeAtomic(EDITED_MARK, new Uint8Array(0));
  const copy = open(storage);
  assertEquals([copy.edited, copy.fresh, storage.size(EDITED_MARK)], [false, true, null]);
  copy.close();
});

Deno.test("Copy.mustBeWhole is asked of a start, not of who goes on, nor in mid-comparison", () => {
  const storage = new MemoryStorage();
  const copy = open(storage);
  assertEquals(copy.mustBeWhole, true);
  copy.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  copy.begin("primary", { copy: "uptodate" });
  assertEquals(copy.mustBeWhole, false);
  copy.markClean();
  assertEquals(copy.mustBeWhole, true);
  copy.setCopy("inconsistent");
  assertEquals(copy.mustBeWhole, false);
  copy.begin("secondary", { copy: "uptodate" });
  copy.close();
  const after = open(storage, "boot-2");
  assertEquals(after.mustBeWhole, true);
  after.close();
});

Deno.test("Copy.exact is false for a former primary killed in mid-operation, and its log goes on naming the operation", () => {
  for (const role of ["primary", "secondary"] as const) {
    const storage = new MemoryStorage();
    const before = open(storage);
    before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
    before.begin(role, { copy: "uptodate" });
    for (const sequence of [1, 2]) {
      const fields = { ...emptyFields(), op: OP.write, sequence, epoch: 1, generation: 1n, id: 20, b: 10 };
      const position = before.journal.append(fields, null, null, KEEP.no);
      if (sequence === 1) before.journal.settle(position, STATE.applied, 0n);
    }
    const copy = open(storage.killed());
    copy.dropInDoubt();
    // A secondary is sent it again; what a primary had begun may be in its tree and nowhere else.
    assertEquals([copy.exact, copy.journal.last], role === "secondary" ? [true, 1] : [false, 2]);
    assertEquals(copy.touchedSince(1)?.has(20), role === "primary");
    copy.close();
  }
});

Deno.test("Copy of a former primary that loses power before it has met the new one still says that it served", () => {
  for (const met of [false, true]) {
    const storage = new MemoryStorage();
    const before = open(storage);
    before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
    before.begin("primary", { copy: "uptodate" });
    before.follow();
    if (met) before.agreed();
    const copy = open(storage.killed(), "boot-2");
    assertEquals([copy.crashed, positionOf(copy, false).served], [true, !met]);
    copy.close();
  }
});

Deno.test("Copy.compared is where a comparison goes on after a killed process, and nowhere after anything else", () => {
  const compared = { from: 9000, open: [17] };
  const interrupted = (): MemoryStorage => {
    const storage = new MemoryStorage();
    const before = open(storage);
    before.adopt([{ generation: 1n, epoch: 1, first: 1 }], 10, 100);
    before.noteCompared(compared);
    before.close();
    return storage;
  };
  const after = (change: (copy: Copy) => void, bootId = "boot-1"): number => {
    const copy = open(interrupted(), bootId);
    change(copy);
    const { compared: from } = positionOf(copy, false);
    copy.close();
    return from;
  };
  assertEquals(after(() => {}), 9000);
  assertEquals(after(() => {}, "boot-2"), 0);
  assertEquals(after((copy) => copy.recovered()), 0);
  assertEquals(after((copy) => void copy.doubt()), 0);
  assertEquals(after((copy) => copy.distrust([20])), 0);
  assertEquals(after((copy) => copy.begin("primary")), 0);
  assertEquals(after((copy) => copy.noteCompared(null)), 0);
});

Deno.test("Copy of which other names stay on the node than before is compared in full, once", () => {
  const storage = new MemoryStorage();
  const opened = (excluded: string) => memoryCopy(storage, { excluded });
  const before = opened("");
  before.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  before.begin("secondary", { copy: "uptodate" });
  before.close();
  const changed = opened("another");
  assertEquals([changed.edited, changed.crashed, positionOf(changed, false).served], [true, true, true]);
  changed.recovered();
  changed.close();
  const after = opened("another");
  assertEquals([after.edited, after.crashed, after.exact], [false, false, true]);
  after.close();
});
