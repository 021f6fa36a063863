/** Where state and sockets are, by the environment or by default. */

/**
 * Reads `BINOME_STATE` and `BINOME_RUN`.
 *
 * @throws {Error} when a variable is no absolute path.
 */
export function directories(): { readonly state: string; readonly run: string } {
  return {
    state: read("BINOME_STATE", "/var/lib/binome"),
    run: read("BINOME_RUN", "/run/binome"),
  };
}

function read(name: string, fallback: string): string {
  const path = Deno.env.get(name) || fallback;
  if (!path.startsWith("/")) throw new Error(`Cannot use ${name}=${path}: expected an absolute path`);
  return path.replace(/\/+$/, "");
}
