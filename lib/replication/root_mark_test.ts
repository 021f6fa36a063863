import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkRoot, type MarkWorld } from "./root_mark.ts";

/** A directory's one xattr. */
class OneXattr implements MarkWorld {
  value: Uint8Array | null = null;
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
  };
}

const ROOT = { path: "/srv/data", fd: 3, mark: "plant/bms/0" };

Deno.test("checkRoot() marks the directory of a new copy, and knows it again", () => {
  const world = new OneXattr();
  checkRoot({ ...ROOT, fresh: true }, world);
  checkRoot({ ...ROOT, fresh: false }, world);
  assertEquals(new TextDecoder().decode(world.value ?? new Uint8Array()), "plant/bms/0");
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
