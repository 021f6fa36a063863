/**
 * The first message of a mount: the kernel offers, we take. What was granted here decides how later requests look, and
 * holds for the life of the mount: a replicator started again on an inherited descriptor sees no INIT, so whoever
 * answered it must keep {@link Granted}.
 *
 * @module
 */

import {
  IN_HEADER,
  INIT_IN,
  INIT_OUT,
  KERNEL_MINOR_VERSION,
  KERNEL_VERSION,
  MIN_READ_BUFFER,
  WRITE_IN,
} from "./layout.ts";
import { INIT } from "./opcode.ts";

/** Older kernels have shorter structures than `layout.ts` lists. 7.23 is Linux 3.15. */
export const MINOR_MIN = 23;

/**
 * What we ask for with write-through: every `write()` reaches us before it returns. Not asked for, on purpose:
 * `POSIX_LOCKS`, `FLOCK_LOCKS` (locks stay in the kernel), `AUTO_INVAL_DATA` (nobody writes beneath a mount),
 * `SECURITY_CTX` (labels would have to be applied at creation), `PASSTHROUGH`, `OVER_IO_URING`, `SPLICE_…`.
 */
export const WANTED: bigint = INIT.ASYNC_READ | INIT.ATOMIC_O_TRUNC | INIT.BIG_WRITES | INIT.DONT_MASK |
  INIT.DO_READDIRPLUS | INIT.READDIRPLUS_AUTO | INIT.ASYNC_DIO | INIT.PARALLEL_DIROPS | INIT.POSIX_ACL |
  INIT.ABORT_ERROR | INIT.MAX_PAGES | INIT.HANDLE_KILLPRIV_V2 | INIT.SETXATTR_EXT | INIT.INIT_EXT |
  INIT.DIRECT_IO_ALLOW_MMAP | INIT.HAS_RESEND;

/** What we would like. */
export interface InitOptions {
  /** Flags, `INIT.…`: {@link WANTED}, with `INIT.WRITEBACK_CACHE` for write-back. */
  readonly want: bigint;
  /** Longest WRITE, bytes. */
  readonly maxWrite: number;
  /** Most requests the kernel sends in the background at a time (readahead, write-back, asynchronous direct I/O). */
  readonly maxBackground: number;
  /** The kernel's page size, bytes: 4096, or 16384 or 65536 on some arm64 kernels. */
  readonly pageSize: number;
}

/** Options as measured: 1 MiB is the longest request a stock kernel makes (`max_pages_limit` 256). */
export const INIT_OPTIONS: InitOptions = {
  want: WANTED,
  maxWrite: 1 << 20,
  maxBackground: 64,
  pageSize: 4096,
};

/** The same where the kernel may keep written pages until an fsync, a close, or its own time to flush. */
export const WRITE_BACK: InitOptions = { ...INIT_OPTIONS, want: WANTED | INIT.WRITEBACK_CACHE };

/** What both sides agreed on. */
export interface Granted {
  /** Minor version of the protocol in use. */
  readonly minor: number;
  /** All flags granted, `INIT.…`. */
  readonly flags: bigint;
  /** Requests outlive a replicator: `NOTIFY.RESEND` works (Linux 6.9). */
  readonly resend: boolean;
  /** Requests say when setuid, setgid and capabilities must go (Linux 5.12). Else the kernel sends setattr for it. */
  readonly killpriv2: boolean;
  /** `setxattr_in` has 16 bytes, not 8. */
  readonly setxattrExt: boolean;
  /** The kernel checks ACLs and permissions itself. */
  readonly posixAcl: boolean;
  /** Modes arrive unmasked, with the umask beside. */
  readonly dontMask: boolean;
  /** OPEN carries `O_TRUNC`. */
  readonly atomicTruncate: boolean;
  /** Shared mmap works on files opened with `FOPEN.DIRECT_IO` (Linux 6.6). */
  readonly directMmap: boolean;
  /** The kernel keeps dirty pages. */
  readonly writeback: boolean;
  /** The kernel sends a FLUSH with every close: it was never answered ENOSYS. */
  readonly tellsCloses: boolean;
  /** Longest WRITE, bytes. */
  readonly maxWrite: number;
  /** Longest READ, bytes. */
  readonly maxRead: number;
  /** The buffer for requests must have this many bytes at least, or the kernel refuses to fill it (EINVAL). */
  readonly requestBufferMin: number;
}

/** How an INIT is answered. */
export type Negotiation =
  /** `length` bytes of `init_out` are written: send them, then serve. */
  | { readonly kind: "granted"; readonly granted: Granted; readonly length: number }
  /** The kernel is newer by a major version: send these bytes and wait for a second INIT. */
  | { readonly kind: "again"; readonly length: number }
  /** We cannot serve this kernel: answer −EPROTO. */
  | { readonly kind: "refused"; readonly reason: string };

/** Without `MAX_PAGES` a request has 32 pages at most (`FUSE_DEFAULT_MAX_PAGES_PER_REQ`). */
const DEFAULT_PAGES = 32;
/** `max_pages` has 16 bits. */
const PAGES_MAX = 0xffff;

/**
 * Reads `init_in`, writes `init_out`.
 *
 * @param input at `inputAt` the body of the INIT request (behind its header), `inputLength` bytes long.
 * @param output 64 bytes at `outputAt` are written, whatever was there.
 */
export function negotiate(
  input: DataView,
  inputAt: number,
  inputLength: number,
  output: DataView,
  outputAt: number,
  options: InitOptions,
): Negotiation {
  if (inputLength < INIT_IN.flags + 4) {
    return { kind: "refused", reason: `Cannot mount: the kernel's INIT has only ${inputLength} bytes` };
  }
  for (let i = 0; i < INIT_OUT.sizeof; i += 4) output.setUint32(outputAt + i, 0, true);
  output.setUint32(outputAt + INIT_OUT.major, KERNEL_VERSION, true);
  output.setUint32(outputAt + INIT_OUT.minor, KERNEL_MINOR_VERSION, true);

  const major = input.getUint32(inputAt + INIT_IN.major, true);
  const minor = input.getUint32(inputAt + INIT_IN.minor, true);
  if (major > KERNEL_VERSION) return { kind: "again", length: INIT_OUT.sizeof };
  if (major < KERNEL_VERSION || minor < MINOR_MIN) {
    return {
      kind: "refused",
      reason:
        `Cannot mount: the kernel speaks FUSE ${major}.${minor}, at least ${KERNEL_VERSION}.${MINOR_MIN} is needed`,
    };
  }

  const both = offered(input, inputAt, inputLength) & options.want;
  // Without INIT_EXT on both sides the upper half does not travel: what does not travel was not granted.
  const flags = both & INIT.INIT_EXT ? both : both & 0xffff_ffffn;
  const maxWrite = flags & INIT.MAX_PAGES
    ? options.maxWrite
    : Math.min(options.maxWrite, DEFAULT_PAGES * options.pageSize);
  const pages = flags & INIT.MAX_PAGES
    ? Math.min(Math.ceil(maxWrite / options.pageSize), PAGES_MAX)
    : DEFAULT_PAGES;

  output.setUint32(
    outputAt + INIT_OUT.maxReadahead,
    input.getUint32(inputAt + INIT_IN.maxReadahead, true),
    true,
  );
  output.setUint32(outputAt + INIT_OUT.flags, Number(flags & 0xffff_ffffn), true);
  output.setUint32(outputAt + INIT_OUT.flags2, Number(flags >> 32n), true);
  output.setUint16(outputAt + INIT_OUT.maxBackground, options.maxBackground, true);
  // Above this many the kernel calls the mount congested and holds readahead and write-back off: 3/4, as libfuse.
  output.setUint16(outputAt + INIT_OUT.congestionThreshold, Math.ceil(options.maxBackground * 3 / 4), true);
  output.setUint32(outputAt + INIT_OUT.maxWrite, maxWrite, true);
  output.setUint32(outputAt + INIT_OUT.timeGran, 1, true);
  output.setUint16(outputAt + INIT_OUT.maxPages, flags & INIT.MAX_PAGES ? pages : 0, true);

  return {
    kind: "granted",
    length: INIT_OUT.sizeof,
    granted: grantedBy({
      flags,
      minor: Math.min(minor, KERNEL_MINOR_VERSION),
      maxWrite,
      maxRead: pages * options.pageSize,
    }),
  };
}

/** The 64 flags of `init_in`: the upper half is there only when the lower says so, on kernels before 7.36 not at all. */
function offered(input: DataView, at: number, length: number): bigint {
  const low = BigInt(input.getUint32(at + INIT_IN.flags, true));
  if (!(low & INIT.INIT_EXT) || length < INIT_IN.flags2 + 4) return low & ~INIT.INIT_EXT;
  return low | BigInt(input.getUint32(at + INIT_IN.flags2, true)) << 32n;
}

/** {@link Granted} out of what travels: whoever kept these four can build it again. */
export function grantedBy(
  kept: {
    readonly flags: bigint;
    readonly minor: number;
    readonly maxWrite: number;
    readonly maxRead: number;
    /** Left out by whoever has refused it. */
    readonly tellsCloses?: boolean;
  },
): Granted {
  const has = (flag: bigint): boolean => (kept.flags & flag) !== 0n;
  return {
    ...kept,
    tellsCloses: kept.tellsCloses ?? false,
    resend: has(INIT.HAS_RESEND),
    killpriv2: has(INIT.HANDLE_KILLPRIV_V2),
    setxattrExt: has(INIT.SETXATTR_EXT),
    posixAcl: has(INIT.POSIX_ACL),
    dontMask: has(INIT.DONT_MASK),
    atomicTruncate: has(INIT.ATOMIC_O_TRUNC),
    directMmap: has(INIT.DIRECT_IO_ALLOW_MMAP),
    writeback: has(INIT.WRITEBACK_CACHE),
    // As the kernel counts it in fuse_dev_do_read(): the headers of a WRITE and its data.
    requestBufferMin: Math.max(MIN_READ_BUFFER, IN_HEADER.sizeof + WRITE_IN.sizeof + kept.maxWrite),
  };
}
