/**
 * Listings of directories, at offsets that stay true: those of the file system beneath.
 *
 * @module
 */

import { Dirents } from "../system/dirents.ts";
import { O } from "../system/linux.ts";
import type { Held } from "../replication/objects.ts";
import { ERRNO } from "./errno.ts";
import { type Exchange, VALIDITY } from "./exchange.ts";
import { NAME_OFFSET_DIRENTPLUS, OUT_HEADER, READ_IN, recordAlign } from "./layout.ts";
import { FOPEN } from "./opcode.ts";
import { dirent, direntplus, entryOut, negativeEntryOut, openOut } from "./reply.ts";

interface DirectoryHandle {
  readonly fd: number;
  position: bigint;
}

/** The directories the kernel has open. */
export class Directories {
  readonly #exchange: Exchange;
  /** By the number of the request that opened it: no process of ours gives one that another gave before. */
  readonly #directories = new Map<number, DirectoryHandle>();
  readonly #dirents = new Dirents(32768);
  /** Why an entry could not be looked at: −errno. */
  #failed = 0;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** Closes what it opened. */
  close(): void {
    for (const handle of this.#directories.values()) this.#exchange.backing.close(handle.fd);
    this.#directories.clear();
  }

  /** Opens a directory for listing. */
  opendir(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const fd = this.#exchange.backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return this.#exchange.fail(fd);
    const handle = this.#exchange.request.unique;
    this.#directories.set(handle, { fd, position: 0n });
    this.#exchange.ok(openOut(this.#exchange.out, OUT_HEADER.sizeof, handle, FOPEN.KEEP_CACHE));
  }

  /** Closes it. */
  releasedir(): void {
    const handle = this.#exchange.request.number(0);
    const directory = this.#directories.get(handle);
    if (directory !== undefined) {
      this.#exchange.backing.close(directory.fd);
      this.#directories.delete(handle);
    }
    this.#exchange.ok(0);
  }

  /** The directory's handle; after a restart of ours it is opened anew, at the place the kernel says. */
  #directory(handle: number, held: Held): DirectoryHandle | number {
    const known = this.#directories.get(handle);
    if (known !== undefined) return known;
    const fd = this.#exchange.backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return fd;
    const opened = { fd, position: 0n };
    this.#directories.set(handle, opened);
    return opened;
  }

  /**
   * The next entries.
   *
   * @param plus each with its attributes: a lookup in one.
   */
  readdir(plus: boolean): void {
    const request = this.#exchange.request;
    const held = this.#exchange.node();
    if (held === undefined) return;
    const directory = this.#directory(request.number(READ_IN.fh), held);
    if (typeof directory === "number") return this.#exchange.fail(directory);
    const offset = request.view.getBigInt64(request.body + READ_IN.offset, true);
    if (offset !== directory.position) {
      const failed = this.#exchange.backing.seekdir(directory.fd, offset);
      if (failed < 0) return this.#exchange.fail(failed);
      directory.position = offset;
    }
    const limit = OUT_HEADER.sizeof + Math.min(request.u32(READ_IN.size), 1 << 20);
    const used = this.#fillDirectory(held, directory, limit, plus);
    if (used < 0) return this.#exchange.fail(used);
    this.#exchange.ok(used - OUT_HEADER.sizeof);
  }

  #fillDirectory(held: Held, directory: DirectoryHandle, limit: number, plus: boolean): number {
    const entries = this.#dirents;
    this.#failed = 0;
    let at: number = OUT_HEADER.sizeof;
    for (;;) {
      const got = this.#exchange.backing.getdents(directory.fd, entries);
      if (got < 0) return at > OUT_HEADER.sizeof ? at : got;
      if (got === 0) return at;
      while (entries.next()) {
        const size = this.#putEntry(held, at, limit, plus);
        if (size < 0) {
          if (this.#failed < 0 && at === OUT_HEADER.sizeof) return this.#failed;
          // Full: the next call continues behind the last entry given.
          const failed = this.#exchange.backing.seekdir(directory.fd, directory.position);
          return failed < 0 ? failed : at;
        }
        at += size;
        directory.position = entries.off;
      }
    }
  }

  /** Writes one entry; answers its size, 0 for one that is not shown, −1 when it does not fit. */
  #putEntry(parent: Held, at: number, limit: number, plus: boolean): number {
    const entries = this.#dirents;
    const room = recordAlign(NAME_OFFSET_DIRENTPLUS + entries.nameLength);
    if (plus && at + room > limit) return -1;
    if (entries.isDot) {
      const size = plus
        ? direntplus(this.#exchange.out, at, limit, parent.id, entries)
        : dirent(this.#exchange.out, at, limit, parent.id, entries);
      // Listed, not looked up: whatever stood in the buffer must not be taken for an object.
      if (plus && size > 0) negativeEntryOut(this.#exchange.out, at, 0);
      return size === 0 ? -1 : size;
    }
    const name = this.#dirents.bytes.subarray(entries.nameAt, entries.nameAt + entries.nameLength + 1);
    if (this.#exchange.hidden(parent, name)) return 0;
    const held = this.#exchange.objects.lookup(parent, name);
    // Gone between the listing and the look: not there. What fails otherwise must not look like a name that is not there.
    if (typeof held === "number") {
      if (held === -ERRNO.ENOENT) return 0;
      this.#failed = held;
      return -1;
    }
    if (!plus) {
      const size = dirent(this.#exchange.out, at, limit, held.id, entries);
      return size === 0 ? -1 : size;
    }
    this.#exchange.road.tellTime(held.id);
    if (this.#exchange.backing.statx(held.path, this.#exchange.stat) < 0) return 0;
    const size = direntplus(this.#exchange.out, at, limit, held.id, entries);
    if (size === 0) return -1;
    entryOut(this.#exchange.out, at, held.id, 0, this.#exchange.stat, VALIDITY);
    held.lookups++;
    return size;
  }
}
