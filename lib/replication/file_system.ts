/**
 * What the file system beneath a replicated directory can hold. Whatever the primary's takes, the secondary's must take as it
 * is, or the copy ends with the first name, size or time that it cannot have: with applications waiting, perhaps years after
 * the start. So it is asked for at the start, and two nodes whose file systems differ in it do not begin.
 *
 * Nothing of this is written into the directory: what only a file can tell is asked of one without a name (`O_TMPFILE`), which
 * a power cut takes away too.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import type { Dirents } from "../system/dirents.ts";
import type { FileHandle } from "../system/handle.ts";
import { FS_FL, O, S_IF, SEEK, UTIME } from "../system/linux.ts";
import type { Statfs, Statx } from "../system/statx.ts";
import { cbytes } from "./bytes.ts";

/** Of one directory; what could not be found out (a full disk, a read-only one) is null, and not compared. */
export interface FileSystem {
  /** Bytes of the longest name. */
  readonly nameMax: number | null;
  /** A file may have two to this power bytes, and not twice as many. */
  readonly sizeBits: number | null;
  /** POSIX ACLs are kept. */
  readonly acl: boolean | null;
  /** What it makes of a time that is {@link PROBE_TIME}, in nanoseconds: older formats cut off at 2038, or at the second. */
  readonly time: string | null;
}

/** What looks at file systems needs. */
export interface FileSystemWorld {
  readonly backing: Pick<
    Backing,
    | "close"
    | "fstatfs"
    | "getdents"
    | "getxattr"
    | "inodeFlags"
    | "lseek"
    | "nameToHandle"
    | "openat"
    | "openByHandle"
    | "reopen"
    | "statx"
    | "statxAt"
    | "utimens"
  >;
  readonly statx: Statx;
  readonly statfs: Statfs;
  readonly handle: FileHandle;
  readonly entries: Dirents;
}

/** A directory beneath. */
export interface Place {
  readonly path: string;
  readonly fd: number;
}

const EOPNOTSUPP = 95;
const ENODATA = 61;
const ACL = cbytes("system.posix_acl_access");
const HERE = cbytes(".");
/** In the year 2223, and a nanosecond: whoever keeps this keeps all that we meet. */
const PROBE_TIME = { seconds: 8_000_000_000, nanoseconds: 1 } as const;
/**
 * `lseek` takes offsets below 2^63. From `enough` on a difference is none: it is what ext4 has with blocks of 1 KiB, which is how
 * a small disk is formatted (4 TiB), and ext4 and XFS differ in it beyond that. Whoever does write a larger file has an alarm, and a
 * secondary that leaves.
 */
const SIZE_BITS = { min: 20, max: 62, enough: 41 } as const;
/** Fields of what a peer says, at most so many directories. */
const PLACES_MAX = 64;

/** Refuses a directory on a file system that cannot be replicated at all. Throws what to tell a person. */
export function checkFileSystem(place: Place, world: FileSystemWorld): void {
  const why = objectionTo(place, world);
  if (why !== null) throw new Error(`Cannot use ${place.path}: ${why}`);
}

function objectionTo({ fd }: Place, world: FileSystemWorld): string | null {
  const { backing, handle } = world;
  const named = backing.nameToHandle(fd, handle);
  const again = named < 0 ? named : backing.openByHandle(fd, handle, O.RDONLY | O.DIRECTORY);
  if (again < 0) {
    return `its file system has no file handles that last (errno ${-again}); use ext4, xfs or btrfs`;
  }
  backing.close(again);
  if (foldsNames(fd, world)) {
    return "its file system takes two names that differ in case for one; use a directory without that (chattr -F)";
  }
  return null;
}

/** Whether a directory finds "NAME" by "name". By its flag, or, on what has no such flag, by the first name that can show it. */
function foldsNames(place: number, world: FileSystemWorld): boolean {
  const { backing, entries, statx } = world;
  const fd = backing.reopen(place, O.RDONLY | O.DIRECTORY);
  if (fd < 0) return false;
  try {
    const flags = backing.inodeFlags(fd);
    if (flags >= 0 && (flags & FS_FL.CASEFOLD) !== 0) return true;
    if (backing.getdents(fd, entries) <= 0) return false;
    while (entries.next()) {
      const name = entries.bytes.slice(entries.nameAt, entries.nameAt + entries.nameLength + 1);
      const swapped = swapCase(name);
      if (entries.isDot || swapped === null) continue;
      if (backing.statxAt(fd, name, statx) < 0) continue;
      const { ino, nlink, mode } = statx;
      // Both names may be there, of one file.
      if ((mode & S_IF.MT) !== S_IF.DIR && nlink !== 1) continue;
      return backing.statxAt(fd, swapped, statx) >= 0 && statx.ino === ino;
    }
    return false;
  } finally {
    backing.close(fd);
  }
}

/** The name with each ASCII letter in the other case; null where there is none. */
function swapCase(name: Uint8Array): Uint8Array | null {
  const isLetter = (byte: number) => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
  return name.some(isLetter) ? name.map((byte) => isLetter(byte) ? byte ^ 0x20 : byte) : null;
}

/** Finds out what a file system can hold. */
export function fileSystemOf({ fd }: Place, world: FileSystemWorld): FileSystem {
  const { backing, statfs } = world;
  const nameMax = backing.fstatfs(fd, statfs) >= 0 ? statfs.namelen : null;
  const listed = backing.getxattr(fd, ACL, 0, 0);
  const acl = listed >= 0 || listed === -ENODATA ? true : listed === -EOPNOTSUPP ? false : null;
  const file = backing.openat(fd, HERE, O.TMPFILE | O.RDWR, 0o600);
  if (file < 0) return { nameMax, acl, sizeBits: null, time: null };
  try {
    return { nameMax, acl, sizeBits: sizeBitsOf(file, backing), time: timeOf(file, world) };
  } finally {
    backing.close(file);
  }
}

function sizeBitsOf(file: number, backing: FileSystemWorld["backing"]): number | null {
  for (let bits = SIZE_BITS.max; bits >= SIZE_BITS.min; bits--) {
    if (backing.lseek(file, 2 ** bits, SEEK.SET) >= 0) return bits;
  }
  return null;
}

function timeOf(file: number, { backing, statx }: FileSystemWorld): string | null {
  const { seconds, nanoseconds } = PROBE_TIME;
  const failed = backing.utimens(file, 0, UTIME.OMIT, seconds, nanoseconds);
  return failed < 0 || backing.statx(file, statx) < 0 ? null : String(statx.mtime);
}

/**
 * Why two nodes whose directories lie on these cannot be each other's copies, for a person. Null: they can.
 *
 * @param theirs null: of a program that does not say.
 */
export function differenceOf(
  own: readonly FileSystem[],
  theirs: readonly FileSystem[] | null,
  paths: readonly string[],
): string | null {
  for (const [index, path] of paths.entries()) {
    const [here, there] = [own[index], theirs?.[index]];
    if (here === undefined || there === undefined) continue;
    const differs = FIELDS.filter(([field]) =>
      here[field] !== null && there[field] !== null && enough(field, here) !== enough(field, there)
    );
    if (differs.length === 0) continue;
    const words = (of: FileSystem) => differs.map(([field, say]) => say(of[field])).join(", ");
    return `the file systems of ${path} differ: the primary's has ${words(here)}, the secondary's ${
      words(there)
    }. ` +
      "Make the secondary's as the primary's is made (the same kind, block and inode size)";
  }
  return null;
}

/** What counts of a field. */
function enough(field: keyof FileSystem, of: FileSystem): FileSystem[keyof FileSystem] {
  return field === "sizeBits" ? Math.min(of.sizeBits ?? 0, SIZE_BITS.enough) : of[field];
}

const FIELDS: readonly (readonly [keyof FileSystem, (value: FileSystem[keyof FileSystem]) => string])[] = [
  ["nameMax", (value) => `names of up to ${value} bytes`],
  ["sizeBits", (value) => `files of up to ${sizeInWords(Number(value) + 1)}`],
  ["acl", (value) => value === true ? "ACLs" : "no ACLs"],
  ["time", (value) => timeInWords(String(value))],
];

/** A power of two, at least 2^20. */
function sizeInWords(bits: number): string {
  const unit = Math.floor(bits / 10);
  return `${2 ** (bits - unit * 10)} ${["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit] ?? "?"}`;
}

function timeInWords(time: string): string {
  const step = time.endsWith("000000000") ? "whole seconds" : "nanoseconds";
  const late = Number(time) / 1e9 >= PROBE_TIME.seconds - 1;
  return `times in ${step} ${late ? "beyond 2038" : "up to 2038"}`;
}

/** Reads what a secondary said in its hello, among other things. Throws on anything that is neither right nor missing. */
export function readFileSystems(body: unknown): readonly FileSystem[] | null {
  const said = (body as { fileSystems?: unknown } | null)?.fileSystems;
  if (said === undefined || said === null) return null;
  if (!Array.isArray(said) || said.length > PLACES_MAX) throw unreadable("they are no list");
  return said.map((one: Partial<Record<keyof FileSystem, unknown>> | null) => {
    if (typeof one !== "object" || one === null) throw unreadable("one is no object");
    const { nameMax = null, sizeBits = null, acl = null, time = null } = one;
    if (nameMax !== null && typeof nameMax !== "number") throw unreadable("nameMax is no number");
    if (sizeBits !== null && typeof sizeBits !== "number") throw unreadable("sizeBits is no number");
    if (acl !== null && typeof acl !== "boolean") throw unreadable("acl is neither true nor false");
    if (time !== null && !(typeof time === "string" && /^-?\d{1,20}$/.test(time))) {
      throw unreadable("time is no number of nanoseconds");
    }
    return { nameMax, sizeBits, acl, time };
  });
}

function unreadable(why: string): TypeError {
  return new TypeError(`Cannot read what the secondary says of its file systems: ${why}`);
}
