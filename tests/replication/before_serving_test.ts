import { assertEquals } from "@std/assert";
import { KEEP, OP, STATE } from "../../lib/journal/mod.ts";
import { MemoryStorage } from "../../lib/journal/memory_storage.ts";
import { emptyFields } from "../../lib/journal/record.ts";
import { memoryCopy } from "../sim/memory_copy.ts";
import { lookBeneath } from "../../lib/replication/before_serving.ts";
import type { Copy } from "../../lib/replication/copy.ts";
import { handleMap } from "../../lib/replication/ids_beneath.ts";
import { Objects } from "../../lib/replication/objects.ts";
import { backing } from "../../lib/system/backing.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { planFor, positionOf } from "../../lib/replication/position.ts";

const FIRST = { generation: 1n, epoch: 1, first: 1 };
/** What the log of the node that lost power still holds. */
const LEFT = 100;

/** Writes until the log's last is `last`. */
function write(copy: Copy, last: number): void {
  const { epoch, generation } = copy.history.generations.at(-1) ?? FIRST;
  while (copy.journal.last < last) {
    const sequence = copy.journal.last + 1;
    const fields = { ...emptyFields(), op: OP.setattr, sequence, epoch, generation, id: 20 };
    copy.journal.settle(copy.journal.append(fields, null, null, KEEP.budget), STATE.applied, 0n);
  }
}

function upTo(last: number, storage = new MemoryStorage()): Copy {
  const copy = memoryCopy(storage);
  copy.addGeneration(FIRST);
  copy.begin("secondary", { copy: "uptodate" });
  write(copy, last);
  return copy;
}

/** A node that lost power, and with it the end of its log, and serves what its disk has. */
function serving(storage: MemoryStorage): Copy {
  upTo(LEFT, storage).close();
  const copy = memoryCopy(storage, { bootId: "boot-2" });
  const options = {
    backing,
    roots: [],
    handles: handleMap(copy.map),
    addressOf,
    fdsMax: 16,
    allocate: () => 0,
  };
  lookBeneath(copy, new Objects(options), []);
  copy.begin("primary", { copy: "uptodate" });
  return copy;
}

function planned(source: Copy, target: Copy): string {
  const verdict = planFor(source, positionOf(target, true), 9);
  if (!verdict.accept) return verdict.code;
  const { plan } = verdict;
  return plan.mode === "replay" ? "replay" : plan.whole ? "all" : `named since ${plan.since}`;
}

Deno.test("lookBeneath() has everybody compared in full with who serves after a power cut, however much they have of the same line", () => {
  const storage = new MemoryStorage();
  const source = serving(storage);
  for (const has of [LEFT - 1, LEFT, LEFT + 1, LEFT + 2, LEFT + 50]) {
    const target = upTo(has);
    assertEquals([has, planned(source, target)], [has, "all"]);
    // Who lost power as well names by its activity set what it touched itself, not what the source lost.
    target.takeDirty();
    target.checkpointed(has, 0);
    target.crashed = true;
    assertEquals([has, planned(source, target)], [has, "all"]);
    target.close();
  }
  // A line of its own begins; and another process goes on.
  source.addGeneration({ generation: 2n, epoch: 2, first: source.journal.last + 1 });
  write(source, LEFT + 10);
  assertEquals(planned(source, upTo(LEFT + 50)), "all");
  source.close();
  const later = memoryCopy(storage, { bootId: "boot-2" });
  assertEquals(planned(later, upTo(LEFT + 50)), "all");
});

Deno.test("lookBeneath() has who served after a power cut compared in full, also by a process of its own that comes later", () => {
  for (const writes of [0, 10]) {
    const storage = new MemoryStorage();
    const before = serving(storage);
    if (writes > 0) before.addGeneration({ generation: 2n, epoch: 2, first: before.journal.last + 1 });
    write(before, before.journal.last + writes);
    // All that it touched since is on its disk; what the power cut took is not, and cooled.
    before.takeDirty();
    before.checkpointed(before.journal.last, 0);
    const other = upTo(LEFT + 50);
    assertEquals([writes, planned(other, before)], [writes, "all"]);
    before.close();
    const target = memoryCopy(storage, { bootId: "boot-2" });
    assertEquals([writes, target.crashed, planned(other, target)], [writes, false, "all"]);
    // Compared, it is what the other is.
    target.adopt([FIRST], other.journal.last, 100);
    target.recovered();
    assertEquals([writes, planned(other, target)], [writes, "replay"]);
  }
});

Deno.test("lookBeneath() lets the log name what changed again, once the other was compared in full", () => {
  const storage = new MemoryStorage();
  const source = serving(storage);
  const target = memoryCopy();
  target.adopt(source.history.generations, source.journal.last, 100);
  target.recovered();
  source.agreesAfter({ whole: true });
  assertEquals(planned(source, target), "replay");
  source.close();
  assertEquals(planned(target, memoryCopy(storage, { bootId: "boot-2" })), "replay");
});
