import { assertEquals } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { memoryCopy } from "../../tests/sim/memory_copy.ts";
import { Checkpoints, type SyncOrder } from "./checkpoints.ts";
import type { Copy } from "./copy.ts";

/** In different blocks of the activity set. */
const [OLD, NEW, LATER] = [1000, 3000, 5000];
const HANDLE = { type: 1, bytes: new Uint8Array(8) };
const SECOND = 1e9;

/** A copy's checkpoints with a disk that does what it is told. */
class Disk {
  readonly orders: SyncOrder[] = [];
  /** Descriptors by id; what is not here is gone. */
  readonly fds = new Map<number, number>();
  readonly checkpoints: Checkpoints;
  now = 0;
  /** What the next sync is refused with. */
  errno = 0;

  constructor(readonly copy: Copy) {
    this.checkpoints = new Checkpoints({
      copy,
      order: (order) => this.orders.push(order),
      waiting: () => 0,
      now: () => this.now,
    });
  }

  /** An object that is there and was touched. */
  touch(id: number, fd: number | null = id): void {
    if (fd !== null) {
      this.copy.map.set(id, HANDLE.type, HANDLE.bytes);
      this.fds.set(id, fd);
    }
    this.copy.touch(id);
  }

  /** Time for a checkpoint, whole; answers what was synced. */
  checkpoint(meanwhile: () => void = () => {}): SyncOrder[] {
    this.orders.length = 0;
    this.now += 11 * SECOND;
    for (let steps = 0; steps < 1000 && this.orders.at(-1)?.last !== true; steps++) {
      this.checkpoints.step({ syncDescriptor: (id) => this.fds.get(id) ?? null });
      this.now += SECOND / 10;
      if (steps === 0) meanwhile();
    }
    const last = this.orders.at(-1);
    if (last === undefined) return [];
    this.checkpoints.done(last.sequence, this.errno, 0);
    this.errno = 0;
    return this.orders.slice();
  }

  files(): number[] {
    return this.orders.filter(({ what, fd }) => what === "file" && fd >= 0).map(({ fd }) => fd);
  }
}

function opened(storage: MemoryStorage): Disk {
  const copy = memoryCopy(storage);
  if (copy.fresh) copy.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  copy.begin("primary");
  return new Disk(copy);
}

Deno.test("Checkpoints sync what was touched, and it cools; what is touched meanwhile stays active", () => {
  const disk = opened(new MemoryStorage());
  disk.touch(OLD);
  disk.touch(NEW, null);
  disk.checkpoint(() => disk.touch(LATER));
  assertEquals(disk.files(), [OLD]);
  assertEquals([OLD, NEW, LATER].map((id) => disk.copy.activity.has(id)), [false, false, true]);
});

Deno.test("Checkpoints sync what a killed process had touched, before anything cools", () => {
  const storage = new MemoryStorage();
  const killed = opened(storage);
  killed.touch(OLD);
  const disk = opened(storage);
  disk.fds.set(OLD, OLD);
  disk.touch(NEW);
  disk.errno = 5;
  disk.checkpoint();
  assertEquals([OLD, NEW].map((id) => disk.copy.activity.has(id)), [true, true]);
  disk.checkpoint();
  assertEquals(disk.files().sort(), [OLD, NEW]);
  assertEquals([OLD, NEW].map((id) => disk.copy.activity.has(id)), [false, false]);
  // Once is enough.
  disk.touch(LATER);
  disk.checkpoint();
  assertEquals(disk.files(), [LATER]);
});

Deno.test("Checkpoints sync the whole file systems, last, where an object has no sync of its own", () => {
  const disk = opened(new MemoryStorage());
  disk.fds.set(1, 101);
  disk.fds.set(2, 102);
  disk.touch(OLD, -1);
  disk.touch(NEW);
  assertEquals(disk.checkpoint().map(({ what, fd, last }) => [what, fd, last]), [
    ["file", NEW, false],
    ["file-system", 101, false],
    ["file-system", 102, false],
    ["file", -1, true],
  ]);
});

Deno.test("Checkpoints sync the whole file systems, once, where the file that names what was touched before is damaged", () => {
  const storage = new MemoryStorage();
  const killed = opened(storage);
  killed.touch(OLD);
  storage.remove("activity");
  const disk = opened(storage);
  disk.fds.set(1, 101);
  disk.touch(NEW);
  disk.checkpoint();
  assertEquals(disk.orders.map(({ what }) => what), ["file", "file-system", "file"]);
  disk.touch(NEW);
  disk.checkpoint();
  assertEquals(disk.orders.map(({ what }) => what), ["file", "file"]);
});

Deno.test("Checkpoints fail where a directory cannot be opened", () => {
  const disk = opened(new MemoryStorage());
  disk.fds.set(1, -1);
  disk.touch(OLD, -1);
  const wide = disk.checkpoint().filter(({ what }) => what === "file-system");
  // syncfs(-1) is refused.
  assertEquals(wide.map(({ fd }) => fd), [-1]);
});

Deno.test("Checkpoints that began in another line of history say nothing of this one's sequences", () => {
  const disk = opened(new MemoryStorage());
  disk.copy.journal.reset(1001);
  disk.touch(OLD);
  disk.checkpoint(() => {
    disk.copy.adopt(disk.copy.history.generations, 900, 100);
    disk.copy.recovered();
  });
  assertEquals([disk.copy.meta.value.checkpoint, disk.copy.activity.has(OLD)], [900, true]);
  disk.checkpoint();
  assertEquals([disk.copy.meta.value.checkpoint, disk.copy.activity.has(OLD)], [900, false]);
});
