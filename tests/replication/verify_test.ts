/**
 * Verification on the real disk: equal trees are equal whatever happens meanwhile, and whatever is changed on the target is
 * found and named.
 */
import { crc32 } from "node:zlib";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { OFFSET } from "../../lib/journal/record.ts";
import { ASK_KIND } from "../../lib/replication/mutation.ts";
import type { Ask } from "../../lib/replication/shared.ts";
import type { Stream } from "../../lib/replication/stream.ts";
import type { Difference } from "../../lib/replication/verify_frame.ts";
import { VerifySource } from "../../lib/replication/verify_source.ts";
import { VerifyTarget } from "../../lib/replication/verify_target.ts";
import { Wire } from "../../lib/replication/wire.ts";
import { backing } from "../../lib/system/backing.ts";
import { addressOf, memoryAt } from "../../lib/system/libc.ts";
import { sha256 } from "../../lib/system/sha256.ts";
import { Actor, dice, Model } from "./chance.ts";
import { Side } from "./twins.ts";

backing.umask(0);

/** Two equal trees, and a verification between them, moved by hand. */
class Pair implements Disposable {
  readonly path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "verify-" });
  next = 16;
  readonly source = new Side(`${this.path}/source`, 1, () => this.next++);
  readonly target = new Side(`${this.path}/target`, 1, () => {
    throw new Error("a target gives no ids");
  });
  readonly actor: Actor;
  readonly found: Difference[] = [];
  readonly asks: Ask[] = [];
  /** Records and frames on their way, in order: a function applies one on the target. */
  readonly underway: (() => void)[] = [];
  readonly verifier: VerifyTarget;
  readonly #wire: Wire;

  constructor(seed: number) {
    this.actor = new Actor(this.source, new Model(1), dice(seed), () => this.next++);
    const ask = (kind: number, id: number, length = 0): void => {
      this.asks.push({ kind, id, offset: 0, length });
    };
    this.verifier = new VerifyTarget({
      backing,
      objects: this.target.objects,
      sha256,
      addressOf,
      emit: {
        verified: (frames) => ask(ASK_KIND.verified, 0, frames),
        detail: (id) => ask(ASK_KIND.detail, id),
        again: (id) => ask(ASK_KIND.again, id),
        report: (difference) => this.found.push(difference),
      },
    });
    const stream: Stream = {
      fd: -1,
      label: "memory",
      writeAll: (address, length) => this.#send(new Uint8Array(memoryAt(address, length).slice(0))),
      readSome: unused,
      pending: () => 0,
      keepUpTo: () => {},
      kept: 0,
      sendKept: () => {},
      setTimeouts: () => {},
      close: () => {},
    };
    this.#wire = new Wire({ stream, crc32, addressOf });
  }

  #send(frame: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(frame.buffer);
    this.underway.push(() => this.verifier.frame(frame[OFFSET.op] ?? 0, frame, view, 0, frame.length));
  }

  grow(count: number): void {
    for (let i = 0; i < count; i++) {
      const mutation = this.actor.act();
      if (mutation !== undefined) this.target.apply(mutation);
    }
  }

  open(from = 1, saidBefore = 0): VerifySource {
    return new VerifySource({
      backing,
      objects: this.source.objects,
      wire: this.#wire,
      addressOf,
      sha256,
      exists: (id) => this.source.handles.map.has(id),
      tellTime: () => {},
      saidBefore,
      from,
      until: this.next,
    });
  }

  /** Runs to the end; `between` is called between two steps. */
  run(source = this.open(), between: () => void = () => {}): VerifySource {
    for (let i = 0; i < 100_000; i++) {
      for (let ask = this.asks.shift(); ask !== undefined; ask = this.asks.shift()) source.onAsk(ask);
      const result = source.step(64 * 1024);
      if (result === "done") return source;
      between();
      // The secondary is behind by some frames, as it is with a network between them.
      if (this.underway.length > 3 || result === "waiting") this.underway.shift()?.();
    }
    throw new Error("no end");
  }

  [Symbol.dispose](): void {
    this.source.close();
    this.target.close();
    Deno.removeSync(this.path, { recursive: true });
  }
}

function unused(): never {
  throw new Error("not used");
}

/** A file of the target tree with content, by path. */
function someFile(directory: string, least = 1): string {
  for (const entry of Deno.readDirSync(directory)) {
    const path = `${directory}/${entry.name}`;
    if (entry.isFile && Deno.statSync(path).size >= least) return path;
    if (entry.isDirectory && !entry.name.startsWith(".binome")) {
      const within = someFile(path, least);
      if (within !== "") return within;
    }
  }
  return "";
}

for (let seed = 1; seed <= 6; seed++) {
  Deno.test(`VerifySource and VerifyTarget find nothing in equal trees, with mutations between any two steps; seed ${seed}`, () => {
    using pair = new Pair(seed);
    pair.grow(150);
    let sent = 0;
    pair.run(pair.open(), () => {
      const mutation = sent++ < 200 ? pair.actor.act() : undefined;
      if (mutation === undefined) return;
      // Its names and payload are the actor's buffers: what is under way before it is applied first.
      while (pair.underway.length > 0) pair.underway.shift()?.();
      pair.target.apply(mutation);
    });
    assertEquals(pair.found, []);
    assertEquals([...pair.verifier.differing], []);
  });
}

Deno.test("VerifyTarget names what differs: content with its range and both hashes, mode, names", () => {
  using pair = new Pair(3);
  pair.grow(200);
  const file = someFile(`${pair.path}/target/root0`);
  const { size, mtime } = Deno.statSync(file);
  const bytes = Deno.readFileSync(file);
  bytes[size - 1] = (bytes[size - 1] ?? 0) ^ 1;
  Deno.writeFileSync(file, bytes);
  Deno.utimeSync(file, mtime ?? 0, mtime ?? 0);
  Deno.chmodSync(file, 0o7);
  Deno.writeTextFileSync(`${pair.path}/target/root0/foreign`, "x");
  pair.run();
  const what = pair.found.map((difference) => difference.what);
  assert(what.includes("name foreign"), `${what}`);
  assert(what.includes("mode"), `${what}`);
  const content = pair.found.find((difference) => difference.what === "content");
  assertMatch(`${content?.primary} ${content?.secondary}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
  assert((content?.offset ?? 0) < size && (content?.length ?? 0) > 0);
});

Deno.test("VerifySource goes on from the id that was reached", () => {
  using pair = new Pair(5);
  pair.grow(200);
  const first = pair.open();
  for (let i = 0; i < 4; i++) first.step(64 * 1024);
  while (pair.underway.length > 0) pair.underway.shift()?.();
  for (let ask = pair.asks.shift(); ask !== undefined; ask = pair.asks.shift()) first.onAsk(ask);
  first.close();
  assert(first.reached > 1);
  pair.verifier.begin();
  const second = pair.run(pair.open(first.reached));
  const all = (pair.verifier.begin(), pair.run());
  assert(second.counters.objects < all.counters.objects);
  assertEquals(pair.found, []);
});

Deno.test("VerifySource waits for what the secondary has to say of this pass, not of the one before", () => {
  using pair = new Pair(2);
  pair.grow(200);
  const first = pair.run();
  const second = pair.open(1, first.said);
  let result = second.step(64 * 1024);
  // What the first pass was told last comes again: nothing of the second was looked at.
  second.onAsk({ kind: ASK_KIND.verified, id: 0, offset: 0, length: first.said });
  for (let i = 0; i < 1000 && result === "busy"; i++) result = second.step(64 * 1024);
  assertEquals(result, "waiting");
  assertEquals(second.reached, 1);
  pair.run(second);
  assertEquals(pair.found, []);
});
