/**
 * `RUN/boot-id`: random, the same for every process until the power goes. `RUN` is a tmpfs, so a power cut takes it.
 *
 * @module
 */

/** Reads it, or makes it when this is the first process since the boot. */
export function bootId(run: string): string {
  Deno.mkdirSync(run, { recursive: true, mode: 0o700 });
  const path = `${run}/boot-id`;
  const mine = `${path}.${crypto.randomUUID()}`;
  Deno.writeTextFileSync(mine, crypto.randomUUID(), { mode: 0o600 });
  try {
    // link(2) refuses an existing name: of two processes that start at once, one wins and both read the winner's.
    Deno.linkSync(mine, path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  } finally {
    Deno.removeSync(mine);
  }
  return Deno.readTextFileSync(path).trim();
}
