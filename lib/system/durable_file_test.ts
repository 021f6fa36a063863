import { assert, assertEquals, assertThrows } from "@std/assert";
import { Journal, KEEP } from "../journal/journal.ts";
import { OP } from "../journal/record.ts";
import { DiskFullError } from "../journal/storage.ts";
import { FileStorage } from "./durable_file.ts";

function withStorage(work: (storage: FileStorage, directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "binome-storage-" });
  try {
    using storage = FileStorage.open(`${directory}/log`);
    work(storage, `${directory}/log`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("FileStorage.open() takes the directory for one process, and sweeps what an interrupted write left", () => {
  withStorage((storage, directory) => {
    assertThrows(() => FileStorage.open(directory), Error, "another process uses it");
    storage.close();
    Deno.writeTextFileSync(`${directory}/meta.json.tmp`, "half");
    using again = FileStorage.open(directory);
    assertEquals(again.list(), []);
    assertEquals((Deno.statSync(directory).mode ?? 0) & 0o777, 0o700);
  });
});

Deno.test("FileStorage.map() shares memory with the file, with its blocks allocated", () => {
  withStorage((storage, directory) => {
    const mapping = storage.map("m", 8192, 4096);
    mapping.bytes[5] = 77;
    mapping.sync();
    const stat = Deno.statSync(`${directory}/m`);
    assertEquals([stat.size, Deno.readFileSync(`${directory}/m`)[4101]], [12288, 77]);
    assert((stat.blocks ?? 0) * 512 >= 8192);
    mapping.close();
    assertThrows(() => mapping.sync(), Error, "it is closed");
    storage.discard("m", 4096, 8192);
    assertEquals(storage.readAll("m")?.every((byte) => byte === 0), true);
  });
});

Deno.test("FileStorage.map() of more than the disk has is an error, and leaves the file as it was", () => {
  withStorage((storage) => {
    storage.map("m", 4096).close();
    assertThrows(() => storage.map("m", 2 ** 45), Error, "Cannot allocate");
    assertEquals(storage.size("m"), 4096);
  });
});

Deno.test("FileStorage.append() and writeAtomic() follow each other", () => {
  withStorage((storage) => {
    const bytes = (text: string) => new TextEncoder().encode(text);
    const text = () => new TextDecoder().decode(storage.readAll("f") ?? new Uint8Array(0));
    assertEquals([storage.readAll("f"), storage.size("f")], [null, null]);
    storage.append("f", bytes("one"));
    storage.append("f", bytes("two"));
    assertEquals(text(), "onetwo");
    storage.writeAtomic("f", bytes("new"));
    storage.append("f", bytes("er"));
    assertEquals(text(), "newer");
    assertEquals(storage.list(), ["f"]);
    storage.remove("f");
    storage.remove("f");
    storage.syncDirectory();
    assertEquals(storage.size("f"), null);
  });
});

Deno.test("FileStorage refuses names that are not plain", () => {
  withStorage((storage) => {
    for (const name of ["", "../x", "a/b", ".lock"]) {
      assertThrows(() => storage.readAll(name), Error, "not a plain name");
    }
  });
});

Deno.test("FileStorage carries a log from one opening to the next", () => {
  withStorage((storage) => {
    const options = {
      storage,
      identity: { cluster: "c", module: "m" },
      segmentBytes: 65536,
      segmentsMax: 4,
      scan: "all" as const,
    };
    const journal = Journal.open(options);
    const fields = {
      op: OP.write,
      sequence: 0,
      epoch: 1,
      generation: 1n,
      unique: 0,
      id: 1,
      a: 0,
      b: 0,
      c: 0,
    };
    for (let i = 1; i <= 5000; i++) {
      fields.sequence = i;
      fields.unique = i * 2;
      journal.append(fields, null, null, KEEP.no);
    }
    journal.sync();
    journal.close();
    const later = Journal.open(options);
    assertEquals([later.last, later.first, later.recovery.cut], [5000, journal.first, null]);
    assert(later.findUnique(10_000) !== undefined);
    later.close();
  });
});

Deno.test("DiskFullError is what a full file system gives, with nothing changed", () => {
  const directory = Deno.makeTempDirSync({ prefix: "binome-full-" });
  const run = (...command: [string, ...string[]]) =>
    new Deno.Command(command[0], { args: command.slice(1), stderr: "null" }).outputSync().success;
  if (!run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory)) {
    Deno.removeSync(directory);
    throw new Error("Cannot test a full disk: mounting a tmpfs needs root");
  }
  try {
    using storage = FileStorage.open(directory);
    storage.append("f", new Uint8Array(100_000));
    assertThrows(
      () => storage.append("f", new Uint8Array(400_000)),
      DiskFullError,
      "No space left on device",
    );
    assertEquals(storage.size("f"), 100_000);
    assertThrows(() => storage.writeAtomic("f", new Uint8Array(400_000)), DiskFullError);
    assertEquals([storage.size("f"), storage.list()], [100_000, ["f"]]);
    assertThrows(() => storage.map("m", 1024 * 1024), DiskFullError);
    storage.append("f", new Uint8Array(10));
    assertEquals(storage.size("f"), 100_010);
  } finally {
    run("umount", directory);
    Deno.removeSync(directory);
  }
});

Deno.test("FileStorage.writeAtomic() has room set aside on a full disk, and takes it again when there is some", () => {
  const directory = Deno.makeTempDirSync({ prefix: "binome-full-" });
  const run = (...command: [string, ...string[]]) =>
    new Deno.Command(command[0], { args: command.slice(1), stderr: "null" }).outputSync().success;
  if (!run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory)) {
    Deno.removeSync(directory);
    throw new Error("Cannot test a full disk: mounting a tmpfs needs root");
  }
  try {
    using storage = FileStorage.open(directory, 128 << 10);
    assertEquals([storage.replenish(), storage.list()], [true, []]);
    // Others leave not a block.
    for (const length of [65536, 4096]) {
      try {
        for (;;) Deno.writeFileSync(`${directory}/filler`, new Uint8Array(length), { append: true });
      } catch (error) {
        if (!String(error).includes("No space left")) throw error;
      }
    }
    assertThrows(() => storage.append("log", new Uint8Array(4096)), DiskFullError);
    storage.writeAtomic("meta", new Uint8Array(5000).fill(7));
    assertEquals(storage.readAll("meta")?.at(-1), 7);
    // Half of it is free now: not enough to count as room.
    assertEquals(storage.replenish(), false);
    storage.writeAtomic("meta", new Uint8Array(5000).fill(8));
    Deno.removeSync(`${directory}/filler`);
    assertEquals([storage.replenish(), storage.list()], [true, ["log", "meta"]]);
  } finally {
    run("umount", "-l", directory);
    Deno.removeSync(directory);
  }
});
