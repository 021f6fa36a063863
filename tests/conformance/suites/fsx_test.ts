import { assertEquals } from "@std/assert";
import { judge, operation } from "./fsx.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

Deno.test("operation() reads the number of what is about to be done, and of nothing else", () => {
  assertEquals(operation("17 mapwrite\t0x10 thru\t0x20\t(0x11 bytes)"), 17);
  assertEquals(operation("18 copy\tfrom 0x0 to 0x10, (0x10 bytes) at 0x40"), 18);
  assertEquals(operation("Seed set to 17"), 0);
});

Deno.test("judge() knows a file before, after and in the middle of an operation", () => {
  const [before, after] = [bytes("aaaa"), bytes("aabbbb")];
  assertEquals(judge(bytes("aaaa"), before, after), "before");
  assertEquals(judge(bytes("aabbbb"), before, after), "after");
  assertEquals(judge(bytes("aabb"), before, after), "in the middle of");
  assertEquals(judge(bytes("aabbb"), before, after), "in the middle of");
});

Deno.test("judge() refuses a byte that is of neither, and a length beyond both", () => {
  const [before, after] = [bytes("aaaa"), bytes("aabb")];
  assertEquals(judge(bytes("aacb"), before, after), undefined);
  assertEquals(judge(bytes("aabbb"), before, after), undefined);
  assertEquals(judge(bytes("aab"), before, after), undefined);
});
