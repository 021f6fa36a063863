/**
 * Memory that outlives the process: a file of `RUN`, which is in memory itself, mapped.
 *
 * @module
 */

import { addressOf } from "./libc.ts";
import { NativeFile } from "./mapped_file.ts";

/** Memory, and where it lies. */
export interface InflightMemory {
  readonly bytes: ArrayBuffer;
  readonly address: number;
}

/**
 * Maps the file, which is made where it is missing; what it holds stays.
 *
 * @throws {DiskFullError} when the file system has no room for it.
 */
export function mapInflight(path: string, length: number): InflightMemory {
  using file = NativeFile.open(path, { create: true });
  file.allocate(0, length);
  // With its pages: a process that is being killed gets none any more, and a request that the kernel could not copy to
  // where it should go is lost to its application.
  const { bytes } = file.map(0, length, { populate: true });
  return { bytes: bytes.buffer, address: addressOf(bytes) };
}
