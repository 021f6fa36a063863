/**
 * Writers of FUSE replies: each puts one structure into a `DataView` at an offset and answers the bytes it took. They
 * write every byte of it, padding included, since the buffer still holds an older request or reply; nothing is allocated.
 *
 * A reply is the header, then the structure: `outHeader(view, 0, OUT_HEADER.sizeof + writeOut(view, 16, n), 0, low, high)`.
 * 64-bit numbers are exact up to 2^53. `unique` alone may use all 64 bits (bit 63 marks a resent request and must come
 * back as it was), and so travels as two halves. Little-endian, as are both our architectures.
 *
 * @module
 */

import {
  ATTR,
  ATTR_OUT,
  COPY_FILE_RANGE_OUT,
  DIRENT,
  DIRENTPLUS,
  ENTRY_OUT,
  GETXATTR_OUT,
  IOCTL_OUT,
  KSTATFS,
  LSEEK_OUT,
  NAME_OFFSET,
  NAME_OFFSET_DIRENTPLUS,
  NOTIFY_DELETE_OUT,
  NOTIFY_INVAL_ENTRY_OUT,
  NOTIFY_INVAL_INODE_OUT,
  OPEN_OUT,
  OUT_HEADER,
  recordAlign,
  WRITE_OUT,
} from "./layout.ts";
import type { Dirents } from "../system/dirents.ts";
import { type Statfs, STATX, type Statx, STATX_NSEC } from "../system/statx.ts";

/** How long the kernel may keep what it was told, whole seconds. We alone change the tree, so this may be long. */
export interface Validity {
  /** The name, and that it leads to this object. */
  readonly entrySec: number;
  /** The attributes. */
  readonly attrSec: number;
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Copies 64 bits without making a number of them. */
function copyU64(view: DataView, at: number, from: DataView, fromAt: number): void {
  view.setUint32(at, from.getUint32(fromAt, true), true);
  view.setUint32(at + 4, from.getUint32(fromAt + 4, true), true);
}

/**
 * `struct fuse_out_header`.
 *
 * @param length of the whole reply, header included.
 * @param error 0 or −errno. With an error the reply is the header alone. With `unique` 0 it is a notification's code.
 */
export function outHeader(
  view: DataView,
  at: number,
  length: number,
  error: number,
  uniqueLow: number,
  uniqueHigh: number,
): number {
  view.setUint32(at + OUT_HEADER.len, length, true);
  view.setInt32(at + OUT_HEADER.error, error, true);
  view.setUint32(at + OUT_HEADER.unique, uniqueLow, true);
  view.setUint32(at + OUT_HEADER.unique + 4, uniqueHigh, true);
  return OUT_HEADER.sizeof;
}

/** `struct fuse_attr`: the attributes of the backing object under our own id, which is `st_ino` on both nodes. */
export function attr(view: DataView, at: number, id: number, statx: Statx): number {
  const from = statx.view;
  setU64(view, at + ATTR.ino, id);
  copyU64(view, at + ATTR.size, from, STATX.size);
  copyU64(view, at + ATTR.blocks, from, STATX.blocks);
  copyU64(view, at + ATTR.atime, from, STATX.atime);
  copyU64(view, at + ATTR.mtime, from, STATX.mtime);
  copyU64(view, at + ATTR.ctime, from, STATX.ctime);
  view.setUint32(at + ATTR.atimensec, from.getUint32(STATX.atime + STATX_NSEC, true), true);
  view.setUint32(at + ATTR.mtimensec, from.getUint32(STATX.mtime + STATX_NSEC, true), true);
  view.setUint32(at + ATTR.ctimensec, from.getUint32(STATX.ctime + STATX_NSEC, true), true);
  view.setUint32(at + ATTR.mode, from.getUint16(STATX.mode, true), true);
  view.setUint32(at + ATTR.nlink, from.getUint32(STATX.nlink, true), true);
  view.setUint32(at + ATTR.uid, from.getUint32(STATX.uid, true), true);
  view.setUint32(at + ATTR.gid, from.getUint32(STATX.gid, true), true);
  view.setUint32(at + ATTR.rdev, statx.rdev, true);
  view.setUint32(at + ATTR.blksize, from.getUint32(STATX.blksize, true), true);
  view.setUint32(at + ATTR.flags, 0, true);
  return ATTR.sizeof;
}

/**
 * `struct fuse_entry_out`: LOOKUP, MKNOD, MKDIR, SYMLINK, LINK. Counts as one more lookup of the node, to be forgotten.
 *
 * @param generation tells apart objects that had the same id; ids are never used twice, so 0 will do.
 */
export function entryOut(
  view: DataView,
  at: number,
  nodeid: number,
  generation: number,
  statx: Statx,
  validity: Validity,
): number {
  setU64(view, at + ENTRY_OUT.nodeid, nodeid);
  setU64(view, at + ENTRY_OUT.generation, generation);
  setU64(view, at + ENTRY_OUT.entryValid, validity.entrySec);
  setU64(view, at + ENTRY_OUT.attrValid, validity.attrSec);
  view.setUint32(at + ENTRY_OUT.entryValidNsec, 0, true);
  view.setUint32(at + ENTRY_OUT.attrValidNsec, 0, true);
  attr(view, at + ENTRY_OUT.attr, nodeid, statx);
  return ENTRY_OUT.sizeof;
}

/**
 * An entry without an object. As answer to LOOKUP: there is no such name, and the kernel may remember that (unlike
 * ENOENT). Within READDIRPLUS: the name is listed but not looked up, as "." and ".." must not be.
 */
export function negativeEntryOut(view: DataView, at: number, entrySec: number): number {
  for (let i = 0; i < ENTRY_OUT.sizeof; i += 4) view.setUint32(at + i, 0, true);
  setU64(view, at + ENTRY_OUT.entryValid, entrySec);
  return ENTRY_OUT.sizeof;
}

/** `struct fuse_attr_out`: GETATTR, SETATTR. */
export function attrOut(
  view: DataView,
  at: number,
  nodeid: number,
  statx: Statx,
  validity: Validity,
): number {
  setU64(view, at + ATTR_OUT.attrValid, validity.attrSec);
  setU64(view, at + ATTR_OUT.attrValidNsec, 0);
  attr(view, at + ATTR_OUT.attr, nodeid, statx);
  return ATTR_OUT.sizeof;
}

/** `struct fuse_open_out`: OPEN, OPENDIR. `flags` are `FOPEN.…`. */
export function openOut(view: DataView, at: number, fh: number, flags: number): number {
  setU64(view, at + OPEN_OUT.fh, fh);
  view.setUint32(at + OPEN_OUT.openFlags, flags, true);
  view.setUint32(at + OPEN_OUT.backingId, 0, true);
  return OPEN_OUT.sizeof;
}

/** `struct fuse_entry_out`, then `struct fuse_open_out`: CREATE, TMPFILE. */
export function createOut(
  view: DataView,
  at: number,
  nodeid: number,
  generation: number,
  statx: Statx,
  validity: Validity,
  fh: number,
  flags: number,
): number {
  const length = entryOut(view, at, nodeid, generation, statx, validity);
  return length + openOut(view, at + length, fh, flags);
}

/** `struct fuse_write_out`: WRITE, and COPY_FILE_RANGE of 32 bits. More than was asked is an error to the kernel. */
export function writeOut(view: DataView, at: number, size: number): number {
  setU64(view, at + WRITE_OUT.size, size >>> 0);
  return WRITE_OUT.sizeof;
}

/** `struct fuse_copy_file_range_out`: COPY_FILE_RANGE_64. */
export function copyFileRangeOut(view: DataView, at: number, bytesCopied: number): number {
  setU64(view, at + COPY_FILE_RANGE_OUT.bytesCopied, bytesCopied);
  return COPY_FILE_RANGE_OUT.sizeof;
}

/** `struct fuse_lseek_out`. */
export function lseekOut(view: DataView, at: number, offset: number): number {
  setU64(view, at + LSEEK_OUT.offset, offset);
  return LSEEK_OUT.sizeof;
}

/** `struct fuse_getxattr_out`: GETXATTR and LISTXATTR asked with size 0, that is, for the length only. */
export function xattrSizeOut(view: DataView, at: number, size: number): number {
  setU64(view, at + GETXATTR_OUT.size, size >>> 0);
  return GETXATTR_OUT.sizeof;
}

/** `struct fuse_ioctl_out`, followed by the data. `result` is what `ioctl(2)` answers the application. */
export function ioctlOut(view: DataView, at: number, result: number): number {
  view.setInt32(at + IOCTL_OUT.result, result, true);
  view.setUint32(at + IOCTL_OUT.flags, 0, true);
  view.setUint32(at + IOCTL_OUT.inIovs, 0, true);
  view.setUint32(at + IOCTL_OUT.outIovs, 0, true);
  return IOCTL_OUT.sizeof;
}

/** `struct fuse_statfs_out`. */
export function statfsOut(view: DataView, at: number, statfs: Statfs): number {
  setU64(view, at + KSTATFS.blocks, statfs.blocks);
  setU64(view, at + KSTATFS.bfree, statfs.bfree);
  setU64(view, at + KSTATFS.bavail, statfs.bavail);
  setU64(view, at + KSTATFS.files, statfs.files);
  setU64(view, at + KSTATFS.ffree, statfs.ffree);
  view.setUint32(at + KSTATFS.bsize, statfs.bsize, true);
  view.setUint32(at + KSTATFS.namelen, statfs.namelen, true);
  view.setUint32(at + KSTATFS.frsize, statfs.frsize, true);
  for (let i = KSTATFS.frsize + 4; i < KSTATFS.sizeof; i += 4) view.setUint32(at + i, 0, true);
  return KSTATFS.sizeof;
}

/**
 * `struct fuse_dirent` of the entry `from` stands at, padded to 8 bytes.
 *
 * @param limit end of the room in `view`, as an offset.
 * @param id becomes `d_ino`; never 0, which programs take for a deleted entry.
 * @returns bytes used, or 0 when the record does not fit: then the reply is full.
 */
export function dirent(view: DataView, at: number, limit: number, id: number, from: Dirents): number {
  const length = from.nameLength;
  const size = recordAlign(NAME_OFFSET + length);
  if (at + size > limit) return 0;
  putDirent(view, at, at + size, id, from, length);
  return size;
}

/**
 * `struct fuse_direntplus`: room for an entry and a dirent behind it. The caller then writes the entry at the same
 * `at`: {@link entryOut}, or {@link negativeEntryOut} for "." and "..".
 *
 * @returns bytes used, or 0 when the record does not fit: then no lookup may be counted.
 */
export function direntplus(view: DataView, at: number, limit: number, id: number, from: Dirents): number {
  const length = from.nameLength;
  const size = recordAlign(NAME_OFFSET_DIRENTPLUS + length);
  if (at + size > limit) return 0;
  putDirent(view, at + DIRENTPLUS.dirent, at + size, id, from, length);
  return size;
}

function putDirent(view: DataView, at: number, end: number, id: number, from: Dirents, length: number): void {
  setU64(view, at + DIRENT.ino, id);
  view.setUint32(at + DIRENT.off, from.offLow, true);
  view.setUint32(at + DIRENT.off + 4, from.offHigh, true);
  view.setUint32(at + DIRENT.namelen, length, true);
  view.setUint32(at + DIRENT.type, from.type, true);
  const bytes = from.bytes;
  const nameAt = from.nameAt;
  let put = at + DIRENT.name;
  for (let i = 0; i < length; i++) view.setUint8(put++, bytes[nameAt + i] ?? 0);
  while (put < end) view.setUint8(put++, 0);
}

/**
 * Body of `NOTIFY.INVAL_INODE`: the kernel drops the attributes, and the pages from `offset` on for `length` bytes
 * (0: to the end; a negative offset: no pages).
 */
export function notifyInvalInode(
  view: DataView,
  at: number,
  nodeid: number,
  offset: number,
  length: number,
): number {
  setU64(view, at + NOTIFY_INVAL_INODE_OUT.ino, nodeid);
  setU64(view, at + NOTIFY_INVAL_INODE_OUT.off, offset);
  setU64(view, at + NOTIFY_INVAL_INODE_OUT.len, length);
  return NOTIFY_INVAL_INODE_OUT.sizeof;
}

/** Body of `NOTIFY.INVAL_ENTRY`: the kernel forgets one name. `name` is without NUL; one is written. */
export function notifyInvalEntry(
  view: DataView,
  at: number,
  parent: number,
  name: Uint8Array,
  flags: number,
): number {
  setU64(view, at + NOTIFY_INVAL_ENTRY_OUT.parent, parent);
  view.setUint32(at + NOTIFY_INVAL_ENTRY_OUT.namelen, name.length, true);
  view.setUint32(at + NOTIFY_INVAL_ENTRY_OUT.flags, flags, true);
  return NOTIFY_INVAL_ENTRY_OUT.sizeof + putName(view, at + NOTIFY_INVAL_ENTRY_OUT.sizeof, name);
}

/** Body of `NOTIFY.DELETE`: as {@link notifyInvalEntry}, if the name still leads to `child`. */
export function notifyDelete(
  view: DataView,
  at: number,
  parent: number,
  child: number,
  name: Uint8Array,
): number {
  setU64(view, at + NOTIFY_DELETE_OUT.parent, parent);
  setU64(view, at + NOTIFY_DELETE_OUT.child, child);
  setU64(view, at + NOTIFY_DELETE_OUT.namelen, name.length);
  return NOTIFY_DELETE_OUT.sizeof + putName(view, at + NOTIFY_DELETE_OUT.sizeof, name);
}

function putName(view: DataView, at: number, name: Uint8Array): number {
  for (let i = 0; i < name.length; i++) view.setUint8(at + i, name[i] ?? 0);
  view.setUint8(at + name.length, 0);
  return name.length + 1;
}
