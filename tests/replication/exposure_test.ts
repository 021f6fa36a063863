/** What is seen of an object on the target while it is being made the source's: never a new owner or mode on old content. */

import { assert, assertEquals } from "@std/assert";
import { OP } from "../../lib/journal/record.ts";
import { type Mutation, SETATTR, SETATTR_BITS } from "../../lib/replication/mutation.ts";
import { backing } from "../../lib/system/backing.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { Statx } from "../../lib/system/statx.ts";
import { Pair } from "./pair.ts";
import { terminated } from "./chance.ts";
import { ok, type Session } from "./twins.ts";

const OLD = 7;
const NEW = 9;
const SETUID_ROOT = "0:4755";
const OWNED = "1000:777";
const LOCKED = "0:600";

function attributes(pair: Pair, id: number, to: { uid: number; mode: number }): Mutation {
  const mutation = pair.mutation.reset(OP.setattr, id);
  const names = new Uint8Array(SETATTR.bytes);
  const view = new DataView(names.buffer);
  view.setUint32(SETATTR.mode, to.mode, true);
  view.setUint32(SETATTR.uid, to.uid, true);
  mutation.a = SETATTR_BITS.mode | SETATTR_BITS.uid;
  mutation.name = names;
  return mutation;
}

/** Owner, mode, and the bytes that stand at a few places of the target's object. */
function seen(pair: Pair, id: number): { who: string; bytes: ReadonlySet<number> } {
  const held = pair.target.objects.get(id);
  if (held === undefined) return { who: "", bytes: new Set() };
  const stat = new Statx();
  ok(backing.statx(held.path, stat));
  const bytes = new Set<number>();
  const one = new Uint8Array(1);
  for (let at = 0; at < stat.size; at += 65536) {
    ok(backing.pread(pair.target.objects.io(held), addressOf(one), 1, at));
    bytes.add(one[0] ?? -1);
  }
  return { who: `${stat.uid}:${(stat.mode & 0o7777).toString(8)}`, bytes };
}

/** Runs a session frame by frame; answers what was seen between any two. */
function watch(pair: Pair, session: Session, id: number): Set<string> {
  const found = new Set<string>();
  const look = (): void => {
    const { who, bytes } = seen(pair, id);
    const content = [...bytes].every((byte) => byte === NEW) ? "new" : "old";
    found.add(`${who} ${content}`);
  };
  look();
  for (let i = 0; i < 100_000; i++) {
    while (session.hear());
    const state = session.source.step(1 << 18);
    if (state === "done") return found;
    const moved = session.receive();
    if (!moved && state === "waiting" && !session.idle() && session.underway === 0) throw new Error("stuck");
    look();
  }
  throw new Error("no end");
}

/** A file that anybody could write, and that its new owner, root, has overwritten and made setuid. */
function usurped(pair: Pair, blocks: number): number {
  const id = pair.create(1, "tool");
  pair.do(attributes(pair, id, { uid: 1000, mode: 0o777 }));
  for (let block = 0; block < blocks; block++) pair.do(pair.write(id, block * 65536, 65536, OLD));
  return id;
}

function overwrite(pair: Pair, id: number, blocks: number): void {
  for (let block = 0; block < blocks; block++) pair.do(pair.write(id, block * 65536, 65536, NEW), "source");
}

for (const whole of [true, false]) {
  Deno.test(`ReconcileTarget shows no new owner or mode before the new content is there (whole: ${whole})`, () => {
    using pair = new Pair();
    const id = usurped(pair, 40);
    overwrite(pair, id, 40);
    pair.do(attributes(pair, id, { uid: 0, mode: 0o4755 }), "source");
    const found = watch(pair, pair.session(whole ? "whole" : [id]), id);
    pair.assertEqual();
    assert(found.has(`${LOCKED} old`), [...found].join());
    assertEquals(found.has(`${SETUID_ROOT} old`), false, [...found].join());
    assert(found.has(`${SETUID_ROOT} new`));
  });

  Deno.test(`Lenient changes no owner or mode of an object before it was made equal (whole: ${whole})`, () => {
    using pair = new Pair();
    const id = usurped(pair, 40);
    overwrite(pair, id, 40);
    const session = pair.session(whole ? "whole" : [id]);
    // The frame of the object is on its way; the record comes before it.
    const change = attributes(pair, id, { uid: 0, mode: 0o4755 });
    ok(pair.source.mutate(change));
    session.record(change);
    const found = watch(pair, session, id);
    pair.assertEqual();
    assertEquals(found.has(`${SETUID_ROOT} old`), false, [...found].join());
    assert(found.has(`${SETUID_ROOT} new`));
  });
}

Deno.test("ReconcileTarget leaves owner and mode alone where they are right already", () => {
  using pair = new Pair();
  const id = usurped(pair, 10);
  overwrite(pair, id, 10);
  const found = watch(pair, pair.session([id]), id);
  pair.assertEqual();
  assertEquals([...found].map((one) => one.split(" ")[0]), [OWNED, OWNED]);
});

Deno.test("Lenient changes the mode of an object that is not compared", () => {
  using pair = new Pair();
  const id = usurped(pair, 1);
  const other = pair.create(1, "other");
  const session = pair.session([other]);
  const change = attributes(pair, id, { uid: 0, mode: 0o4755 });
  ok(pair.source.mutate(change));
  session.record(change);
  session.run();
  pair.assertEqual();
});

Deno.test("ReconcileTarget opens a directory to others only once its names are right", () => {
  using pair = new Pair();
  const directory = pair.mkdir(1, "d");
  pair.do(attributes(pair, directory, { uid: 0, mode: 0o700 }));
  const secret = pair.create(directory, "secret");
  pair.do(pair.unlink(OP.unlink, secret, directory, "secret"), "source");
  pair.do(attributes(pair, directory, { uid: 0, mode: 0o755 }), "source");
  const session = pair.session([1, directory, secret]);
  const stat = new Statx();
  for (let i = 0; i < 10_000; i++) {
    while (session.hear());
    if (session.source.step(1 << 18) === "done") break;
    if (!session.receive()) session.idle();
    const held = pair.target.objects.get(directory);
    ok(backing.statx(held?.path ?? -1, stat));
    const there = backing.statxAt(held?.path ?? -1, terminated("secret"), new Statx()) >= 0;
    assertEquals(there && (stat.mode & 0o077) !== 0, false, "the old name was open to others");
  }
  pair.assertEqual();
});
