import { assertEquals } from "@std/assert";
import plugin, { mayTouchWorld } from "./house.ts";

function complaints(file: string, source: string): string[] {
  return Deno.lint.runPlugin(plugin, file, source).map((found) => found.message.split(" is named")[0] ?? "");
}

const AMBIENT: ReadonlyArray<readonly [source: string, what: string]> = [
  ["Deno.readFileSync('a');", "Deno.readFileSync"],
  ["const d = globalThis.Deno.pid;", "Deno.pid"],
  ["Date.now();", "Date.now"],
  ["new Date();", "new Date()"],
  ["Math.random();", "Math.random"],
  ["performance.now();", "performance.now"],
  ["crypto.randomUUID();", "crypto.randomUUID"],
  ["setTimeout(() => {}, 1);", "setTimeout()"],
  ["globalThis.setInterval(() => {}, 1);", "setInterval()"],
  ["import { readFileSync } from 'node:fs';", "import of node:fs"],
  ["import { createHmac, randomBytes } from 'node:crypto';", "import of node:crypto"],
  ["import * as crypto from 'node:crypto';", "import of node:crypto"],
];

for (const [source, what] of AMBIENT) {
  Deno.test(`no-ambient-world refuses ${what} in a file that decides`, () => {
    assertEquals(complaints("lib/failover/step.ts", source)[0], what);
  });
}

Deno.test("no-ambient-world lets hashes and ciphers of node:crypto be", () => {
  const source = "import { createHmac, timingSafeEqual } from 'node:crypto';";
  assertEquals(complaints("lib/monitor/heartbeat/codec.ts", source), []);
});

Deno.test("no-ambient-world lets pure code be", () => {
  const source = "const a = new Date(5); const b = Math.max(1, 2); let c: Deno.Conn; crypto.subtle; a.now();";
  assertEquals(complaints("lib/failover/step.ts", source), []);
});

Deno.test("no-ambient-world lets lib/system, main.ts, tests and scripts touch the world", () => {
  const files = [
    "lib/system/clock.ts",
    "main.ts",
    "lib/fuse/layout_test.ts",
    "scripts/demo.ts",
    "tests/lab/lab.ts",
  ];
  for (const file of files) assertEquals(complaints(file, "Deno.pid; Date.now();"), [], file);
});

Deno.test("mayTouchWorld() knows a file by its path in the project, wherever that lies", () => {
  const root = new URL("../../", import.meta.url).pathname;
  assertEquals(mayTouchWorld(`${root}lib/journal/record.ts`), false);
  assertEquals(mayTouchWorld(`${root}lib/system/disk.ts`), true);
  assertEquals(mayTouchWorld(`${root}scripts/demo.ts`), true);
});
