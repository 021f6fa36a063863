/**
 * Where an open object is, for messages.
 *
 * @module
 */

/**
 * The path by which the kernel knows what a descriptor holds. Undefined where it knows none: what was opened by its handle
 * and has not been looked up by a name since.
 */
export function descriptorPath(fd: number): string | undefined {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${fd}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
