import { assertEquals } from "@std/assert";
import { Pair, Primary } from "../../tests/sim/data_road.ts";
import { body, Kernel } from "../../tests/sim/kernel.ts";
import { OPCODE } from "../fuse/opcode.ts";
import { REQUEST_AT, REQUEST_BYTES } from "../fuse/request.ts";
import {
  FSYNC,
  FSYNC_SLOTS,
  INFLIGHT,
  LAYOUT,
  MAGIC,
  MOUNTS_MAX,
  REPLY,
  REPLY_SLOT_BYTES,
  REPLY_SLOTS,
  RING_WORD,
  SWAP,
  takeOver,
} from "./inflight.ts";
import { createSharedMemory, Shared, WORD } from "./shared.ts";

/** The process is killed, and another takes over what its log and its memory hold. */
function killed(pair: Pair): Kernel {
  const { inflight } = pair.primary;
  pair.a.restart("node1");
  pair.primary = new Primary(pair.a, { resumed: true, inflight });
  return new Kernel(pair.primary, 0n);
}

Deno.test("INFLIGHT lies where every program of this layout looks for it", () => {
  assertEquals(LAYOUT, 1);
  assertEquals(INFLIGHT, {
    swap: 64,
    swaps: 512,
    control: 256,
    controlBytes: 256,
    request: 4096,
    replies: 1060864,
    fsyncs: 3158016,
    bytes: 3354624,
  });
  assertEquals([REQUEST_AT, REQUEST_BYTES], [4016, 1056768]);
  assertEquals([REPLY_SLOTS, REPLY_SLOT_BYTES, FSYNC_SLOTS], [8192, 256, 4096]);
  assertEquals(RING_WORD, { replyTail: 3, replyHead: 4, fsyncTail: 5, fsyncHead: 6 });
  assertEquals(REPLY, { sequence: 0, root: 8, length: 12, bytes: 16 });
  assertEquals([MOUNTS_MAX, ...Object.values(SWAP)], [16, 0, 8, 16, 24]);
  assertEquals(Object.values(FSYNC), [0, 8, 12, 16, 20, 24, 28, 32, 40, 48]);
});

Deno.test("takeOver() keeps the rings and the request of a killed process, and no other control word", () => {
  const inflight = new ArrayBuffer(INFLIGHT.bytes);
  assertEquals(takeOver(inflight, true), false, "there was none");
  const words = new Int32Array(inflight, INFLIGHT.control, 64).fill(9);
  const bytes = new Uint8Array(inflight);
  bytes[INFLIGHT.request + REQUEST_AT] = 50;
  assertEquals(takeOver(inflight, true), true);
  const rings = new Set<number>(Object.values(RING_WORD));
  words.forEach((value, word) => assertEquals(value, rings.has(word) ? 9 : 0, `${word}`));
  assertEquals(bytes[INFLIGHT.request + REQUEST_AT], 50);
});

Deno.test("takeOver() starts anew where nothing counts, and where the layout is another's or half made", () => {
  for (
    const [magic, layout, keep] of [[MAGIC, LAYOUT, false], [MAGIC, LAYOUT + 1, true], [
      0,
      LAYOUT,
      true,
    ]] as const
  ) {
    const inflight = new ArrayBuffer(INFLIGHT.bytes);
    const head = new Int32Array(inflight, 0, 2);
    head.set([magic, layout]);
    new Int32Array(inflight, INFLIGHT.control, 64).fill(9);
    new Uint8Array(inflight)[INFLIGHT.request + REQUEST_AT] = 50;
    assertEquals(takeOver(inflight, keep), false);
    assertEquals([...head], [MAGIC, LAYOUT]);
    assertEquals(new Int32Array(inflight, INFLIGHT.control, 64).every((word) => word === 0), true);
    assertEquals(new Uint8Array(inflight)[INFLIGHT.request + REQUEST_AT], 0);
  }
});

/** The notes of exchanges, as a process that takes over reads them. */
function notes(inflight: ArrayBuffer, keep: boolean): Shared {
  takeOver(inflight, keep);
  return new Shared(createSharedMemory({ road: 1, acker: 2, disk: 3 }, 0), inflight);
}

for (const keep of [true, false]) {
  const who = keep ? "was in hand" : "comes again";
  Deno.test(`Shared.swapOf() knows an exchange that ${who} after another one in another directory`, () => {
    const inflight = new ArrayBuffer(INFLIGHT.bytes);
    notes(inflight, keep).noteSwap(1, 44, 20);
    const heir = notes(inflight, keep);
    // Served before the kernel says the one of the other mount again: two mounts count for themselves.
    heir.noteSwap(0, 44, 30);
    assertEquals([heir.swapOf(0, 44), heir.swapOf(1, 44)], [30, 20]);
    heir.noteSwap(0, 0, 0);
    assertEquals([heir.swapOf(0, 44), heir.swapOf(1, 44), heir.swapOf(1, 46)], [0, 20, 0]);
    heir.forgetSwaps();
    assertEquals(heir.swapOf(1, 44), 0);
  });
}

Deno.test("takeOver() understands the exchange that an older program noted", () => {
  const inflight = new ArrayBuffer(INFLIGHT.bytes);
  takeOver(inflight, false);
  const view = new DataView(inflight, INFLIGHT.swap, SWAP.bytes);
  view.setFloat64(SWAP.unique, 44, true);
  view.setFloat64(SWAP.id, 20, true);
  view.setInt32(SWAP.root, 3, true);
  const heir = notes(inflight, false);
  assertEquals(heir.swapOf(3, 44), 20);
  heir.noteSwap(3, 0, 0);
  assertEquals(notes(inflight, false).swapOf(3, 44), 0);
});

Deno.test("a reply that waits for the peer is given by the next process, in its place behind others", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  pair.primary.shared.set(WORD.members, 2);
  // Indexes go on counting past the end of the ring.
  for (let i = 0; i < 3; i++) {
    const data = new Uint8Array(10 + i);
    const content = body(0n, 0n, data.length, 0, 0n, 2, 0, data);
    assertEquals(kernel.all(OPCODE.WRITE, id, content, { wait: true }), []);
  }
  const heir = killed(pair);
  assertEquals([pair.primary.shared.repliesWaiting, pair.primary.replies.length], [3, 0]);
  const replies = heir.inherit();
  assertEquals(replies.map((reply) => new DataView(reply.body.buffer).getUint32(0, true)), [10, 11, 12]);
});

Deno.test("an unlinked file's write that waits for the peer is answered by the next process, and not repeated", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  assertEquals(kernel.call(OPCODE.UNLINK, 1, body("f")).error, 0);
  pair.primary.shared.set(WORD.members, 2);
  const content = body(0n, 0n, 5, 0, 0n, 2, 0, new Uint8Array(5));
  assertEquals(kernel.all(OPCODE.WRITE, id, content, { wait: true }), []);
  const { last } = pair.a.copy.journal;
  const replies = killed(pair).inherit();
  assertEquals(replies.map(({ error }) => error), [0]);
  assertEquals(pair.a.copy.journal.last, last);
});

Deno.test("Fsyncs.takeUp() asks the disk again for what it had not done, and for nothing else", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  for (let i = 0; i < 3; i++) kernel.all(OPCODE.FSYNC, id, body(0n, 0, 0));
  const { shared } = pair.primary;
  // The second was done, and refused: the kernel says that once.
  const refused = shared.fsyncSlot(1);
  shared.fsyncs.setInt32(refused + FSYNC.error, 5, true);
  shared.fsyncs.setInt32(refused + FSYNC.local, 1, true);
  assertEquals(pair.primary.takeDisk(), 3);
  const heir = killed(pair);
  heir.inherit();
  const next = pair.primary.shared;
  assertEquals([next.fsyncsWaiting, pair.primary.takeDisk()], [3, 2]);
  assertEquals(next.fsyncs.getInt32(refused + FSYNC.error, true), 5);
});

Deno.test("Fsyncs.takeUp() answers EIO to the fsync of a file that cannot be opened any more", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  kernel.all(OPCODE.FSYNC, id, body(0n, 0, 0));
  pair.primary.takeDisk();
  pair.primary.shared.fsyncs.setFloat64(FSYNC.id, 4711, true);
  killed(pair).inherit();
  const { shared } = pair.primary;
  assertEquals(pair.primary.takeDisk(), 0);
  assertEquals([shared.fsyncs.getInt32(FSYNC.error, true), shared.fsyncs.getInt32(FSYNC.local, true)], [
    5,
    1,
  ]);
});

Deno.test("a direct O_DSYNC write that was done and not yet synced is synced by the next process before it is answered", () => {
  const pair = new Pair();
  const kernel = new Kernel(pair.primary);
  const id = kernel.create(1, "f");
  const { unique } = kernel;
  const content = body(0n, 0n, 5, 0, 0n, 0o10002, 0, new Uint8Array(5));
  assertEquals(kernel.all(OPCODE.WRITE, id, content), []);
  // As if it had been killed between the write and the fsync's record.
  const plain = new Pair();
  const other = new Kernel(plain.primary);
  const file = other.create(1, "f");
  other.call(OPCODE.WRITE, file, body(0n, 0n, 5, 0, 0n, 2, 0, new Uint8Array(5)), { unique });
  assertEquals(other.all(OPCODE.WRITE, file, content, { unique, resent: true }), []);
  assertEquals(plain.primary.shared.fsyncsWaiting, 1);
});
