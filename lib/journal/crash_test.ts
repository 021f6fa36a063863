/**
 * The log, the activity set and the meta file under random work and random ends: killed at any point, power cut at any
 * point, the disk failing at any write. Each seed is one life of several runs; a failing one names itself.
 */

import { assert, assertEquals } from "@std/assert";
import { ActivitySet, BLOCK_IDS, RANGE_BYTES } from "./activity.ts";
import { Journal, KEEP } from "./journal.ts";
import { type Meta, MetaStore } from "./meta.ts";
import { MemoryStorage } from "./memory_storage.ts";
import { OP, type RecordFields, RecordView, STATE } from "./record.ts";

/** Seeds that failed once stay here for good. */
const SEEDS: readonly number[] = [...Array.from({ length: 100 }, (_, i) => i + 1)];

const IDENTITY = { cluster: "c", module: "m" };

class Cut extends Error {}

function raise(why: string): never {
  throw new Error(why);
}

/** xorshift32: small, and the same everywhere. */
function chanceOf(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

function underSeeds(work: (chance: () => number) => void): void {
  for (const seed of SEEDS) {
    try {
      work(chanceOf(seed));
    } catch (error) {
      throw new Error(`seed ${seed} fails`, { cause: error });
    }
  }
}

/** Lets the storage stop for good at a random one of its next actions. */
function stopSomewhere(storage: MemoryStorage, chance: () => number): void {
  let left = Math.floor(chance() * 25);
  storage.before = () => {
    if (left-- <= 0) throw new Cut();
  };
}

function runs(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Cut)) throw error;
  }
}

function openLog(storage: MemoryStorage, scan: "all" | "tail"): Journal {
  return Journal.open({ storage, identity: IDENTITY, scan, segmentBytes: 12288, segmentsMax: 6 });
}

/** What a test believes of the log: a mark for each record, so that an old one cannot pass for a new one. */
interface Expected {
  readonly marks: Map<number, number>;
  readonly states: Map<number, number>;
  last: number;
  /** Surely on disk. */
  synced: number;
  /** A cut to this sequence was begun and not ended. */
  cutting: number;
}

function workOnLog(journal: Journal, expected: Expected, chance: () => number): void {
  let positions: { position: number; sequence: number }[] = [];
  for (let i = 0; i < 200; i++) {
    const what = chance();
    if (what < 0.85) {
      const sequence = journal.last + 1;
      const mark = Math.floor(chance() * 2 ** 48);
      const payload = chance() < 0.3 ? new Uint8Array(Math.floor(chance() * 900)).fill(mark & 0xff) : null;
      const names = chance() < 0.3 ? new TextEncoder().encode(`n${mark}`) : null;
      const position = journal.append(record(sequence, mark), names, payload, KEEP.budget);
      expected.marks.set(sequence, mark);
      expected.states.delete(sequence);
      expected.last = sequence;
      positions.push({ position, sequence });
    } else if (what < 0.95) {
      const chosen = positions[Math.floor(chance() * positions.length)];
      if (chosen !== undefined && journal.settle(chosen.position, STATE.applied, BigInt(chosen.sequence))) {
        expected.states.set(chosen.sequence, STATE.applied);
      }
    } else if (what < 0.98) {
      journal.sync();
      expected.synced = journal.last;
    } else {
      const to = Math.max(journal.first - 1, journal.last - Math.floor(chance() * 60));
      expected.synced = Math.min(expected.synced, to);
      positions = positions.filter(({ sequence }) => sequence <= to);
      expected.cutting = to;
      journal.cutAfter(to);
      expected.cutting = Infinity;
      // A cut of nothing does nothing: what is there need not be on disk.
      if (to < expected.last) expected.synced = to;
      expected.last = to;
    }
  }
}

function record(sequence: number, mark: number): RecordFields {
  return { op: OP.write, sequence, epoch: 1, generation: 5n, unique: sequence, id: 1, a: mark, b: 0, c: 0 };
}

/** The log is a true piece of what was appended, and, after a killed process, all of it. */
function compare(journal: Journal, expected: Expected, how: "killed" | "power"): void {
  const view = new RecordView();
  using cursor = journal.read(journal.first) ?? raise("the log does not hold its first record");
  let last = journal.first - 1;
  while (cursor.next(view)) {
    last = view.sequence;
    assertEquals(view.a, expected.marks.get(last), `mark of ${last}`);
    if (how === "killed") {
      assertEquals(view.state, expected.states.get(last) ?? STATE.intention, `state of ${last}`);
    }
  }
  assertEquals(last, journal.last);
  assert(last >= expected.synced, `synced up to ${expected.synced}, found ${last}`);
  expected.last = last;
  expected.synced = last;
}

Deno.test("Journal keeps everything when its process is killed, at any moment", () => {
  underSeeds((chance) => {
    let storage = new MemoryStorage();
    const expected: Expected = { marks: new Map(), states: new Map(), last: 0, synced: 0, cutting: Infinity };
    for (let life = 0; life < 4; life++) {
      const before = { last: -1 };
      runs(() => {
        const journal = openLog(storage, "tail");
        if (life > 0) compare(journal, expected, "killed");
        stopSomewhere(storage, chance);
        // A stop within cutAfter() or a rotation: the memory of the test and the log may differ by that one step.
        try {
          workOnLog(journal, expected, chance);
        } finally {
          before.last = journal.last;
          expected.last = journal.last;
          expected.synced = Math.min(expected.synced, journal.last);
        }
      });
      storage = storage.killed();
      const later = openLog(storage.killed(), "tail");
      // Stopped in the middle of a cut, the log may be at either end of it or between.
      assert(later.last <= before.last && later.last >= Math.min(before.last, expected.cutting));
      expected.cutting = Infinity;
      assertEquals(later.recovery.cut, null);
    }
  });
});

Deno.test("Journal keeps what was synced, and nothing false, when the power is cut at any moment", () => {
  underSeeds((chance) => {
    let storage = new MemoryStorage();
    const expected: Expected = { marks: new Map(), states: new Map(), last: 0, synced: 0, cutting: Infinity };
    for (let life = 0; life < 4; life++) {
      runs(() => {
        const journal = openLog(storage, "all");
        compare(journal, expected, "power");
        stopSomewhere(storage, chance);
        workOnLog(journal, expected, chance);
      });
      storage = storage.crash(chance);
      // Recovery may be cut short as well.
      runs(() => {
        stopSomewhere(storage, chance);
        openLog(storage, "all");
      });
      storage = storage.crash(chance);
    }
  });
});

Deno.test("ActivitySet names everything touched since the last checkpoint, when the power is cut at any moment", () => {
  underSeeds((chance) => {
    let storage = new MemoryStorage();
    let fresh = true;
    /** Object and range → touched, and not covered by a finished checkpoint. */
    let touched = new Set<string>();
    for (let life = 0; life < 4; life++) {
      runs(() => {
        const set = new ActivitySet({ storage, fresh });
        fresh = false;
        assert(set.found !== "incomplete");
        verify(set, touched);
        stopSomewhere(storage, chance);
        let since = new Set<string>();
        for (let i = 0; i < 150; i++) {
          const id = Math.floor(chance() * 40) * BLOCK_IDS * 3;
          const range = chance() < 0.3 ? 1 + Math.floor(chance() * 3) : 0;
          if (i % 50 === 20) {
            set.beginCheckpoint();
            since = new Set();
          }
          if (i % 50 === 40) {
            set.cool();
            touched = new Set(since);
          }
          if (i % 30 === 10) set.reserve(Math.floor(chance() * 1e6));
          set.touch(id, range * RANGE_BYTES, range === 0 ? 0 : 1);
          touched.add(`${id} ${range}`);
          since.add(`${id} ${range}`);
        }
      });
      storage = storage.crash(chance);
      if (storage.size("activity") === null) fresh = true;
    }
  });
});

function verify(set: ActivitySet, touched: ReadonlySet<string>): void {
  for (const each of touched) {
    const [id = -1, range = -1] = each.split(" ").map(Number);
    assert(set.has(id), `object ${id} is not named`);
    const ranges = set.rangesOf(id);
    assert(range === 0 || ranges === "all" || ranges.includes(range), `range ${range} of ${id} is not named`);
  }
}

Deno.test("MetaStore is at the last update or the one cut, when the power is cut at any moment", () => {
  const first: Meta = {
    clusterId: "c",
    module: "m",
    node: "node1",
    epoch: 1,
    history: [],
    checkpoint: 0,
    gap: 0,
    clean: false,
    bootId: "b",
    copy: "uptodate",
    role: "none",
    nextId: 2,
    servedFrom: 0,
    doubted: [],
    suspect: false,
    edited: false,
    excluded: "",
    verified: null,
    verifying: null,
    asOf: 0,
    compared: null,
  };
  underSeeds((chance) => {
    let storage = new MemoryStorage();
    MetaStore.create(storage, first);
    for (let life = 0; life < 4; life++) {
      const store = MetaStore.open(storage, first) ?? raise("there is no file");
      const trying = { epoch: store.value.epoch };
      stopSomewhere(storage, chance);
      runs(() => {
        for (let i = 0; i < 20; i++) {
          trying.epoch++;
          store.update({ epoch: trying.epoch });
        }
      });
      const known = store.value.epoch;
      storage = storage.crash(chance);
      const epoch = MetaStore.open(storage, first)?.value.epoch ?? 0;
      assert(epoch === known || epoch === trying.epoch);
    }
  });
});
