import { assertEquals } from "@std/assert";
import { complaints } from "./doc.ts";

const EXPORT =
  "error[missing-jsdoc]: exported symbol is missing JSDoc documentation\n  --> /a/lib/b.ts:7:1\n   | \n";
const FIELD =
  "error[missing-jsdoc]: exported symbol is missing JSDoc documentation\n  --> /a/lib/b.ts:19:3\n   | \n";
const TYPE =
  "error[missing-explicit-type]: exported symbol is missing a type\n  --> /a/lib/b.ts:70:14\n   | \n";
const PRIVATE =
  "error[private-type-ref]: public type 'a' references private type 'b'\n  --> /a/lib/b.ts:39:1\n";

Deno.test("complaints() keeps an export without a comment or a type, and leaves fields and foreign types out", () => {
  const output = `${FIELD}\n${EXPORT}\n${PRIVATE}\n${TYPE}\nerror: Found 4 documentation lint errors.\n`;
  assertEquals(complaints(output).map((block) => /:\d+:\d+/.exec(block)?.[0]), [":7:1", ":70:14"]);
});

Deno.test("complaints() finds none in the words of a run that passed", () => {
  assertEquals(complaints("Checked 3 files\n"), []);
});
