/**
 * The bytes of files, from open to release.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { SETATTR, SETATTR_BITS } from "../replication/mutation.ts";
import type { Held } from "../replication/objects.ts";
import { O, SEEK } from "../system/linux.ts";
import { ERRNO } from "./errno.ts";
import type { Exchange } from "./exchange.ts";
import {
  COPY_FILE_RANGE_IN,
  FALLOCATE_IN,
  FSYNC_IN,
  LSEEK_IN,
  OPEN_IN,
  OUT_HEADER,
  READ_IN,
  RELEASE_IN,
  WRITE_IN,
} from "./layout.ts";
import { FOPEN, FSYNC_FDATASYNC, OPEN_KILL_SUIDGID, WRITE } from "./opcode.ts";
import { lseekOut, openOut, writeOut } from "./reply.ts";

/** Reads and changes what files hold. */
export class Contents {
  readonly #exchange: Exchange;
  readonly #blob = new Uint8Array(SETATTR.bytes);
  readonly #eight = new Uint8Array(8);

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** Opens a file, perhaps to empty it. */
  open(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const request = this.#exchange.request;
    const fd = this.#exchange.objects.io(held);
    if (fd < 0) return this.#exchange.fail(fd);
    const flags = request.u32(OPEN_IN.flags);
    const reply = openOut(this.#exchange.out, OUT_HEADER.sizeof, 0, FOPEN.KEEP_CACHE);
    if ((flags & O.TRUNC) === 0) {
      this.#exchange.opened(held, flags);
      return this.#exchange.ok(reply);
    }
    const result = this.truncate(held, (request.u32(OPEN_IN.openFlags) & OPEN_KILL_SUIDGID) !== 0);
    if (result < 0) return this.#exchange.fail(result);
    this.#exchange.opened(held, flags);
    this.#exchange.commit(reply);
  }

  /** Empties a file. `kill`: setuid and setgid go. Answers 0 or −errno. */
  truncate(held: Held, kill: boolean): number {
    const mutation = this.#exchange.mutation.reset(OP.setattr, held.id);
    mutation.a = SETATTR_BITS.size | (kill ? SETATTR_BITS.killSuidgid : 0);
    this.#blob.fill(0);
    const left = kill ? this.#exchange.modeLeft(held) : -1;
    if (left >= 0) {
      mutation.a |= SETATTR_BITS.mode;
      new DataView(this.#blob.buffer).setUint32(SETATTR.mode, left, true);
    }
    mutation.name = this.#blob;
    return this.#exchange.mutate(mutation);
  }

  /** The kernel closed one of its opens. */
  release(): void {
    const { objects, request, writers } = this.#exchange;
    const held = objects.peek(this.#exchange.id());
    if (held !== undefined && held.opens > 0) held.opens--;
    writers.released(this.#exchange.id(), request.u32(RELEASE_IN.flags));
    this.#exchange.ok(0);
  }

  /** Reads. */
  read(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const fd = this.#exchange.objects.io(held);
    if (fd < 0) return this.#exchange.fail(fd);
    const request = this.#exchange.request;
    const size = Math.min(request.u32(READ_IN.size), 1 << 20);
    const got = this.#exchange.backing.pread(
      fd,
      this.#exchange.replyAddress + OUT_HEADER.sizeof,
      size,
      request.number(READ_IN.offset),
    );
    if (got < 0) return this.#exchange.fail(got);
    this.#exchange.ok(got);
  }

  /** Writes; with O_DSYNC the answer waits for the disks. */
  write(): void {
    const request = this.#exchange.request;
    const mutation = this.#exchange.mutation.reset(OP.write, this.#exchange.id());
    const size = request.u32(WRITE_IN.size);
    const flags = request.u32(WRITE_IN.writeFlags);
    // Read first: what stands before the data makes room for the record's header.
    const how = this.#how();
    if (WRITE_IN.sizeof + size > request.end - request.body) return this.#exchange.fail(-ERRNO.EIO);
    mutation.a = request.number(WRITE_IN.offset);
    mutation.b = size;
    mutation.c = flags & WRITE.KILL_SUIDGID ? 1 : 0;
    mutation.payloadAddress = request.address + request.body + WRITE_IN.sizeof;
    mutation.payloadLength = size;
    const result = this.#exchange.mutate(mutation);
    if (result < 0) return this.#exchange.fail(result);
    this.#written(result, how);
  }

  /** The reply to a WRITE that the log says was done: by a former process, which may not have got to the disks. */
  writtenBefore(length: number): void {
    this.#written(length, this.#how());
  }

  /**
   * What the answer to a WRITE waits for. O_DSYNC and O_SYNC of a direct write are ours to keep; for buffered ones the kernel
   * sends FSYNC itself.
   */
  #how(): { readonly flushed: boolean; readonly durable: boolean } {
    const { request } = this.#exchange;
    const flushed = (request.u32(WRITE_IN.writeFlags) & WRITE.CACHE) !== 0;
    return { flushed, durable: !flushed && (request.u32(WRITE_IN.flags) & O.DSYNC) !== 0 };
  }

  #written(
    length: number,
    { flushed, durable }: { readonly flushed: boolean; readonly durable: boolean },
  ): void {
    if (!durable) {
      return this.#exchange.commit(writeOut(this.#exchange.out, OUT_HEADER.sizeof, length), flushed);
    }
    const held = this.#exchange.objects.get(this.#exchange.id());
    if (held === undefined) return this.#exchange.fail(-ERRNO.ESTALE);
    this.#sync(held, true, length);
  }

  /** A close, which returns when all that was written through it is on every member. */
  flush(): void {
    const { granted, objects, writers } = this.#exchange;
    // Where every write waits by itself the kernel need not tell, and never does again.
    if (granted?.tellsCloses !== true) return this.#exchange.fail(-ERRNO.ENOSYS);
    const held = objects.peek(this.#exchange.id());
    if (held !== undefined && !writers.has(held)) this.#exchange.ok(0);
    else this.#exchange.commit(0);
  }

  /** Answers when everything written so far is on the disks. */
  fsync(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const request = this.#exchange.request;
    const dataOnly = (request.u32(FSYNC_IN.fsyncFlags) & FSYNC_FDATASYNC) !== 0;
    this.#sync(held, dataOnly, -1);
  }

  #sync(held: Held, dataOnly: boolean, size: number): void {
    const { road, request, root, relaxed } = this.#exchange;
    road.sync(held, request, root, { dataOnly, size, relaxed });
  }

  /** Reserves, punches, zeroes, or moves a range. */
  fallocate(): void {
    const request = this.#exchange.request;
    const mutation = this.#exchange.mutation.reset(OP.fallocate, this.#exchange.id());
    mutation.a = request.number(FALLOCATE_IN.offset);
    mutation.b = request.number(FALLOCATE_IN.length);
    mutation.c = request.u32(FALLOCATE_IN.mode);
    this.#exchange.mutateAndCommit(mutation);
  }

  /** The next data or hole. */
  lseek(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const fd = this.#exchange.objects.io(held);
    if (fd < 0) return this.#exchange.fail(fd);
    const whence = this.#exchange.request.u32(LSEEK_IN.whence);
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return this.#exchange.fail(-ERRNO.ENOSYS);
    // The kernel asks without writing its pages out first: a copy that believed us would lose them. EINVAL, as of a file
    // system that cannot tell, makes programs read instead; ENOSYS would be for good, and for every file.
    const { granted, writers } = this.#exchange;
    if (granted?.writeback === true && writers.has(held)) return this.#exchange.fail(-ERRNO.EINVAL);
    const found = this.#exchange.backing.lseek(fd, this.#exchange.request.number(LSEEK_IN.offset), whence);
    if (found < 0) return this.#exchange.fail(found);
    this.#exchange.ok(lseekOut(this.#exchange.out, OUT_HEADER.sizeof, found));
  }

  /** Copies from file to file; answers how much was. */
  copy(): void {
    const request = this.#exchange.request;
    const mutation = this.#exchange.mutation.reset(
      OP.copy,
      this.#exchange.idOf(request.number(COPY_FILE_RANGE_IN.nodeidOut)),
    );
    mutation.c = this.#exchange.id();
    mutation.a = request.number(COPY_FILE_RANGE_IN.offOut);
    // The reply counts in 32 bits, and a copy is done in one go: other requests wait meanwhile.
    mutation.b = Math.min(request.number(COPY_FILE_RANGE_IN.len), 1 << 20);
    this.#eight.set(request.bytes.subarray(request.body + COPY_FILE_RANGE_IN.offIn).subarray(0, 8));
    mutation.name = this.#eight;
    const result = this.#exchange.mutate(mutation);
    if (result < 0) return this.#exchange.fail(result);
    this.#exchange.commit(writeOut(this.#exchange.out, OUT_HEADER.sizeof, result));
  }
}
