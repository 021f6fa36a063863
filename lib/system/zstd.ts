/**
 * zstd by the system's libzstd, with contexts that live as long as a role; where it is missing, what came is unpacked by
 * node:zlib, slowly, and nothing is packed.
 *
 * @module
 */

import { zstdDecompressSync } from "node:zlib";
import type { Codec } from "../replication/packing.ts";
import { openLibrary, type Symbols } from "./libc.ts";

const SYMBOLS = {
  /** `ZSTD_CCtx *ZSTD_createCCtx(void)` */
  ZSTD_createCCtx: { parameters: [], result: "usize" },
  /** `ZSTD_DCtx *ZSTD_createDCtx(void)` */
  ZSTD_createDCtx: { parameters: [], result: "usize" },
  /** `size_t ZSTD_freeCCtx(ZSTD_CCtx *)`, for NULL too */
  ZSTD_freeCCtx: { parameters: ["usize"], result: "usize" },
  /** `size_t ZSTD_freeDCtx(ZSTD_DCtx *)`, for NULL too */
  ZSTD_freeDCtx: { parameters: ["usize"], result: "usize" },
  /** `size_t ZSTD_compressCCtx(ZSTD_CCtx *, void *dst, size_t capacity, const void *src, size_t size, int level)` */
  ZSTD_compressCCtx: { parameters: ["usize", "buffer", "usize", "buffer", "usize", "i32"], result: "usize" },
  /** `size_t ZSTD_decompressDCtx(ZSTD_DCtx *, void *dst, size_t capacity, const void *src, size_t size)` */
  ZSTD_decompressDCtx: { parameters: ["usize", "buffer", "usize", "buffer", "usize"], result: "usize" },
  /** `unsigned ZSTD_isError(size_t code)` */
  ZSTD_isError: { parameters: ["usize"], result: "u32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** 300 MB/s for 256 KiB, half as much again as level 3, for a twentieth more bytes. */
const LEVEL = 1;

const NAME = "libzstd.so.1";
/** Opened while the program is loaded, which is when nobody waits: it takes 2 ms, and a role begins with applications waiting. */
const SYSTEM = open(NAME);

/** One for each role, which closes it. */
export class Zstd implements Codec {
  readonly #library: Symbols<typeof SYMBOLS> | null;
  // Made when first needed: a megabyte each, and most threads never do.
  #packing = 0n;
  #unpacking = 0n;

  /** @param library another one, or null: none, for tests. */
  constructor(library: string | null = NAME) {
    this.#library = library === NAME ? SYSTEM : library === null ? null : open(library);
  }

  get packs(): boolean {
    return this.#library !== null;
  }

  pack(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): number {
    const library = this.#library;
    if (library === null) return -1;
    if (this.#packing === 0n) this.#packing = BigInt(library.ZSTD_createCCtx());
    // No memory: libzstd would look into a context that is not there.
    if (this.#packing === 0n) return -1;
    const room = BigInt(into.length);
    const size = BigInt(from.length);
    const length = library.ZSTD_compressCCtx(this.#packing, into, room, from, size, LEVEL);
    return library.ZSTD_isError(length) === 0 ? Number(length) : -1;
  }

  unpack(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): number {
    const library = this.#library;
    if (library === null) return unpackSlowly(from, into);
    if (this.#unpacking === 0n) this.#unpacking = BigInt(library.ZSTD_createDCtx());
    if (this.#unpacking === 0n) return unpackSlowly(from, into);
    const room = BigInt(into.length);
    const size = BigInt(from.length);
    const length = library.ZSTD_decompressDCtx(this.#unpacking, into, room, from, size);
    return library.ZSTD_isError(length) === 0 ? Number(length) : -1;
  }

  /** Gives its memory back; what is packed or unpacked afterwards takes new. */
  close(): void {
    this.#library?.ZSTD_freeCCtx(this.#packing);
    this.#library?.ZSTD_freeDCtx(this.#unpacking);
    this.#packing = this.#unpacking = 0n;
  }
}

function unpackSlowly(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): number {
  let bytes: Uint8Array;
  try {
    bytes = zstdDecompressSync(from, { maxOutputLength: into.length });
  } catch {
    // Damaged, or more than there is room for: the caller says which frame it was.
    return -1;
  }
  into.set(bytes);
  return bytes.length;
}

function open(library: string): Symbols<typeof SYMBOLS> | null {
  try {
    return openLibrary(library, SYMBOLS);
  } catch {
    return null;
  }
}
