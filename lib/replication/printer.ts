/**
 * Prints: one hash for all that an object is on a node, made with as few system calls as there can be. A comparison of
 * everything looks at every object; what its print shows to be equal needs no more than that.
 *
 * Unlike `fingerprint.ts`, whose prints tell links too, a print is of what a frame of the object would bring: names are
 * compared by directory. Objects are opened by their handles, past the table of those in use, several at a time: the disk
 * is asked for the content of all of them before the first is read.
 *
 * The hashed bytes, little-endian: mode u32 · uid u32 · gid u32 · rdev u32 · root u32 · size u64 (0 for what is no regular
 * file) · mtime seconds i64 · nanoseconds u32 · target length u32 · target · then, in the order of their names, for each
 * xattr but our own: name · SHA-256 of its value · then the content of a regular file up to {@link INLINE_BYTES}.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { FileHandle } from "../system/handle.ts";
import { O, S_IF } from "../system/linux.ts";
import { STATX, Statx, STATX_NSEC } from "../system/statx.ts";
import { cbytes, sameBytes, setU64, u64 } from "./bytes.ts";
import { INLINE_BYTES, inOrder } from "./fingerprint.ts";
import { HASH_BYTES, readAll, type Sha256 } from "./hashing.ts";
import { StateKeeper } from "./object_state.ts";
import { ID_XATTR, type Objects } from "./objects.ts";

const ESTALE = 116;
const E2BIG = 7;
const FIXED_BYTES = 44;
/** `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` of the kernel. */
const XATTR_MAX = 65536;
/** Any list of attributes fits, each value as a hash: 64 KiB of names of 6 bytes at least. */
const BYTES_MAX = 1 << 20;
const ID_NAME = cbytes(ID_XATTR);

/** An object that is open for being printed. */
export interface Opened {
  readonly id: number;
  readonly root: number;
  /** Type bits of its mode, `S_IF`. */
  readonly type: number;
  readonly nlink: number;
  readonly ino: number;
  /** Bytes of a regular file, else 0. */
  readonly size: number;
  /** `O_PATH` descriptor. */
  readonly path: number;
  /** Readable descriptor of a regular file or directory, else −1. */
  readonly io: number;
}

/** What {@link Printer} needs. */
export interface PrinterOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly sha256: Sha256;
  readonly addressOf: (bytes: Uint8Array) => number;
}

/** Makes prints. One per thread. */
export class Printer {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #sha256: Sha256;
  readonly #states: StateKeeper;
  readonly #handle = new FileHandle();
  readonly #stat = new Statx();
  readonly #bytes = new Uint8Array(BYTES_MAX);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #address: number;
  readonly #value = new Uint8Array(XATTR_MAX);
  readonly #valueAddress: number;

  constructor(options: PrinterOptions) {
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#sha256 = options.sha256;
    this.#states = new StateKeeper(options.backing, options.addressOf);
    this.#address = options.addressOf(this.#bytes);
    this.#valueAddress = options.addressOf(this.#value);
  }

  /**
   * Opens an object and has its content fetched from the disk, where that is part of its print. Answers −ESTALE for one
   * that is not here, or another −errno.
   *
   * @param suspect what memory has of it is not to be believed.
   */
  open(id: number, suspect = false): Opened | number {
    const root = this.#objects.handleOf(id, this.#handle);
    if (root < 0) return -ESTALE;
    const path = this.#objects.openHandle(root, this.#handle, O.PATH | O.NOFOLLOW);
    if (path < 0) return path;
    const failed = this.#backing.statx(path, this.#stat);
    const { mode, nlink, ino } = this.#stat;
    const type = mode & S_IF.MT;
    const readable = type === S_IF.REG || type === S_IF.DIR;
    const size = type === S_IF.REG ? this.#stat.size : 0;
    // Anything else is never opened: a device may act on it.
    const io = failed < 0 || !readable ? failed : this.#objects.openHandle(root, this.#handle, O.RDONLY);
    const fetched = io >= 0 && readable ? this.#fetch(io, size, suspect) : 0;
    const opened = { id, root, type, nlink, ino, size, path, io: readable ? io : -1 };
    const wrong = failed < 0
      ? failed
      : readable && io < 0
      ? io
      : fetched < 0
      ? fetched
      : this.#checkId(opened);
    if (wrong >= 0) return opened;
    this.close(opened);
    return wrong;
  }

  /** Puts the print of an object at `into`. Answers 0 or −errno; −EIO also when it becomes shorter meanwhile. */
  print(opened: Opened, into: number): number {
    const failed = this.#backing.statx(opened.path, this.#stat);
    if (failed < 0) return failed;
    const at = this.#pack(opened);
    if (at < 0) return at;
    const inline = isSmall(opened) ? opened.size : 0;
    const read = inline === 0 ? 0 : readAll(this.#backing, opened.io, this.#address + at, inline, 0);
    if (read < 0) return read;
    this.#sha256(this.#address, at + inline, into);
    return 0;
  }

  /** Closes its descriptors. */
  close({ path, io }: Opened): void {
    if (io >= 0) this.#backing.close(io);
    this.#backing.close(path);
  }

  #fetch(io: number, size: number, suspect: boolean): number {
    if (size === 0 || size > INLINE_BYTES) return 0;
    if (suspect) {
      const failed = this.#backing.fdatasync(io);
      const dropped = failed < 0 ? failed : this.#backing.dropCache(io);
      if (dropped < 0) return dropped;
    }
    this.#backing.prefetch(io, 0, size);
    return 0;
  }

  /** The map may be wrong, as after a power cut: an object is what it says it is. */
  #checkId({ id, path, io }: Opened): number {
    if (io < 0) return this.#objects.readId(path) === id ? 0 : -ESTALE;
    const length = this.#backing.fgetxattr(io, ID_NAME, this.#valueAddress, XATTR_MAX);
    return length === 8 && u64(new DataView(this.#value.buffer), 0) === id ? 0 : -ESTALE;
  }

  #pack(opened: Opened): number {
    const { view: stat } = this.#stat;
    const view = this.#view;
    const { type } = opened;
    const device = type === S_IF.CHR || type === S_IF.BLK;
    view.setUint32(0, this.#stat.mode, true);
    view.setUint32(4, stat.getUint32(STATX.uid, true), true);
    view.setUint32(8, stat.getUint32(STATX.gid, true), true);
    view.setUint32(12, device ? this.#stat.rdev : 0, true);
    view.setUint32(16, opened.root, true);
    setU64(view, 20, opened.size);
    for (let at = 0; at < STATX_NSEC + 4; at += 4) {
      view.setUint32(28 + at, stat.getUint32(STATX.mtime + at, true), true);
    }
    const target = type === S_IF.LNK ? this.#states.readlink(opened.path) : NOTHING;
    if (typeof target === "number") return target;
    view.setUint32(40, target.length, true);
    this.#bytes.set(target, FIXED_BYTES);
    return this.#packXattrs(opened, FIXED_BYTES + target.length);
  }

  #packXattrs({ path, io }: Opened, start: number): number {
    // Nearly every object has our own attribute and no other.
    if (io >= 0) {
      const length = this.#backing.flistxattr(io, this.#valueAddress, XATTR_MAX);
      if (length < 0) return length;
      if (length === ID_NAME.length && sameBytes(this.#value.subarray(0, length), ID_NAME)) return start;
    }
    const xattrs = this.#states.xattrs(path);
    if (typeof xattrs === "number") return xattrs;
    let at = start;
    for (const { name, value } of inOrder(xattrs)) {
      if (at + name.length + HASH_BYTES + INLINE_BYTES > BYTES_MAX) return -E2BIG;
      this.#bytes.set(name, at);
      at += name.length;
      this.#value.set(value);
      this.#sha256(this.#valueAddress, value.length, this.#address + at);
      at += HASH_BYTES;
    }
    return at;
  }
}

const NOTHING = new Uint8Array(0);

/** Whether the content is part of the print. */
export function isSmall({ type, size }: Opened): boolean {
  return type === S_IF.REG && size <= INLINE_BYTES;
}
