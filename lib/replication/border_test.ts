import { assertEquals, assertMatch } from "@std/assert";
import { Border, faultOf, isLocal, LOCAL_FIRST, serialOf, type Way } from "./border.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** Whether the border excludes a path, or something above it. */
function excludes(patterns: readonly string[], path: string): boolean {
  const border = new Border(patterns);
  let way: Way = border.top;
  for (const name of path.split("/")) {
    if (border.excludes(way, bytes(name))) return true;
    way = border.below(way, bytes(name));
  }
  return false;
}

Deno.test("Border.excludes() takes a pattern without a slash at any depth, with all beneath", () => {
  for (const path of ["a.tmp", "x/y/a.tmp", "x.tmp/inside"]) {
    assertEquals(excludes(["*.tmp"], path), true, path);
  }
  for (const path of ["a.tmp2", "tmp", "x/y"]) assertEquals(excludes(["*.tmp"], path), false, path);
});

Deno.test("Border.excludes() takes a pattern with a slash from the top only", () => {
  assertEquals(excludes(["var/log"], "var/log/x"), true);
  assertEquals(excludes(["var/log"], "a/var/log"), false);
  assertEquals(excludes(["*/log/*.1"], "a/log/x.1"), true);
  assertEquals(excludes(["*/log/*.1"], "log/x.1"), false);
});

Deno.test("Border.excludes() keeps the folder of a pattern that ends with **", () => {
  assertEquals(excludes(["cache/**"], "cache"), false);
  assertEquals(excludes(["cache/**"], "cache/x"), true);
  assertEquals(excludes(["cache/**"], "cache/x/y"), true);
  assertEquals(excludes(["cache/**"], "a/cache/x"), false);
});

Deno.test("Border.excludes() never takes what is Binome's own", () => {
  for (const pattern of [".*", "?binome*", "x/.*"]) {
    assertEquals(excludes([pattern], "x/.binom"), pattern !== "?binome*", pattern);
    assertEquals(excludes([pattern], "x/.binome-nameless"), false, pattern);
  }
});

Deno.test("Border.below() ends where no pattern goes on", () => {
  const border = new Border(["a/b/c"]);
  assertEquals(border.below(border.top, bytes("a")).length, 1);
  assertEquals(border.below(border.top, bytes("x")), []);
});

Deno.test("faultOf() says what is wrong with a pattern", () => {
  for (const good of ["*.tmp", "cache/**", "a/b", "[0-9]*", "*/tmp"]) {
    assertEquals(faultOf(good), undefined, good);
  }
  const cases: [string, RegExp][] = [
    ["/a", /begins with \//],
    ["a/", /ends with \//],
    ["a//b", /has "" for a name/],
    ["../a", /has ".."/],
    ["**/a", /\*\* may only/],
    ["a/**/b", /\*\* may only/],
    ["a**", /\*\* may only/],
    ["[a", /has no \]/],
    ["*", /nothing to replicate/],
    ["*/**", /nothing to replicate/],
  ];
  for (const [pattern, reason] of cases) assertMatch(faultOf(pattern) ?? "", reason, pattern);
});

Deno.test("isLocal() and serialOf() tell an object's kind and number by its id", () => {
  assertEquals([isLocal(16), isLocal(LOCAL_FIRST + 16)], [false, true]);
  assertEquals([serialOf(16), serialOf(LOCAL_FIRST + 16)], [16, 16]);
});
