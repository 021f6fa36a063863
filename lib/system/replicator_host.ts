/**
 * What the replicator's main thread asks of the host: small files, its own number, and a flush of its own mount by
 * somebody else.
 *
 * @module
 */

/** This process. */
export const pid: number = Deno.pid;

/** What the process was started with under a name. */
export function environment(name: string): string | undefined {
  return Deno.env.get(name);
}

/** The content of a file, or null when there is none. */
export function readText(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** The content of a file as bytes. */
export function readBytes(path: string): Uint8Array<ArrayBuffer> {
  return Deno.readFileSync(path);
}

/** Replaces a file on a tmpfs at once: a process that is killed leaves the old or the new. */
export function replaceText(path: string, text: string): void {
  Deno.writeTextFileSync(`${path}.tmp`, text, { mode: 0o600 });
  Deno.renameSync(`${path}.tmp`, path);
}

/**
 * Has the kernel write out what applications changed through `mmap`, as `sync -f` (coreutils) in a process of its own: a
 * process that serves a mount must not touch it.
 *
 * @returns whether it succeeded within the time.
 */
export async function flushMount(path: string, timeoutMs: number): Promise<boolean> {
  const child = new Deno.Command("sync", {
    args: ["-f", path],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  try {
    return (await child.status).success;
  } finally {
    clearTimeout(timer);
  }
}

/** Waits. */
export function delay(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, milliseconds);
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Writes a line of log: standard error is a file the keeper keeps. */
export function logLine(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${new Date().toISOString()} ${text}\n`));
}

/** Ends the process. */
export function exit(code: number): never {
  Deno.exit(code);
}
