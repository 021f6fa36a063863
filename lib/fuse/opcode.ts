/**
 * Numbers of the FUSE kernel protocol, 7.45: opcodes, flags, notifications. Names are the kernel header's without
 * `FUSE_`; the structures are in `layout.ts`, and the same test proves both.
 *
 * @module
 */

/** What a request asks for: `enum fuse_opcode`. */
export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** INIT flags, 64 bits: the lower half travels as `flags`, the upper as `flags2`. */
export const INIT = {
  /** several reads of one file at a time */
  ASYNC_READ: 1n << 0n,
  /** `fcntl` locks come to us: never taken, locks stay in the kernel */
  POSIX_LOCKS: 1n << 1n,
  /** unused by Linux */
  FILE_OPS: 1n << 2n,
  /** `open` carries `O_TRUNC`; without it the kernel sends a separate setattr of size 0 */
  ATOMIC_O_TRUNC: 1n << 3n,
  /** we answer lookups of "." and ".." */
  EXPORT_SUPPORT: 1n << 4n,
  /** writes larger than a page */
  BIG_WRITES: 1n << 5n,
  /** modes come unmasked, with the umask beside: needed for default ACLs */
  DONT_MASK: 1n << 6n,
  SPLICE_WRITE: 1n << 7n,
  SPLICE_MOVE: 1n << 8n,
  SPLICE_READ: 1n << 9n,
  /** `flock` locks come to us: never taken */
  FLOCK_LOCKS: 1n << 10n,
  HAS_IOCTL_DIR: 1n << 11n,
  /** cached pages are dropped when mtime or size changed: wanted only when others write beneath */
  AUTO_INVAL_DATA: 1n << 12n,
  /** READDIRPLUS instead of READDIR */
  DO_READDIRPLUS: 1n << 13n,
  /** READDIRPLUS only where lookups follow */
  READDIRPLUS_AUTO: 1n << 14n,
  /** direct I/O split into parallel requests */
  ASYNC_DIO: 1n << 15n,
  /** the kernel keeps dirty pages, sizes and mtimes */
  WRITEBACK_CACHE: 1n << 16n,
  /** ENOSYS to OPEN means: never send it again */
  NO_OPEN_SUPPORT: 1n << 17n,
  /** lookups and readdir of one directory side by side */
  PARALLEL_DIROPS: 1n << 18n,
  /** we clear setuid, setgid and capabilities, always */
  HANDLE_KILLPRIV: 1n << 19n,
  /** ACLs are kept by us and checked by the kernel */
  POSIX_ACL: 1n << 20n,
  /** reading an aborted connection answers ECONNABORTED, not ENODEV */
  ABORT_ERROR: 1n << 21n,
  /** `init_out.max_pages` counts */
  MAX_PAGES: 1n << 22n,
  CACHE_SYMLINKS: 1n << 23n,
  /** ENOSYS to OPENDIR means: never send it again */
  NO_OPENDIR_SUPPORT: 1n << 24n,
  /** cached pages are dropped only when told */
  EXPLICIT_INVAL_DATA: 1n << 25n,
  /** DAX only */
  MAP_ALIGNMENT: 1n << 26n,
  SUBMOUNTS: 1n << 27n,
  /** we clear setuid, setgid and capabilities, when a request says so */
  HANDLE_KILLPRIV_V2: 1n << 28n,
  /** `setxattr_in` has its flags word */
  SETXATTR_EXT: 1n << 29n,
  /** `init_in.flags2` and `init_out.flags2` count */
  INIT_EXT: 1n << 30n,
  /** never */
  INIT_RESERVED: 1n << 31n,
  /** creating requests carry a security label */
  SECURITY_CTX: 1n << 32n,
  HAS_INODE_DAX: 1n << 33n,
  /** creating requests carry the group that matches the parent */
  CREATE_SUPP_GROUP: 1n << 34n,
  /** an entry can be expired without being dropped */
  HAS_EXPIRE_ONLY: 1n << 35n,
  /** shared mmap works on `FOPEN_DIRECT_IO` files */
  DIRECT_IO_ALLOW_MMAP: 1n << 36n,
  /** the kernel reads and writes a backing file itself: refused together with write-back */
  PASSTHROUGH: 1n << 37n,
  NO_EXPORT_SUPPORT: 1n << 38n,
  /** `FUSE_NOTIFY_RESEND` works: requests outlive the process that read them */
  HAS_RESEND: 1n << 39n,
  ALLOW_IDMAP: 1n << 40n,
  OVER_IO_URING: 1n << 41n,
  /** `init_out.request_timeout` counts */
  REQUEST_TIMEOUT: 1n << 42n,
} as const;

/** Which fields of `setattr_in` count: bits of `valid`. */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** Bits of `open_out.open_flags`. */
export const FOPEN = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;

/** What an unasked message tells the kernel: `enum fuse_notify_code`, in the error field of the reply header. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const;

/** Bit 0 of `getattr_in.getattr_flags`: `fh` counts (`FUSE_GETATTR_FH`). */
export const GETATTR_FH = 1;
/** Bits of `write_in.write_flags`. `CACHE`: from the page cache, the file handle is a guess. */
export const WRITE = { CACHE: 1, LOCKOWNER: 2, KILL_SUIDGID: 4 } as const;
/** Bit of `read_in.read_flags`: `lock_owner` counts. */
export const READ_LOCKOWNER = 2;
/** Bit of `open_in.open_flags` and `create_in.open_flags`: clear setuid and setgid while truncating. */
export const OPEN_KILL_SUIDGID = 1;
/** Bit of `setxattr_in.setxattr_flags`: clear setgid when `system.posix_acl_access` is set. */
export const SETXATTR_ACL_KILL_SGID = 1;
/** Bits of `release_in.release_flags`. */
export const RELEASE = { FLUSH: 1, FLOCK_UNLOCK: 2 } as const;
/** Bit of `fsync_in.fsync_flags`: data only, as `fdatasync(2)`. */
export const FSYNC_FDATASYNC = 1;
/** Bit of `lk_in.lk_flags`: a `flock(2)` lock. */
export const LK_FLOCK = 1;
/** Bits of `ioctl_in.flags`. */
export const IOCTL = { COMPAT: 1, UNRESTRICTED: 2, RETRY: 4, IS_32BIT: 8, DIR: 16, COMPAT_X32: 32 } as const;
/** Bit of `poll_in.flags`: notify when ready. */
export const POLL_SCHEDULE_NOTIFY = 1;
/** Bit of `notify_inval_entry_out.flags`: expire the entry, do not drop it. */
export const EXPIRE_ONLY = 1;
/** Bits of `attr.flags`. */
export const ATTR_FLAG = { SUBMOUNT: 1, DAX: 2 } as const;
/** Up to this a leading `secctx_header`'s second word counts security contexts; above, it is an extension type. */
export const MAX_NR_SECCTX = 31;
/** Extension type of `supp_groups`, sent where `CREATE_SUPP_GROUP` was granted. */
export const EXT_GROUPS = 32;
/** Bit 63 of a request's `unique`: it was read before, by a process that did not answer. A reply echoes it. */
export const UNIQUE_RESEND = 1n << 63n;
/** {@link UNIQUE_RESEND} within the upper 32 bits of `unique`, as `getUint32` gives them. */
export const UNIQUE_RESEND_HIGH = 0x8000_0000;
/** `uid` and `gid` of a request whose caller cannot be mapped (id-mapped mounts only). */
export const INVALID_UIDGID = 0xffff_ffff;
