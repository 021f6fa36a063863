/**
 * What `statx(2)` and `statfs(2)` answer, read in place. `struct statx` is the same on every architecture, unlike
 * `struct stat`; `struct statfs` is the same on all 64-bit ones.
 *
 * | offset | size | field of statx | | offset | size | field of statx |
 * |      0 |    4 | mask           | |     64 |   16 | atime: i64 seconds, u32 nanoseconds, pad |
 * |      4 |    4 | blksize        | |     80 |   16 | btime |
 * |      8 |    8 | attributes     | |     96 |   16 | ctime |
 * |     16 |    4 | nlink          | |    112 |   16 | mtime |
 * |     20 |    4 | uid            | |    128 |    4 | rdev major |
 * |     24 |    4 | gid            | |    132 |    4 | rdev minor |
 * |     28 |    2 | mode           | |    136 |    4 | dev major |
 * |     32 |    8 | ino            | |    140 |    4 | dev minor |
 * |     40 |    8 | size           | |    144 |    8 | mount id |
 * |     48 |    8 | blocks of 512  | |    152 |  104 | newer fields, spare |
 *
 * @module
 */

/** Offsets within `struct statx`. */
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
  mntId: 144,
  sizeof: 256,
} as const;

const SECOND_NS = 1_000_000_000n;
const TIME_MAX = 2n ** 63n - 1n;
const TIME_MIN = -(2n ** 63n);

/**
 * A time as all of the program counts it: nanoseconds in 64 bits, which end in the year 2262. Disks go further; a time beyond is
 * the last there is, as a disk itself does with what it cannot hold.
 */
export function nanoseconds(seconds: bigint, rest: number): bigint {
  const time = seconds * SECOND_NS + BigInt(rest);
  return time > TIME_MAX ? TIME_MAX : time < TIME_MIN ? TIME_MIN : time;
}

/** Whole seconds of a time, rounded down. */
export function secondsOf(time: bigint): number {
  return Number((time - BigInt(nanosOf(time))) / SECOND_NS);
}

/** The rest of a time beyond whole seconds, `0 … 999 999 999`. */
export function nanosOf(time: bigint): number {
  return Number(((time % SECOND_NS) + SECOND_NS) % SECOND_NS);
}

/** Offset of the nanoseconds within `struct statx_timestamp`. */
export const STATX_NSEC = 8;

/** `STATX_BASIC_STATS | STATX_BTIME`: what we ask for. */
export const STATX_MASK = 0xfff;
/** The same without mtime and ctime: whoever asks for them makes the kernel give the next write a time of its own. */
export const STATX_TIMELESS = 0xf3f;
/** Bit of {@link Statx.mask}: the file system told the birth time. */
export const STATX_BTIME = 0x800;

/** Offsets within `struct statfs`. */
export const STATFS = {
  type: 0,
  bsize: 8,
  blocks: 16,
  bfree: 24,
  bavail: 32,
  files: 40,
  ffree: 48,
  fsid: 56,
  namelen: 64,
  frsize: 72,
  flags: 80,
  sizeof: 120,
} as const;

/** A 64-bit field as a number: exact up to 2^53, which no size, block count or inode number we meet exceeds. */
function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}

/** The attributes of one object, in a buffer that is filled again and again. */
export class Statx {
  /** The kernel writes here. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(STATX.sizeof);
  /** The same bytes, for those who copy fields without building numbers of them. */
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);

  /** Which fields the file system filled in: `STATX_…`. */
  get mask(): number {
    return this.view.getUint32(STATX.mask, true);
  }
  /** Preferred size of I/O, bytes. */
  get blksize(): number {
    return this.view.getUint32(STATX.blksize, true);
  }
  /** Type and permissions. */
  get mode(): number {
    return this.view.getUint16(STATX.mode, true);
  }
  /** Number of hard links. */
  get nlink(): number {
    return this.view.getUint32(STATX.nlink, true);
  }
  /** Owner. */
  get uid(): number {
    return this.view.getUint32(STATX.uid, true);
  }
  /** Group. */
  get gid(): number {
    return this.view.getUint32(STATX.gid, true);
  }
  /** Inode number of the backing file system. */
  get ino(): number {
    return u64(this.view, STATX.ino);
  }
  /** Bytes. */
  get size(): number {
    return u64(this.view, STATX.size);
  }
  /** Allocated units of 512 bytes. */
  get blocks(): number {
    return u64(this.view, STATX.blocks);
  }
  /** Last access, nanoseconds since 1970, negative before. */
  get atime(): bigint {
    return this.#time(STATX.atime);
  }
  /** Last change of content, nanoseconds since 1970. */
  get mtime(): bigint {
    return this.#time(STATX.mtime);
  }
  /** Last change of attributes, nanoseconds since 1970. */
  get ctime(): bigint {
    return this.#time(STATX.ctime);
  }
  /** Birth, nanoseconds since 1970; 0 where the file system does not keep it. */
  get btime(): bigint {
    return this.#time(STATX.btime);
  }
  /** Device this object stands for, in the encoding of FUSE, `mknod` and {@link deviceNumber}. */
  get rdev(): number {
    return deviceNumber(
      this.view.getUint32(STATX.rdevMajor, true),
      this.view.getUint32(STATX.rdevMinor, true),
    );
  }
  /** Device this object lies on. */
  get dev(): number {
    return deviceNumber(this.view.getUint32(STATX.devMajor, true), this.view.getUint32(STATX.devMinor, true));
  }
  /** Which mount this object was reached by; tells a bind mount from its source. */
  get mountId(): number {
    return u64(this.view, STATX.mntId);
  }

  /** Makes mtime and ctime, which were not asked for, a time in nanoseconds since 1970. */
  showTime(time: bigint): void {
    for (const offset of [STATX.mtime, STATX.ctime]) {
      this.view.setBigInt64(offset, BigInt(secondsOf(time)), true);
      this.view.setUint32(offset + STATX_NSEC, nanosOf(time), true);
    }
  }

  #time(offset: number): bigint {
    return nanoseconds(this.view.getBigInt64(offset, true), this.view.getUint32(offset + STATX_NSEC, true));
  }
}

/**
 * A device number as one 32-bit word: `new_encode_dev` of the kernel, the form of `fuse_attr.rdev`,
 * `fuse_mknod_in.rdev` and, for majors below 4096 and minors below 2^20 (all the kernel has), of glibc's `dev_t`.
 */
export function deviceNumber(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** What a file system says of itself, in a buffer that is filled again and again. */
export class Statfs {
  /** The kernel writes here. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(STATFS.sizeof);
  /** The same bytes. */
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);

  /** Magic number of the file system type, `statfs(2)`. */
  get type(): number {
    return u64(this.view, STATFS.type);
  }
  /** Optimal transfer size, bytes. */
  get bsize(): number {
    return u64(this.view, STATFS.bsize);
  }
  /** Unit of the block counts, bytes. */
  get frsize(): number {
    return u64(this.view, STATFS.frsize);
  }
  /** Total blocks. */
  get blocks(): number {
    return u64(this.view, STATFS.blocks);
  }
  /** Free blocks. */
  get bfree(): number {
    return u64(this.view, STATFS.bfree);
  }
  /** Free blocks for others than root. */
  get bavail(): number {
    return u64(this.view, STATFS.bavail);
  }
  /** Total inodes. */
  get files(): number {
    return u64(this.view, STATFS.files);
  }
  /** Free inodes. */
  get ffree(): number {
    return u64(this.view, STATFS.ffree);
  }
  /** Longest name, bytes. */
  get namelen(): number {
    return u64(this.view, STATFS.namelen);
  }
}
