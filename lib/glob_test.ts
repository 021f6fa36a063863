import { assertEquals, assertThrows } from "@std/assert";
import { Glob } from "./glob.ts";

const matches = (pattern: string, name: string) => new Glob(pattern).matches(new TextEncoder().encode(name));

Deno.test("Glob.matches() knows runs, single characters, sets and escapes", () => {
  const cases: [pattern: string, name: string, expected: boolean][] = [
    ["cache", "cache", true],
    ["cache", "caches", false],
    ["*.tmp", "a.tmp", true],
    ["*.tmp", ".tmp", true],
    ["*.tmp", "a.tmp.1", false],
    ["*", "", true],
    ["*a*b*", "xxaxxbxx", true],
    ["*a*b*", "xxbxxaxx", false],
    ["*ab", "aab", true],
    ["?", "ä", true],
    ["?", "ab", false],
    ["??", "ä", false],
    ["log.[0-9]", "log.7", true],
    ["log.[0-9]", "log.x", false],
    ["log.[!0-9]", "log.x", true],
    ["log.[!0-9]", "log.ü", true],
    ["[]x]", "]", true],
    ["[a-]", "-", true],
    ["\\*", "*", true],
    ["\\*", "a", false],
    ["ä*", "äpfel", true],
    ["*ä", "bä", true],
  ];
  for (const [pattern, name, expected] of cases) {
    assertEquals(matches(pattern, name), expected, `${pattern} ~ ${name}`);
  }
});

Deno.test("Glob.matches() takes bytes that are no UTF-8 one by one", () => {
  assertEquals(new Glob("a?b").matches(Uint8Array.of(0x61, 0xff, 0x62)), true);
  assertEquals(new Glob("a?b").matches(Uint8Array.of(0x61, 0xc3, 0x62)), true);
});

Deno.test("Glob.matches() is quick with many runs", () => {
  assertEquals(matches("*a".repeat(100) + "b", "a".repeat(255)), false);
});

Deno.test("Glob says what is wrong with a pattern", () => {
  assertThrows(() => new Glob("a/b"), SyntaxError, "neither NUL nor /");
  assertThrows(() => new Glob("a\\"), SyntaxError, "nothing follows");
  assertThrows(() => new Glob("[a"), SyntaxError, "no ]");
  assertThrows(() => new Glob("[z-a]"), SyntaxError, "backwards");
  assertThrows(() => new Glob("[ä]"), SyntaxError, "ASCII");
});
