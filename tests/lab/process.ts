/**
 * Runs the machine's own commands for the lab, each with a limit.
 *
 * @module
 */

/** What a command left behind. `code` is 128 + signal when it was killed, as a shell counts. */
export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** True when the limit passed and the command was killed. */
  readonly timedOut: boolean;
}

/** How {@link run} runs a command. */
export interface RunOptions {
  readonly timeoutMs?: number;
  readonly stdin?: string | Uint8Array;
  /** Called when the limit has passed; without it the process itself is killed. */
  readonly onTimeout?: () => void;
}

/** A command of the lab failed; the message carries its last words. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  /** @param what the command, for a person. */
  constructor(what: string, readonly result: ExecResult) {
    const words = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-5).join("\n");
    super(`Cannot run ${what}: ${result.timedOut ? "time limit passed" : `status ${result.code}`}\n${words}`);
  }
}

const DEFAULT_TIMEOUT_MS = 60_000;
/**
 * Limits bound a hang, and nobody waits for one in a test that passes. They are written for a machine such as ours; a shared one
 * may be several times slower for minutes.
 */
export const PATIENCE = 3;

async function feed(stream: WritableStream<Uint8Array>, stdin: string | Uint8Array): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin);
    await writer.close();
  } catch (error) {
    // The command ended without reading all of it: its status tells the story.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Runs a command to its end. A status other than 0 is a result, not an error. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<ExecResult> {
  const child = new Deno.Command(argv[0] ?? "", {
    args: argv.slice(1),
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (options.onTimeout === undefined) child.kill("SIGKILL");
    else options.onTimeout();
  }, (options.timeoutMs ?? DEFAULT_TIMEOUT_MS) * PATIENCE);
  try {
    const fed = options.stdin === undefined ? undefined : feed(child.stdin, options.stdin);
    const output = await child.output();
    await fed;
    const text = new TextDecoder();
    return {
      code: output.code,
      stdout: text.decode(output.stdout),
      stderr: text.decode(output.stderr),
      timedOut,
    };
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a command that must succeed; answers what it printed. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(argv, options);
  if (result.code !== 0 || result.timedOut) throw new CommandError(argv.join(" "), result);
  return result.stdout;
}

/** Asks `done` every few milliseconds until it says yes. Throws after the limit, naming `what`. */
export async function until(
  what: string,
  done: () => boolean | Promise<boolean>,
  options: { readonly timeoutMs?: number; readonly everyMs?: number } = {},
): Promise<void> {
  const limit = (options.timeoutMs ?? DEFAULT_TIMEOUT_MS) * PATIENCE;
  const end = performance.now() + limit;
  while (!await done()) {
    if (performance.now() > end) throw new Error(`Cannot wait longer for ${what}: ${limit} ms have passed`);
    await new Promise((resolve) => setTimeout(resolve, options.everyMs ?? 5));
  }
}
