import { assertEquals } from "@std/assert";
import { Memory } from "../../tests/sim/memory.ts";
import { latin1 } from "../../tests/sim/inodes.ts";
import { MemoryBacking } from "../../tests/sim/memory_backing.ts";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { ObjectMap, OP } from "../journal/mod.ts";
import { Aside } from "./aside.ts";
import { borderOf } from "./border.ts";
import { handleMap } from "./ids_beneath.ts";
import { Mutation } from "./mutation.ts";
import { Objects } from "./objects.ts";
import { Tree } from "./tree.ts";

const ENOTEMPTY = 39;
const EEXIST = 17;

Deno.test("Tree.execute() renames over a directory that holds only what is the secondary's own, on each file system", () => {
  for (const occupied of [ENOTEMPTY, EEXIST]) {
    const memory = new Memory();
    const backing = new MemoryBacking(memory);
    const root = backing.openRoot();
    let next = 20;
    const objects = new Objects({
      backing,
      roots: [{ fd: root, border: borderOf(["*.tmp"]) }],
      handles: handleMap(new ObjectMap(new MemoryStorage())),
      allocate: () => next++,
      addressOf: memory.addressOf,
      fdsMax: 64,
    });
    objects.markRoots();
    const ids = ["moved", "replaced"].map((name) => {
      backing.mkdirat(root, latin1(name), 0o755);
      const top = objects.get(1);
      const held = top === undefined ? -1 : objects.lookup(top, latin1(name));
      if (typeof held === "number") throw new Error(`errno ${-held}`);
      return held.id;
    });
    backing.close(backing.openat(objects.get(ids[1] ?? 0)?.path ?? -1, latin1("own.tmp"), 0o302, 0o600));
    const mutation = new Mutation().reset(OP.rename, ids[0] ?? 0);
    mutation.c = mutation.a = 1;
    mutation.name = latin1("moved");
    mutation.other = latin1("replaced");
    mutation.displaced = ids[1] ?? 0;
    backing.fail("renameat2", occupied);
    const tree = new Tree({ backing, objects, aside: new Aside(backing, objects) });
    assertEquals(tree.execute(mutation), 0, `errno ${occupied}`);
    const names = [...backing.root.entries.keys()].sort();
    assertEquals([names, objects.get(ids[1] ?? 0)], [[".binome", "replaced"], undefined]);
  }
});
