/**
 * Attributes: those of every object, and extended ones.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { cbytes, sameBytes } from "../replication/bytes.ts";
import { SETATTR, SETATTR_BITS } from "../replication/mutation.ts";
import { type Held, OWN_XATTR_PREFIX } from "../replication/objects.ts";
import { S_IF, S_IS } from "../system/linux.ts";
import { nanoseconds } from "../system/statx.ts";
import { ERRNO } from "./errno.ts";
import type { Exchange } from "./exchange.ts";
import { GETXATTR_IN, OUT_HEADER, SETATTR_IN, SETXATTR_IN } from "./layout.ts";
import { FATTR, SETXATTR_ACL_KILL_SGID } from "./opcode.ts";
import { xattrSizeOut } from "./reply.ts";

const CAPABILITY = cbytes("security.capability");
/** What the kernel tells by itself of a file that was written (`fuse_flush_times`). */
const FLUSHED_TIMES = FATTR.MTIME | FATTR.CTIME | FATTR.FH;
const OWN_PREFIX = cbytes(OWN_XATTR_PREFIX).subarray(0, OWN_XATTR_PREFIX.length);

/** Bits of a SETATTR that set nothing, ctime not either: it is the disk's. */
const NOTHING = FATTR.FH | FATTR.LOCKOWNER | FATTR.CTIME;
/** Setgid of a program; without the group's x it is another thing. */
const RUN_AS_GROUP = S_IS.GID | 0o010;
/** By the group, which an ACL's mask shows as too, or by all: of whom a request names but one group. */
const WRITABLE_BY_OTHERS = 0o022;

/** Answers about attributes, and changes them. */
export class Attributes {
  readonly #exchange: Exchange;
  readonly #blob = new Uint8Array(SETATTR.bytes);
  readonly #blobView = new DataView(this.#blob.buffer);

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** Mode, owner, size, times. */
  setattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const request = this.#exchange.request;
    const valid = request.u32(SETATTR_IN.valid);
    const mtime = this.#time(SETATTR_IN.mtime, SETATTR_IN.mtimensec);
    if (valid === FLUSHED_TIMES && this.#exchange.road.deferTime(held, mtime)) {
      return this.#exchange.deferredAttr(held, mtime);
    }
    const mutation = this.#exchange.mutation.reset(OP.setattr, held.id);
    const kill = (valid & ~NOTHING) === 0 ? this.#toKill(held, (valid & FATTR.CTIME) !== 0) : 0;
    if (kill < 0) return this.#exchange.fail(kill);
    mutation.a = kill | valid & (SETATTR_BITS.mode | SETATTR_BITS.uid | SETATTR_BITS.gid | SETATTR_BITS.size |
          SETATTR_BITS.atime | SETATTR_BITS.mtime | SETATTR_BITS.killSuidgid);
    const blob = this.#blobView;
    blob.setUint32(SETATTR.mode, request.u32(SETATTR_IN.mode), true);
    blob.setUint32(SETATTR.uid, request.u32(SETATTR_IN.uid), true);
    blob.setUint32(SETATTR.gid, request.u32(SETATTR_IN.gid), true);
    blob.setBigUint64(SETATTR.size, request.view.getBigUint64(request.body + SETATTR_IN.size, true), true);
    blob.setBigInt64(SETATTR.atime, this.#time(SETATTR_IN.atime, SETATTR_IN.atimensec), true);
    blob.setBigInt64(SETATTR.mtime, mtime, true);
    const left = (mutation.a & SETATTR_BITS.killSuidgid) === 0 || (mutation.a & SETATTR_BITS.mode) !== 0
      ? -1
      : this.#exchange.modeLeft(held);
    if (left >= 0) {
      mutation.a |= SETATTR_BITS.mode;
      blob.setUint32(SETATTR.mode, left, true);
    }
    mutation.name = this.#blob;
    if (!Number.isSafeInteger(request.number(SETATTR_IN.size))) return this.#exchange.fail(-ERRNO.EFBIG);
    const result = this.#exchange.mutate(mutation);
    if (result < 0) return this.#exchange.fail(result);
    this.#exchange.commitAttr(held, valid === FLUSHED_TIMES);
  }

  /**
   * To set nothing is the kernel's word for: a process without CAP_FSETID changes the content, so setuid and setgid must go
   * (`file_remove_privs`). WRITE says so by itself too; FALLOCATE and COPY_FILE_RANGE have no bit for it. `chown(path, -1, -1)`
   * comes as the same request, from anybody, and on a disk takes them away as well, root's too; but who can neither write the file
   * nor owns it is refused there, and a directory keeps its setgid. Where the kernel keeps the times, it names a ctime with that
   * chown alone (`surely`), and none but the owner may do it. Answers a bit of {@link SETATTR_BITS}, 0, or −errno.
   */
  #toKill(held: Held, surely: boolean): number {
    const { request, stat } = this.#exchange;
    const failed = this.#exchange.look(held);
    if (failed < 0) return failed;
    const { mode, uid } = stat;
    const set = (mode & S_IS.UID) !== 0 || (mode & RUN_AS_GROUP) === RUN_AS_GROUP ||
      this.#exchange.modeWithoutSetgid() >= 0;
    if ((mode & S_IF.MT) !== S_IF.REG || !set) return 0;
    const stranger = request.uid !== uid && (surely || (mode & WRITABLE_BY_OTHERS) === 0);
    return stranger && !this.#exchange.isAsOwner() ? -ERRNO.EPERM : SETATTR_BITS.killSuidgid;
  }

  #time(seconds: number, rest: number): bigint {
    const request = this.#exchange.request;
    return nanoseconds(request.view.getBigInt64(request.body + seconds, true), request.u32(rest));
  }

  /** Our own attributes are not the application's. */
  #ownXattr(name: Uint8Array): boolean {
    for (let i = 0; i < OWN_PREFIX.length; i++) if (name[i] !== OWN_PREFIX[i]) return false;
    return true;
  }

  /** The value of an extended attribute, or its length. */
  getxattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const request = this.#exchange.request;
    const size = Math.min(request.u32(GETXATTR_IN.size), 65536);
    const name = request.name(GETXATTR_IN.sizeof);
    if (this.#ownXattr(name)) return this.#exchange.fail(-ERRNO.ENODATA);
    // Asked with the first write to each new file.
    if (held.bare && sameBytes(name, CAPABILITY)) return this.#exchange.fail(-ERRNO.ENODATA);
    const got = this.#exchange.backing.getxattr(
      held.path,
      name,
      this.#exchange.replyAddress + OUT_HEADER.sizeof,
      size,
    );
    if (got < 0) return this.#exchange.fail(got);
    this.#exchange.ok(size === 0 ? xattrSizeOut(this.#exchange.out, OUT_HEADER.sizeof, got) : got);
  }

  /** The names of all, or their length. */
  listxattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const size = Math.min(this.#exchange.request.u32(GETXATTR_IN.size), 65536);
    const got = this.#exchange.backing.listxattr(
      held.path,
      this.#exchange.replyAddress + OUT_HEADER.sizeof,
      65536,
    );
    if (got < 0) return this.#exchange.fail(got);
    const kept = this.#dropOwnNames(OUT_HEADER.sizeof, OUT_HEADER.sizeof + got) - OUT_HEADER.sizeof;
    if (size === 0) return this.#exchange.ok(xattrSizeOut(this.#exchange.out, OUT_HEADER.sizeof, kept));
    if (kept > size) return this.#exchange.fail(-ERRNO.ERANGE);
    this.#exchange.ok(kept);
  }

  #dropOwnNames(start: number, end: number): number {
    let from = start;
    let to = start;
    while (from < end) {
      const nul = this.#exchange.reply.indexOf(0, from) + 1;
      if (nul <= 0 || nul > end) return to;
      if (!this.#ownXattr(this.#exchange.reply.subarray(from, nul))) {
        this.#exchange.reply.copyWithin(to, from, nul);
        to += nul - from;
      }
      from = nul;
    }
    return to;
  }

  /** Sets one. */
  setxattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const request = this.#exchange.request;
    const extended = this.#exchange.granted?.setxattrExt === true;
    const nameAt = extended ? SETXATTR_IN.sizeof : 8;
    const name = request.name(nameAt);
    if (this.#ownXattr(name)) return this.#exchange.fail(-ERRNO.EPERM);
    const mutation = this.#exchange.mutation.reset(OP.setxattr, held.id);
    mutation.a = request.u32(SETXATTR_IN.flags);
    mutation.b = extended && request.u32(SETXATTR_IN.setxattrFlags) & SETXATTR_ACL_KILL_SGID ? 1 : 0;
    mutation.name = name;
    mutation.payloadLength = request.u32(SETXATTR_IN.size);
    mutation.payloadAddress = request.address + request.body + nameAt + name.length;
    if (nameAt + name.length + mutation.payloadLength > request.end - request.body) {
      return this.#exchange.fail(-ERRNO.EIO);
    }
    this.#exchange.mutateAndCommit(mutation);
  }

  /** Takes one away. */
  removexattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const name = this.#exchange.request.name(0);
    if (this.#ownXattr(name)) return this.#exchange.fail(-ERRNO.ENODATA);
    const mutation = this.#exchange.mutation.reset(OP.removexattr, held.id);
    mutation.name = name;
    this.#exchange.mutateAndCommit(mutation);
  }
}
