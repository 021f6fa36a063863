/**
 * Copies what a disk still gives of a range of a file.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import type { Range } from "./content_target.ts";

const EIO = 5;
/** What a disk loses is told page by page: all around it can be read. */
const PAGE_BYTES = 4096;

/** What came of {@link salvage}: what the disk does not give, or what was refused. */
export type Salvaged =
  | { readonly lost: readonly Range[] }
  | { readonly refused: "read" | "write"; readonly result: number };

/**
 * Copies a range, as far as the file reaches. What cannot be read (EIO) is left out in the copy, and answered as a part of the source.
 *
 * @param buffer memory to copy by.
 */
export function salvage(
  backing: Backing,
  from: { readonly fd: number; readonly at: number },
  to: { readonly fd: number; readonly at: number },
  length: number,
  buffer: { readonly address: number; readonly length: number },
): Salvaged {
  const lost: { offset: number; length: number }[] = [];
  /** Up to here pages are read one by one. */
  let narrow = 0;
  for (let done = 0; done < length;) {
    const at = from.at + done;
    const most = at < narrow ? PAGE_BYTES - at % PAGE_BYTES : buffer.length;
    const count = Math.min(most, length - done);
    const got = backing.pread(from.fd, buffer.address, count, at);
    if (got === -EIO && at >= narrow) {
      narrow = at + count;
      continue;
    }
    if (got === -EIO) {
      const last = lost.at(-1);
      if (last !== undefined && last.offset + last.length === at) last.length += count;
      else lost.push({ offset: at, length: count });
      done += count;
      continue;
    }
    if (got < 0) return { refused: "read", result: got };
    if (got === 0) break;
    for (let put = 0; put < got;) {
      const written = backing.pwrite(to.fd, buffer.address + put, got - put, to.at + done + put);
      if (written <= 0) return { refused: "write", result: written === 0 ? -EIO : written };
      put += written;
    }
    done += got;
  }
  return { lost };
}
