/**
 * What a tree is, name by name, read by nothing of what is tested but the system calls.
 *
 * @module
 */

import { backing } from "../../lib/system/backing.ts";
import { Dirents } from "../../lib/system/dirents.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { O, S_IF } from "../../lib/system/linux.ts";
import { Statx } from "../../lib/system/statx.ts";
import { ok } from "./twins.ts";

const buffer = new Uint8Array(1 << 16);
const address = addressOf(buffer);
const stat = new Statx();

/** Each path with everything that is replicated of it, sorted. */
export function describeTree(rootFd: number): string[] {
  const lines: string[] = [];
  const groups = new Map<number, string>();
  walk(rootFd, "", lines, groups);
  return lines.sort();
}

function walk(fd: number, path: string, lines: string[], groups: Map<number, string>): void {
  const object = ok(backing.reopen(fd, O.PATH));
  lines.push(`${path || "/"} ${describe(object, groups, path)}`);
  backing.close(object);
  const dir = ok(backing.reopen(fd, O.RDONLY | O.DIRECTORY));
  const entries = new Dirents();
  const names: Uint8Array[] = [];
  while (ok(backing.getdents(dir, entries)) > 0) {
    while (entries.next()) if (!entries.isDot) names.push(entries.name.slice());
  }
  for (const name of names) {
    const child = ok(backing.openat(dir, name, O.PATH | O.NOFOLLOW, 0));
    const at = `${path}/${latin(name)}`;
    ok(backing.statx(child, stat));
    if ((stat.mode & S_IF.MT) === S_IF.DIR) walk(child, at, lines, groups);
    else lines.push(`${at} ${describe(child, groups, at)}`);
    backing.close(child);
  }
  backing.close(dir);
}

function describe(fd: number, groups: Map<number, string>, path: string): string {
  ok(backing.statx(fd, stat));
  const { mode, uid, gid, size, mtime, nlink, rdev, ino } = stat;
  const type = mode & S_IF.MT;
  const directory = type === S_IF.DIR;
  const first = groups.get(ino) ?? path;
  groups.set(ino, first);
  const device = type === S_IF.CHR || type === S_IF.BLK ? rdev : 0;
  const parts = [
    mode.toString(8),
    `${uid}:${gid}`,
    `mtime=${mtime}`,
    // A directory's link count and size are the file system's.
    directory ? "" : `nlink=${nlink}`,
    `dev=${device}`,
    `xattrs=${xattrs(fd)}`,
  ];
  if (type === S_IF.LNK) parts.push(`-> ${latin(buffer.slice(0, ok(backing.readlink(fd, address, 4096))))}`);
  if (type === S_IF.REG) parts.push(`size=${size} content=${digest(fd, size)}`);
  return parts.join(" ");
}

function xattrs(fd: number): string {
  const length = ok(backing.listxattr(fd, address, buffer.length));
  const names = latin(buffer.slice(0, length)).split("\0").filter((name) => name !== "");
  const found = names.map((name) => {
    const size = ok(backing.getxattr(fd, bytesOf(name), address, buffer.length));
    return `${name}=${latin(buffer.slice(0, size))}`;
  });
  return JSON.stringify(found.sort());
}

/** FNV-1a: any hash will do, as long as it is not the one that is tested. */
export function digest(fd: number, size: number): string {
  const file = ok(backing.reopen(fd, O.RDONLY));
  let hash = 0x811c9dc5;
  for (let at = 0; at < size;) {
    const got = ok(backing.pread(file, address, buffer.length, at));
    if (got === 0) break;
    for (let i = 0; i < got; i++) hash = Math.imul(hash ^ (buffer[i] ?? 0), 0x01000193);
    at += got;
  }
  backing.close(file);
  return (hash >>> 0).toString(16);
}

/** Each byte as one character. */
export function latin(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

/** The reverse of {@link latin}. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
