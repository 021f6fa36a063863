/** The comparison by identity, case by case, on the real disk. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { OP } from "../../lib/journal/record.ts";
import { ApplyError } from "../../lib/replication/follower.ts";
import type { Mutation } from "../../lib/replication/mutation.ts";
import { backing } from "../../lib/system/backing.ts";
import { Statx } from "../../lib/system/statx.ts";
import { Actor, dice, Model, terminated, touchedBy } from "./chance.ts";
import { Pair } from "./pair.ts";
import { ok } from "./twins.ts";

backing.umask(0);

Deno.test("ReconcileTarget turns a directory inside out that lies the other way round", () => {
  const orders: ((ids: { root: number; x: number; y: number }) => number[])[] = [
    ({ root, x, y }) => [root, x, y],
    ({ root, x, y }) => [y, x, root],
    ({ root, x, y }) => [x, y, root],
    // Too little: the directories that lose a name by it are compared all the same.
    ({ y }) => [y],
    ({ x }) => [x],
  ];
  for (const order of orders) {
    using pair = new Pair();
    const x = pair.mkdir(1, "x");
    const y = pair.mkdir(x, "y");
    pair.create(y, "deep");
    pair.do(pair.rename(y, [x, "y"], [1, "y"]), "source");
    pair.do(pair.rename(x, [1, "x"], [y, "x"]), "source");
    pair.session(order({ root: 1, x, y })).run();
    pair.assertEqual();
  }
});

Deno.test("ReconcileSource compares also what is offered once it is through with all that was offered before", () => {
  using pair = new Pair();
  const [early, late] = ["early", "late"].map((name) => pair.create(1, name));
  for (const id of [early ?? 0, late ?? 0]) pair.do(pair.write(id, 0, 100, 7), "source");
  const session = pair.session([early ?? 0]);
  while (session.source.step(1 << 20) === "busy");
  session.source.offer(late ?? 0);
  session.run();
  pair.assertEqual();
});

Deno.test("ReconcileTarget compares what only a name leads to: a power cut may have taken it from the object map, and its content", () => {
  using pair = new Pair();
  const ids = ["one", "two", "moved"].map((name) => pair.create(1, name));
  for (const id of ids) pair.do(pair.write(id, 0, 100, 7), "source");
  pair.do(pair.rename(ids[2] ?? 0, [1, "moved"], [1, "one"]), "target");
  for (const id of ids) pair.target.objects.remove(id);
  pair.session("whole").run();
  pair.assertEqual();
});

Deno.test("ReconcileSource reads a file once where the target has nothing, and sends no holes", () => {
  using pair = new Pair();
  const file = pair.create(1, "large", "source");
  for (let at = 0; at < 5; at++) pair.do(pair.write(file, at * (1 << 20), 1 << 20, at + 1), "source");
  pair.do(pair.write(file, 2 ** 26, 1000, 9), "source");
  const session = pair.session("whole");
  session.run();
  pair.assertEqual();
  // Of the directory's attributes alone.
  assertEquals(session.hashedBytes, 44);
  assert(session.bytesOnWire < 5.1 * (1 << 20), `${session.bytesOnWire} bytes were sent`);
  const stat = new Statx();
  ok(backing.statx(pair.target.objects.get(file)?.path ?? -1, stat));
  assert(stat.blocks * 512 < 6 * (1 << 20), `${stat.blocks} units are allocated`);
});

Deno.test("ReconcileSource sends the blocks that differ and no others", () => {
  using pair = new Pair();
  const file = pair.create(1, "large");
  for (let at = 0; at < 5; at++) pair.do(pair.write(file, at * (1 << 20), 1 << 20, at + 1));
  pair.do(pair.write(file, 3_000_000, 10, 77), "target");
  const session = pair.session([file]);
  session.run();
  pair.assertEqual();
  assert(session.bytesOnWire < 140_000, `${session.bytesOnWire} bytes were sent`);
});

Deno.test("ReconcileTarget makes a hole where the source has one", () => {
  using pair = new Pair();
  const file = pair.create(1, "sparse");
  pair.do(pair.write(file, 2 ** 26, 100, 1));
  pair.do(pair.write(file, 5_000_000, 1 << 20, 77), "target");
  const session = pair.session([file]);
  session.run();
  pair.assertEqual();
  assert(session.bytesOnWire < 5000, `${session.bytesOnWire} bytes were sent`);
  const stat = new Statx();
  ok(backing.statx(pair.target.objects.get(file)?.path ?? -1, stat));
  assert(stat.blocks * 512 < 100_000, `${stat.blocks} units are allocated`);
});

Deno.test("ReconcileSource lists a large directory in pieces, and names may change between them", () => {
  for (let seed = 1; seed <= 2; seed++) {
    using pair = new Pair();
    const roll = dice(seed);
    const other = pair.mkdir(1, "other");
    const directory = pair.mkdir(1, "large");
    const names = new Map<string, number>();
    for (let i = 0; i < 900; i++) {
      names.set(`name ${i}`, pair.create(directory, `name ${i}`, i % 3 === 0 ? "source" : "both"));
    }
    for (let i = 0; i < 50; i++) {
      const fd = ok(
        backing.openat(
          pair.target.objects.get(directory)?.path ?? -1,
          terminated(`stray ${i}`),
          0o102,
          0o600,
        ),
      );
      backing.close(fd);
    }
    const session = pair.session([directory, ...[...names.values()].filter((_, i) => i % 3 === 0)]);
    let fresh = 0;
    while (session.source.step(1 << 20) !== "done") {
      while (roll(3) > 0 && session.receive());
      if (roll(3) === 0) { while (session.hear()); }
      if (session.underway === 0) session.idle();
      if (fresh >= 400) continue;
      const [name, id] = [...names][roll(names.size)] ?? ["", 0];
      const mutation = mutate(pair, { roll, name, id, directory, other, fresh: `fresh ${fresh++}`, names });
      ok(pair.source.mutate(mutation));
      session.record(mutation);
    }
    while (session.receive());
    pair.assertEqual();
  }
});

interface Change {
  readonly roll: (below: number) => number;
  readonly name: string;
  readonly id: number;
  readonly directory: number;
  readonly other: number;
  readonly fresh: string;
  readonly names: Map<string, number>;
}

function mutate(pair: Pair, { roll, name, id, directory, other, fresh, names }: Change): Mutation {
  if (roll(4) === 0) {
    const made = pair.make(OP.create, directory, fresh);
    names.set(fresh, made.id);
    return made;
  }
  names.delete(name);
  if (roll(3) === 0) return pair.unlink(OP.unlink, id, directory, name);
  if (roll(2) === 0) return pair.rename(id, [directory, name], [other, fresh]);
  names.set(fresh, id);
  return pair.rename(id, [directory, name], [directory, fresh]);
}

Deno.test("ReconcileTarget says what is wrong when a name it needs is not among what is compared", () => {
  using pair = new Pair();
  const directory = pair.mkdir(1, "directory", "source");
  const file = pair.create(directory, "file", "source");
  assertThrows(() => pair.session([file]).run(), ApplyError, "compare everything");
});

Deno.test("Lenient repeats a record that was executed already, and executes one that was not", () => {
  for (let seed = 1; seed <= 12; seed++) {
    using pair = new Pair();
    const roll = dice(seed);
    const actor = new Actor(pair.source, new Model(1), roll, () => pair.next++);
    const session = pair.session([]);
    session.limbo.end();
    for (let i = 0; i < 150; i++) {
      const mutation = actor.act();
      if (mutation === undefined) continue;
      const done = roll(2) === 0 || mutation.op === OP.release;
      if (done) pair.target.apply(mutation);
      // A new process knows nothing but the handles and its orphans.
      if (mutation.op !== OP.release && (!done || roll(2) === 0)) {
        if (pair.target.objects.orphans().length === 0) pair.target.objects.close();
        ok(session.lenient.execute(mutation));
      }
    }
    pair.assertEqual();
    assertEquals(pair.target.objects.orphans().sort(), pair.source.objects.orphans().sort(), `seed ${seed}`);
  }
});

Deno.test("ReconcileTarget does nothing to a tree that is equal", () => {
  using pair = new Pair();
  const actor = new Actor(pair.source, new Model(1), dice(7), () => pair.next++);
  const ids = new Set<number>();
  for (let i = 0; i < 100; i++) {
    const mutation = actor.act();
    if (mutation === undefined) continue;
    pair.target.apply(mutation);
    for (const id of touchedBy(mutation)) ids.add(id);
  }
  const session = pair.session(ids, `${pair.path}/quarantine`);
  session.run();
  pair.assertEqual();
  assertEquals(session.target.progress.bytes, 0);
  assertEquals(session.saved, null);
  assertThrows(() => Deno.statSync(`${pair.path}/quarantine`), Deno.errors.NotFound);
});
