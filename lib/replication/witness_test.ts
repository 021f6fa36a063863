import { assert, assertEquals } from "@std/assert";
import { type Seen, WHOLE, Witness, WITNESS_BYTES, type WitnessFiles } from "./witness.ts";

/** Files in memory. */
class Memory implements WitnessFiles {
  files: { kept: Uint8Array<ArrayBuffer>; growing: Uint8Array<ArrayBuffer> } = {
    kept: new Uint8Array(0),
    growing: new Uint8Array(0),
  };
  /** Bytes that fit; beyond, the disk is full. */
  capacity = Infinity;

  read(which: "kept" | "growing", at: number, length: number): Uint8Array<ArrayBuffer> {
    return this.files[which].slice(at, at + length);
  }
  cut(length: number): void {
    this.files.growing = this.files.growing.slice(0, length);
  }
  append(bytes: Uint8Array): void {
    const { growing } = this.files;
    if (growing.length + bytes.length > this.capacity) throw new Error("Cannot append: no space left");
    const grown = new Uint8Array(growing.length + bytes.length);
    grown.set(growing);
    grown.set(bytes, growing.length);
    this.files.growing = grown;
  }
  publish(): void {
    this.files = { kept: this.files.growing, growing: new Uint8Array(0) };
  }
  close(): void {}
}

/** A witness of the copy "one", and what it says. */
function witnessOn(files: Memory, identity = "one"): { readonly witness: Witness; readonly said: string[] } {
  const said: string[] = [];
  const witness = new Witness({
    files,
    identity: () => identity,
    isOurs: (text) => text === identity,
    log: (message) => said.push(message),
  });
  return { witness, said };
}

function seen(id: number, change: Partial<Seen> = {}): Seen {
  const ctime = change.ctime ?? BigInt(id) * 1_000_000_007n;
  return { id, ctime, as: ctime, size: id * 3, quiet: true, ...change };
}

function hashOf(id: number, block: number): Uint8Array {
  const bytes = new Uint8Array(32);
  new DataView(bytes.buffer).setFloat64(0, id * 1000 + block % 1000, true);
  bytes[15] = 7;
  return bytes;
}

/** Ids that are files with blocks, and how many. */
const blocksOf = (id: number): number => id % 50 === 0 ? 150 : 0;

function note(witness: Witness, from: number, until: number): void {
  for (let id = from; id < until; id++) {
    if (blocksOf(id) === 0) witness.keep(seen(id), WHOLE, hashOf(id, WHOLE));
    for (let block = 0; block < blocksOf(id); block++) witness.keep(seen(id), block, hashOf(id, block));
  }
}

/** How many hashes from `from` on are known; what is known must be right. */
function knownOf(witness: Witness, from: number, until: number): number {
  let count = 0;
  for (let id = from; id < until; id++) {
    const blocks = blocksOf(id) === 0 ? [WHOLE] : Array.from({ length: blocksOf(id) }, (_, block) => block);
    for (const block of blocks) {
      const hash = witness.known(seen(id), block);
      if (hash === null) continue;
      assertEquals(hash, hashOf(id, block).subarray(0, WITNESS_BYTES), `object ${id}, block ${block}`);
      count++;
    }
  }
  return count;
}

function filled(files = new Memory(), until = 3000): Memory {
  const { witness, said } = witnessOn(files);
  witness.seek(1);
  note(witness, 16, until);
  witness.finish();
  assertEquals(said, []);
  return files;
}

const ALL = 3000 - 16 - 59 + 59 * 150;

Deno.test("Witness.known() tells what a pass that came to its end has kept, of small files and of blocks", () => {
  const { witness, said } = witnessOn(filled());
  witness.seek(1);
  assertEquals(knownOf(witness, 16, 3000), ALL);
  assertEquals(said, []);
});

Deno.test("Witness.known() tells nothing of a file that was changed since, nor of one that is not there", () => {
  const { witness } = witnessOn(filled());
  witness.seek(1);
  assertEquals(witness.known(seen(20, { ctime: 20n }), WHOLE), null);
  assertEquals(witness.known(seen(21, { size: 5 }), WHOLE), null);
  assertEquals(witness.known(seen(22), 0), null);
  assertEquals(witness.known(seen(50), 150), null);
  assert(witness.known(seen(51), WHOLE) !== null);
  assertEquals(witness.known(seen(3000), WHOLE), null);
});

Deno.test("Witness.known() tells of what it has passed, too", () => {
  const { witness } = witnessOn(filled());
  witness.seek(1);
  assert(witness.known(seen(2001), WHOLE) !== null);
  for (const [id, block] of [[50, 149], [50, 3], [16, WHOLE]] as const) {
    assertEquals(witness.known(seen(id), block), hashOf(id, block));
  }
  assertEquals(witness.known(seen(16, { ctime: 1n }), WHOLE), null);
  assertEquals(witness.known(seen(2002), WHOLE), hashOf(2002, WHOLE));
});

Deno.test("Witness.recall() tells in any order what known() tells, while a pass goes on", () => {
  const { witness } = witnessOn(filled());
  witness.seek(1);
  assert(witness.known(seen(2001), WHOLE) !== null);
  for (const [id, block] of [[50, 149], [50, 3], [2999, WHOLE], [16, WHOLE], [100, 64]] as const) {
    assertEquals(witness.recall(seen(id), block), hashOf(id, block));
  }
  assertEquals(witness.recall(seen(16, { ctime: 1n }), WHOLE), null);
  assert(witness.known(seen(2002), WHOLE) !== null);
});

Deno.test("Witness.keep() keeps nothing of a file that was changed just now", () => {
  const files = new Memory();
  const { witness } = witnessOn(files);
  witness.seek(1);
  witness.keep(seen(16, { quiet: false }), WHOLE, hashOf(16, WHOLE));
  witness.keep(seen(17), WHOLE, hashOf(17, WHOLE));
  witness.finish();
  assertEquals(witness.known(seen(16), WHOLE), null);
  assert(witness.known(seen(17), WHOLE) !== null);
});

Deno.test("Witness.keep() is without effect for the eyes of known() until the pass has ended", () => {
  const files = filled(new Memory(), 100);
  const { witness } = witnessOn(files);
  witness.seek(1);
  const before = knownOf(witness, 16, 3000);
  note(witness, 16, 3000);
  witness.seek(2900);
  witness.seek(1);
  assertEquals(knownOf(witness, 16, 3000), before);
});

Deno.test("Witness.seek() goes on where a pass was interrupted, also further back and by a later process", () => {
  const files = new Memory();
  const first = witnessOn(files);
  first.witness.seek(1);
  note(first.witness, 16, 2000);
  first.witness.close();
  const second = witnessOn(files);
  // In the middle of a chunk, and of what was noted.
  second.witness.seek(1234);
  note(second.witness, 1234, 2500);
  second.witness.seek(1950);
  note(second.witness, 1950, 3000);
  second.witness.finish();
  assertEquals(knownOf(second.witness, 16, 3000), ALL);
  assertEquals([...first.said, ...second.said], []);
});

Deno.test("Witness leaves out what it knows of another copy, and says so", () => {
  const files = filled();
  const { witness, said } = witnessOn(files, "another");
  witness.seek(1);
  assertEquals(knownOf(witness, 16, 3000), 0);
  assertEquals(said.length, 1);
  note(witness, 16, 3000);
  witness.finish();
  assertEquals(knownOf(witness, 16, 3000), ALL);
});

Deno.test("Witness.seek() begins anew where what grew is of another copy", () => {
  const files = new Memory();
  const first = witnessOn(files);
  first.witness.seek(1);
  note(first.witness, 16, 1000);
  first.witness.close();
  const { witness } = witnessOn(files, "another");
  witness.seek(500);
  note(witness, 500, 3000);
  witness.finish();
  assert(knownOf(witness, 16, 500) === 0 && witness.known(seen(501), WHOLE) !== null);
});

Deno.test("Witness believes nothing from the first torn byte on, wherever a file is cut or a byte is turned", () => {
  const whole = filled().files.kept;
  for (let step = 0; step < 24; step++) {
    const files = new Memory();
    const at = Math.floor(whole.length * step / 24) + step % 7;
    const torn = step % 2 === 0 ? whole.slice(0, at) : whole.slice();
    if (step % 2 === 1) torn[at] = (torn[at] ?? 0) ^ 1;
    files.files = { kept: torn.slice(), growing: torn.slice() };
    const { witness, said } = witnessOn(files);
    witness.seek(2990);
    const known = knownOf(witness, 16, 3000);
    assert(known < ALL || at >= whole.length, `byte ${at}`);
    // What was growing goes on from where it is whole, and the next pass has everything again.
    note(witness, 2990, 3000);
    witness.finish();
    assert(knownOf(witness, 16, 3000) < ALL);
    witness.seek(1);
    note(witness, 16, 3000);
    witness.finish();
    assertEquals(knownOf(witness, 16, 3000), ALL);
    assert(said.every((message) => /torn at|another one/.test(message)), said.join());
  }
});

Deno.test("Witness goes without where the disk is full, keeps what it knew, and tries again with the next pass", () => {
  const files = filled();
  const { witness, said } = witnessOn(files);
  files.capacity = 100_000;
  witness.seek(1);
  assertEquals(knownOf(witness, 16, 100), 84 - 1 + 150);
  note(witness, 16, 3000);
  witness.finish();
  assertEquals(said.length, 1);
  witness.seek(1);
  assertEquals(knownOf(witness, 16, 3000), ALL);
  files.capacity = Infinity;
  note(witness, 16, 3000);
  witness.finish();
  assertEquals(knownOf(witness, 16, 3000), ALL);
});

Deno.test("Witness takes 64 bytes a small file, and 32 for 128 KiB of a large one, with 2 % beside", () => {
  const files = new Memory();
  const { witness } = witnessOn(files);
  witness.seek(1);
  for (let id = 16; id < 10_016; id++) witness.keep(seen(id), WHOLE, hashOf(id, WHOLE));
  witness.finish();
  assert(files.files.kept.length < 10_000 * 64 * 1.01, `${files.files.kept.length}`);
  witness.seek(1);
  for (let block = 0; block < 8192; block++) witness.keep(seen(16), block, hashOf(16, block));
  witness.finish();
  assert(files.files.kept.length < 8192 * 32 * 1.02, `${files.files.kept.length}`);
});
