import { assertEquals, assertRejects } from "@std/assert";
import { MemoryStorage } from "../journal/memory_storage.ts";
import { writeHeader } from "../replication/way_back/header.ts";
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
    state: folder,
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

Deno.test("UpgradeWorld.waysBack() names modules whose copy can be taken back out of a resync, or where nobody knows", () =>
  withProgram(async ({ world, program }) => {
    const state = program.replace(/\/binome$/, "");
    assertEquals(await world.waysBack(), []);
    const make = async (name: string, said: Uint8Array | null) => {
      const folder = `${state}/modules/${name}/way-back`;
      await Deno.mkdir(folder, { recursive: true });
      if (said !== null) await Deno.writeFile(`${folder}/way-back.json`, said);
    };
    const header = {
      reason: "",
      began: 1,
      asOf: 1,
      exact: true,
      edited: false,
      history: [],
      last: 1,
      checkpoint: 1,
    };
    for (const said of ["kept", "sweeping", "given-up"] as const) {
      const storage = new MemoryStorage();
      writeHeader(storage, { ...header, state: said });
      await make(said, storage.readAll("way-back.json"));
    }
    await make("damaged", new TextEncoder().encode("what"));
    await make("none", null);
    await Deno.writeTextFile(`${state}/modules/none.yaml`, "");
    assertEquals(await world.waysBack(), ["damaged", "kept", "sweeping"]);
  }));
