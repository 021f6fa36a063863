import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkRequired, checkRoot, type MarkWorld } from "./root_mark.ts";

/** A directory's one xattr. */
class OneXattr implements MarkWorld {
  value: Uint8Array | null = null;
  /** What a power cut would leave. */
  synced: Uint8Array | null = null;
  refusing = 0;
  readonly #at = new Map<number, Uint8Array>();
  failing = 0;

  addressOf = (bytes: Uint8Array): number => {
    const address = this.#at.size + 1;
    this.#at.set(address, bytes);
    return address;
  };

  backing: MarkWorld["backing"] = {
    getxattr: (_fd, _name, address, _size) => {
      if (this.failing !== 0) return -this.failing;
      if (this.value === null) return -61;
      this.#at.get(address)?.set(this.value);
      return this.value.length;
    },
    setxattr: (_fd, _name, address, size) => {
      this.value = this.#at.get(address)?.slice(0, size) ?? null;
      return 0;
    },
    fsync: () => {
      if (this.refusing === 0) this.synced = this.value;
      return -this.refusing;
    },
  };
}

const ROOT = { path: "/srv/data", fd: 3, mark: "plant/bms/0" };

Deno.test("checkRoot() marks the directory of a new copy, and knows it again", () => {
  const world = new OneXattr();
  checkRoot({ ...ROOT, fresh: true }, world);
  checkRoot({ ...ROOT, fresh: false }, world);
  assertEquals(new TextDecoder().decode(world.value ?? new Uint8Array()), "plant/bms/0");
});

Deno.test("checkRoot() has the mark of a new copy on disk before it says that the directory is right", () => {
  const world = new OneXattr();
  world.refusing = 5;
  assertThrows(() => checkRoot({ ...ROOT, fresh: true }, world), Error, "the disk refused a sync (errno 5)");
  world.refusing = 0;
  // The process that had set it was killed before it was synced.
  checkRoot({ ...ROOT, fresh: true }, world);
  assertEquals(world.synced, world.value);
});

Deno.test("checkRoot() refuses a directory without a mark where there was a copy, and leaves it as it is", () => {
  const world = new OneXattr();
  const error = assertThrows(() => checkRoot({ ...ROOT, fresh: false }, world), Error);
  assertStringIncludes((error as Error).message, "is its file system mounted?");
  assertEquals(world.value, null);
});

Deno.test("checkRoot() refuses another module's directory, also for a new copy", () => {
  const world = new OneXattr();
  checkRoot({ ...ROOT, mark: "plant/video/0", fresh: true }, world);
  const error = assertThrows(() => checkRoot({ ...ROOT, fresh: true }, world), Error);
  assertStringIncludes((error as Error).message, 'it belongs to "plant/video/0"');
});

Deno.test("checkRoot() says which file systems have trusted xattrs", () => {
  const world = new OneXattr();
  world.failing = 95;
  const error = assertThrows(() => checkRoot({ ...ROOT, fresh: true }, world), Error);
  assertStringIncludes((error as Error).message, "use ext4, xfs or btrfs");
});

/** A directory tree by names; answers descriptors that count up, and how many are open. */
function tree(...names: readonly string[]) {
  const paths = new Map<number, string>([[ROOT.fd, ""]]);
  let next = 10;
  const backing: Parameters<typeof checkRequired>[1]["backing"] = {
    openat: (fd, name) => {
      const text = new TextDecoder().decode((name as Uint8Array).subarray(0, -1));
      const path = `${paths.get(fd)}/${text}`;
      if (!names.includes(path)) return -2;
      paths.set(next, path);
      return next++;
    },
    close: (fd) => {
      paths.delete(fd);
      return 0;
    },
  };
  return { world: { backing }, open: () => paths.size - 1 };
}

Deno.test("checkRequired() finds a file by its names, and closes what it opened", () => {
  const { world, open } = tree("/base", "/base/.mounted");
  checkRequired({ ...ROOT, require: "base/.mounted" }, world);
  assertEquals(open(), 0);
});

Deno.test("checkRequired() refuses a directory that lacks the file, and says what to do", () => {
  const { world, open } = tree("/base");
  for (const require of [".mounted", "base/.mounted", "other/.mounted"]) {
    const error = assertThrows(() => checkRequired({ ...ROOT, require }, world), Error);
    assertStringIncludes(error.message, `Cannot use /srv/data: "${require}" is missing`);
    assertStringIncludes(error.message, "create it, or remove the line");
  }
  assertEquals(open(), 0);
});
