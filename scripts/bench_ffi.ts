/**
 * `scripts/bench-ffi`: the cost of one call into C, by how its parameters are given. Each call is refused by the kernel
 * at once (descriptor −1), so that what is left is the way there and back.
 *
 * @module
 */

const C = Deno.dlopen("libc.so.6", {
  getppid: { parameters: [], result: "i32" },
  pwrite: { parameters: ["i32", "usize", "usize", "i64"], result: "i32" },
  pwriteBuffer: { name: "pwrite", parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  statx: { parameters: ["i32", "usize", "i32", "u32", "usize"], result: "i32" },
  statxBuffer: { name: "statx", parameters: ["i32", "usize", "i32", "u32", "buffer"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  pollNarrow: { name: "poll", parameters: ["buffer", "u32", "i32"], result: "i32" },
  lseekWide: { name: "lseek", parameters: ["i32", "i64", "i32"], result: "i64" },
  lseekNarrow: { name: "lseek", parameters: ["i32", "i64", "i32"], result: "i32" },
}).symbols;

/** Deno's types want a bigint: what a number costs is the question here. */
type Loose = Record<keyof typeof C, (...parameters: unknown[]) => unknown>;
const c = C as unknown as Loose;

const CALLS = 300_000;
const ROUNDS = 5;

const bytes = new Uint8Array(4096);
const address = Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
const wide = BigInt(address);

const CASES: readonly (readonly [string, (i: number) => void])[] = [
  ["getppid()", () => c.getppid()],
  ["pwrite: numbers", (i) => c.pwrite(-1, address, 4096, i)],
  ["pwrite: BigInt(number) each", (i) => c.pwrite(-1, BigInt(address), BigInt(4096), BigInt(i))],
  ["pwrite: array as buffer", (i) => c.pwriteBuffer(-1, bytes, 4096n, BigInt(i))],
  ["statx: numbers", () => c.statx(-1, address, 0, 0, address)],
  ["statx: bigints", () => c.statx(-1, wide, 0, 0, wide)],
  ["statx: array as buffer", () => c.statxBuffer(-1, wide, 0, 0, bytes)],
  ["poll: nfds u64, a number", () => c.poll(bytes, 0, 0)],
  ["poll: nfds u32", () => c.pollNarrow(bytes, 0, 0)],
  ["lseek: result i64", () => c.lseekWide(-1, 0n, 0)],
  ["lseek: result i32", () => c.lseekNarrow(-1, 0n, 0)],
];

function nanosecondsOf(call: (i: number) => void): number {
  const began = performance.now();
  for (let i = 0; i < CALLS; i++) call(i);
  return (performance.now() - began) * 1e6 / CALLS;
}

// The rounds are interleaved, and the best counts: what disturbs a round only ever makes it slower.
const best = CASES.map(() => Infinity);
for (let round = 0; round < ROUNDS; round++) {
  CASES.forEach(([, call], index) => best[index] = Math.min(best[index] ?? Infinity, nanosecondsOf(call)));
}
const lines = CASES.map(([name], index) => `${name.padEnd(30)} ${Math.round(best[index] ?? 0)} ns`);
Deno.stdout.writeSync(new TextEncoder().encode(lines.join("\n") + "\n"));
