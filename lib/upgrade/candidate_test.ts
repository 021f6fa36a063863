import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { protocolOf } from "../protocol.ts";
import { HEAD_BYTES, objectionsToVersion, objectionToFile, readVersion } from "./candidate.ts";

/** The first bytes of an ELF file for a machine. */
function head(machine: number): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes[18] = machine;
  return bytes;
}
const X86 = head(62);
const ARM = head(183);
const SIZE = 112e6;

Deno.test("objectionToFile() takes a program for this machine", () =>
  assertEquals(objectionToFile({ size: SIZE, head: X86 }, X86), null));

Deno.test("objectionToFile() refuses what is no program, cut short, or for another processor", () => {
  const script = new TextEncoder().encode("#!/bin/sh\nexec binome agent\n");
  assertMatch(objectionToFile({ size: SIZE, head: script }, X86) ?? "", /no Linux program/);
  assertMatch(objectionToFile({ size: 12, head: X86.subarray(0, 12) }, X86) ?? "", /no Linux program/);
  assertMatch(objectionToFile({ size: SIZE, head: ARM }, X86) ?? "", /another processor/);
  assertMatch(objectionToFile({ size: 4096, head: X86 }, X86) ?? "", /it has 4096 bytes/);
});

Deno.test("readVersion() takes what version --json prints", () => {
  const said = { version: "1.2.0", protocol: { version: 4, versionMin: 3 } };
  assertEquals(readVersion(JSON.stringify(said)), said);
});

Deno.test("readVersion() refuses what another program prints", () => {
  for (
    const text of ["binome 1.2.0", "{}", '{"version":"1"}', '{"version":"1","protocol":{"version":"4"}}']
  ) {
    assertThrows(() => readVersion(text), Error, "is not understood");
  }
});

const program = (newest: number) => ({ version: `0.${newest}.0`, protocol: protocolOf(newest) });

Deno.test("objectionsToVersion() takes one version up or down, whatever the peer speaks of the two", () => {
  for (const [next, running, peer] of [[5, 4, 4], [5, 4, 5], [4, 5, 4], [4, 5, 5], [5, 5, 5]] as const) {
    const beside = { running: program(running), peers: [{ node: "n2", protocol: peer }] };
    assertEquals(objectionsToVersion(program(next), beside), []);
  }
});

Deno.test("objectionsToVersion() refuses what the peer or this node would not understand", () => {
  const [peer] = objectionsToVersion(program(6), {
    running: program(5),
    peers: [{ node: "n2", protocol: 4 }],
  });
  assertMatch(peer ?? "", /it speaks protocol 5 to 6, n2 3 to 4; bring n2 nearer/);
  const [here] = objectionsToVersion(program(7), { running: program(5), peers: [] });
  assertMatch(here ?? "", /it speaks protocol 6 to 7, binome 0\.5\.0 here 4 to 5; go by a version between/);
});

Deno.test("objectionsToVersion() does not wait for a peer that was not heard", () => {
  const beside = { running: program(5), peers: [{ node: "n2", protocol: null }] };
  assertEquals(objectionsToVersion(program(6), beside), []);
});
