/** A disk that lost a write and forgot it: memory shows what the disk does not have. */

import { assertEquals } from "@std/assert";
import { type Backing, backing } from "../../lib/system/backing.ts";
import { memoryAt } from "../../lib/system/libc.ts";
import { Pair } from "./pair.ts";
import { ok, Session } from "./twins.ts";

const ON_DISK = 3;
const WRITTEN = 9;
const LENGTH = 400_000;

/** Reads show what was written, until the file leaves memory. */
function lying(): { backing: Backing; dropped: () => number } {
  let dropped = 0;
  return {
    backing: {
      ...backing,
      pread(fd, address, length, offset) {
        const got = backing.pread(fd, address, length, offset);
        if (dropped === 0 && got > 0) new Uint8Array(memoryAt(address, got)).fill(WRITTEN);
        return got;
      },
      dropCache(fd) {
        dropped++;
        return backing.dropCache(fd);
      },
    },
    dropped: () => dropped,
  };
}

for (const length of [LENGTH, 500]) {
  Deno.test(`ReconcileTarget reads ${length} bytes from the disk where memory is not to be believed`, () => {
    using pair = new Pair();
    const file = pair.create(1, "f");
    pair.do(pair.write(file, 0, length, WRITTEN), "source");
    pair.do(pair.write(file, 0, length, ON_DISK), "target");
    const { backing: target, dropped } = lying();
    new Session(pair.source, pair.target, { whole: true, ids: [], suspect: true, targetBacking: target })
      .run();
    // Once for its print, where that has the content, and once before it is written.
    assertEquals(dropped(), length === LENGTH ? 1 : 2);
    pair.assertEqual();
  });
}

Deno.test("Backing.dropCache() leaves what is not written yet where it is", () => {
  using pair = new Pair();
  const file = pair.create(1, "f");
  pair.do(pair.write(file, 0, 5000, WRITTEN));
  const held = pair.target.objects.get(file);
  ok(backing.dropCache(held === undefined ? -1 : pair.target.objects.io(held)));
  pair.assertEqual();
});
