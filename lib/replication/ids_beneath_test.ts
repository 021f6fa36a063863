import { assertEquals } from "@std/assert";
import { Memory } from "../../tests/sim/memory.ts";
import { Node } from "../../tests/sim/data_road.ts";
import { latin1 } from "../../tests/sim/inodes.ts";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { ObjectMap } from "../journal/mod.ts";
import { FileHandle } from "../system/handle.ts";
import { borderOf, LOCAL_FIRST } from "./border.ts";
import { forgetForeignIds, handleMap } from "./ids_beneath.ts";
import { Objects } from "./objects.ts";

const bytes = (...values: number[]) => new Uint8Array(values);

/** A directory of a node on which a copy of this module lay before: names and the ids they carry. */
function disk(names: Readonly<Record<string, number>>): Node {
  const node = new Node("node1", new Memory());
  for (const [name, id] of Object.entries(names)) {
    const fd = node.fs.openat(node.rootFd, latin1(name), 0o302, 0o600);
    if (id > 0) node.objects.writeId(fd, id);
    node.fs.close(fd);
  }
  return node;
}

function idsOf(node: Node, names: readonly string[]): number[] {
  return names.map((name) => {
    const fd = node.fs.openat(node.rootFd, latin1(name), 0o10000000, 0);
    const id = node.objects.readId(fd);
    node.fs.close(fd);
    return Math.max(0, id);
  });
}

Deno.test("forgetForeignIds() says how far the ids go that a new copy finds: none of them is given again", () => {
  const node = disk({ a: 16, b: 700, none: 0 });
  const roots = [{ fd: node.rootFd }];
  const believed = forgetForeignIds(node.fs, node.objects, { roots, nextId: 16, fresh: true });
  assertEquals(believed, { forgotten: 0, nextId: 701 });
  assertEquals(idsOf(node, ["a", "b", "none"]), [16, 700, 0]);
});

Deno.test("forgetForeignIds() believes nothing of what a new copy has to itself, nor an id that cannot be", () => {
  const node = disk({
    "own.tmp": LOCAL_FIRST + 20,
    "was.tmp": 21,
    now: LOCAL_FIRST + 22,
    far: 2 ** 50,
    good: 23,
  });
  const roots = [{ fd: node.rootFd, border: borderOf(["*.tmp"]) }];
  const believed = forgetForeignIds(node.fs, node.objects, { roots, nextId: 16, fresh: true });
  assertEquals(believed, { forgotten: 4, nextId: 24 });
  assertEquals(idsOf(node, ["own.tmp", "was.tmp", "now", "far", "good"]), [0, 0, 0, 0, 23]);
});

Deno.test("forgetForeignIds() leaves an edited copy the ids that it gave, its own ones too", () => {
  const node = disk({ "own.tmp": LOCAL_FIRST + 20, shared: 21, brought: 40 });
  const roots = [{ fd: node.rootFd, border: borderOf(["*.tmp"]) }];
  const believed = forgetForeignIds(node.fs, node.objects, { roots, nextId: 30, fresh: false });
  assertEquals(believed, { forgotten: 1, nextId: 30 });
  assertEquals(idsOf(node, ["own.tmp", "shared", "brought"]), [LOCAL_FIRST + 20, 21, 0]);
});

Deno.test("handleMap() never takes an object of one kind for one of the other with the same number", () => {
  const map = handleMap(new ObjectMap(new MemoryStorage()));
  const local = LOCAL_FIRST + 20;
  const handle = new FileHandle();
  map.set(local, (1 << 16) | 5, bytes(1, 2, 3, 4));
  assertEquals([map.get(local, handle), handle.type], [(1 << 16) | 5, 5]);
  assertEquals([map.get(20, handle), map.taken?.(local)], [undefined, false]);
  // What is replicated has the number from then on, whatever becomes of the other.
  map.set(20, 7, bytes(5, 6, 7, 8));
  map.set(local, 5, bytes(1, 2, 3, 4));
  map.delete(local);
  assertEquals([map.get(20, handle), [...handle.bytes]], [7, [5, 6, 7, 8]]);
  assertEquals([map.get(local, handle), map.taken?.(local)], [undefined, true]);
});

Deno.test("Objects gives what stays on the node another id where the number is a replicated object's by now", () => {
  const node = disk({ "own.tmp": LOCAL_FIRST + 20, shared: 20 });
  let next = 50;
  const objects = new Objects({
    backing: node.fs,
    roots: [{ fd: node.rootFd, border: borderOf(["*.tmp"]) }],
    handles: handleMap(new ObjectMap(new MemoryStorage())),
    allocate: () => next++,
    addressOf: node.memory.addressOf,
    fdsMax: 64,
  });
  const root = objects.get(1);
  if (root === undefined) throw new Error("the root is not there");
  const ids = ["shared", "own.tmp"].map((name) => {
    const held = objects.lookup(root, latin1(name));
    return typeof held === "number" ? held : held.id;
  });
  objects.close();
  // By their handles alone, as after many others were looked at.
  assertEquals(ids, [20, LOCAL_FIRST + 50]);
  assertEquals(ids.map((id) => objects.get(id)?.id), ids);
});
