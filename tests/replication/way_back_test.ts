/**
 * The way back out of a resync, on the real disk: whatever the resync did, wherever it was cut, the tree is what it was.
 * `WAY_BACK_SEEDS=first-last` runs others than the usual ones.
 *
 * The log lies on a disk that loses what was not synced, the tree on one that keeps everything at once: the strictest
 * proof that nothing is changed before what it was is on the disk.
 */

import { assert, assertEquals } from "@std/assert";
import { MemoryStorage } from "../../lib/journal/memory_storage.ts";
import { Foresight } from "../../lib/replication/way_back/foresight.ts";
import { keepingBacking, notedBacking } from "../../lib/replication/way_back/noted_backing.ts";
import { restore } from "../../lib/replication/way_back/restore.ts";
import type { Beginning } from "../../lib/replication/way_back/header.ts";
import { WayBack } from "../../lib/replication/way_back/way_back.ts";
import { type Backing, backing } from "../../lib/system/backing.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { cloneRange } from "../../lib/system/reflink.ts";
import { Actor, type Dice, dice, Model, touchedBy } from "./chance.ts";
import { describeTree } from "./compare.ts";
import { Session, Side } from "./twins.ts";

backing.umask(0);

const [first, last] = (Deno.env.get("WAY_BACK_SEEDS") ?? "1-12").split("-").map(Number);
const seeds = Array.from({ length: (last ?? 1) - (first ?? 1) + 1 }, (_, index) => (first ?? 1) + index);
/** Where the trees lie: another file system shows what sharing blocks does. */
const DIRECTORY = Deno.env.get("WAY_BACK_DIRECTORY") ?? "/var/tmp";

const BEGINNING: Beginning = {
  began: 2,
  asOf: 1,
  exact: true,
  edited: false,
  history: [],
  last: 7,
  checkpoint: 7,
};

interface World {
  readonly source: Side;
  readonly target: Side;
  readonly actor: Actor;
  readonly roll: Dice;
  readonly changed: Set<number>;
  readonly node: Node;
  /** The target's trees when the stretch began. */
  before: string[][];
}

/** The secondary's process as far as the way back goes: opened again after each death. */
class Node {
  storage = new MemoryStorage();
  readonly givenUp: string[] = [];
  maxBytes: number | null = null;
  #way: WayBack | null = null;
  #noted: Backing = backing;
  #roots: readonly number[] = [];

  get way(): WayBack {
    if (this.#way === null) throw new Error("not opened");
    return this.#way;
  }

  open(roots: readonly number[]): Backing {
    this.#roots = roots;
    this.#way = WayBack.open({
      storage: this.storage,
      backing,
      roots,
      addressOf,
      cloneRange,
      storageFd: roots[0] ?? -1,
      maxBytes: this.maxBytes,
      onKept: () => {},
      onGivenUp: (reason) => this.givenUp.push(reason),
    }, true);
    this.#noted = notedBacking(backing, this.#way);
    // Whoever holds this writes by the process that lives now.
    return new Proxy(backing, { get: (_, call) => Reflect.get(this.#noted, call) });
  }

  /** The log keeps what was synced, the tree all of it. */
  losePower(roll: Dice): void {
    this.#way?.close();
    this.storage = this.storage.crash(() => roll(1000) / 1000);
    this.open(this.#roots);
  }
}

function withWorld(seed: number, work: (world: World, path: string) => void): void {
  const path = Deno.makeTempDirSync({ dir: DIRECTORY, prefix: "way-back-" });
  const fds = openFds();
  try {
    const roll = dice(seed);
    let next = 16;
    const roots = 1 + seed % 2;
    const node = new Node();
    const source = new Side(`${path}/source`, roots, () => next++);
    const target = new Side(`${path}/target`, roots, noIds, (fds) => node.open(fds));
    const actor = new Actor(source, new Model(roots), roll, () => next++);
    try {
      work({ source, target, actor, roll, changed: new Set(), node, before: [] }, path);
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : error}`, { cause: error });
    } finally {
      node.way.close();
      source.close();
      target.close();
    }
    assertEquals(openFds(), fds, `seed ${seed}: descriptors left open`);
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

function noIds(): never {
  throw new Error("a target gives no ids");
}

function openFds(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** Both sides get the same tree; then the source goes on alone. */
function part(world: World, together: number, alone: number): void {
  const { actor, target, changed } = world;
  for (let i = 0; i < together; i++) {
    const mutation = actor.act();
    if (mutation !== undefined) target.apply(mutation);
  }
  for (let i = 0; i < alone; i++) {
    const mutation = actor.act();
    if (mutation !== undefined) { for (const id of touchedBy(mutation)) changed.add(id); }
  }
  world.before = trees(target);
  world.node.way.begin(BEGINNING);
}

function trees({ roots }: Side): string[][] {
  return roots.map(({ fd }) => describeTree(fd));
}

/** What was received is looked at before it is worked off. */
function foresee({ node, target }: World, session: Session): void {
  const foresight = new Foresight({ way: node.way, backing, objects: target.objects });
  for (const bytes of session.frames) {
    const view = new DataView(bytes.buffer);
    foresight.look({ bytes, view, offset: 0, length: bytes.length, ahead: () => {} });
  }
}

/** Some of a resync, with live mutations in between; false when it came to its end before. */
function resync(world: World, session: Session, steps: number): boolean {
  const { roll, actor, changed } = world;
  for (let i = 0; i < steps; i++) {
    if (roll(6) === 0) {
      const mutation = actor.act();
      if (mutation !== undefined) {
        for (const id of touchedBy(mutation)) changed.add(id);
        session.record(mutation);
      }
    }
    if (roll(20) === 0) foresee(world, session);
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
      default:
        if (session.source.step(1 << 18) === "done") return false;
    }
  }
  session.cut();
  return true;
}

/** Goes back; now and then the power goes in the middle. */
function goBack(world: World): void {
  const { node, target, roll } = world;
  target.objects.close();
  for (let kills = 0;; kills++) {
    const { way } = node;
    const progress = { objects: 0, names: 0, bytes: 0 };
    const steps = restore({
      backing,
      roots: target.roots.map(({ fd }) => fd),
      log: way.log,
      graveyard: way.graveyard,
      handles: target.handles,
      addressOf,
      cloneRange,
      progress,
    });
    if (take(steps, kills < 3 ? roll(200) : Infinity)) break;
    node.losePower(roll);
  }
  node.way.sweeping();
  while (!take(node.way.graveyard.clear(true), roll(50)));
}

/** Takes so many steps; whether that was all. */
function take(steps: Generator<void>, count: number): boolean {
  for (let i = 0; i < count; i++) if (steps.next().done === true) return true;
  steps.return(undefined);
  return false;
}

function assertAsBefore({ target, before, node }: World): void {
  assertEquals(node.givenUp, []);
  trees(target).forEach((found, root) => {
    const wanted = before[root] ?? [];
    assertEquals(
      found.filter((line) => !wanted.includes(line)),
      wanted.filter((line) => !found.includes(line)),
    );
  });
}

Deno.test("WayBack leads back from a comparison cut at any step, after power cuts at any step", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      part(world, 60 + world.roll(60), 30 + world.roll(60));
      const whole = seed % 3 === 0;
      const sessions = 1 + world.roll(3);
      for (let i = 0; i < sessions; i++) {
        const { source, target, changed } = world;
        const session = new Session(source, target, { whole, ids: changed, touched: changed });
        const cut = resync(world, session, world.roll(1500));
        if (world.roll(2) === 0) world.node.losePower(world.roll);
        if (!cut) break;
      }
      goBack(world);
      assertAsBefore(world);
    });
  }
});

Deno.test("WayBack leads back from a replay of the log", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      part(world, 100, 0);
      const { actor, target, roll, node } = world;
      const end = roll(200);
      for (let i = 0; i < end; i++) {
        const mutation = actor.act();
        if (mutation !== undefined) target.apply(mutation);
        if (roll(60) === 0) node.losePower(roll);
      }
      goBack(world);
      assertAsBefore(world);
    });
  }
});

Deno.test("WayBack leads back from a comparison that puts what the target wrote alone into quarantine", () => {
  for (const seed of seeds) {
    withWorld(seed, (world, path) => {
      const { source, target, changed, node, roll } = world;
      part(world, 80, 0);
      node.way.end();
      const model = world.actor.model.clone();
      let next = 10_000;
      const own = new Actor(target, model, roll, () => next++);
      for (let i = 0; i < 40; i++) {
        const mutation = own.act();
        if (mutation !== undefined) { for (const id of touchedBy(mutation)) changed.add(id); }
      }
      part(world, 0, 40);
      const session = new Session(source, target, {
        whole: seed % 2 === 0,
        ids: changed,
        touched: changed,
        quarantine: `${path}/quarantine`,
        quarantineBacking: keepingBacking(backing, node.way),
      });
      resync(world, session, roll(3000));
      goBack(world);
      assertAsBefore(world);
    });
  }
});

Deno.test("WayBack changes nothing of what a resync makes, and is cleared away with its end", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      part(world, 100, 60);
      const { source, target, changed, node } = world;
      new Session(source, target, { whole: seed % 2 === 0, ids: changed }).run();
      node.way.end();
      while (node.way.step());
      assertEquals(node.givenUp, []);
      assertEquals(node.storage.list(), []);
      assertEquals(trees(target), trees(source));
      assertEquals([...target.kept].sort(), source.objects.orphans().sort());
    });
  }
});

Deno.test("WayBack is given up where there is no room for it, and the resync goes on", () => {
  for (const seed of seeds) {
    withWorld(seed, (world) => {
      part(world, 100, 60);
      const { source, target, changed, node } = world;
      node.storage.capacity = 2000;
      new Session(source, target, { whole: true, ids: changed }).run();
      assertEquals(node.givenUp, ["the disk is full"]);
      assertEquals(node.way.recording, false);
      // None is begun from the mixture, nor by the process that comes next.
      node.way.begin(BEGINNING);
      assertEquals(node.way.recording, false);
      node.way.end();
      while (node.way.step());
      assertEquals(trees(target), trees(source));
    });
  }
});

Deno.test("WayBack takes no more than it may", () => {
  withWorld(1, (world) => {
    const { node, target, source, changed } = world;
    node.maxBytes = 3000;
    node.open(target.roots.map(({ fd }) => fd));
    part(world, 100, 60);
    new Session(source, target, { whole: true, ids: changed }).run();
    assertEquals(node.givenUp, ["it would take more than 3000 bytes"]);
    node.way.end();
    while (node.way.step());
    assertEquals(trees(target), trees(source));
  });
});

Deno.test("WayBack keeps nothing where it may take nothing", () => {
  withWorld(1, (world) => {
    const { node, target } = world;
    node.maxBytes = 0;
    node.open(target.roots.map(({ fd }) => fd));
    part(world, 10, 10);
    assertEquals([node.way.header, node.storage.list()], [null, []]);
  });
});

Deno.test("WayBack.begin() keeps the oldest state when a second stretch begins", () => {
  withWorld(1, ({ node, target }) => {
    node.way.begin(BEGINNING);
    node.way.begin({ ...BEGINNING, last: 99 });
    node.open(target.roots.map(({ fd }) => fd));
    node.way.begin({ ...BEGINNING, last: 100 });
    assertEquals(node.way.header?.last, BEGINNING.last);
  });
});

Deno.test("Foresight makes one sync do for all that was received", () => {
  const syncs = (foreseen: boolean): number => {
    let count = 0;
    withWorld(2, (world) => {
      part(world, 150, 100);
      const { source, target, changed, node } = world;
      const session = new Session(source, target, { whole: false, ids: changed });
      const before = node.storage.syncs;
      for (let i = 0; i < 10_000 && !session.finished; i++) {
        while (session.hear());
        while (session.underway < 500 && session.source.step(1 << 20) === "busy");
        if (foreseen) foresee(world, session);
        if (session.receive()) { while (session.receive()); }
        else session.idle();
      }
      count = node.storage.syncs - before;
      assertEquals(session.finished, true);
    });
    return count;
  };
  const [plain, foreseen] = [syncs(false), syncs(true)];
  assert(foreseen * 3 < plain, `${foreseen} syncs with foresight, ${plain} without`);
});
