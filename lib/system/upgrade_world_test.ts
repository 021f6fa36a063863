import { assertEquals, assertRejects } from "@std/assert";
import type { UpgradeWorld } from "../upgrade/upgrade.ts";
import { openUpgradeWorld } from "./upgrade_world.ts";

/** An installed program that is a script, in a folder of its own. */
async function withProgram(
  test: (
    given: { world: UpgradeWorld; program: string; write: (name: string, text: string) => Promise<string> },
  ) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const program = `${folder}/binome`;
  const world = openUpgradeWorld({
    run: folder,
    program,
    say: () => {},
    agentAnswers: () => Promise.resolve(true),
  });
  const write = async (name: string, text: string) => {
    await Deno.writeTextFile(`${folder}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return `${folder}/${name}`;
  };
  try {
    await write("binome", "echo one");
    await test({ world, program, write });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("Programs.replace() puts a copy in place, keeps the one before, and leaves nothing else", () =>
  withProgram(async ({ world: { programs }, program, write }) => {
    const staged = await programs.stage(await write("two", "echo two"), program);
    await programs.replace(program, staged);
    assertEquals(await programs.versionOf(program), "two\n");
    assertEquals(await programs.versionOf(programs.previous(program)), "one\n");
    await programs.replace(program, await programs.stage(programs.previous(program), program));
    assertEquals(await programs.versionOf(program), "one\n");
    assertEquals(await programs.versionOf(programs.previous(program)), "two\n");
    const names: string[] = [];
    for await (const { name } of Deno.readDir(program.replace(/\/binome$/, ""))) names.push(name);
    assertEquals(names.sort(), ["binome", "binome.previous", "two"]);
  }));

Deno.test("Programs.replace() goes on after one that was cut off", () =>
  withProgram(async ({ world: { programs }, program, write }) => {
    await write("binome.kept", "echo left by another");
    await write("binome.new", "echo half a copy");
    await programs.replace(program, await programs.stage(await write("two", "echo two"), program));
    assertEquals(await programs.versionOf(program), "two\n");
    assertEquals(await programs.versionOf(programs.previous(program)), "one\n");
  }));

Deno.test("Programs.versionOf() tells why a program does not run", () =>
  withProgram(async ({ world: { programs }, write }) => {
    const broken = await write("broken", "echo no such library >&2; exit 127");
    await assertRejects(() => programs.versionOf(broken), Error, "it does not run here: no such library");
  }));

Deno.test("Programs.stage() leaves nothing of a copy that failed", () =>
  withProgram(async ({ world: { programs }, program }) => {
    await assertRejects(() => programs.stage("/proc/self/mem", program), Error, "Cannot copy /proc/self/mem");
    await assertRejects(() => Deno.stat(`${program}.new`), Deno.errors.NotFound);
  }));
