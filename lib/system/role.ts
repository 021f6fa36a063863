/** What every long-running role needs of its process: the directory of sockets, a log, the wish to stop. */

/** A role's surroundings. */
export interface RoleWorld {
  /** One line on standard error, the time before it. */
  readonly log: (line: string) => void;
  /** Aborted by SIGTERM or SIGINT. */
  readonly signal: AbortSignal;
}

/**
 * Makes `RUN` and listens for the signals that end a role.
 *
 * @throws {Error} when `RUN` cannot be made.
 */
export async function openRole(run: string): Promise<RoleWorld> {
  try {
    await Deno.mkdir(run, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`Cannot make ${run}: ${why}; run as root, or set BINOME_RUN`, { cause });
  }
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, () => stop.abort());
  return {
    signal: stop.signal,
    log: (line) => {
      const bytes = new TextEncoder().encode(`${new Date().toISOString()} ${line}\n`);
      try {
        Deno.stderr.writeSync(bytes);
      } catch {
        // Whoever read the log is gone. The role must not end for it, and there is nowhere to say so.
      }
    },
  };
}
