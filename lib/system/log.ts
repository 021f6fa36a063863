/** The log of a long-running role: lines on standard error. */

/** Writes one line. What it says carries its own time. */
export function logLine(line: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
  } catch {
    // Whoever read the log is gone. The role must not end for it, and there is nowhere to say so.
  }
}
