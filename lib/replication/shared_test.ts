import { assertEquals } from "@std/assert";
import { INFLIGHT } from "./inflight.ts";
import { createSharedMemory, REPLY_SLOTS, Shared, WORD } from "./shared.ts";

Deno.test("Shared.forgetReplies() leaves no reply for a mount that is gone", () => {
  const shared = new Shared(
    createSharedMemory({ road: 0, acker: 0, disk: 0 }, 0),
    new ArrayBuffer(INFLIGHT.bytes),
  );
  // Indexes go on counting past 2^31.
  shared.set(WORD.replyHead, 0x7fffffff - 2);
  shared.set(WORD.replyTail, (0x7fffffff + 3) | 0);
  shared.set(WORD.fsyncTail, 4);
  shared.set(WORD.forget, 1);
  assertEquals([shared.repliesWaiting, shared.fsyncsWaiting], [5, 4]);
  shared.forgetReplies();
  assertEquals([shared.repliesWaiting, shared.fsyncsWaiting, shared.get(WORD.forget)], [0, 0, 0]);
  assertEquals(shared.replySlot(shared.get(WORD.replyHead)) < REPLY_SLOTS * 256, true);
});

Deno.test("Shared.acknowledged() never takes a record for acknowledged that is not, however many there are", () => {
  const shared = new Shared(
    createSharedMemory({ road: 0, acker: 0, disk: 0 }, 0),
    new ArrayBuffer(INFLIGHT.bytes),
  );
  for (const last of [7, 2 ** 31 - 1, 2 ** 31, 3e9, 2 ** 32 + 5, 2 ** 40 + 2 ** 31 + 9]) {
    // Nobody has told anything yet.
    shared.set(WORD.appliedLow, 0);
    assertEquals(shared.acknowledged(last) < last, true, `${last}`);
    for (const behind of [0, 1, 4096]) {
      shared.set(WORD.appliedLow, (last - behind) | 0);
      assertEquals(shared.acknowledged(last), last - behind);
    }
    // What an earlier line of history had reached.
    shared.set(WORD.appliedLow, (last + 100) | 0);
    assertEquals(shared.acknowledged(last), 0);
  }
});
