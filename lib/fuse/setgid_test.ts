import { assertEquals } from "@std/assert";
import { CAP_FOWNER, hasCapability, isOf, isSetgidAlone } from "./setgid.ts";

/** As proc(5) shows it. */
const STATUS = [
  "Name:\tGroups:\t7",
  "Uid:\t1000\t1000\t1000\t1000",
  "Gid:\t1000\t1001\t1002\t1003",
  "FDSize:\t64",
  "Groups:\t24 2000 65534 ",
  "CapPrm:\t000001ffffffffff",
  "CapEff:\t0000000000000008",
  "",
].join("\n");

Deno.test("isOf() knows the groups of a process, and of its own the one for files", () => {
  for (const gid of [24, 2000, 65534, 1003]) assertEquals(isOf(STATUS, gid), true, `${gid}`);
  for (const gid of [1000, 1002, 4, 200, 7]) assertEquals(isOf(STATUS, gid), false, `${gid}`);
  assertEquals(isOf(STATUS.replace("0000000000000008", "0000000000000010"), 4), true, "CAP_FSETID");
  assertEquals(isOf("Groups:\t\nCapEff:\t0000000000000000\n", 0), false, "of none");
});

Deno.test("hasCapability() reads what a process may do now, not what it could take", () => {
  assertEquals([hasCapability(STATUS, CAP_FOWNER), hasCapability(STATUS, 4n)], [true, false]);
  assertEquals(hasCapability("", CAP_FOWNER), false);
});

Deno.test("isSetgidAlone() means regular files whose group may not execute them", () => {
  assertEquals([0o102766, 0o102776, 0o100766, 0o042766].map(isSetgidAlone), [true, false, false, false]);
});
