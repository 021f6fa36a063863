import { assertEquals } from "@std/assert";
import { ATTR, ATTR_OUT, DIRENT, ENTRY_OUT, KSTATFS, OPEN_OUT, OUT_HEADER, recordAlign } from "./layout.ts";
import { UNIQUE_RESEND, UNIQUE_RESEND_HIGH } from "./opcode.ts";
import * as reply from "./reply.ts";
import { DIRENT64, Dirents } from "../system/dirents.ts";
import { STATFS, Statfs, STATX, Statx } from "../system/statx.ts";

const AT = 24;
const ID = 0x12_3456_789a;

/** A buffer that still holds an older message: what a writer leaves out shows. */
function dirty(): DataView {
  return new DataView(new Uint8Array(512).fill(0xee).buffer);
}

function bytesOf(view: DataView, at: number, length: number): number[] {
  return [...new Uint8Array(view.buffer, at, length)];
}

function someStatx(): Statx {
  const statx = new Statx();
  const view = statx.view;
  view.setUint32(STATX.blksize, 4096, true);
  view.setUint32(STATX.nlink, 3, true);
  view.setUint32(STATX.uid, 1000, true);
  view.setUint32(STATX.gid, 0xffff_fffe, true);
  view.setUint16(STATX.mode, 0o100640, true);
  view.setBigUint64(STATX.ino, 42n, true);
  view.setBigUint64(STATX.size, 0x1_0000_0001n, true);
  view.setBigUint64(STATX.blocks, 9n, true);
  for (
    const [at, sec, nsec] of [[STATX.atime, 11n, 1], [STATX.mtime, -1n, 999_999_999], [
      STATX.ctime,
      33n,
      3,
    ]] as const
  ) {
    view.setBigInt64(at, sec, true);
    view.setUint32(at + 8, nsec, true);
  }
  view.setUint32(STATX.rdevMajor, 259, true);
  view.setUint32(STATX.rdevMinor, 0x12345, true);
  return statx;
}

/** One directory of these names, as the kernel would give it. */
function entriesOf(...names: Uint8Array[]): Dirents {
  const entries = new Dirents(4096);
  const view = new DataView(entries.bytes.buffer);
  let at = 0;
  for (const [index, name] of names.entries()) {
    const length = recordAlign(DIRENT64.name + name.length + 1);
    view.setBigUint64(at + DIRENT64.ino, BigInt(1000 + index), true);
    view.setBigInt64(at + DIRENT64.off, 0x7edc_ba98_7654_3200n + BigInt(index), true);
    view.setUint16(at + DIRENT64.reclen, length, true);
    view.setUint8(at + DIRENT64.type, 8);
    entries.bytes.fill(0xcc, at + DIRENT64.name, at + length);
    entries.bytes.set(name, at + DIRENT64.name);
    entries.bytes[at + DIRENT64.name + name.length] = 0;
    at += length;
  }
  entries.filled(at);
  return entries;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const VALIDITY = { entrySec: 60, attrSec: 30 };

Deno.test("outHeader() gives back all 64 bits of a resent request's id", () => {
  const view = dirty();
  assertEquals(reply.outHeader(view, AT, 16, -2, 7, (UNIQUE_RESEND_HIGH | 1) >>> 0), 16);
  assertEquals(view.getUint32(AT + OUT_HEADER.len, true), 16);
  assertEquals(view.getInt32(AT + OUT_HEADER.error, true), -2);
  assertEquals(view.getBigUint64(AT + OUT_HEADER.unique, true), UNIQUE_RESEND | (1n << 32n) | 7n);
});

Deno.test("attr() carries everything statx knows, under our own id", () => {
  const view = dirty();
  assertEquals(reply.attr(view, AT, ID, someStatx()), ATTR.sizeof);
  const u64 = (field: number): bigint => view.getBigUint64(AT + field, true);
  const u32 = (field: number): number => view.getUint32(AT + field, true);
  assertEquals(u64(ATTR.ino), BigInt(ID));
  assertEquals(u64(ATTR.size), 0x1_0000_0001n);
  assertEquals(u64(ATTR.blocks), 9n);
  assertEquals(u64(ATTR.atime), 11n);
  assertEquals(BigInt.asIntN(64, u64(ATTR.mtime)), -1n);
  assertEquals(u64(ATTR.ctime), 33n);
  assertEquals([u32(ATTR.atimensec), u32(ATTR.mtimensec), u32(ATTR.ctimensec)], [1, 999_999_999, 3]);
  assertEquals([u32(ATTR.mode), u32(ATTR.nlink), u32(ATTR.uid), u32(ATTR.gid)], [
    0o100640,
    3,
    1000,
    0xffff_fffe,
  ]);
  // new_encode_dev(259, 0x12345): low minor byte, major, rest of the minor.
  assertEquals(u32(ATTR.rdev), 0x12310345);
  assertEquals([u32(ATTR.blksize), u32(ATTR.flags)], [4096, 0]);
});

Deno.test("Statx gives times before 1970 as negative nanoseconds", () => {
  assertEquals(someStatx().mtime, -1n);
});

Deno.test("entryOut() writes every byte of the structure and none behind it", () => {
  const view = dirty();
  assertEquals(reply.entryOut(view, AT, ID, 5, someStatx(), VALIDITY), ENTRY_OUT.sizeof);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.nodeid, true), BigInt(ID));
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.generation, true), 5n);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.entryValid, true), 60n);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.attrValid, true), 30n);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.entryValidNsec, true), 0n);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.attr + ATTR.ino, true), BigInt(ID));
  assertEquals(bytesOf(view, AT, ENTRY_OUT.sizeof).includes(0xee), false);
  assertEquals(view.getUint8(AT + ENTRY_OUT.sizeof), 0xee);
});

Deno.test("negativeEntryOut() has node id 0 and a time to remember it", () => {
  const view = dirty();
  assertEquals(reply.negativeEntryOut(view, AT, 60), ENTRY_OUT.sizeof);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.nodeid, true), 0n);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.entryValid, true), 60n);
  assertEquals(bytesOf(view, AT, ENTRY_OUT.sizeof).includes(0xee), false);
});

Deno.test("attrOut() puts the attributes behind their validity", () => {
  const view = dirty();
  assertEquals(reply.attrOut(view, AT, ID, someStatx(), VALIDITY), ATTR_OUT.sizeof);
  assertEquals(view.getBigUint64(AT + ATTR_OUT.attrValid, true), 30n);
  assertEquals(view.getBigUint64(AT + ATTR_OUT.attrValidNsec, true), 0n);
  assertEquals(view.getUint32(AT + ATTR_OUT.attr + ATTR.mode, true), 0o100640);
});

Deno.test("createOut() is an entry with an open file behind it", () => {
  const view = dirty();
  const length = reply.createOut(view, AT, ID, 0, someStatx(), VALIDITY, 77, 2);
  assertEquals(length, ENTRY_OUT.sizeof + OPEN_OUT.sizeof);
  const open = AT + ENTRY_OUT.sizeof;
  assertEquals(view.getBigUint64(open + OPEN_OUT.fh, true), 77n);
  assertEquals(view.getUint32(open + OPEN_OUT.openFlags, true), 2);
  assertEquals(view.getUint32(open + OPEN_OUT.backingId, true), 0);
});

Deno.test("writeOut(), lseekOut(), xattrSizeOut(), copyFileRangeOut() fill 8 bytes", () => {
  for (const write of [reply.writeOut, reply.lseekOut, reply.xattrSizeOut, reply.copyFileRangeOut]) {
    const view = dirty();
    assertEquals(write(view, AT, 65537), 8);
    assertEquals(bytesOf(view, AT, 9), [1, 0, 1, 0, 0, 0, 0, 0, 0xee]);
  }
  const view = dirty();
  reply.lseekOut(view, AT, 2 ** 40 + 1);
  assertEquals(view.getBigUint64(AT, true), (1n << 40n) + 1n);
});

Deno.test("ioctlOut() carries the result and asks for no second try", () => {
  const view = dirty();
  assertEquals(reply.ioctlOut(view, AT, -25), 16);
  assertEquals(view.getInt32(AT, true), -25);
  assertEquals(bytesOf(view, AT + 4, 12), new Array(12).fill(0));
});

Deno.test("statfsOut() narrows what statfs gives in 64 bits", () => {
  const statfs = new Statfs();
  const fields = [STATFS.bsize, STATFS.blocks, STATFS.bfree, STATFS.bavail, STATFS.files, STATFS.ffree];
  for (const [i, field] of fields.entries()) statfs.view.setBigUint64(field, 4096n + BigInt(i), true);
  statfs.view.setBigUint64(STATFS.namelen, 255n, true);
  statfs.view.setBigUint64(STATFS.frsize, 512n, true);
  const view = dirty();
  assertEquals(reply.statfsOut(view, AT, statfs), KSTATFS.sizeof);
  assertEquals(view.getUint32(AT + KSTATFS.bsize, true), 4096);
  const counts = [KSTATFS.blocks, KSTATFS.bfree, KSTATFS.bavail, KSTATFS.files, KSTATFS.ffree];
  assertEquals(counts.map((field) => view.getBigUint64(AT + field, true)), [
    4097n,
    4098n,
    4099n,
    4100n,
    4101n,
  ]);
  assertEquals([view.getUint32(AT + KSTATFS.namelen, true), view.getUint32(AT + KSTATFS.frsize, true)], [
    255,
    512,
  ]);
  assertEquals(bytesOf(view, AT, KSTATFS.sizeof).includes(0xee), false);
});

Deno.test("dirent() packs names of every length on 8-byte boundaries", () => {
  for (let length = 1; length <= 255; length++) {
    const name = new Uint8Array(length).fill(0xff);
    const entries = entriesOf(name);
    entries.next();
    const view = dirty();
    const used = reply.dirent(view, AT, 512, ID, entries);
    assertEquals(used, recordAlign(24 + length));
    assertEquals(view.getBigUint64(AT + DIRENT.ino, true), BigInt(ID));
    assertEquals(view.getBigUint64(AT + DIRENT.off, true), 0x7edc_ba98_7654_3200n);
    assertEquals(view.getUint32(AT + DIRENT.namelen, true), length);
    assertEquals(view.getUint32(AT + DIRENT.type, true), 8);
    const padding = new Array(used - 24 - length).fill(0);
    assertEquals(bytesOf(view, AT + DIRENT.name, used - 24 + 1), [...name, ...padding, 0xee]);
  }
});

Deno.test("dirent() answers 0 and writes nothing when the record does not fit", () => {
  const entries = entriesOf(bytes("12345678"));
  entries.next();
  const view = dirty();
  assertEquals(reply.dirent(view, AT, AT + 31, ID, entries), 0);
  assertEquals(bytesOf(view, AT, 32), new Array(32).fill(0xee));
  assertEquals(reply.dirent(view, AT, AT + 32, ID, entries), 32);
});

Deno.test("direntplus() leaves room for the entry before the name", () => {
  const entries = entriesOf(bytes("a"), bytes("b"));
  entries.next();
  entries.next();
  const view = dirty();
  const used = reply.direntplus(view, AT, 512, ID, entries);
  reply.entryOut(view, AT, ID, 0, someStatx(), VALIDITY);
  assertEquals(used, 160);
  assertEquals(view.getBigUint64(AT + ENTRY_OUT.sizeof + DIRENT.off, true), 0x7edc_ba98_7654_3201n);
  assertEquals(view.getUint8(AT + 152), 0x62);
  assertEquals(bytesOf(view, AT, used).includes(0xee), false);
  assertEquals(reply.direntplus(view, AT, AT + 159, ID, entries), 0);
});

Deno.test("Dirents walks all entries and knows the two every directory has", () => {
  const entries = entriesOf(bytes("."), bytes(".."), bytes("..."), bytes(".a"), bytes("é"));
  const seen: [string, boolean, number][] = [];
  while (entries.next()) seen.push([new TextDecoder().decode(entries.name), entries.isDot, entries.ino]);
  assertEquals(seen, [
    [".", true, 1000],
    ["..", true, 1001],
    ["...", false, 1002],
    [".a", false, 1003],
    ["é", false, 1004],
  ]);
});

Deno.test("notifyInvalInode() can say: no pages", () => {
  const view = dirty();
  assertEquals(reply.notifyInvalInode(view, AT, ID, -1, 0), 24);
  assertEquals(view.getBigInt64(AT + 8, true), -1n);
  assertEquals(view.getBigInt64(AT + 16, true), 0n);
});

Deno.test("notifyInvalEntry() and notifyDelete() end the name with NUL", () => {
  const view = dirty();
  assertEquals(reply.notifyInvalEntry(view, AT, ID, bytes("ab"), 1), 16 + 3);
  assertEquals(bytesOf(view, AT + 8, 12), [2, 0, 0, 0, 1, 0, 0, 0, 0x61, 0x62, 0, 0xee]);
  const other = dirty();
  assertEquals(reply.notifyDelete(other, AT, ID, 9, bytes("ab")), 24 + 3);
  assertEquals(other.getBigUint64(AT + 8, true), 9n);
  assertEquals(bytesOf(other, AT + 16, 12), [2, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x62, 0, 0xee]);
});
