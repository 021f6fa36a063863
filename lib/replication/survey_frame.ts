/**
 * Frames of a survey, with which a comparison begins: the source says by prints what it has, and the target asks only for
 * what it has otherwise.
 *
 * | op     | fields                                  | body                                                                |
 * | ------ | --------------------------------------- | ------------------------------------------------------------------- |
 * | prints | c = cost                                | for each object: id u64 · type u16 · root u16 · print 32 bytes; without the print where `type` has {@link NOTED} |
 * | listed | id, a = {@link LISTED}, c = cost        | the directory's print, with its last frame only · then, for each name: id u64 · name length u16 · name with its NUL |
 *
 * `type` is `mode >> 12`. An object that is noted exists, and is compared in another way. Little-endian.
 *
 * @module
 */

import { setU64, u64 } from "./bytes.ts";
import { HASH_BYTES } from "./hashing.ts";
import { StreamError } from "./stream.ts";

/** Bits of `a` of a frame of names. */
export const LISTED = { begin: 1, end: 2 } as const;
/** Bit of `type`: the object has no print. */
export const NOTED = 0x100;

const HEADER_BYTES = 12;

/** An object as it stands in a frame. */
export interface Said {
  readonly id: number;
  /** Type bits of its mode, `S_IF`. */
  readonly type: number;
  readonly root: number;
  /** Where its print begins; −1: it is noted. */
  readonly print: number;
}

/** Puts an object at `at`; answers where its print belongs, or, when it is noted, where the next object goes. */
export function putSaid(
  view: DataView,
  at: number,
  said: { readonly id: number; readonly type: number; readonly root: number; readonly noted: boolean },
): number {
  setU64(view, at, said.id);
  view.setUint16(at + 8, said.type >>> 12 | (said.noted ? NOTED : 0), true);
  view.setUint16(at + 10, said.root, true);
  return at + HEADER_BYTES;
}

/**
 * Reads the objects between two places.
 *
 * @throws {StreamError} when they do not fit.
 */
export function readSaid(view: DataView, start: number, end: number): Said[] {
  const found: Said[] = [];
  for (let at = start; at < end;) {
    if (at + HEADER_BYTES > end) throw cutOff();
    const word = view.getUint16(at + 8, true);
    const noted = (word & NOTED) !== 0;
    const print = noted ? -1 : at + HEADER_BYTES;
    found.push({ id: u64(view, at), type: (word & 0xf) << 12, root: view.getUint16(at + 10, true), print });
    at += HEADER_BYTES + (noted ? 0 : HASH_BYTES);
    if (at > end) throw cutOff();
  }
  return found;
}

function cutOff(): StreamError {
  return new StreamError("protocol", "Cannot compare prints: the last one is cut off; the channel is closed");
}
