import { assertEquals } from "@std/assert";
import { emptyFields, KEEP, OP } from "../journal/mod.ts";
import { memoryCopy } from "../../tests/sim/memory_copy.ts";
import { SETATTR_BITS } from "./mutation.ts";
import { isWrittenSince } from "./written_since.ts";

const RANGE = { sequence: 1, id: 20, offset: 100, length: 10 };

/** Whether a log that goes on so after its first record, which touched the range, says that it was written to. */
function after(...records: { op: number; id?: number; a?: number; b?: number }[]): boolean {
  const copy = memoryCopy();
  copy.addGeneration({ generation: 1n, epoch: 1, first: 1 });
  [{ op: OP.write, a: 100, b: 10 }, ...records].forEach((record, index) => {
    const fields = { ...emptyFields(), sequence: index + 1, epoch: 1, generation: 1n, id: 20, ...record };
    copy.journal.append(fields, null, null, KEEP.no);
  });
  const written = isWrittenSince(copy.journal, RANGE);
  copy.close();
  return written;
}

Deno.test("isWrittenSince() knows whatever may change content in a range, and nothing else", () => {
  assertEquals(after(), false);
  assertEquals(after({ op: OP.write, a: 90, b: 10 }, { op: OP.write, a: 110, b: 1 }), false);
  assertEquals(after({ op: OP.write, id: 21, a: 100, b: 10 }), false);
  assertEquals(
    after({ op: OP.setattr, a: SETATTR_BITS.mtime }, { op: OP.setxattr }, { op: OP.fsync }),
    false,
  );
  assertEquals(after({ op: OP.fsync }, { op: OP.write, a: 90, b: 11 }), true);
  assertEquals(after({ op: OP.copy, a: 109, b: 5 }), true);
  assertEquals(after({ op: OP.fallocate, a: 0, b: 1 }), true);
  assertEquals(after({ op: OP.setattr, a: SETATTR_BITS.size | SETATTR_BITS.mtime }), true);
});

Deno.test("isWrittenSince() is true where the log does not reach back so far", () => {
  const copy = memoryCopy();
  copy.journal.reset(5);
  assertEquals(isWrittenSince(copy.journal, RANGE), true);
  copy.close();
});
