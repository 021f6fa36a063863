/**
 * Layouts of the FUSE kernel protocol, 7.45: for each structure of `include/uapi/linux/fuse.h` one object with the
 * byte offset of each field from the structure's start, and its size as `sizeof`.
 *
 * Byte order is the machine's own; both architectures we build for (x86-64, arm64) are little-endian and lay these
 * structures out alike, since the header pads all of them to 64 bits by hand. A request is {@link IN_HEADER}, then the
 * operation's own `…_IN` structure, then names (each ends with a NUL byte) or data, then extensions
 * (`totalExtlen` counts them in units of 8 bytes). A reply is {@link OUT_HEADER}, then the operation's `…_OUT` or data.
 *
 * Nothing here is remembered: `tests/fixtures/verify_fuse_layout.c` prints `offsetof` of every field from a kernel
 * header, and a test compares. Padding and reserved fields are left out: we write zero into them.
 *
 * @module
 */

/** Protocol version spoken: the header's major number. */
export const KERNEL_VERSION = 7;
/** The newest minor version whose structures are listed here. */
export const KERNEL_MINOR_VERSION = 45;
/** The node id of the root directory. */
export const ROOT_ID = 1;
/** The kernel refuses to read into a smaller buffer than this. */
export const MIN_READ_BUFFER = 8192;
/** Size of `struct fuse_setxattr_in` where `FUSE_SETXATTR_EXT` was not granted: `size` and `flags` only. */
export const COMPAT_SETXATTR_IN_SIZE = 8;
/** Size of `struct fuse_init_out` before 7.5. */
export const COMPAT_INIT_OUT_SIZE = 8;
/** Size of `struct fuse_init_out` before 7.23. */
export const COMPAT_22_INIT_OUT_SIZE = 24;
/** Where the name starts within `struct fuse_dirent`. */
export const NAME_OFFSET = 24;
/** Where the name starts within `struct fuse_direntplus`. */
export const NAME_OFFSET_DIRENTPLUS = 152;

/** Rounds a length up to the 64-bit boundary that records of variable length keep (`FUSE_REC_ALIGN`). */
export function recordAlign(length: number): number {
  return (length + 7) & ~7;
}

/** `struct fuse_in_header` */
export const IN_HEADER = {
  len: 0,
  opcode: 4,
  unique: 8,
  nodeid: 16,
  uid: 24,
  gid: 28,
  pid: 32,
  totalExtlen: 36,
  sizeof: 40,
} as const;

/** `struct fuse_out_header` */
export const OUT_HEADER = { len: 0, error: 4, unique: 8, sizeof: 16 } as const;

/** `struct fuse_init_in` */
export const INIT_IN = { major: 0, minor: 4, maxReadahead: 8, flags: 12, flags2: 16, sizeof: 64 } as const;

/** `struct fuse_init_out` */
export const INIT_OUT = {
  major: 0,
  minor: 4,
  maxReadahead: 8,
  flags: 12,
  maxBackground: 16,
  congestionThreshold: 18,
  maxWrite: 20,
  timeGran: 24,
  maxPages: 28,
  mapAlignment: 30,
  flags2: 32,
  maxStackDepth: 36,
  requestTimeout: 40,
  sizeof: 64,
} as const;

/** `struct fuse_attr` */
export const ATTR = {
  ino: 0,
  size: 8,
  blocks: 16,
  atime: 24,
  mtime: 32,
  ctime: 40,
  atimensec: 48,
  mtimensec: 52,
  ctimensec: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blksize: 80,
  flags: 84,
  sizeof: 88,
} as const;

/** `struct fuse_kstatfs` */
export const KSTATFS = {
  blocks: 0,
  bfree: 8,
  bavail: 16,
  files: 24,
  ffree: 32,
  bsize: 40,
  namelen: 44,
  frsize: 48,
  sizeof: 80,
} as const;

/** `struct fuse_file_lock` */
export const FILE_LOCK = { start: 0, end: 8, type: 16, pid: 20, sizeof: 24 } as const;

/** `struct fuse_entry_out` */
export const ENTRY_OUT = {
  nodeid: 0,
  generation: 8,
  entryValid: 16,
  attrValid: 24,
  entryValidNsec: 32,
  attrValidNsec: 36,
  attr: 40,
  sizeof: 128,
} as const;

/** `struct fuse_attr_out` */
export const ATTR_OUT = { attrValid: 0, attrValidNsec: 8, attr: 16, sizeof: 104 } as const;

/** `struct fuse_getattr_in` */
export const GETATTR_IN = { getattrFlags: 0, fh: 8, sizeof: 16 } as const;

/** `struct fuse_sx_time` */
export const SX_TIME = { tvSec: 0, tvNsec: 8, sizeof: 16 } as const;

/** `struct fuse_statx` */
export const STATX = {
  mask: 0,
  blksize: 4,
  attributes: 8,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  attributesMask: 56,
  atime: 64,
  btime: 80,
  ctime: 96,
  mtime: 112,
  rdevMajor: 128,
  rdevMinor: 132,
  devMajor: 136,
  devMinor: 140,
  sizeof: 256,
} as const;

/** `struct fuse_statx_in` */
export const STATX_IN = { getattrFlags: 0, reserved: 4, fh: 8, sxFlags: 16, sxMask: 20, sizeof: 24 } as const;

/** `struct fuse_statx_out` */
export const STATX_OUT = { attrValid: 0, attrValidNsec: 8, flags: 12, stat: 32, sizeof: 288 } as const;

/** `struct fuse_forget_in` */
export const FORGET_IN = { nlookup: 0, sizeof: 8 } as const;

/** `struct fuse_forget_one` */
export const FORGET_ONE = { nodeid: 0, nlookup: 8, sizeof: 16 } as const;

/** `struct fuse_batch_forget_in` */
export const BATCH_FORGET_IN = { count: 0, sizeof: 8 } as const;

/** `struct fuse_interrupt_in` */
export const INTERRUPT_IN = { unique: 0, sizeof: 8 } as const;

/** `struct fuse_mknod_in` */
export const MKNOD_IN = { mode: 0, rdev: 4, umask: 8, sizeof: 16 } as const;

/** `struct fuse_mkdir_in` */
export const MKDIR_IN = { mode: 0, umask: 4, sizeof: 8 } as const;

/** `struct fuse_rename_in` */
export const RENAME_IN = { newdir: 0, sizeof: 8 } as const;

/** `struct fuse_rename2_in` */
export const RENAME2_IN = { newdir: 0, flags: 8, sizeof: 16 } as const;

/** `struct fuse_link_in` */
export const LINK_IN = { oldnodeid: 0, sizeof: 8 } as const;

/** `struct fuse_setattr_in` */
export const SETATTR_IN = {
  valid: 0,
  fh: 8,
  size: 16,
  lockOwner: 24,
  atime: 32,
  mtime: 40,
  ctime: 48,
  atimensec: 56,
  mtimensec: 60,
  ctimensec: 64,
  mode: 68,
  uid: 76,
  gid: 80,
  sizeof: 88,
} as const;

/** `struct fuse_open_in` */
export const OPEN_IN = { flags: 0, openFlags: 4, sizeof: 8 } as const;

/** `struct fuse_create_in` */
export const CREATE_IN = { flags: 0, mode: 4, umask: 8, openFlags: 12, sizeof: 16 } as const;

/** `struct fuse_open_out` */
export const OPEN_OUT = { fh: 0, openFlags: 8, backingId: 12, sizeof: 16 } as const;

/** `struct fuse_read_in` */
export const READ_IN = {
  fh: 0,
  offset: 8,
  size: 16,
  readFlags: 20,
  lockOwner: 24,
  flags: 32,
  sizeof: 40,
} as const;

/** `struct fuse_write_in` */
export const WRITE_IN = {
  fh: 0,
  offset: 8,
  size: 16,
  writeFlags: 20,
  lockOwner: 24,
  flags: 32,
  sizeof: 40,
} as const;

/** `struct fuse_write_out` */
export const WRITE_OUT = { size: 0, sizeof: 8 } as const;

/** `struct fuse_release_in` */
export const RELEASE_IN = { fh: 0, flags: 8, releaseFlags: 12, lockOwner: 16, sizeof: 24 } as const;

/** `struct fuse_flush_in` */
export const FLUSH_IN = { fh: 0, lockOwner: 16, sizeof: 24 } as const;

/** `struct fuse_fsync_in` */
export const FSYNC_IN = { fh: 0, fsyncFlags: 8, sizeof: 16 } as const;

/** `struct fuse_setxattr_in` */
export const SETXATTR_IN = { size: 0, flags: 4, setxattrFlags: 8, sizeof: 16 } as const;

/** `struct fuse_getxattr_in` */
export const GETXATTR_IN = { size: 0, sizeof: 8 } as const;

/** `struct fuse_getxattr_out` */
export const GETXATTR_OUT = { size: 0, sizeof: 8 } as const;

/** `struct fuse_lk_in` */
export const LK_IN = { fh: 0, owner: 8, lk: 16, lkFlags: 40, sizeof: 48 } as const;

/** `struct fuse_lk_out` */
export const LK_OUT = { lk: 0, sizeof: 24 } as const;

/** `struct fuse_access_in` */
export const ACCESS_IN = { mask: 0, sizeof: 8 } as const;

/** `struct fuse_fallocate_in` */
export const FALLOCATE_IN = { fh: 0, offset: 8, length: 16, mode: 24, sizeof: 32 } as const;

/** `struct fuse_lseek_in` */
export const LSEEK_IN = { fh: 0, offset: 8, whence: 16, sizeof: 24 } as const;

/** `struct fuse_lseek_out` */
export const LSEEK_OUT = { offset: 0, sizeof: 8 } as const;

/** `struct fuse_copy_file_range_in` */
export const COPY_FILE_RANGE_IN = {
  fhIn: 0,
  offIn: 8,
  nodeidOut: 16,
  fhOut: 24,
  offOut: 32,
  len: 40,
  flags: 48,
  sizeof: 56,
} as const;

/** `struct fuse_copy_file_range_out` */
export const COPY_FILE_RANGE_OUT = { bytesCopied: 0, sizeof: 8 } as const;

/** `struct fuse_ioctl_in` */
export const IOCTL_IN = { fh: 0, flags: 8, cmd: 12, arg: 16, inSize: 24, outSize: 28, sizeof: 32 } as const;

/** `struct fuse_ioctl_iovec` */
export const IOCTL_IOVEC = { base: 0, len: 8, sizeof: 16 } as const;

/** `struct fuse_ioctl_out` */
export const IOCTL_OUT = { result: 0, flags: 4, inIovs: 8, outIovs: 12, sizeof: 16 } as const;

/** `struct fuse_poll_in` */
export const POLL_IN = { fh: 0, kh: 8, flags: 16, events: 20, sizeof: 24 } as const;

/** `struct fuse_poll_out` */
export const POLL_OUT = { revents: 0, sizeof: 8 } as const;

/** `struct fuse_dirent` */
export const DIRENT = { ino: 0, off: 8, namelen: 16, type: 20, name: 24, sizeof: 24 } as const;

/** `struct fuse_direntplus` */
export const DIRENTPLUS = { entryOut: 0, dirent: 128, sizeof: 152 } as const;

/** `struct fuse_notify_poll_wakeup_out` */
export const NOTIFY_POLL_WAKEUP_OUT = { kh: 0, sizeof: 8 } as const;

/** `struct fuse_notify_inval_inode_out` */
export const NOTIFY_INVAL_INODE_OUT = { ino: 0, off: 8, len: 16, sizeof: 24 } as const;

/** `struct fuse_notify_inval_entry_out` */
export const NOTIFY_INVAL_ENTRY_OUT = { parent: 0, namelen: 8, flags: 12, sizeof: 16 } as const;

/** `struct fuse_notify_delete_out` */
export const NOTIFY_DELETE_OUT = { parent: 0, child: 8, namelen: 16, sizeof: 24 } as const;

/** `struct fuse_notify_store_out` */
export const NOTIFY_STORE_OUT = { nodeid: 0, offset: 8, size: 16, sizeof: 24 } as const;

/** `struct fuse_notify_retrieve_out` */
export const NOTIFY_RETRIEVE_OUT = { notifyUnique: 0, nodeid: 8, offset: 16, size: 24, sizeof: 32 } as const;

/** `struct fuse_notify_retrieve_in` */
export const NOTIFY_RETRIEVE_IN = { offset: 8, size: 16, sizeof: 40 } as const;

/** `struct fuse_notify_prune_out` */
export const NOTIFY_PRUNE_OUT = { count: 0, sizeof: 16 } as const;

/** `struct fuse_syncfs_in` */
export const SYNCFS_IN = { sizeof: 8 } as const;

/** `struct fuse_secctx` */
export const SECCTX = { size: 0, sizeof: 8 } as const;

/** `struct fuse_secctx_header` */
export const SECCTX_HEADER = { size: 0, nrSecctx: 4, sizeof: 8 } as const;

/** `struct fuse_ext_header` */
export const EXT_HEADER = { size: 0, type: 4, sizeof: 8 } as const;

/** `struct fuse_supp_groups` */
export const SUPP_GROUPS = { nrGroups: 0, groups: 4, sizeof: 4 } as const;
