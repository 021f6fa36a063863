/**
 * The kernel's watchdog device: resets the host when nobody has written to it for its timeout
 * (`Documentation/watchdog/watchdog-api.rst`).
 *
 * @module
 */

/** An open watchdog. */
export interface OpenWatchdog {
  pat(): void;
  /** `disarm`: the watchdog stops; else it fires unless somebody opens it again in time. */
  close(disarm: boolean): void;
}

/** Arms a watchdog. What cannot be armed is said in words for the operator. */
export function openWatchdog(path: string | null): OpenWatchdog | { readonly warning: string } {
  if (path === null) return { warning: "No watchdog is configured: a host whose kernel hangs is not reset" };
  try {
    const file = Deno.openSync(path, { write: true });
    return {
      pat: () => void file.writeSync(Uint8Array.of(0)),
      close(disarm) {
        if (disarm) file.writeSync(new TextEncoder().encode("V")); // the "magic close"
        file.close();
      },
    };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { warning: `Cannot use watchdog "${path}": ${why}; a host whose kernel hangs is not reset` };
  }
}
