import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { ownProgram, sweepPrograms } from "./program.ts";

/** A program that runs, in a folder of its own. */
async function withProgram(
  test: (given: { state: string; run: string; link: string; file: string }) => Promise<void> | void,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/sleeper`;
  await Deno.copyFile("/bin/sleep", file);
  const child = new Deno.Command(file, { args: ["60"] }).spawn();
  try {
    await test({
      state: `${folder}/state`,
      run: `${folder}/run`,
      link: `/proc/${child.pid}/exe`,
      file,
    });
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await Deno.remove(folder, { recursive: true });
  }
}

async function says(program: string): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args: ["--version"] }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("ownProgram() names the program's own file", () =>
  withProgram((given) => assertEquals(ownProgram(given), given.file)));

Deno.test("ownProgram() follows a file that was renamed", () =>
  withProgram(async (given) => {
    await Deno.rename(given.file, `${given.file}.previous`);
    assertEquals(ownProgram(given), `${given.file}.previous`);
  }));

Deno.test("ownProgram() finds a program that was upgraded where it is kept", () =>
  withProgram(async (given) => {
    await Deno.link(given.file, `${given.file}.previous`);
    await Deno.copyFile("/bin/true", `${given.file}.new`);
    await Deno.rename(`${given.file}.new`, given.file);
    assertEquals(ownProgram(given), `${given.file}.previous`);
  }));

Deno.test("ownProgram() answers a copy of a file that was replaced, the same one each time", () =>
  withProgram(async (given) => {
    await Deno.copyFile("/bin/true", `${given.file}.new`);
    await Deno.rename(`${given.file}.new`, given.file);
    const copy = ownProgram(given);
    assertEquals(await says(copy), await says("/bin/sleep"));
    assertEquals(ownProgram(given), copy);
  }));

Deno.test("ownProgram() makes another copy after a power cut", () =>
  withProgram(async (given) => {
    await Deno.remove(given.file);
    const before = ownProgram(given);
    await Deno.remove(given.run, { recursive: true });
    assertNotEquals(ownProgram(given), before);
  }));

Deno.test("sweepPrograms() removes the copies of others and keeps its own", () =>
  withProgram(async (given) => {
    await Deno.remove(given.file);
    const copy = ownProgram(given);
    await Deno.mkdir(`${given.state}/program/other`);
    sweepPrograms(given);
    assert((await Deno.stat(copy)).isFile);
    assertEquals(await Deno.stat(`${given.state}/program/other`).catch(() => null), null);
  }));
