/**
 * What a disk loses by itself: whichever node it is on, the copy that still has it wins, and where nobody can tell, the
 * primary's does.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { SourceRefused } from "../../lib/replication/source_refused.ts";
import { OP } from "../../lib/journal/record.ts";
import { ASK_KIND, Mutation } from "../../lib/replication/mutation.ts";
import type { Line } from "../../lib/replication/quarantine_manifest.ts";
import { Verification } from "../../lib/replication/verification.ts";
import { FALLOC } from "../../lib/system/linux.ts";
import { Statx } from "../../lib/system/statx.ts";
import { unused } from "../sim/one_way.ts";
import { Session } from "./twins.ts";
import { Pair } from "./verify_pair.ts";

/** What a verification that makes no step needs none of. */
const UNUSED = {
  mend: unused,
  onRotten: unused,
  requests: () => 0,
  now: () => 0,
  wall: () => 0,
  scrubMs: null,
  onVerified: unused,
};

const SMALL = "small";
const LARGE = "large";
const LARGE_BYTES = 700_000;

function bytes(length: number, first: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, index) => (first + index * 7 + (index >> 9)) & 255);
}

/** Two nodes with a small and a large file among others, compared once. */
function compared(): Pair {
  const pair = new Pair(4);
  pair.grow(40);
  pair.make(SMALL, bytes(3000, 1));
  pair.make(LARGE, bytes(LARGE_BYTES, 2));
  pair.grow(40);
  pair.pass();
  assertEquals(pair.found, []);
  return pair;
}

/** The large file loses its name. */
function removed(id: number): Mutation {
  const mutation = new Mutation().reset(OP.unlink, id);
  mutation.c = 1;
  mutation.name = new TextEncoder().encode(`${LARGE}\0`);
  return mutation;
}

/** The source's verification, which makes no step. */
function verificationOf(pair: Pair): Verification {
  return new Verification({
    ...UNUSED,
    copy: pair.copy,
    witness: pair.sourceWitness,
    see: (held) => pair.sourceWitness.see(pair.sourceBacking.backing, held, new Statx(), 0),
    makeSource: () => pair.open(),
  });
}

const path = (pair: Pair, side: "source" | "target", name: string): string =>
  `${pair.path}/${side}/root0/${name}`;

function assertContent(pair: Pair, name: string, wanted: Uint8Array): void {
  for (const side of ["source", "target"] as const) {
    assertEquals(Deno.readFileSync(path(pair, side, name)), wanted, `${name} on the ${side}`);
  }
}

for (
  const { name, at, wanted, offset } of [
    { name: SMALL, at: 1234, wanted: bytes(3000, 1), offset: 0 },
    { name: LARGE, at: 400_000, wanted: bytes(LARGE_BYTES, 2), offset: 393_216 },
    { name: LARGE, at: LARGE_BYTES - 1, wanted: bytes(LARGE_BYTES, 2), offset: 655_360 },
  ]
) {
  Deno.test(`Verification writes back what the primary's disk has lost, and the secondary is not touched; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    const { mtime } = Deno.statSync(path(pair, "source", name));
    const { ctime } = Deno.statSync(path(pair, "target", name));
    pair.sourceBacking.rot(path(pair, "source", name), at);
    pair.pass();
    assertEquals(pair.found, []);
    assertEquals(pair.mended.map(({ outcome, offset }) => [outcome, offset]), [["repaired", offset]]);
    assertContent(pair, name, wanted);
    assertEquals(Deno.statSync(path(pair, "source", name)).mtime, mtime);
    assertEquals(Deno.statSync(path(pair, "target", name)).ctime, ctime);
    pair.pass();
    assertEquals([pair.mended.length, pair.found.length], [1, 0]);
  });

  Deno.test(`Verification names what the secondary's disk has lost as that; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    pair.targetBacking.rot(path(pair, "target", name), at);
    pair.pass();
    assertEquals(pair.mended, []);
    assertEquals(pair.found.map(({ what, offset, rotten }) => [what, offset, rotten]), [[
      "content",
      offset,
      true,
    ]]);
    assertEquals([...pair.verifier.differing].length, 1);
  });

  Deno.test(`Verification takes what somebody changed beneath for no rot; byte ${at} of a ${name} file`, () => {
    for (const side of ["source", "target"] as const) {
      using pair = compared();
      using file = Deno.openSync(path(pair, side, name), { write: true });
      const { mtime } = file.statSync();
      file.seekSync(at, Deno.SeekMode.Start);
      file.writeSync(new Uint8Array([wanted[at] === 0 ? 1 : 0]));
      file.utimeSync(mtime ?? 0, mtime ?? 0);
      pair.pass();
      assertEquals(pair.mended, []);
      const content = pair.found.filter(({ what }) => what === "content");
      assertEquals(content.map(({ offset, rotten }) => [offset, rotten]), [[offset, false]]);
    }
  });

  Deno.test(`Verification takes the primary's where neither has what both had; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    pair.sourceBacking.rot(path(pair, "source", name), at);
    pair.targetBacking.rot(path(pair, "target", name), at - 1);
    pair.pass();
    assertEquals(pair.mended, []);
    assertEquals(pair.found.map(({ what, rotten }) => [what, rotten]), [["content", true]]);
  });

  Deno.test(`Verification finds nothing where both have lost the same; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    pair.sourceBacking.rot(path(pair, "source", name), at);
    pair.targetBacking.rot(path(pair, "target", name), at);
    pair.pass();
    assertEquals([pair.mended.length, pair.found.length], [0, 0]);
  });

  Deno.test(`Verification lets an application's write win over what would be written back; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    const id = pair.idOf(name);
    pair.sourceBacking.rot(path(pair, "source", name), at);
    const written = wanted.slice();
    written.fill(9, at - 10, at + 1);
    pair.beforeMend = () => pair.write(id, written.slice(at - 10, at + 1), at - 10);
    pair.pass();
    assertEquals(pair.mended.map(({ outcome }) => outcome), ["left"]);
    assertContent(pair, name, written);
    pair.beforeMend = () => {};
    pair.pass();
    assertEquals([pair.mended.length, pair.found.length], [1, 0]);
  });

  Deno.test(`Verification leaves what an application wrote though it is just what was found; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    const id = pair.idOf(name);
    pair.sourceBacking.rot(path(pair, "source", name), at);
    const written = Deno.readFileSync(path(pair, "source", name));
    pair.beforeMend = () => pair.write(id, written.slice(at - 10, at + 1), at - 10);
    pair.pass();
    assertEquals(pair.mended.map(({ outcome }) => outcome), ["left"]);
    assertContent(pair, name, written);
  });

  Deno.test(`Verification brings nothing to the secondary where the primary's disk loses again what was written back; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    const { ctime } = Deno.statSync(path(pair, "target", name));
    pair.sourceBacking.rot(path(pair, "source", name), at);
    pair.afterMend = () => pair.sourceBacking.rot(path(pair, "source", name), at);
    pair.pass();
    assertEquals(pair.found, []);
    assertEquals(pair.mended.map(({ outcome }) => outcome), ["repaired", "left"]);
    assertEquals(Deno.readFileSync(path(pair, "target", name)), wanted);
    assertEquals(Deno.statSync(path(pair, "target", name)).ctime, ctime);
  });

  Deno.test(`Verification brings nothing to the secondary where the primary's disk takes nothing any more, in this pass or the next; byte ${at} of a ${name} file`, () => {
    using pair = compared();
    pair.sourceBacking.broken = true;
    for (const outcomes of [["left"], ["left", "left"]]) {
      pair.sourceBacking.rot(path(pair, "source", name), at);
      pair.pass();
      assertEquals(pair.found, []);
      assertEquals(pair.mended.map(({ outcome }) => outcome), outcomes);
      assertEquals(Deno.readFileSync(path(pair, "target", name)), wanted);
    }
  });

  Deno.test(`Verification writes back what the primary's disk cannot read; a ${name} file, byte ${at}`, () => {
    using pair = compared();
    pair.sourceBacking.lose(path(pair, "source", name));
    pair.pass();
    assertEquals(pair.found, []);
    assert(pair.mended.length > 0 && pair.mended.some(({ outcome }) => outcome === "repaired"));
    assertContent(pair, name, wanted);
  });
}

/** In the middle of the large file: a block of it, and no other. */
const LOST = { offset: 393_216, length: 131_072 };

for (
  const { name, lost } of [{ name: SMALL, lost: { offset: 0, length: 3000 } }, { name: LARGE, lost: LOST }]
) {
  Deno.test(`Verification tells of what the primary's disk does not give and nobody noted, and looks at all else; ${name}`, () => {
    using pair = new Pair(4);
    pair.make(SMALL, bytes(3000, 1));
    pair.make(LARGE, bytes(LARGE_BYTES, 2));
    pair.make("later", bytes(100, 3));
    pair.sourceBacking.lose(path(pair, "source", name), lost.offset, lost.offset + 1);
    Deno.writeFileSync(path(pair, "target", "later"), bytes(100, 4));
    pair.pass();
    assertEquals(pair.leftOut, [{ id: pair.idOf(name), ...lost }]);
    assertEquals([...pair.verifier.differing], [pair.idOf("later")]);
    assertEquals(pair.mended, []);
    pair.pass();
    assertEquals(pair.leftOut.length, 2);
  });

  Deno.test(`Verification names what the secondary's disk does not give, and a comparison writes it there; ${name}`, () => {
    using pair = new Pair(4);
    pair.make(SMALL, bytes(3000, 1));
    pair.make(LARGE, bytes(LARGE_BYTES, 2));
    pair.targetBacking.lose(path(pair, "target", name), lost.offset, lost.offset + 1);
    pair.pass();
    assertEquals(
      pair.found.map((
        { what, offset, length, secondary, rotten },
      ) => [what, offset, length, secondary, rotten]),
      [
        ["content", lost.offset, lost.length, "unreadable", true],
      ],
    );
    const session = new Session(pair.source, pair.target, {
      whole: false,
      ids: pair.verifier.differing,
      targetBacking: pair.targetBacking.backing,
    });
    session.run();
    assertEquals(session.source.progress().bytes, lost.length);
    pair.found.length = 0;
    pair.pass();
    assertEquals(pair.found, []);
    assertContent(pair, name, name === SMALL ? bytes(3000, 1) : bytes(LARGE_BYTES, 2));
  });
}

Deno.test("Verification names what the secondary's disk does not give where the primary has a hole, and a comparison makes one there", () => {
  using pair = new Pair(4);
  pair.make(LARGE, new Uint8Array(LARGE_BYTES));
  const id = pair.idOf(LARGE);
  const cut = new Mutation().reset(OP.fallocate, id);
  cut.a = LOST.offset;
  cut.b = LOST.length;
  cut.c = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
  pair.source.mutate(cut);
  pair.target.tree.impose(cut);
  pair.targetBacking.lose(path(pair, "target", LARGE), LOST.offset, LOST.offset + 1);
  pair.pass();
  assertEquals(
    pair.found.map(({ what, offset, secondary, rotten }) => [what, offset, secondary, rotten]),
    [["content", LOST.offset, "unreadable", true]],
  );
  const { targetBacking: { backing: targetBacking } } = pair;
  new Session(pair.source, pair.target, { whole: false, ids: [id], targetBacking }).run();
  assertContent(pair, LARGE, new Uint8Array(LARGE_BYTES));
});

Deno.test("Verification takes no hole for unreadable that the secondary's file does not reach", () => {
  using pair = new Pair(4);
  pair.make(LARGE, new Uint8Array(LARGE_BYTES));
  Deno.truncateSync(path(pair, "source", LARGE), 0);
  Deno.truncateSync(path(pair, "source", LARGE), LARGE_BYTES);
  Deno.truncateSync(path(pair, "target", LARGE), LOST.offset + 100);
  pair.pass();
  assert(pair.found.some(({ what }) => what === "size"));
  assertEquals(pair.found.filter(({ what }) => what === "content"), []);
});

Deno.test("Verification tells of a small file that the primary's disk gives no longer when the secondary asks what it is", () => {
  using pair = compared();
  Deno.writeFileSync(path(pair, "target", SMALL), bytes(3000, 4));
  pair.verifier.begin();
  const push = pair.asks.push.bind(pair.asks);
  pair.asks.push = (...asks) => {
    if (asks[0]?.kind === ASK_KIND.detail) pair.sourceBacking.lose(path(pair, "source", SMALL));
    return push(...asks);
  };
  pair.run();
  assertEquals(pair.leftOut, [{ id: pair.idOf(SMALL), offset: 0, length: 3000 }]);
  assertEquals(pair.found.map(({ what }) => what), ["mtime"]);
});

for (const name of [SMALL, LARGE]) {
  for (const both of ["the secondary has something else", "neither disk gives it"]) {
    Deno.test(`Verification leaves what the primary's disk does not give, and looks at all else; ${both}, ${name}`, () => {
      using pair = compared();
      pair.sourceBacking.lose(path(pair, "source", name), 0, 1);
      if (both.startsWith("neither")) pair.targetBacking.lose(path(pair, "target", name), 0, 1);
      else pair.targetBacking.rot(path(pair, "target", name), 5);
      pair.make("later", bytes(100, 3));
      Deno.writeFileSync(path(pair, "target", "later"), bytes(100, 4));
      pair.pass();
      assertEquals([...pair.verifier.differing], [pair.idOf("later")]);
      assertEquals([pair.lostOnBoth, pair.leftOut, pair.mended], [[pair.idOf(name)], [], []]);
    });
  }
}

for (const gone of ["overwritten", "deleted"] as const) {
  Deno.test(`A comparison with a quarantine goes past what the target's disk does not give, and keeps all around it; ${gone}`, () => {
    using pair = new Pair(4);
    pair.make(LARGE, bytes(LARGE_BYTES, 2));
    const id = pair.idOf(LARGE);
    const had = bytes(LARGE_BYTES, 4);
    Deno.writeFileSync(path(pair, "target", LARGE), had);
    pair.targetBacking.lose(path(pair, "target", LARGE), LOST.offset + 5000, LOST.offset + 5001);
    const deleted = gone === "deleted";
    if (deleted) pair.source.mutate(removed(id));
    // On another file system: what is deleted is copied.
    const quarantine = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "quarantine-" });
    const { targetBacking: { backing } } = pair;
    const session = new Session(pair.source, pair.target, {
      whole: false,
      ids: [1, id],
      targetBacking: backing,
      quarantineBacking: backing,
      quarantine,
    });
    session.run();
    if (!deleted) assertContent(pair, LARGE, bytes(LARGE_BYTES, 2));
    const { path: folder = "" } = session.saved ?? {};
    const text = Deno.readTextFileSync(`${folder}/manifest.jsonl`);
    const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line) as Line);
    const lost = { offset: LOST.offset + 4096, length: 4096 };
    had.fill(0, lost.offset, lost.offset + lost.length);
    const unreadable = lines.filter((line) => line.unreadable === true);
    assertEquals(unreadable.map(({ id, offset, length }) => [id, offset, length]), [
      [id, lost.offset, lost.length],
    ]);
    const kept = new Uint8Array(LARGE_BYTES);
    for (const { saved, offset = 0, attributes } of lines) {
      if (saved === undefined || deleted !== saved.startsWith("deleted/")) continue;
      if (attributes?.mode.startsWith("100") === false) continue;
      kept.set(Deno.readFileSync(`${folder}/${saved}`), offset);
    }
    assertEquals(kept, had);
    Deno.removeSync(quarantine, { recursive: true });
  });
}

Deno.test("A comparison goes past what the source's disk does not give where the target has what both had, and ends where it has not", () => {
  using pair = compared();
  const id = pair.idOf(LARGE);
  const verification = verificationOf(pair);
  pair.sourceBacking.lose(path(pair, "source", LARGE), LOST.offset, LOST.offset + 1);
  const session = (): Session =>
    new Session(pair.source, pair.target, {
      whole: false,
      ids: [id],
      sourceBacking: pair.sourceBacking.backing,
      lost: (held, block, hash) => verification.lost(held, block, hash),
    });
  session().run();
  assertEquals(Deno.readFileSync(path(pair, "target", LARGE)), bytes(LARGE_BYTES, 2));
  pair.targetBacking.rot(path(pair, "target", LARGE), LOST.offset);
  assertEquals(assertThrows(() => session().run(), SourceRefused).id, id);
});

Deno.test("Verification writes back though an application writes elsewhere", () => {
  using pair = compared();
  const id = pair.idOf(LARGE);
  pair.sourceBacking.rot(path(pair, "source", LARGE), 400_000);
  pair.beforeMend = () => pair.write(id, bytes(10, 2), 0);
  pair.pass();
  assertEquals(pair.mended.map(({ outcome }) => outcome), ["repaired"]);
  assertContent(pair, LARGE, bytes(LARGE_BYTES, 2));
});

Deno.test("Verification without a witness takes what the primary has, whoever has lost it", () => {
  using pair = new Pair(4);
  pair.make(SMALL, bytes(3000, 1));
  pair.sourceBacking.rot(path(pair, "source", SMALL), 5);
  pair.pass();
  assertEquals(pair.mended, []);
  assertEquals(pair.found.map(({ what, rotten }) => [what, rotten]), [["content", false]]);
});

Deno.test("Verification with a secondary that does not know of witnesses says what it said before", () => {
  using pair = compared();
  pair.witnessed = false;
  pair.sourceBacking.rot(path(pair, "source", SMALL), 5);
  pair.pass();
  assertEquals(pair.mended, []);
  assertEquals(pair.found.map(({ what }) => what), ["content"]);
});

Deno.test("Verification writes back what was lost in many places at once, each in its turn", () => {
  using pair = compared();
  for (let i = 0; i < 150; i++) pair.make(`many${i}`, bytes(100 + i, i));
  pair.pass();
  for (let i = 0; i < 150; i++) pair.sourceBacking.rot(path(pair, "source", `many${i}`), i % 100);
  for (let at = 0; at < LARGE_BYTES; at += 131_072) pair.sourceBacking.rot(path(pair, "source", LARGE), at);
  pair.pass();
  assertEquals(pair.found, []);
  assertEquals(pair.mended.length, 150 + 6);
  assert(pair.mended.every(({ outcome }) => outcome === "repaired"));
  for (let i = 0; i < 150; i++) assertContent(pair, `many${i}`, bytes(100 + i, i));
  assertContent(pair, LARGE, bytes(LARGE_BYTES, 2));
  // What was written back can be lost again.
  pair.sourceBacking.rot(path(pair, "source", LARGE), 300_000);
  pair.sourceBacking.rot(path(pair, "source", "many7"), 7);
  pair.pass();
  assertEquals(pair.found, []);
  assertEquals(pair.mended.length, 150 + 6 + 2);
  assertContent(pair, LARGE, bytes(LARGE_BYTES, 2));
});

for (const told of ["of itself", "of another object"] as const) {
  Deno.test(`A comparison of a file that has rotted on both nodes brings the target what it has lost, and nothing that the source has lost; told ${told}`, () => {
    using pair = compared();
    const id = pair.idOf(LARGE);
    pair.sourceBacking.rot(path(pair, "source", LARGE), 600_000);
    pair.targetBacking.rot(path(pair, "target", LARGE), 10);
    const verification = verificationOf(pair);
    verification.attach(pair.wire, true);
    verification.begin();
    // What has lost a name on the target is compared with its directory, though the source heard of that alone.
    verification.onDifference(told === "of itself" ? id : 1);
    new Session(pair.source, pair.target, {
      whole: false,
      ids: [id],
      lost: (held, block, hash) => verification.lost(held, block, hash),
    }).run();
    assertEquals(Deno.readFileSync(path(pair, "target", LARGE)), bytes(LARGE_BYTES, 2));
    pair.underway.length = 0;
    pair.pass();
    assertEquals(pair.mended.map(({ outcome, offset }) => [outcome, offset]), [["repaired", 524_288]]);
    assertContent(pair, LARGE, bytes(LARGE_BYTES, 2));
  });
}

Deno.test("VerifySource counts an object as not looked at until what was lost is settled", () => {
  using pair = compared();
  const id = pair.idOf(SMALL);
  pair.sourceBacking.rot(path(pair, "source", SMALL), 5);
  pair.verifier.begin();
  const source = pair.open();
  for (let i = 0; i < 1000 && source.step(64 * 1024) !== "done"; i++) {
    while (pair.underway.length > 0) pair.underway.shift()?.();
    for (let ask = pair.asks.shift(); ask !== undefined; ask = pair.asks.shift()) source.onAsk(ask);
  }
  assertEquals(source.reached, id);
  assertEquals(source.rotten.map((rotten) => rotten.id), [id]);
});
