/**
 * Blocks shared by two files (`FICLONERANGE`, ioctl_ficlonerange(2)): kept without being copied, where the file system
 * can do that (XFS, btrfs, bcachefs).
 *
 * @module
 */

import { repeated } from "./certain_errno.ts";
import { errno, openLibrary } from "./libc.ts";

const c = openLibrary("libc.so.6", {
  /** `int ioctl(int fd, unsigned long request, struct file_clone_range *range)` */
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
});

/** `_IOW(0x94, 13, struct file_clone_range)` */
const FICLONERANGE = 0x4020_940dn;

/** `struct file_clone_range`: i64 src_fd · u64 src_offset · u64 src_length · u64 dest_offset */
const range = new DataView(new ArrayBuffer(32));
const rangeBytes = new Uint8Array(range.buffer);

/**
 * Has `to` show the same blocks as `from` in a range; both offsets and the length are whole blocks, but at the end of
 * `from`. Answers 0 or −errno: −EOPNOTSUPP, −EXDEV or −EINVAL where that cannot be.
 */
export const cloneRange: (from: number, to: number, offset: number, length: number) => number = repeated(
  clone,
);

function clone(from: number, to: number, offset: number, length: number): number {
  range.setBigInt64(0, BigInt(from), true);
  range.setBigUint64(8, BigInt(offset), true);
  range.setBigUint64(16, BigInt(length), true);
  range.setBigUint64(24, BigInt(offset), true);
  return c.ioctl(to, FICLONERANGE, rangeBytes) < 0 ? -errno() : 0;
}
