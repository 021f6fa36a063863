/**
 * Builds the program from a copy of the sources with something changed: a version that does not exist yet, or one with a
 * promise removed.
 *
 * @module
 */
import { run } from "./lab.ts";

/** Text that must occur exactly once in a file, and what stands there instead. */
export interface Replacement {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
const PARTS = ["lib", "main.ts", "deno.json", "deno.lock", "scripts"];
const COMPILE_MS = 600_000;

/**
 * Builds in an empty folder.
 *
 * @returns the program.
 */
export async function build(folder: string, replacements: readonly Replacement[]): Promise<string> {
  await must(["cp", "-a", ...PARTS.map((part) => `${ROOT}/${part}`), folder]);
  await Deno.symlink(`${ROOT}/node_modules`, `${folder}/node_modules`);
  for (const { file, from, to } of replacements) {
    const text = await Deno.readTextFile(`${folder}/${file}`);
    const found = text.split(from).length - 1;
    if (found !== 1) throw new Error(`Cannot build: ${found} times in ${file}, expected once: ${from}`);
    await Deno.writeTextFile(`${folder}/${file}`, text.replace(from, () => to));
  }
  await must([`${folder}/scripts/compile`, "--force"], COMPILE_MS);
  return `${folder}/dist/binome`;
}

/** Runs a command whose failure ends all this. */
async function must(argv: readonly string[], timeoutMs = 60_000): Promise<void> {
  const { code, stdout, stderr, timedOut } = await run(argv, { timeoutMs });
  if (code !== 0 || timedOut) throw new Error(`Cannot run ${argv.join(" ")}:\n${stdout}${stderr}`);
}
