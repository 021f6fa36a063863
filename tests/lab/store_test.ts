import { assertEquals, assertThrows } from "@std/assert";
import { Lab } from "./lab.ts";
import { lossOf } from "./store.ts";

const FILES = 200;
const CUTS = 6;

Deno.test("lossOf() adds up what a disk says of its cuts", () => {
  const log = "cut: 0 blocks were not flushed, 0 of their 0 sectors kept\n" +
    "cut: 3 blocks were not flushed, 4 of their 24 sectors kept\n";
  assertEquals(lossOf(log), { cuts: 2, cutsInWriting: 1, sectors: 24, sectorsLost: 20 });
});

Deno.test("lossOf() refuses a line it does not know", () => {
  assertThrows(() => lossOf("Cannot write the image: No space left on device\n"), Error, "the disk");
});

/** A disk that lost nothing would prove nothing; one that lost what was flushed would be no disk. */
Deno.test("powerOff() loses on a volatile disk what no flush has covered, and nothing else", async () => {
  await using lab = await Lab.up({ prefix: "store-volatile", store: "volatile", storeMiB: 256 });
  for (let cut = 0; cut < CUTS; cut++) {
    // Past the page cache, onto blocks that are there: the disk has it, and nobody asks it to keep it.
    await lab.sh(
      "node1",
      `cd /srv; mkdir cut${cut}
      for i in $(seq ${FILES}); do echo synced > cut${cut}/$i; done
      head -c 4M /dev/zero > cut${cut}/loose; sync -f .
      dd if=/dev/urandom of=cut${cut}/loose bs=4k count=1000 oflag=direct conv=notrunc status=none`,
    );
    await lab.powerOff("node1");
    await lab.powerOn("node1");
    for (let past = 0; past <= cut; past++) {
      const kept = await lab.sh("node1", `cd /srv/cut${past}; for i in $(seq ${FILES}); do cat $i; done`);
      assertEquals(kept, "synced\n".repeat(FILES));
    }
  }
  const { cuts, sectorsLost } = lossOf(await lab.diskLog("node1"));
  assertEquals(cuts, CUTS);
  assertEquals(sectorsLost > 0, true);
});

Deno.test("shutdown() loses nothing on a volatile disk", async () => {
  await using lab = await Lab.up({ prefix: "store-volatile", store: "volatile", storeMiB: 256 });
  await lab.sh("node1", "echo unsynced > /srv/file");
  await lab.shutdown("node1");
  await lab.powerOn("node1");
  assertEquals(await lab.sh("node1", "cat /srv/file"), "unsynced\n");
});
