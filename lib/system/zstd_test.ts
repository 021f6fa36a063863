import { assert, assertEquals } from "@std/assert";
import { Zstd } from "./zstd.ts";

const LIBRARY = new Zstd();
const TEXT = new TextEncoder().encode("a line of a table, and ".repeat(5000));
const RANDOM = crypto.getRandomValues(new Uint8Array(65536));

function packed(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const into = new Uint8Array(bytes.length + 1024);
  const length = LIBRARY.pack(bytes, into);
  assert(length > 0);
  return into.slice(0, length);
}

for (const [how, zstd] of [["libzstd", LIBRARY], ["node:zlib", new Zstd(null)]] as const) {
  Deno.test(`Zstd.unpack() by ${how} gives what was packed`, () => {
    for (const bytes of [TEXT, RANDOM, TEXT.subarray(0, 1)]) {
      const into = new Uint8Array(bytes.length);
      assertEquals(zstd.unpack(packed(bytes), into), bytes.length);
      assertEquals(into, bytes);
    }
  });

  Deno.test(`Zstd.unpack() by ${how} never gives all of what is cut, at any byte`, () => {
    const whole = packed(TEXT.subarray(0, 300));
    const into = new Uint8Array(300);
    for (let length = 0; length < whole.length; length++) {
      // Less than all of it: whoever expects more refuses that.
      assert(zstd.unpack(whole.subarray(0, length), into) < 300, `of ${length} bytes`);
    }
  });

  Deno.test(`Zstd.unpack() by ${how} writes no more than there is room for, whatever is claimed`, () => {
    const guarded = new Uint8Array(1000 + 64).fill(7);
    assertEquals(zstd.unpack(packed(TEXT), guarded.subarray(0, 1000)), -1);
    assertEquals(guarded.subarray(1000), new Uint8Array(64).fill(7));
  });

  Deno.test(`Zstd.unpack() by ${how} gives no more than its room with any byte damaged`, () => {
    const whole = packed(TEXT.subarray(0, 500));
    const guarded = new Uint8Array(500 + 64).fill(7);
    for (let at = 0; at < whole.length; at++) {
      const damaged = whole.slice();
      damaged[at] = (damaged[at] ?? 0) ^ 0xff;
      assert(zstd.unpack(damaged, guarded.subarray(0, 500)) <= 500);
    }
    assertEquals(guarded.subarray(500), new Uint8Array(64).fill(7));
  });
}

Deno.test("Zstd.pack() answers -1 where the result does not fit", () => {
  assertEquals(LIBRARY.pack(RANDOM, new Uint8Array(RANDOM.length * 7 / 8)), -1);
});

Deno.test("Zstd packs nothing without the library", () => {
  const zstd = new Zstd("libno-such-thing.so.1");
  assertEquals([zstd.packs, zstd.pack(TEXT, new Uint8Array(TEXT.length))], [false, -1]);
});

Deno.test("Zstd.close() gives back what packing and unpacking took, and may be followed by either", () => {
  const block = new Uint8Array(256 << 10).map((_, at) => at % 251);
  const into = new Uint8Array(block.length);
  const roles = (count: number): void => {
    for (let role = 0; role < count; role++) {
      const zstd = new Zstd();
      const length = zstd.pack(block, into);
      assert(length > 0 && zstd.unpack(into.slice(0, length), into) === block.length);
      zstd.close();
      zstd.close();
    }
  };
  roles(8);
  const before = Deno.memoryUsage().rss;
  roles(256);
  const grown = Deno.memoryUsage().rss - before;
  // 30 MiB, were it kept.
  assert(grown < 8 << 20, `${grown} bytes more`);
  const zstd = new Zstd();
  zstd.close();
  assert(zstd.pack(block, into) > 0);
  zstd.close();
});
