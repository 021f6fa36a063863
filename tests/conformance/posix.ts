/**
 * Our list of POSIX promises: name → function over any directory. Runs over a plain directory (where the disk's own file
 * system must pass, which tests the checks), and over a mount.
 *
 *   deno run -A tests/conformance/posix.ts DIRECTORY [PART OF A NAME]
 *
 * prints a line for each check and ends with `N passed, N failed`. It needs root, since owners are among the promises.
 * Never run it in the process that serves the mount: {@link runPosix} starts a child with a deadline.
 *
 * @module
 */

import { backing } from "../../lib/system/backing.ts";
import { ATTRIBUTES } from "./posix/attributes.ts";
import { CONTENT } from "./posix/content.ts";
import { EXTREMES } from "./posix/extremes.ts";
import { type Check, type Checks, Ground } from "./posix/ground.ts";
import { LIMITS } from "./posix/limits.ts";
import { NAMES } from "./posix/names.ts";
import { PROGRAMS } from "./posix/programs.ts";

/** All checks by name. */
export const CHECKS: Checks = { ...NAMES, ...CONTENT, ...ATTRIBUTES, ...EXTREMES, ...PROGRAMS, ...LIMITS };

/** How a run over a directory went. */
export interface Outcome {
  /** How many checks passed. */
  readonly passed: number;
  /** The failed ones, as `name: reason`. */
  readonly failed: readonly string[];
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** Runs one check in a directory of its own beneath `root`. */
async function runCheck(root: string, index: number, check: Check): Promise<void> {
  const path = `${root}/check-${index}`;
  await Deno.mkdir(path, { mode: 0o755 });
  try {
    using ground = new Ground(path);
    await check(ground);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

async function main(root: string, part: string): Promise<number> {
  backing.umask(0o022);
  let passed = 0;
  let failed = 0;
  const path = await Deno.makeTempDir({ dir: root, prefix: "posix-" });
  await Deno.chmod(path, 0o755);
  for (const [index, [name, check]] of Object.entries(CHECKS).entries()) {
    if (!name.includes(part)) continue;
    try {
      await runCheck(path, index, check);
      passed++;
      say(`ok      ${name}`);
    } catch (error) {
      failed++;
      const reason = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
      say(`FAILED  ${name}: ${reason}`);
    }
  }
  await Deno.remove(path, { recursive: true }).catch((error) => {
    failed++;
    say(`FAILED  nothing is left behind: ${error}`);
  });
  say(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/**
 * Runs the checks over a directory in a child process.
 *
 * @param deadlineMs after which the child is killed, and that is a failure by itself.
 * @param part only checks whose name has this in it.
 */
export async function runPosix(root: string, deadlineMs: number, part = ""): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", new URL(import.meta.url).pathname, root, part],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(deadlineMs),
  });
  const { code, signal, stdout, stderr } = await child.output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  const failed = lines.filter((line) => line.startsWith("FAILED  ")).map((line) => line.slice(8));
  const passed = lines.filter((line) => line.startsWith("ok      ")).length;
  if (signal !== null) {
    failed.push(
      `stopped after ${deadlineMs} ms, behind: ${lines.findLast((line) => line !== "") ?? "nothing"}`,
    );
  } else if (code !== 0 && failed.length === 0) {
    failed.push(`the checks did not run: ${new TextDecoder().decode(stderr)}`);
  }
  return { passed, failed };
}

if (import.meta.main) {
  const [root, part = ""] = Deno.args;
  if (root === undefined) {
    say("Cannot run the checks: name a directory to run them in");
    Deno.exit(2);
  }
  Deno.exit(await main(root, part));
}
