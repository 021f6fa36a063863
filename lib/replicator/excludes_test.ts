import { assertEquals } from "@std/assert";
import { excludesOf, withExcludes } from "./excludes.ts";

const directory = (path: string, ...exclude: string[]) =>
  ({ path, exclude, durability: "fsync", require: null }) as const;

Deno.test("withExcludes() keeps what was excluded when the role began, directory by directory", () => {
  const then = { replicate: [directory("/a", "*.tmp"), directory("/b")] };
  const now = { replicate: [directory("/b", "log"), directory("/a"), directory("/new", "x")] };
  const kept = withExcludes(now, JSON.parse(JSON.stringify(excludesOf(then))));
  assertEquals(kept.replicate.map(({ path, exclude }) => [path, exclude]), [
    ["/b", []],
    ["/a", ["*.tmp"]],
    ["/new", ["x"]],
  ]);
});
