/**
 * Logs for tests: golden ones put together, and a disk in memory as one who only looks sees it.
 *
 * @module
 */

import type { LogFile, LogFolder } from "../inspect.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { segmentName } from "../segment.ts";
import { GOLDEN_BYTES } from "./log_v1.ts";

/** The bytes that rows of `log_v1.ts` tell. */
export function goldenBytes(rows: readonly string[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(GOLDEN_BYTES);
  for (const row of rows) {
    const [offset = "", hex = ""] = row.split(" ");
    bytes.set(Uint8Array.fromHex(hex), parseInt(offset, 16));
  }
  return bytes;
}

/** A disk with these segments, numbered from 0. */
export function goldenStorage(...segments: readonly (readonly string[])[]): MemoryStorage {
  const storage = new MemoryStorage();
  for (const [index, rows] of segments.entries()) {
    storage.writeAtomic(segmentName(index), goldenBytes(rows));
  }
  return storage;
}

/** The same files, for reading only, as they are now and later. */
export function folderOf(storage: MemoryStorage): LogFolder {
  return {
    list: () => storage.list(),
    open: (name) => storage.size(name) === null ? null : fileOf(() => storage.readAll(name)),
  };
}

/** Segments numbered from 0, for reading only. */
export function folderWith(...segments: readonly Uint8Array[]): LogFolder {
  const files = new Map(segments.map((bytes, index) => [segmentName(index), bytes]));
  return {
    list: () => [...files.keys()],
    open: (name) => files.has(name) ? fileOf(() => files.get(name) ?? null) : null,
  };
}

function fileOf(content: () => Uint8Array | null): LogFile {
  return {
    size: content()?.length ?? 0,
    read: (at, into) => {
      const bytes = content()?.subarray(at, at + into.length) ?? new Uint8Array(0);
      into.set(bytes);
      return bytes.length;
    },
    close: () => {},
  };
}
