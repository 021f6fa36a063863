/** State files in memory, for tests. */
import type { StateFiles } from "./state_files.ts";

/** {@link StateFiles} over a map, which a test may look into. */
export function memoryFiles(): StateFiles & {
  readonly content: Map<string, { bytes: Uint8Array; mode: number }>;
} {
  const content = new Map<string, { bytes: Uint8Array; mode: number }>();
  return {
    content,
    read: (name) => Promise.resolve(content.get(name)?.bytes ?? null),
    write: (name, bytes, mode) => {
      content.set(name, { bytes: bytes.slice(), mode });
      return Promise.resolve();
    },
    list: (folder) =>
      Promise.resolve(
        [
          ...new Set(
            [...content.keys()].filter((name) => name.startsWith(`${folder}/`))
              .map((name) => name.slice(folder.length + 1).split("/")[0] ?? ""),
          ),
        ].sort(),
      ),
    remove: (name) => {
      content.delete(name);
      return Promise.resolve();
    },
  };
}
