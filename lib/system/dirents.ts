/**
 * Directory entries as `getdents64(2)` gives them, walked in place.
 *
 * | offset | size | field    | meaning                                                             |
 * |      0 |    8 | d_ino    | inode of the backing file system                                    |
 * |      8 |    8 | d_off    | where to continue after this entry: opaque, ext4 uses all 63 bits   |
 * |     16 |    2 | d_reclen | length of this record, NUL and padding included                     |
 * |     18 |    1 | d_type   | `DT_…`, or 0 where the file system does not say                     |
 * |     19 |    n | d_name   | any bytes but "/" and NUL; ends with NUL                            |
 *
 * @module
 */

/** Offsets within `struct linux_dirent64`. */
export const DIRENT64 = { ino: 0, off: 8, reclen: 16, type: 18, name: 19 } as const;

/** Values of `d_type`: the file type bits of the mode, shifted right by 12. */
export const DT = { UNKNOWN: 0, FIFO: 1, CHR: 2, DIR: 4, BLK: 6, REG: 8, LNK: 10, SOCK: 12 } as const;

/**
 * A buffer of entries and a place in it. `Backing.getdents` fills it; then `while (entries.next()) …` walks it.
 */
export class Dirents {
  /** The kernel writes here. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  #used = 0;
  #at = 0;
  #following = 0;

  /** A buffer of `size` bytes, at least 280: one record with the longest name. */
  constructor(size = 32768) {
    if (size < 280) {
      throw new RangeError(`Cannot read directories into ${size} bytes: one entry may need 280`);
    }
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Says how many bytes the kernel has written; the place is before the first entry. */
  filled(used: number): void {
    this.#used = used;
    this.#following = 0;
  }

  /** Steps to the next entry; false after the last. */
  next(): boolean {
    if (this.#following >= this.#used) return false;
    this.#at = this.#following;
    this.#following += this.#view.getUint16(this.#at + DIRENT64.reclen, true);
    return true;
  }

  /** Inode number within the backing file system. */
  get ino(): number {
    return this.#view.getUint32(this.#at, true) + this.#view.getUint32(this.#at + 4, true) * 0x1_0000_0000;
  }
  /** Where to continue after this entry. Opaque: only `Backing.seekdir` understands it. */
  get off(): bigint {
    return this.#view.getBigInt64(this.#at + DIRENT64.off, true);
  }
  /** Lower half of {@link off}, for those who copy it. */
  get offLow(): number {
    return this.#view.getUint32(this.#at + DIRENT64.off, true);
  }
  /** Upper half of {@link off}. */
  get offHigh(): number {
    return this.#view.getUint32(this.#at + DIRENT64.off + 4, true);
  }
  /** `DT_…`. */
  get type(): number {
    return this.#view.getUint8(this.#at + DIRENT64.type);
  }
  /** Where the name starts in {@link bytes}. */
  get nameAt(): number {
    return this.#at + DIRENT64.name;
  }
  /** Length of the name, without its NUL. */
  get nameLength(): number {
    return this.bytes.indexOf(0, this.nameAt) - this.nameAt;
  }
  /** The name: a view of {@link bytes}, to be copied when kept. */
  get name(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(this.nameAt, this.nameAt + this.nameLength);
  }
  /** True for "." and "..", which every directory has. */
  get isDot(): boolean {
    const at = this.nameAt;
    if (this.bytes[at] !== 0x2e) return false;
    return this.bytes[at + 1] === 0 || (this.bytes[at + 1] === 0x2e && this.bytes[at + 2] === 0);
  }
}
