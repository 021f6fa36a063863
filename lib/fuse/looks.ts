/**
 * Looks at the directory beneath: requests that change nothing and are answered at once.
 *
 * @module
 */

import { ERRNO } from "./errno.ts";
import { type Exchange, VALIDITY } from "./exchange.ts";
import { FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, S_IF } from "../system/linux.ts";
import { BATCH_FORGET_IN, FORGET_ONE, IOCTL_IN, OUT_HEADER } from "./layout.ts";
import { attrOut, entryOut, ioctlOut, negativeEntryOut, statfsOut } from "./reply.ts";
import { Statfs } from "../system/statx.ts";

/** Answers what changes nothing. */
export class Looks {
  readonly #exchange: Exchange;
  readonly #statfs = new Statfs();

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** What a name leads to. */
  lookup(): void {
    const parent = this.#exchange.node();
    if (parent === undefined) return;
    const name = this.#exchange.request.name(0);
    if (this.#exchange.hidden(parent, name)) return this.#exchange.fail(-ERRNO.ENOENT);
    const held = this.#exchange.objects.lookup(parent, name);
    // The kernel may remember that, as it makes every name itself: programs look in many places for one file.
    if (held === -ERRNO.ENOENT) {
      return this.#exchange.ok(
        negativeEntryOut(this.#exchange.out, OUT_HEADER.sizeof, VALIDITY.entrySec),
      );
    }
    if (typeof held === "number") return this.#exchange.fail(held);
    const failed = this.#exchange.look(held);
    if (failed < 0) return this.#exchange.fail(failed);
    held.lookups++;
    this.#exchange.ok(
      entryOut(this.#exchange.out, OUT_HEADER.sizeof, held.id, 0, this.#exchange.stat, VALIDITY),
    );
  }

  /** The kernel forgets `count` lookups of an object; no reply. */
  forget(id: number, count: number): void {
    const { nameless, objects, road } = this.#exchange;
    const held = objects.peek(id);
    if (held !== undefined && objects.forget(id, count)) return road.releaseOrphan(held);
    if (nameless.has(id) && objects.peek(id) === undefined) nameless.forget(id);
  }

  /** The kernel forgets many objects at once; no reply. */
  batchForget(): void {
    const request = this.#exchange.request;
    const count = request.u32(BATCH_FORGET_IN.count);
    const available = Math.floor((request.end - request.body - BATCH_FORGET_IN.sizeof) / FORGET_ONE.sizeof);
    for (let i = 0; i < Math.min(count, available); i++) {
      const at = BATCH_FORGET_IN.sizeof + i * FORGET_ONE.sizeof;
      this.forget(
        this.#exchange.idOf(request.number(at + FORGET_ONE.nodeid)),
        request.number(at + FORGET_ONE.nlookup),
      );
    }
  }

  /** Attributes of an object. */
  getattr(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const failed = this.#exchange.look(held);
    if (failed < 0) return this.#exchange.fail(failed);
    this.#exchange.ok(attrOut(this.#exchange.out, OUT_HEADER.sizeof, held.id, this.#exchange.stat, VALIDITY));
  }

  /** The target of a symbolic link. */
  readlink(): void {
    const held = this.#exchange.node();
    if (held === undefined) return;
    const got = this.#exchange.backing.readlink(
      held.path,
      this.#exchange.replyAddress + OUT_HEADER.sizeof,
      4095,
    );
    if (got < 0) return this.#exchange.fail(got);
    this.#exchange.ok(got);
  }

  /**
   * The inode's flags (`lsattr`). They are shown, not changed: no record carries them, and a file that is immutable on one node
   * alone would part the copies.
   */
  ioctl(): void {
    const { request, objects, backing, out } = this.#exchange;
    const cmd = request.u32(IOCTL_IN.cmd);
    if (cmd !== FS_IOC_GETFLAGS && cmd !== FS_IOC_SETFLAGS) return this.#exchange.fail(-ERRNO.ENOTTY);
    const held = this.#exchange.node();
    if (held === undefined) return;
    if (held.type !== S_IF.REG && held.type !== S_IF.DIR) return this.#exchange.fail(-ERRNO.ENOTTY);
    const fd = objects.io(held);
    const flags = fd < 0 ? fd : backing.inodeFlags(fd);
    if (flags < 0) return this.#exchange.fail(flags);
    if (cmd === FS_IOC_GETFLAGS) {
      const data = OUT_HEADER.sizeof + ioctlOut(out, OUT_HEADER.sizeof, 0);
      out.setUint32(data, flags, true);
      return this.#exchange.ok(data + 4 - OUT_HEADER.sizeof);
    }
    const asked = request.end - request.body < IOCTL_IN.sizeof + 4 ? -1 : request.u32(IOCTL_IN.sizeof);
    if (asked !== flags) return this.#exchange.fail(-ERRNO.EOPNOTSUPP);
    this.#exchange.ok(ioctlOut(out, OUT_HEADER.sizeof, 0));
  }

  /** How full the file system is. */
  statfs(): void {
    const failed = this.#exchange.backing.fstatfs(this.#exchange.rootFd, this.#statfs);
    if (failed < 0) return this.#exchange.fail(failed);
    this.#exchange.ok(statfsOut(this.#exchange.out, OUT_HEADER.sizeof, this.#statfs));
  }
}
