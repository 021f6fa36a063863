import { assertEquals } from "@std/assert";
import { createSharedMemory, REPLY_SLOTS, Shared, WORD } from "./shared.ts";

Deno.test("Shared.forgetReplies() leaves no reply for a mount that is gone", () => {
  const shared = new Shared(createSharedMemory({ road: 0, acker: 0, disk: 0 }));
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
