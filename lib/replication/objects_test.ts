import { assert, assertEquals } from "@std/assert";
import { Memory } from "../../tests/sim/memory.ts";
import { Node } from "../../tests/sim/data_road.ts";
import { latin1 } from "../../tests/sim/inodes.ts";
import { FIRST_ID, type Held, type Objects } from "./objects.ts";

function ground(): { node: Node; objects: Objects; root: Held } {
  const node = new Node("node1", new Memory());
  let next = FIRST_ID;
  node.allocate = () => next++;
  const root = node.objects.get(1);
  if (root === undefined) throw new Error("the root is not there");
  return { node, objects: node.objects, root };
}

function file(of: { node: Node; objects: Objects; root: Held }, name: string): Held {
  const fd = of.node.fs.openat(of.node.rootFd, latin1(name), 0o302, 0o600);
  const held = of.objects.adopt(fd, 0);
  if (typeof held === "number") throw new Error(`errno ${-held}`);
  return held;
}

Deno.test("Objects finds an object by id after it was renamed and its descriptors were closed", () => {
  const of = ground();
  const { id } = file(of, "a");
  of.objects.close();
  of.node.fs.renameat2(of.node.rootFd, latin1("a"), of.node.rootFd, latin1("b"), 0);
  assertEquals(of.objects.get(id)?.id, id);
});

Deno.test("Objects does not take another object for one that is gone, when the inode number is used again", () => {
  const of = ground();
  const { id } = file(of, "a");
  of.objects.close();
  of.node.fs.unlinkat(of.node.rootFd, latin1("a"), 0);
  assertEquals(of.objects.get(id), undefined);
});

Deno.test("Objects.trim() keeps to the limit, and what was closed is opened again", () => {
  const of = ground();
  const ids = Array.from({ length: 200 }, (_, index) => file(of, `f${index}`).id);
  of.objects.trim();
  assert(of.node.fs.openCount <= 66, `${of.node.fs.openCount} descriptors`);
  for (const id of ids) assert(of.objects.get(id) !== undefined);
});

Deno.test("Objects.trim() never closes an orphan: nothing could open it again", () => {
  const of = ground();
  const orphan = file(of, "gone");
  orphan.orphan = true;
  of.node.fs.unlinkat(of.node.rootFd, latin1("gone"), 0);
  for (let i = 0; i < 200; i++) file(of, `f${i}`);
  of.objects.trim();
  assert(of.objects.get(orphan.id) !== undefined);
});

Deno.test("Objects.lookup() gives one table entry to an object with two names, and leaks no descriptor", () => {
  const of = ground();
  const held = file(of, "a");
  of.node.fs.link(held.path, of.root.path, latin1("b"));
  const before = of.node.fs.openCount;
  assertEquals(of.objects.lookup(of.root, latin1("b")), held);
  assertEquals(of.node.fs.openCount, before);
});

Deno.test("Objects.adoptOrphan() takes what still has a name as an object as any other", () => {
  const of = ground();
  const { id, path } = file(of, "a");
  const fd = of.node.fs.dup(path);
  of.objects.close();
  of.objects.adoptOrphan(id, fd);
  assertEquals(of.objects.peek(id)?.orphan, false);
  assertEquals(of.objects.orphans(), []);
});

Deno.test("Objects.adoptOrphan() closes what is another object: a keeper that hung copied its number too late", () => {
  const of = ground();
  const { id } = file(of, "a");
  const fd = of.node.fs.dup(file(of, "b").path);
  of.objects.close();
  const before = of.node.fs.openCount;
  of.objects.adoptOrphan(id, fd);
  assertEquals([of.objects.peek(id), of.node.fs.openCount], [undefined, before - 1]);
});

Deno.test("Objects.unknownBelow makes what a former process may have opened count as open", () => {
  const of = ground();
  const old = file(of, "old").id;
  of.objects.close();
  of.objects.unknownBelow = old + 1;
  assertEquals(of.objects.get(old)?.opens, Infinity);
  assertEquals(file(of, "new").opens, 0);
});

Deno.test("Objects.adopt() closes the descriptor when the object cannot be marked", () => {
  const of = ground();
  const before = of.node.fs.openCount;
  of.node.fs.fail("setxattr", 28);
  assertEquals(of.objects.adopt(of.node.fs.openat(of.root.path, latin1("a"), 0o302, 0o600), 0), -28);
  assertEquals(of.node.fs.openCount, before);
});

Deno.test("Objects.syncDescriptor() tells what has no sync of its own from what is gone", () => {
  const of = ground();
  const { fs, rootFd } = of.node;
  assertEquals(fs.symlinkat(latin1("a"), rootFd, latin1("link")), 0);
  const link = of.objects.lookup(of.root, latin1("link"));
  const gone = file(of, "gone").id;
  const kept = file(of, "kept").id;
  fs.unlinkat(rootFd, latin1("gone"), 0);
  if (typeof link === "number") throw new Error(`errno ${-link}`);
  of.objects.close();
  assertEquals(of.objects.syncDescriptor(link.id), -1);
  assertEquals(of.objects.syncDescriptor(gone), null);
  assertEquals(of.objects.syncDescriptor(gone + 1000), null);
  assert((of.objects.syncDescriptor(kept) ?? -1) >= 0);
  assert((of.objects.syncDescriptor(1) ?? -1) >= 0);
  assertEquals(of.objects.syncDescriptor(2), null);
});
