import { assertEquals } from "@std/assert";
import { ownLevels } from "./own_names.ts";

Deno.test("ownLevels() tells how far down names are our own", () => {
  const of = (name: string) => ownLevels(new TextEncoder().encode(name));
  assertEquals([".binome-nameless", ".binome", ".binome2", "data", ""].map(of), [1, 2, 0, 0, 0]);
});
