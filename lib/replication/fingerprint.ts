/**
 * One hash for all that an object is, apart from the content of large files and the names in directories: equal on both
 * nodes when the object is.
 *
 * The hashed bytes, little-endian: mode u32 · uid u32 · gid u32 · rdev u32 · nlink u32 (0 for a directory: file systems
 * count differently) · root u32 · size u64 · mtime i64 · target length u32 · target · then, in the order of their names,
 * name · SHA-256 of the value for each xattr · then the content of a regular file up to {@link INLINE_BYTES}.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { S_IF } from "../system/linux.ts";
import { setU64 } from "./bytes.ts";
import { HASH_BYTES, readAll, type Sha256 } from "./hashing.ts";
import { nameKey } from "./limbo.ts";
import { type ObjectState, StateKeeper, type Xattr } from "./object_state.ts";
import type { Held, Objects } from "./objects.ts";

/** Content up to here is part of an object's fingerprint; that of larger files is compared block by block. */
export const INLINE_BYTES: number = 16 * 1024;

const FIXED_BYTES = 44;
/** `XATTR_SIZE_MAX` of the kernel. */
const VALUE_MAX = 65536;
/** A list of attributes has 64 KiB at most (`XATTR_LIST_MAX`), the shortest name 6 bytes: so much fits any of them. */
const BYTES_MAX = 1 << 20;
const E2BIG = 7;

/** What {@link Fingerprinter} needs. */
export interface FingerprinterOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
}

/** Makes fingerprints. One per thread. */
export class Fingerprinter {
  readonly #options: FingerprinterOptions;
  readonly #states: StateKeeper;
  readonly #bytes = new Uint8Array(BYTES_MAX);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #address: number;
  readonly #value = new Uint8Array(VALUE_MAX);
  readonly #valueAddress: number;

  constructor(options: FingerprinterOptions) {
    this.#options = options;
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#address = options.addressOf(this.#bytes);
    this.#valueAddress = options.addressOf(this.#value);
  }

  /** What the object is now, or −errno. */
  state(held: Held): ObjectState | number {
    return this.#states.read(held);
  }

  /** Puts the fingerprint of an object in `state` at `into`. Answers 0 or −errno. */
  take(held: Held, state: ObjectState, into: number): number {
    const at = this.#pack(state);
    if (at < 0) return at;
    const inline = isInline(state) ? state.size : 0;
    const failed = this.#content(held, inline, this.#address + at);
    if (failed < 0) return failed;
    this.#options.sha256(this.#address, at + inline, into);
    return 0;
  }

  /** As {@link take}, had the object this content. Answers 0 or −errno. */
  takeWith(state: ObjectState, content: Uint8Array, into: number): number {
    const at = this.#pack(state);
    if (at < 0) return at;
    this.#bytes.set(content, at);
    this.#options.sha256(this.#address, at + content.length, into);
    return 0;
  }

  /** The hash of the content of a small file, at `into`. Answers 0 or −errno. */
  content(held: Held, state: ObjectState, into: number): number {
    const failed = this.#content(held, state.size, this.#address);
    if (failed < 0) return failed;
    this.#options.sha256(this.#address, state.size, into);
    return 0;
  }

  #content(held: Held, size: number, into: number): number {
    if (size === 0) return 0;
    const fd = this.#options.objects.io(held);
    return fd < 0 ? fd : readAll(this.#options.backing, fd, into, size, 0);
  }

  #pack(state: ObjectState): number {
    const view = this.#view;
    const directory = (state.mode & S_IF.MT) === S_IF.DIR;
    const words = [state.mode, state.uid, state.gid, state.rdev, directory ? 0 : state.nlink, state.root];
    words.forEach((word, index) => view.setUint32(index * 4, word, true));
    setU64(view, 24, state.size);
    view.setBigInt64(32, state.mtime, true);
    view.setUint32(40, state.target.length, true);
    this.#bytes.set(state.target, FIXED_BYTES);
    let at = FIXED_BYTES + state.target.length;
    for (const { name, value } of inOrder(state.xattrs)) {
      if (at + name.length + HASH_BYTES + INLINE_BYTES > BYTES_MAX) return -E2BIG;
      this.#bytes.set(name, at);
      at += name.length;
      this.#value.set(value);
      this.#options.sha256(this.#valueAddress, value.length, this.#address + at);
      at += HASH_BYTES;
    }
    return at;
  }
}

/** Whether an object's content is part of its fingerprint. */
export function isInline(state: ObjectState): boolean {
  return (state.mode & S_IF.MT) === S_IF.REG && state.size <= INLINE_BYTES;
}

/** File systems list them in orders of their own. */
export function inOrder(xattrs: readonly Xattr[]): readonly Xattr[] {
  if (xattrs.length < 2) return xattrs;
  const key = ({ name }: Xattr): string => nameKey(name);
  return xattrs.toSorted((a, b) => key(a) < key(b) ? -1 : 1);
}
