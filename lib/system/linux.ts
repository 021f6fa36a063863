/**
 * Linux numbers of the file system calls, and their differences between the two architectures we build for.
 *
 * @module
 */

const arm64 = Deno.build.arch === "aarch64";

/**
 * Flags of `openat(2)`. Four of them have other values on arm64 (`arch/arm64/include/uapi/asm/fcntl.h`), also within
 * FUSE requests, which carry the application's own flags.
 */
export const O = {
  RDONLY: 0,
  WRONLY: 0o1,
  RDWR: 0o2,
  ACCMODE: 0o3,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  DIRECT: arm64 ? 0o200000 : 0o40000,
  LARGEFILE: arm64 ? 0o400000 : 0o100000,
  DIRECTORY: arm64 ? 0o40000 : 0o200000,
  NOFOLLOW: arm64 ? 0o100000 : 0o400000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  SYNC: 0o4010000,
  PATH: 0o10000000,
  TMPFILE: 0o20000000 | (arm64 ? 0o40000 : 0o200000),
} as const;

/** Flags of the `…at` calls, and {@link AT.FDCWD}. */
export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  EMPTY_PATH: 0x1000,
  STATX_DONT_SYNC: 0x4000,
} as const;

/** File types within a mode. `S_IF.MT` is the mask. */
export const S_IF = {
  MT: 0o170000,
  SOCK: 0o140000,
  LNK: 0o120000,
  REG: 0o100000,
  BLK: 0o060000,
  DIR: 0o040000,
  CHR: 0o020000,
  IFO: 0o010000,
} as const;

/** Mode bits beyond the permissions. */
export const S_IS = { UID: 0o4000, GID: 0o2000, VTX: 0o1000 } as const;

/** Flags of `renameat2(2)`. */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

/** Modes of `fallocate(2)`. */
export const FALLOC = {
  KEEP_SIZE: 0x01,
  PUNCH_HOLE: 0x02,
  COLLAPSE_RANGE: 0x08,
  ZERO_RANGE: 0x10,
  INSERT_RANGE: 0x20,
  UNSHARE_RANGE: 0x40,
} as const;

/** `whence` of `lseek(2)`. */
export const SEEK = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;

/** Nanosecond values of `utimensat(2)` with a meaning of their own. */
export const UTIME = { NOW: 0x3fff_ffff, OMIT: 0x3fff_fffe } as const;

/** Flags of `setxattr(2)`. */
export const XATTR = { CREATE: 1, REPLACE: 2 } as const;

/** Inode flags answered by `FS_IOC_GETFLAGS` that change what may be done to a file, or how its names are read. */
export const FS_FL = { IMMUTABLE: 0x10, APPEND: 0x20, CASEFOLD: 0x4000_0000 } as const;

/** `ioctl(2)` request that reads the inode flags: `_IOR('f', 1, long)`, 64-bit. */
export const FS_IOC_GETFLAGS = 0x8008_6601;
/** The one that sets them: `_IOW('f', 2, long)`. */
export const FS_IOC_SETFLAGS = 0x4008_6602;

/** The longest file name, without its NUL. */
export const NAME_MAX = 255;
/** The longest path, with its NUL. */
export const PATH_MAX = 4096;
