/**
 * Where a file has data and where it has none.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { SEEK } from "../system/linux.ts";

const ENXIO = 6;

/** Where the first data at or after `from` begins, at most `end`; −errno. */
export function nextData(backing: Backing, fd: number, from: number, end: number): number {
  const data = backing.lseek(fd, from, SEEK.DATA);
  if (data === -ENXIO) return end;
  return data < 0 ? data : Math.min(data, end);
}

/** Where the first hole of `least` bytes or more after `from` begins, at most `end`; −errno. Data past `enough` bytes is not looked at. */
export function dataEnd(
  backing: Backing,
  fd: number,
  range: { readonly from: number; readonly end: number; readonly least: number; readonly enough: number },
): number {
  const { from, end, least, enough } = range;
  for (let at = from; at < end && at - from < enough;) {
    const hole = backing.lseek(fd, at, SEEK.HOLE);
    if (hole < 0) return hole;
    if (hole >= end) return end;
    at = nextData(backing, fd, hole, end);
    if (at < 0) return at;
    if (at - hole >= least || at >= end) return hole;
  }
  return end;
}
