import { assert, assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "../../journal/memory_storage.ts";
import { type Copy, CopyError } from "../copy.ts";
import { MemoryBacking } from "../../../tests/sim/memory_backing.ts";
import { memoryCopy } from "../../../tests/sim/memory_copy.ts";
import { Memory } from "../../../tests/sim/memory.ts";
import { cbytes } from "../bytes.ts";
import { positionOf } from "../position.ts";
import { notedBacking } from "./noted_backing.ts";
import { RoadWayBack, type WayBackMessage } from "./road.ts";

const EIO = 5;
const EOPNOTSUPP = 95;
const ENOSPC = 28;

interface World {
  readonly road: RoadWayBack;
  readonly copy: Copy;
  readonly disk: MemoryBacking;
  readonly root: number;
  readonly told: WayBackMessage[];
}

/** A copy at sequence 0 of generation 1, in mid-stretch: `a` was made a folder named `b`. */
function stretch(storage = new MemoryStorage()): World {
  const memory = new Memory();
  const disk = new MemoryBacking(memory);
  const root = disk.openRoot();
  assert(disk.mkdirat(root, cbytes("a"), 0o755) >= 0);
  const copy = memoryCopy();
  copy.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  copy.begin("secondary", { copy: "uptodate" });
  const told: WayBackMessage[] = [];
  let now = 0;
  const road = new RoadWayBack({
    copy,
    backing: disk,
    addressOf: memory.addressOf,
    cloneRange: () => -EOPNOTSUPP,
    maxBytes: null,
    openStorage: () => ({ storage, fd: root }),
    exists: () => true,
    sync: () => 0,
    now: () => now += 1e6,
    say: (message) => told.push(message),
  });
  const way = road.open([root]);
  const former = copy.formerState(1000);
  if (former === null) throw new Error("nothing to go back to");
  way.begin(former);
  copy.setCopy("inconsistent");
  const noted = notedBacking(disk, way);
  assert(noted.renameat2(root, cbytes("a"), root, cbytes("b"), 0) >= 0);
  return { road, copy, disk, root, told };
}

function names({ disk }: World): string[] {
  return [...disk.root.entries.keys()].sort();
}

/** As the thread does: asks, steps, asks again. */
function goBack({ road, root }: World): void {
  for (let i = 0; i < 1000 && !road.goBack([root]); i++) road.step();
}

Deno.test("RoadWayBack.goBack() makes the tree and the ledger what they were, and leaves nothing behind", () => {
  const world = stretch();
  assertEquals(names(world), ["b"]);
  goBack(world);
  assertEquals(names(world), ["a"]);
  const { copy, road, told } = world;
  assertEquals([copy.meta.value.copy, copy.exact, copy.journal.last], ["outdated", true, 0]);
  assertEquals(copy.history.generations.map(({ generation }) => generation), [1n]);
  assertEquals(road.status(), null);
  assertEquals(told.map(({ what }) => what), ["kept", "restored"]);
});

Deno.test("RoadWayBack.goBack() leaves a copy edited that was edited in mid-stretch: no log tells of that", () => {
  const world = stretch();
  const { copy } = world;
  // As `Copy.open` does for a person, or for another `exclude`.
  copy.meta.update({ edited: true, clean: false, bootId: "edited", role: "primary" });
  goBack(world);
  const { exact, activeKnown, served } = positionOf(copy, false);
  assertEquals([names(world), copy.edited, copy.crashed], [["a"], true, true]);
  assertEquals([exact, activeKnown, served], [false, false, true]);
});

Deno.test("RoadWayBack.goBack() forgets what was compared before it changes anything", () => {
  const { road, copy, root } = stretch();
  copy.noteCompared({ from: 100, open: [] });
  assertEquals(road.goBack([root]), false);
  assertEquals(copy.meta.value.compared, null);
});

Deno.test("RoadWayBack.goBack() answers at once where the copy is part of no resync", () => {
  const world = stretch();
  world.copy.setCopy("uptodate");
  assertEquals(world.road.goBack([world.root]), true);
  assertEquals(names(world), ["b"]);
});

Deno.test("RoadWayBack.goBack() says so where the keeper does not hold the directories", () => {
  const { road } = stretch();
  assertThrows(() => road.goBack([]), CopyError, "start the module first");
});

Deno.test("RoadWayBack.goBack() fails once where it cannot be done, then lets the copy serve as it is", () => {
  const world = stretch();
  world.disk.fail("renameat2", EIO);
  assertThrows(() => goBack(world), CopyError, "once more");
  assertEquals(world.road.goBack([world.root]), true);
  assertEquals(world.told.map(({ what }) => what), ["kept", "given-up"]);
});

Deno.test("RoadWayBack.goBack() keeps what it has on a full disk, and goes on once there is room", () => {
  const world = stretch();
  world.disk.fail("renameat2", ENOSPC);
  assertThrows(() => goBack(world), CopyError, "make room");
  goBack(world);
  assertEquals([names(world), world.copy.meta.value.copy], [["a"], "outdated"]);
});

Deno.test("RoadWayBack.served() ends a way back that nobody went", () => {
  const world = stretch();
  world.copy.setCopy("uptodate");
  world.road.served([world.root]);
  assertEquals(world.road.status(), null);
});
