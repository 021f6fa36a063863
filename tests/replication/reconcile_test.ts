/**
 * The comparison by identity, on the real disk: after any divergence, with any live mutations between any two steps, the
 * target is the source. `RECONCILE_SEEDS=first-last` runs others than the usual ones.
 */

import { assert, assertEquals } from "@std/assert";
import { rebuildMap } from "../../lib/replication/ids_beneath.ts";
import { backing } from "../../lib/system/backing.ts";
import { AT, O, S_IF } from "../../lib/system/linux.ts";
import { Actor, type Dice, dice, Model, terminated, touchedBy } from "./chance.ts";
import { describeTree, digest } from "./compare.ts";
import { ok, Session, Side } from "./twins.ts";

backing.umask(0);

const [first, last] = (Deno.env.get("RECONCILE_SEEDS") ?? "1-12").split("-").map(Number);
const seeds = Array.from({ length: (last ?? 1) - (first ?? 1) + 1 }, (_, index) => (first ?? 1) + index);

interface World {
  readonly path: string;
  readonly source: Side;
  readonly target: Side;
  readonly actor: Actor;
  readonly roll: Dice;
  readonly changed: Set<number>;
  /** The first id not given yet. */
  readonly nextId: () => number;
}

function withWorld(seed: number, work: (world: World) => void, largest?: number): void {
  const path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "reconcile-" });
  const before = openFds();
  try {
    const roll = dice(seed);
    let next = 16;
    const roots = 1 + seed % 2;
    const source = new Side(`${path}/source`, roots, () => next++);
    const target = new Side(`${path}/target`, roots, () => {
      throw new Error("a target gives no ids");
    });
    const actor = new Actor(source, new Model(roots), roll, () => next++, largest);
    try {
      work({ path, source, target, actor, roll, changed: new Set(), nextId: () => next });
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    } finally {
      source.close();
      target.close();
    }
    assertEquals(openFds(), before, `seed ${seed}: descriptors left open`);
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

function openFds(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** Both sides get the same tree by the same mutations. */
function grow({ actor, target }: World, count: number): void {
  for (let i = 0; i < count; i++) {
    const mutation = actor.act();
    if (mutation !== undefined) target.apply(mutation);
  }
}

/** The source goes on alone; what it touches is in its log. */
function goOn({ actor, changed }: World, count: number): void {
  for (let i = 0; i < count; i++) {
    const mutation = actor.act();
    if (mutation !== undefined) { for (const id of touchedBy(mutation)) changed.add(id); }
  }
}

/** The target went on alone, giving ids that the source gives too, to other objects. */
function stray({ target, roll, changed }: World, model: Model, firstId: number, count: number): void {
  let next = firstId;
  const actor = new Actor(target, model, roll, () => next++);
  for (let i = 0; i < count; i++) {
    const mutation = actor.act();
    if (mutation !== undefined) { for (const id of touchedBy(mutation)) changed.add(id); }
  }
}

/** What a power cut leaves of what was being written, and worse. */
function damage(world: World, model: Model, count: number): void {
  const { target, roll, changed } = world;
  for (let i = 0; i < count; i++) {
    const ids = [...model.nodes.keys()];
    const id = ids[roll(ids.length)] ?? 1;
    const held = target.objects.get(id);
    if (held === undefined) continue;
    changed.add(id);
    for (const parent of model.parentsOf(id)) changed.add(parent);
    switch (roll(7)) {
      case 0:
        if (held.type !== S_IF.REG) break;
        backing.pwrite(target.objects.io(held), worldActor(world).fill(3000), 3000, roll(100_000));
        break;
      case 1:
        if (held.type === S_IF.REG) backing.ftruncate(target.objects.io(held), roll(50_000));
        break;
      case 2:
        if (held.type !== S_IF.LNK) backing.chmod(held.path, roll(0o7777));
        break;
      case 3:
        if (id >= 16) backing.removexattr(held.path, terminated("trusted.binome.id"));
        break;
      case 4: {
        if (held.type !== S_IF.DIR) break;
        const fd = backing.openat(held.path, terminated(`stray${roll(3)}`), O.CREAT | O.RDWR, 0o600);
        if (fd >= 0) backing.close(fd);
        // A second object with the id of another, as a copy with all attributes makes it.
        const other = ids[roll(ids.length)] ?? 0;
        const twin = backing.openat(held.path, terminated("twin"), O.CREAT | O.EXCL | O.RDWR, 0o600);
        if (twin < 0) break;
        if (other >= 16) ok(target.objects.writeId(twin, other));
        for (const parent of model.parentsOf(other)) changed.add(parent);
        changed.add(other);
        backing.close(twin);
        break;
      }
      case 5: {
        const parent = target.objects.get(model.parentsOf(id)[0] ?? 0);
        if (parent === undefined) break;
        for (const [name, child] of model.nodes.get(parent.id)?.names ?? []) {
          if (child === id) {
            backing.unlinkat(parent.path, terminated(name), held.type === S_IF.DIR ? AT.REMOVEDIR : 0);
          }
        }
        break;
      }
      case 6: {
        const to = target.objects.get(ids[roll(ids.length)] ?? 1);
        const parent = target.objects.get(model.parentsOf(id)[0] ?? 0);
        if (to?.type !== S_IF.DIR || parent === undefined) break;
        changed.add(to.id);
        for (const [name, child] of model.nodes.get(parent.id)?.names ?? []) {
          if (child === id) backing.renameat2(parent.path, terminated(name), to.path, terminated("moved"), 1);
        }
      }
    }
  }
  restart(world);
}

function worldActor({ actor }: World): Actor {
  return actor;
}

/** As a secondary does after a power cut. */
function restart({ target }: World): void {
  target.objects.close();
  target.handles.map.clear();
  target.kept.clear();
  rebuildMap(backing, target.objects, target.roots);
}

/** Runs a session with live mutations between its steps; false when it was cut. `lost` gets what was under way then. */
function live(
  world: World,
  session: Session,
  options: { mutations: number; cutAfter?: number; lost?: Set<number> },
): boolean {
  const { roll, actor, changed } = world;
  let left = options.mutations;
  for (let i = 0; i < 200_000; i++) {
    if (i === options.cutAfter) {
      for (const id of session.cut()) options.lost?.add(id);
      return false;
    }
    if (left > 0 && roll(4) === 0) {
      left--;
      const mutation = actor.act();
      if (mutation !== undefined) {
        for (const id of touchedBy(mutation)) changed.add(id);
        session.record(mutation);
      }
    }
    switch (roll(4)) {
      case 0:
        session.receive();
        break;
      case 1:
        session.hear();
        break;
      case 2:
        if (roll(3) === 0) session.idle();
        break;
      case 3: {
        const state = session.source.step(1 << 20);
        if (state === "done" && left === 0 && session.underway === 0) return true;
        if (state === "waiting" && session.underway === 0) session.idle();
      }
    }
  }
  throw new Error(`no end: ${JSON.stringify(session.source.progress())}, ${session.underway} underway`);
}

function assertEqual({ source, target }: World): void {
  source.roots.forEach((root, index) => {
    const wanted = describeTree(root.fd);
    const found = describeTree(target.roots[index]?.fd ?? -1);
    // Only what differs: a whole tree would hide it.
    assertEquals(
      found.filter((line) => !wanted.includes(line)),
      wanted.filter((line) => !found.includes(line)),
    );
  });
  assertEquals(target.objects.orphans().sort(), source.objects.orphans().sort());
  for (const id of source.objects.orphans()) assertEquals(orphanDigest(target, id), orphanDigest(source, id));
  assertEquals([...target.kept].sort(), target.objects.orphans().sort());
}

function orphanDigest(side: Side, id: number): string {
  const held = side.objects.get(id);
  if (held === undefined) throw new Error(`orphan ${id} is not there`);
  return digest(side.objects.io(held), Number.MAX_SAFE_INTEGER);
}

/** Afterwards every record applies exactly. */
function assertExact(world: World): void {
  grow(world, 15);
  assertEqual(world);
}

Deno.test("ReconcileSource and ReconcileTarget make an empty target the source", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      goOn(world, 80);
      const session = new Session(world.source, world.target, { whole: true, ids: [] });
      live(world, session, { mutations: 60 });
      assertEqual(world);
      assertExact(world);
    });
  }
});

Deno.test("ReconcileSource and ReconcileTarget make any other tree the source when everything is compared", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      grow(world, 80);
      const model = world.actor.model.clone();
      const next = world.nextId();
      const model2 = world.actor.model.clone();
      goOn(world, 30);
      stray(world, model, next, 30);
      damage(world, model2, 20);
      const session = new Session(world.source, world.target, { whole: true, ids: [] });
      live(world, session, { mutations: 60 });
      assertEqual(world);
      assertExact(world);
    });
  }
});

Deno.test("ReconcileSource and ReconcileTarget need compare only what was touched on either side", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      grow(world, 100);
      const model = world.actor.model.clone();
      const next = world.nextId();
      const model2 = world.actor.model.clone();
      goOn(world, 15);
      stray(world, model, next, 15);
      damage(world, model2, 8);
      const session = new Session(world.source, world.target, { whole: false, ids: world.changed });
      live(world, session, { mutations: 60 });
      assertEqual(world);
      assertExact(world);
    });
  }
});

Deno.test("ReconcileTarget goes on after sessions cut at any step, also after its own power cut", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      grow(world, 80);
      const model = world.actor.model.clone();
      const next = world.nextId();
      const model2 = world.actor.model.clone();
      goOn(world, 20);
      stray(world, model, next, 20);
      damage(world, model2, 10);
      const whole = seed % 3 === 0;
      for (let cuts = 0; cuts < 3; cuts++) {
        const session = new Session(world.source, world.target, {
          whole,
          ids: world.changed,
          touched: world.changed,
        });
        if (live(world, session, { mutations: 20, cutAfter: 1 + world.roll(400) })) break;
        if (world.roll(2) === 0) restart(world);
        else world.target.objects.trim();
      }
      const session = new Session(world.source, world.target, {
        whole,
        ids: world.changed,
        touched: world.changed,
      });
      live(world, session, { mutations: 30 });
      assertEqual(world);
      assertExact(world);
    });
  }
});

Deno.test("ReconcileTarget goes on where a comparison of everything was cut short, by what changed since alone", () => {
  let went = 0;
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      grow(world, 120);
      const model = world.actor.model.clone();
      const next = world.nextId();
      const model2 = world.actor.model.clone();
      goOn(world, 20);
      stray(world, model, next, 20);
      damage(world, model2, 15);
      let session = new Session(world.source, world.target, { whole: true, ids: [] });
      for (let cuts = 0; cuts < 6; cuts++) {
        const lost = new Set<number>();
        if (live(world, session, { mutations: 20, cutAfter: 20 + world.roll(300), lost })) break;
        world.changed.clear();
        goOn(world, world.roll(6));
        const compared = session.compared ?? undefined;
        if (compared !== undefined) went++;
        world.target.objects.trim();
        const changed = [...lost, ...world.changed];
        session = new Session(world.source, world.target, { whole: true, ids: [], compared, changed });
      }
      if (!session.finished) live(world, session, { mutations: 20 });
      assertEqual(world);
      assertExact(world);
    });
  }
  assert(went >= seeds.length, `only ${went} sessions went on`);
});
