/**
 * A node's copy whose files are in memory.
 *
 * @module
 */
import { MemoryStorage } from "../../lib/journal/memory_storage.ts";
import { Copy, type CopyOptions } from "../../lib/replication/copy.ts";

/** Opens one, or what was closed, from its storage; of the same boot where nothing else is said. */
export function memoryCopy(
  storage: MemoryStorage = new MemoryStorage(),
  options: Partial<Pick<CopyOptions, "module" | "node" | "bootId" | "excluded">> = {},
): Copy {
  return Copy.open({
    storage,
    cluster: "c",
    module: "m",
    node: "n1",
    bootId: "boot-1",
    logBudgetBytes: 1 << 20,
    ...options,
  });
}
