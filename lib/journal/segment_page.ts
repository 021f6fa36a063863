/**
 * The first page of a segment. All numbers little-endian.
 *
 * | offset | size | field         | meaning                                                             |
 * | -----: | ---: | ------------- | ------------------------------------------------------------------- |
 * |      0 |    4 | magic         | `BSG1`                                                              |
 * |      4 |    4 | crc32         | of bytes 8 … 224                                                    |
 * |      8 |    4 | version       | 1                                                                   |
 * |     12 |    4 | bytes         | of the whole file                                                   |
 * |     16 |    8 | index         | the number in the file's name                                       |
 * |     24 |    8 | first         | sequence of the first record                                        |
 * |     32 |   96 | cluster       | UTF-8, padded with zeros                                            |
 * |    128 |   96 | module        | UTF-8, padded with zeros                                            |
 * |    224 |    4 | sealed magic  | `BSL1` once the next segment is in use                              |
 * |    228 |    4 | sealed crc32  | of bytes 232 … 256                                                  |
 * |    232 |    8 | last          | sequence of the last record                                         |
 * |    240 |    8 | used          | end of the last record                                              |
 * |    248 |    8 | payload bytes | held by this segment                                                |
 * |    256 | 3840 | reserved      | 0; not looked at                                                    |
 *
 * @module
 */

import { peekU64 } from "./record.ts";
import type { Checksum } from "./storage.ts";

/** Where a segment's records begin. */
export const SEGMENT_HEADER_BYTES = 4096;

/** The longest cluster or module name, in bytes. */
export const IDENTITY_MAX = 96;

/** `BSG1` read as a little-endian u32. */
export const SEGMENT_MAGIC = 0x31475342;

/** `BSL1` read as a little-endian u32. */
export const SEALED_MAGIC = 0x314c5342;

/** The format this program writes and reads. */
export const SEGMENT_VERSION = 1;

/** Where each field stands, and where the two checked runs end. */
export const AT = {
  magic: 0,
  crc32: 4,
  version: 8,
  bytes: 12,
  index: 16,
  first: 24,
  cluster: 32,
  module: 128,
  headEnd: 224,
  sealedMagic: 224,
  sealedCrc32: 228,
  last: 232,
  used: 240,
  payloadBytes: 248,
  sealedEnd: 256,
} as const;

/** What a sealed segment says of its end. */
export interface Seal {
  /** Sequence of the last record. */
  readonly last: number;
  /** End of the last record. */
  readonly used: number;
  /** Bytes of payload in the segment. */
  readonly payloadBytes: number;
}

/** A first page whose checksum is right. */
export interface SegmentPage {
  /** Of the format. */
  readonly version: number;
  /** Of the whole file. */
  readonly bytes: number;
  /** The number in the file's name. */
  readonly index: number;
  /** Sequence of the first record. */
  readonly first: number;
  /** Whose log it is. */
  readonly cluster: string;
  /** Whose log it is. */
  readonly module: string;
  /** `null`: not sealed. */
  readonly seal: Seal | "damaged" | null;
}

/** Reads a first page, given at least its first 256 bytes. `unused`: no magic, as
 * in a file of zeros; it is stored last. */
export function decodePage(bytes: Uint8Array, crc32: Checksum): SegmentPage | "unused" | "damaged" {
  const view = new DataView(bytes.buffer, bytes.byteOffset, AT.sealedEnd);
  const magic = view.getUint32(AT.magic, true);
  if (magic !== SEGMENT_MAGIC) return magic === 0 ? "unused" : "damaged";
  if (view.getUint32(AT.crc32, true) !== crc32(bytes.subarray(AT.version, AT.headEnd))) return "damaged";
  return {
    version: view.getUint32(AT.version, true),
    bytes: view.getUint32(AT.bytes, true),
    index: peekU64(view, AT.index),
    first: peekU64(view, AT.first),
    cluster: getText(bytes, AT.cluster),
    module: getText(bytes, AT.module),
    seal: decodeSeal(bytes, view, crc32),
  };
}

function decodeSeal(bytes: Uint8Array, view: DataView, crc32: Checksum): SegmentPage["seal"] {
  const magic = view.getUint32(AT.sealedMagic, true);
  if (magic === 0) return null;
  if (magic !== SEALED_MAGIC) return "damaged";
  if (view.getUint32(AT.sealedCrc32, true) !== crc32(bytes.subarray(AT.last, AT.sealedEnd))) return "damaged";
  return {
    last: peekU64(view, AT.last),
    used: peekU64(view, AT.used),
    payloadBytes: peekU64(view, AT.payloadBytes),
  };
}

/** A name of the identity. */
export function getText(bytes: Uint8Array, at: number): string {
  let end = at;
  while (end < at + IDENTITY_MAX && bytes[end] !== 0) end++;
  return new TextDecoder().decode(bytes.subarray(at, end));
}
