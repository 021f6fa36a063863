/**
 * File handles: what `name_to_handle_at(2)` gives and `open_by_handle_at(2)` takes. A handle names an object of one
 * file system whatever its path, across reboots, until the object is gone (then ESTALE).
 *
 * | offset | size | field        | meaning                                             |
 * |      0 |    4 | handle_bytes | room before the call, length after, at most 128     |
 * |      4 |    4 | handle_type  | the file system's own kind; 0…255                   |
 * |      8 |    n | f_handle     | opaque: for ext4 inode and generation, 8 bytes      |
 *
 * @module
 */

/** `MAX_HANDLE_SZ` of the kernel: no file system has longer handles. */
export const HANDLE_MAX = 128;

/** Offsets within `struct file_handle`. */
export const FILE_HANDLE = { handleBytes: 0, handleType: 4, handle: 8, sizeof: 8 } as const;

/** One file handle, in a buffer that is filled again and again. */
export class FileHandle {
  /** The kernel reads and writes here. */
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(FILE_HANDLE.sizeof + HANDLE_MAX);
  readonly #view: DataView = new DataView(this.buffer.buffer);

  /** The file system's own kind of handle. */
  get type(): number {
    return this.#view.getInt32(FILE_HANDLE.handleType, true);
  }
  /** Length of the opaque part, bytes. */
  get length(): number {
    return this.#view.getUint32(FILE_HANDLE.handleBytes, true);
  }
  /** The opaque part: a view of the buffer, to be copied when kept. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.buffer.subarray(FILE_HANDLE.handle, FILE_HANDLE.handle + Math.min(this.length, HANDLE_MAX));
  }
  /** Tells the kernel how much it may write. Called before each `name_to_handle_at`. */
  makeRoom(): void {
    this.#view.setUint32(FILE_HANDLE.handleBytes, HANDLE_MAX, true);
  }
  /**
   * Takes a handle that was kept elsewhere.
   *
   * @throws {RangeError} when `bytes` is longer than any handle can be.
   */
  set(type: number, bytes: Uint8Array): void {
    if (bytes.length > HANDLE_MAX) {
      throw new RangeError(`Cannot use a file handle: it has ${bytes.length} bytes, more than ${HANDLE_MAX}`);
    }
    this.#view.setUint32(FILE_HANDLE.handleBytes, bytes.length, true);
    this.#view.setInt32(FILE_HANDLE.handleType, type, true);
    this.buffer.set(bytes, FILE_HANDLE.handle);
  }
}
