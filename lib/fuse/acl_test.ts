import { assertEquals } from "@std/assert";
import { inheritAcl } from "./acl.ts";

/** An ACL of entries `[tag, permissions, id]`. */
function acl(...entries: readonly (readonly [number, number, number])[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, 2, true);
  entries.forEach(([tag, permissions, id], index) => {
    view.setUint16(4 + index * 8, tag, true);
    view.setUint16(6 + index * 8, permissions, true);
    view.setUint32(8 + index * 8, id, true);
  });
  return new Uint8Array(view.buffer);
}

const NONE = 0xffff_ffff;

Deno.test("inheritAcl() takes from owner, mask and others what the mode does not have", () => {
  const given = acl([1, 7, NONE], [2, 7, 1000], [4, 5, NONE], [16, 7, NONE], [32, 5, NONE]);
  assertEquals(inheritAcl(given, 0o640), true);
  assertEquals(given, acl([1, 6, NONE], [2, 7, 1000], [4, 5, NONE], [16, 4, NONE], [32, 0, NONE]));
});

Deno.test("inheritAcl() takes from the owning group where there is no mask", () => {
  const given = acl([1, 7, NONE], [4, 7, NONE], [32, 7, NONE]);
  assertEquals(inheritAcl(given, 0o754), true);
  assertEquals(given, acl([1, 7, NONE], [4, 5, NONE], [32, 4, NONE]));
});

Deno.test("inheritAcl() refuses what is no ACL", () => {
  assertEquals(inheritAcl(new Uint8Array(0), 0o644), false);
  assertEquals(inheritAcl(acl([1, 7, NONE]).subarray(0, 11), 0o644), false);
  assertEquals(inheritAcl(Uint8Array.of(3, 0, 0, 0), 0o644), false);
});
