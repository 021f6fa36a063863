/**
 * The one map between error numbers, their names, and words for operators. The numbers are Linux's
 * (`asm-generic/errno.h`), the same on both architectures we build for. Calls answer −errno; applications get it as is.
 *
 * @module
 */

const TABLE = {
  EPERM: [1, "operation not permitted"],
  ENOENT: [2, "no such file or directory"],
  ESRCH: [3, "no such process"],
  EINTR: [4, "interrupted system call"],
  EIO: [5, "the disk reported an error"],
  ENXIO: [6, "no such device or address"],
  E2BIG: [7, "too long"],
  ENOEXEC: [8, "exec format error"],
  EBADF: [9, "bad file descriptor"],
  ECHILD: [10, "no child processes"],
  EAGAIN: [11, "it would have to wait"],
  ENOMEM: [12, "cannot allocate memory"],
  EACCES: [13, "permission denied"],
  EFAULT: [14, "bad address"],
  ENOTBLK: [15, "block device required"],
  EBUSY: [16, "in use"],
  EEXIST: [17, "file exists"],
  EXDEV: [18, "it lies on another file system"],
  ENODEV: [19, "no such device, or the mount is gone"],
  ENOTDIR: [20, "not a directory"],
  EISDIR: [21, "is a directory"],
  EINVAL: [22, "invalid argument, or not supported by this file system"],
  ENFILE: [23, "too many open files on this machine"],
  EMFILE: [24, "too many open files in this process"],
  ENOTTY: [25, "not supported by this kind of file"],
  ETXTBSY: [26, "the program is being executed"],
  EFBIG: [27, "file too large"],
  ENOSPC: [28, "no space left on the file system"],
  ESPIPE: [29, "illegal seek"],
  EROFS: [30, "the file system is read-only"],
  EMLINK: [31, "too many links"],
  EPIPE: [32, "broken pipe"],
  EDOM: [33, "numerical argument out of domain"],
  ERANGE: [34, "numerical result out of range"],
  EDEADLK: [35, "resource deadlock avoided"],
  ENAMETOOLONG: [36, "file name too long"],
  ENOLCK: [37, "no locks available"],
  ENOSYS: [38, "function not implemented"],
  ENOTEMPTY: [39, "directory not empty"],
  ELOOP: [40, "too many levels of symbolic links"],
  ENODATA: [61, "no such extended attribute"],
  ETIME: [62, "timer expired"],
  EPROTO: [71, "protocol error"],
  EBADMSG: [74, "bad message"],
  EOVERFLOW: [75, "value too large for defined data type"],
  EILSEQ: [84, "invalid or incomplete multibyte or wide character"],
  EUSERS: [87, "too many users"],
  ENOTSOCK: [88, "socket operation on non-socket"],
  EDESTADDRREQ: [89, "destination address required"],
  EMSGSIZE: [90, "message too long"],
  EPROTOTYPE: [91, "protocol wrong type for socket"],
  ENOPROTOOPT: [92, "protocol not available"],
  EPROTONOSUPPORT: [93, "protocol not supported"],
  EOPNOTSUPP: [95, "operation not supported"],
  EAFNOSUPPORT: [97, "address family not supported by protocol"],
  EADDRINUSE: [98, "address already in use"],
  EADDRNOTAVAIL: [99, "cannot assign requested address"],
  ENETDOWN: [100, "network is down"],
  ENETUNREACH: [101, "network is unreachable"],
  ENETRESET: [102, "network dropped connection on reset"],
  ECONNABORTED: [103, "the connection was aborted"],
  ECONNRESET: [104, "connection reset by peer"],
  ENOBUFS: [105, "no buffer space available"],
  EISCONN: [106, "transport endpoint is already connected"],
  ENOTCONN: [107, "not connected: the server of this mount is gone"],
  ESHUTDOWN: [108, "shut down"],
  ETIMEDOUT: [110, "connection timed out"],
  ECONNREFUSED: [111, "connection refused"],
  EHOSTDOWN: [112, "host is down"],
  EHOSTUNREACH: [113, "no route to host"],
  EALREADY: [114, "operation already in progress"],
  EINPROGRESS: [115, "operation now in progress"],
  ESTALE: [116, "the object is gone"],
  EUCLEAN: [117, "the file system is damaged: check it with fsck"],
  EREMOTEIO: [121, "remote I/O error"],
  EDQUOT: [122, "the disk quota is used up"],
  ENOMEDIUM: [123, "no medium found"],
  EMEDIUMTYPE: [124, "wrong medium type"],
  ECANCELED: [125, "operation canceled"],
  ENOKEY: [126, "required key not available"],
} as const satisfies Record<ErrnoName, readonly [number, string]>;

/** Name of an error, as man pages spell it. */
export type ErrnoName =
  | "EPERM"
  | "ENOENT"
  | "ESRCH"
  | "EINTR"
  | "EIO"
  | "ENXIO"
  | "E2BIG"
  | "ENOEXEC"
  | "EBADF"
  | "ECHILD"
  | "EAGAIN"
  | "ENOMEM"
  | "EACCES"
  | "EFAULT"
  | "ENOTBLK"
  | "EBUSY"
  | "EEXIST"
  | "EXDEV"
  | "ENODEV"
  | "ENOTDIR"
  | "EISDIR"
  | "EINVAL"
  | "ENFILE"
  | "EMFILE"
  | "ENOTTY"
  | "ETXTBSY"
  | "EFBIG"
  | "ENOSPC"
  | "ESPIPE"
  | "EROFS"
  | "EMLINK"
  | "EPIPE"
  | "EDOM"
  | "ERANGE"
  | "EDEADLK"
  | "ENAMETOOLONG"
  | "ENOLCK"
  | "ENOSYS"
  | "ENOTEMPTY"
  | "ELOOP"
  | "ENODATA"
  | "ETIME"
  | "EPROTO"
  | "EBADMSG"
  | "EOVERFLOW"
  | "EILSEQ"
  | "EUSERS"
  | "ENOTSOCK"
  | "EDESTADDRREQ"
  | "EMSGSIZE"
  | "EPROTOTYPE"
  | "ENOPROTOOPT"
  | "EPROTONOSUPPORT"
  | "EOPNOTSUPP"
  | "EAFNOSUPPORT"
  | "EADDRINUSE"
  | "EADDRNOTAVAIL"
  | "ENETDOWN"
  | "ENETUNREACH"
  | "ENETRESET"
  | "ECONNABORTED"
  | "ECONNRESET"
  | "ENOBUFS"
  | "EISCONN"
  | "ENOTCONN"
  | "ESHUTDOWN"
  | "ETIMEDOUT"
  | "ECONNREFUSED"
  | "EHOSTDOWN"
  | "EHOSTUNREACH"
  | "EALREADY"
  | "EINPROGRESS"
  | "ESTALE"
  | "EUCLEAN"
  | "EREMOTEIO"
  | "EDQUOT"
  | "ENOMEDIUM"
  | "EMEDIUMTYPE"
  | "ECANCELED"
  | "ENOKEY";

const NAMES = Object.keys(TABLE) as ErrnoName[];

/** Numbers by name: `-ERRNO.ENOSPC`. */
export const ERRNO: Readonly<Record<ErrnoName, number>> = Object.fromEntries(
  NAMES.map((name) => [name, TABLE[name][0]]),
) as Record<ErrnoName, number>;

const BY_NUMBER = new Map<number, ErrnoName>(NAMES.map((name) => [TABLE[name][0], name]));

/** The name of an error, given as errno or −errno; `errno 512` for one we do not know. */
export function errnoName(number: number): string {
  const positive = Math.abs(number);
  return BY_NUMBER.get(positive) ?? `errno ${positive}`;
}

/** Words for an operator, with the name to search for: `no space left on the file system (ENOSPC)`. */
export function errnoText(number: number): string {
  const name = BY_NUMBER.get(Math.abs(number));
  return name === undefined ? errnoName(number) : `${TABLE[name][1]} (${name})`;
}

/**
 * A system call that failed where nobody waits for its number: it carries the number to whoever decides.
 *
 * The message reads `Cannot <what>: <words> (<NAME>)`.
 */
export class SystemError extends Error {
  /** Positive error number. */
  readonly errno: number;

  /** `what` continues "Cannot …", for instance `open "/srv/data"`; `number` is errno or −errno. */
  constructor(what: string, number: number, options?: ErrorOptions) {
    super(`Cannot ${what}: ${errnoText(number)}`, options);
    this.name = "SystemError";
    this.errno = Math.abs(number);
  }
}

/** Passes on what a call answered, unless that is an error. For places where failing is the exception. */
export function checked(result: number, what: string): number {
  if (result < 0) throw new SystemError(what, result);
  return result;
}
