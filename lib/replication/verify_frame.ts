/**
 * Frames of a verification: the primary says what it has, the secondary, which is a member and stays one, looks whether it
 * has the same at that place in the stream.
 *
 * | op          | fields                                  | body                                                    |
 * | ----------- | --------------------------------------- | ------------------------------------------------------- |
 * | fingerprints|                                         | id u64 · fingerprint 32 bytes, for each object          |
 * | blocks      | id, a = offset, b = size, c = length    | a hash for each block                                   |
 * | expected    |                                         | id u64 · block u32 · 0 u32 · hash 32 bytes              |
 * | names       | id, a = {@link NAMES}                   | id u64 · name length u16 · name with its NUL, for each  |
 * | detail      | id                                      | an object frame; its content is the hash of the content |
 * | verified    |                                         | {@link Verified} as JSON: all was said                  |
 *
 * A hash of zeros stands for what the primary's disk does not give.
 *
 * `expected` names what of the next frame is not what this disk was given: the hash that both nodes had, as a witness says.
 * A block of it is answered by {@link ACK.good} once the next frame was worked off.
 *
 * @module
 */

import type { Verified } from "../journal/meta.ts";
import { setU64, u64 } from "./bytes.ts";
import { HASH_BYTES } from "./hashing.ts";
import { StreamError } from "./stream.ts";
import { WITNESS_BYTES } from "./witness.ts";

/** Bits of `a` of a frame of names. */
export const NAMES = { begin: 1, end: 2 } as const;

/** Bytes of one object in a frame of fingerprints. */
export const FINGERPRINT_BYTES: number = 8 + HASH_BYTES;

const NAME_HEADER = 10;

/** Something the secondary has otherwise than the primary, as the secondary reports it. */
export interface Difference {
  readonly id: number;
  /** What differs: "content", "mode", "name" and so on. */
  readonly what: string;
  /** Of content: first byte and number of bytes. */
  readonly offset: number;
  readonly length: number;
  /** What each has, in words or as a hash. */
  readonly primary: string;
  readonly secondary: string;
  /** Nobody changed it on the secondary: its disk did not keep what it was given. */
  readonly rotten?: boolean;
}

/** What a block, or {@link WHOLE} small file, was when both nodes were equal. */
export interface Expected {
  readonly id: number;
  readonly block: number;
  readonly hash: Uint8Array;
}

/** Bytes of one entry in a frame of what is expected. */
export const EXPECTED_BYTES: number = 16 + WITNESS_BYTES;

/** Whether zeros are in the place of a hash: the primary's disk does not give what it would be of, and only `expected` says what it was. */
export function isUnread(hash: Uint8Array): boolean {
  return hash.every((byte) => byte === 0);
}

/** A name in a directory and the object it leads to. */
export interface NamedId {
  readonly id: number;
  /** Ends with NUL. */
  readonly name: Uint8Array;
}

/** Puts a name at `at`; answers where the next one goes. */
export function putName(body: Uint8Array, view: DataView, at: number, { id, name }: NamedId): number {
  setU64(view, at, id);
  view.setUint16(at + 8, name.length, true);
  body.set(name, at + NAME_HEADER);
  return at + NAME_HEADER + name.length;
}

/** Reads the names between two places. */
export function readNames(bytes: Uint8Array, view: DataView, start: number, end: number): NamedId[] {
  const found: NamedId[] = [];
  for (let at = start; at < end;) {
    const next = at + NAME_HEADER <= end ? at + NAME_HEADER + view.getUint16(at + 8, true) : Infinity;
    if (next > end || next === at + NAME_HEADER) {
      throw new StreamError("protocol", "Cannot read names to compare: they do not fit into their frame");
    }
    found.push({ id: u64(view, at), name: bytes.slice(at + NAME_HEADER, next) });
    at = next;
  }
  return found;
}

/** Puts what is expected into a body; answers its length. */
export function putExpected(body: Uint8Array, view: DataView, expected: readonly Expected[]): number {
  expected.forEach(({ id, block, hash }, index) => {
    const at = index * EXPECTED_BYTES;
    setU64(view, at, id);
    setU64(view, at + 8, block);
    body.set(hash.subarray(0, WITNESS_BYTES), at + 16);
  });
  return expected.length * EXPECTED_BYTES;
}

/** Reads what is expected between two places. */
export function readExpected(bytes: Uint8Array, view: DataView, start: number, end: number): Expected[] {
  if ((end - start) % EXPECTED_BYTES !== 0) {
    throw new StreamError(
      "protocol",
      `Cannot read what is expected: ${end - start} bytes are no whole number`,
    );
  }
  const found: Expected[] = [];
  for (let at = start; at < end; at += EXPECTED_BYTES) {
    found.push({
      id: u64(view, at),
      block: u64(view, at + 8),
      hash: bytes.slice(at + 16, at + EXPECTED_BYTES),
    });
  }
  return found;
}

/** Reads what {@link Difference} says; the other node wrote it. */
export function readDifference(text: string): Difference {
  const of = JSON.parse(text) as Partial<Record<keyof Difference, unknown>>;
  const count = (value: unknown): number => Number.isSafeInteger(value) ? Math.max(0, value as number) : 0;
  const short = (value: unknown): string => String(value ?? "").slice(0, 512);
  return {
    id: count(of.id),
    what: short(of.what),
    offset: count(of.offset),
    length: count(of.length),
    primary: short(of.primary),
    secondary: short(of.secondary),
    rotten: of.rotten === true,
  };
}

/** Reads the body of the last frame. */
export function readVerified(text: string): Verified {
  const of = JSON.parse(text) as Partial<Record<keyof Verified, unknown>>;
  const count = (value: unknown): number => {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    throw new StreamError("protocol", "Cannot read the result of a verification: a field is no count");
  };
  return {
    at: count(of.at),
    objects: count(of.objects),
    bytes: count(of.bytes),
    differences: count(of.differences),
    rotten: count(of.rotten ?? 0),
    mended: count(of.mended ?? 0),
  };
}
