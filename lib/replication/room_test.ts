import { assertEquals } from "@std/assert";
import type { Statfs } from "../system/statx.ts";
import { STATFS } from "../system/statx.ts";
import { Room } from "./room.ts";

const MIB = 1 << 20;

/** A file system of which a test says how much is free. */
class Disk {
  free = 0;
  kept = 0;
  measured = 0;
  constructor(readonly size: number) {}

  fstatfs(_fd: number, into: Statfs): number {
    this.measured++;
    const set = (at: number, value: number) => into.view.setBigUint64(at, BigInt(value), true);
    set(STATFS.frsize, 4096);
    set(STATFS.blocks, this.size / 4096);
    set(STATFS.bfree, this.free / 4096);
    set(STATFS.bavail, Math.max(0, this.free - this.kept) / 4096);
    return 0;
  }
}

Deno.test("Room.take() leaves root its blocks", () => {
  const disk = new Disk(1024 * MIB);
  disk.free = 60 * MIB;
  disk.kept = 51 * MIB;
  const room = new Room(disk, 3);
  assertEquals([room.take(8 * MIB), room.take(2 * MIB)], [true, true]);
  disk.free = 51 * MIB;
  assertEquals(room.take(8 * MIB), false);
});

Deno.test("Room.take() leaves a margin where the file system keeps none, a twentieth of a small disk", () => {
  const disk = new Disk(100 * MIB);
  disk.free = 6 * MIB;
  const room = new Room(disk, 3);
  assertEquals(room.take(MIB), true);
  disk.free = 5 * MIB;
  assertEquals(room.take(MIB), false);
});

Deno.test("Room.take() measures again when there is room again, and not for every write", () => {
  const disk = new Disk(10_240 * MIB);
  const room = new Room(disk, 3);
  assertEquals(room.take(4096), false);
  disk.free = 1024 * MIB;
  for (let i = 0; i < 1000; i++) assertEquals(room.take(4096), true);
  assertEquals(disk.measured, 2);
});
