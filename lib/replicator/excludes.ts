/**
 * What is excluded on a mount that a process takes up from a killed one. The configuration may have another list by then: taken
 * from the other node, which it was forced upon while this one was not heard. It is for the next start, which
 * compares everything; under an application that has files open they would become others.
 *
 * @module
 */

import type { ModuleConfig } from "../config.ts";

/** Patterns by the path of their directory. */
export type Excludes = Readonly<Record<string, readonly string[]>>;

/** What a configuration excludes. */
export function excludesOf({ replicate }: Pick<ModuleConfig, "replicate">): Excludes {
  return Object.fromEntries(replicate.map(({ path, exclude }) => [path, exclude]));
}

/** The configuration with what was excluded when the role began. */
export function withExcludes<T extends Pick<ModuleConfig, "replicate">>(config: T, excludes: Excludes): T {
  const replicate = config.replicate.map((one) => ({ ...one, exclude: excludes[one.path] ?? one.exclude }));
  return { ...config, replicate };
}
