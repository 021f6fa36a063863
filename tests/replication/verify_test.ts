/**
 * Verification on the real disk: equal trees are equal whatever happens meanwhile, and whatever is changed on the target is
 * found and named.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { ASK_KIND } from "../../lib/replication/mutation.ts";
import { backing } from "../../lib/system/backing.ts";
import { Pair } from "./verify_pair.ts";

backing.umask(0);

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
