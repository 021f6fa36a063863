import { assert, assertEquals } from "@std/assert";
import { agreeVersion, PROTOCOL, protocolOf } from "./protocol.ts";

Deno.test("agreeVersion() takes the highest both speak, or none", () => {
  const range = (versionMin: number, version: number) => ({ versionMin, version });

  assertEquals(agreeVersion(range(1, 3), range(2, 5)), 3);
  assertEquals(agreeVersion(range(2, 5), range(1, 3)), 3);
  assertEquals(agreeVersion(range(4, 4), range(4, 4)), 4);
  assertEquals(agreeVersion(range(1, 2), range(3, 5)), null);
  assertEquals(agreeVersion(range(3, 5), range(1, 2)), null);
});

Deno.test("protocolOf() is the range of a program whose newest version is known", () => {
  assertEquals(protocolOf(2), { version: 2, versionMin: 2 });
  assertEquals(protocolOf(7), { version: 7, versionMin: 6 });
  assertEquals(protocolOf(PROTOCOL.version), PROTOCOL);
});

Deno.test("agreeVersion() finds one between every program and the one before", () => {
  for (let version = 3; version < 9; version++) {
    assertEquals(agreeVersion(protocolOf(version), protocolOf(version - 1)), version - 1);
    if (version > 3) assert(agreeVersion(protocolOf(version), protocolOf(version - 2)) === null);
  }
});
