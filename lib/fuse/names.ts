/**
 * Names: objects made, linked, renamed and removed.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { cbytes } from "../replication/bytes.ts";
import { isLocal } from "../replication/border.ts";
import { type Mutation, RENAME_BITS } from "../replication/mutation.ts";
import type { Held } from "../replication/objects.ts";
import { O, RENAME, S_IF, S_IS } from "../system/linux.ts";
import { inheritAcl } from "./acl.ts";
import type { Contents } from "./contents.ts";
import { OPEN_KILL_SUIDGID } from "./opcode.ts";
import { ERRNO } from "./errno.ts";
import type { Exchange } from "./exchange.ts";
import { CREATE_IN, LINK_IN, RENAME_IN } from "./layout.ts";
import { NAMELESS } from "../replication/own_names.ts";
import { nameOf } from "./nameless.ts";

const DEFAULT_ACL = cbytes("system.posix_acl_default");
const ACCESS_ACL = cbytes("system.posix_acl_access");
/** No errno: see `#make`. */
const MADE_BEFORE = -100_000;
/** The longest value of an extended attribute. */
const XATTR_MAX = 65536;

interface Way {
  readonly from: Held;
  readonly name: Uint8Array;
  readonly to: Held;
  readonly other: Uint8Array;
}

/** Changes names. */
export class Names {
  readonly #exchange: Exchange;
  readonly #contents: Contents;

  constructor(exchange: Exchange, contents: Contents) {
    this.#exchange = exchange;
    this.#contents = contents;
  }

  /** The parent of a new name, or undefined with the reply given. */
  #parentOf(name: Uint8Array): Held | undefined {
    const parent = this.#exchange.node();
    if (parent === undefined) return undefined;
    if (this.#exchange.hidden(parent, name)) {
      this.#exchange.fail(-ERRNO.EPERM);
      return undefined;
    }
    return this.#learned(parent) ? parent : undefined;
  }

  /** Makes sure that what the directory gives to what is made in it is known. False: the reply is given. */
  #learned(parent: Held): boolean {
    if (parent.childGroup !== -2) return true;
    const { backing, stat } = this.#exchange;
    const failed = backing.statx(parent.path, stat);
    if (failed < 0) this.#exchange.fail(failed);
    else parent.childGroup = stat.mode & S_IS.GID ? stat.gid : -1;
    return failed >= 0;
  }

  /** Fills in what a new object gets: id, owner, mode. */
  #newborn(op: number, parent: Held, name: Uint8Array, mode: number, umask: number): Mutation {
    const mutation = this.#exchange.mutation.reset(op, this.#exchange.allocate(parent, name));
    mutation.name = name;
    mutation.c = parent.id;
    mutation.uid = this.#exchange.request.uid;
    mutation.gid = parent.childGroup >= 0 ? parent.childGroup : this.#exchange.request.gid;
    // With a default ACL the umask does not count: acl(5), "object creation and default ACLs".
    mutation.a = this.#hasDefaultAcl(parent) ? mode : mode & ~umask;
    return mutation;
  }

  #hasDefaultAcl(parent: Held): boolean {
    if (parent.defaultAcl < 0) {
      parent.defaultAcl = this.#exchange.backing.getxattr(parent.path, DEFAULT_ACL, 0, 0) > 0 ? 1 : 0;
    }
    return parent.defaultAcl === 1;
  }

  /** MKDIR and MKNOD. `nameAt`: where the name stands in the body. */
  make(op: number, nameAt: number, mode: number, umask: number, rdev: number): void {
    const name = this.#exchange.request.name(nameAt);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const mutation = this.#newborn(op, parent, name, mode, umask);
    mutation.a += rdev * 65536;
    const result = this.#make(mutation, parent);
    if (result === MADE_BEFORE) return;
    const { created } = this.#exchange.tree;
    if (result < 0 || created === undefined) return this.#exchange.fail(result < 0 ? result : -ERRNO.EIO);
    this.#exchange.commitCreated(created, false);
  }

  /** A symbolic link. */
  symlink(): void {
    const name = this.#exchange.request.name(0);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const mutation = this.#newborn(OP.symlink, parent, name, 0, 0);
    mutation.other = this.#exchange.request.name(name.length);
    const result = this.#make(mutation, parent);
    if (result === MADE_BEFORE) return;
    const { created } = this.#exchange.tree;
    if (result < 0 || created === undefined) return this.#exchange.fail(result < 0 ? result : -ERRNO.EIO);
    this.#exchange.commitCreated(created, false);
  }

  /** A new regular file, opened in one go. */
  create(): void {
    const request = this.#exchange.request;
    const name = request.name(CREATE_IN.sizeof);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const flags = request.u32(CREATE_IN.flags);
    const mutation = this.#newborn(
      OP.create,
      parent,
      name,
      request.u32(CREATE_IN.mode),
      request.u32(CREATE_IN.umask),
    );
    const result = this.#exchange.mutate(mutation);
    const again = this.#exchange.repeated(parent, name);
    if (result === -ERRNO.EEXIST && ((flags & O.EXCL) === 0 || again)) {
      return this.#openExisting(parent, name, flags);
    }
    const { created } = this.#exchange.tree;
    if (result < 0 || created === undefined) return this.#exchange.fail(result < 0 ? result : -ERRNO.EIO);
    this.#exchange.opened(created, flags);
    this.#exchange.commitCreated(created, true);
  }

  /** Makes an object. {@link MADE_BEFORE}: by a process that was killed then, and the reply is given. */
  #make(mutation: Mutation, parent: Held): number {
    const result = this.#exchange.mutate(mutation);
    const { name } = mutation;
    if (result !== -ERRNO.EEXIST || !this.#exchange.repeated(parent, name)) return result;
    const held = this.#exchange.objects.lookup(parent, name);
    if (typeof held === "number") return held;
    this.#exchange.commitEntry(held, false);
    return MADE_BEFORE;
  }

  /** CREATE without O_EXCL on a name that appeared since the kernel looked. */
  #openExisting(parent: Held, name: Uint8Array, flags: number): void {
    const held = this.#exchange.objects.lookup(parent, name);
    if (typeof held === "number") return this.#exchange.fail(held);
    const fd = this.#exchange.objects.io(held);
    if (fd < 0) return this.#exchange.fail(fd);
    if (flags & O.TRUNC) {
      const kill = (this.#exchange.request.u32(CREATE_IN.openFlags) & OPEN_KILL_SUIDGID) !== 0;
      const result = this.#contents.truncate(held, kill);
      if (result < 0) return this.#exchange.fail(result);
    }
    this.#exchange.opened(held, flags);
    this.#exchange.commitEntry(held, true);
  }

  /** A regular file without a name (`O_TMPFILE`), opened in one go. */
  tmpfile(): void {
    const { nameless, request, tree } = this.#exchange;
    const parent = this.#exchange.node();
    if (parent === undefined || !this.#learned(parent)) return;
    // It would be replicated until it gets a name, and could not get one here.
    if (isLocal(parent.id)) return this.#exchange.fail(-ERRNO.EOPNOTSUPP);
    // Owner, group and mode come from the directory it was asked for in, although it is made in another.
    const mode = request.u32(CREATE_IN.mode);
    const mutation = this.#newborn(OP.create, parent, NAMELESS, mode, request.u32(CREATE_IN.umask));
    const directory = nameless.directory();
    if (typeof directory === "number") return this.#exchange.fail(directory);
    mutation.c = directory.id;
    mutation.name = nameOf(mutation.id);
    const result = this.#exchange.mutate(mutation);
    const { created } = tree;
    if (result < 0 || created === undefined) return this.#exchange.fail(result < 0 ? result : -ERRNO.EIO);
    nameless.add(created.id);
    this.#exchange.opened(created, request.u32(CREATE_IN.flags));
    this.commitTmpfile(created);
  }

  /** The reply to TMPFILE, whose file is there. */
  commitTmpfile(made: Held): void {
    const parent = this.#exchange.node();
    if (parent === undefined) return;
    const failed = this.#hasDefaultAcl(parent) ? this.#inheritAcl(parent, made) : 0;
    if (failed < 0) return this.#exchange.fail(failed);
    this.#exchange.commitEntry(made, true);
  }

  /** Gives a file the ACL that the directory's default says. */
  #inheritAcl(parent: Held, made: Held): number {
    const { backing, mutation, request, road } = this.#exchange;
    // The request is short: behind it is room for the longest value, where a record's payload has to be.
    const address = request.address + request.end;
    const length = backing.getxattr(parent.path, DEFAULT_ACL, address, XATTR_MAX);
    if (length < 0) return length;
    const acl = request.bytes.subarray(request.end, request.end + length);
    if (!inheritAcl(acl, request.u32(CREATE_IN.mode))) return -ERRNO.EIO;
    mutation.reset(OP.setxattr, made.id);
    mutation.name = ACCESS_ACL;
    mutation.payloadAddress = address;
    mutation.payloadLength = length;
    return road.mutate(mutation, 0);
  }

  /** One more name. */
  link(): void {
    const request = this.#exchange.request;
    const name = request.name(LINK_IN.sizeof);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const { mutation, nameless } = this.#exchange;
    const id = this.#exchange.idOf(request.number(LINK_IN.oldnodeid));
    if (this.#exchange.excluded(parent, name) !== isLocal(id)) return this.#exchange.fail(-ERRNO.EXDEV);
    if (nameless.has(id)) {
      if (!nameless.link(mutation, id, parent, name)) return this.#exchange.fail(-ERRNO.ENOENT);
    } else {
      mutation.reset(OP.link, id);
      mutation.c = parent.id;
      mutation.name = name;
    }
    let result = this.#exchange.mutate(mutation);
    if (result === -ERRNO.EEXIST && this.#exchange.repeated(parent, name)) {
      result = this.#exchange.objects.idAt(parent, name) === id ? 0 : result;
    }
    if (result < 0) return this.#exchange.fail(result);
    nameless.named(id);
    const held = this.#exchange.objects.get(id);
    if (held === undefined) return this.#exchange.fail(-ERRNO.ESTALE);
    this.#exchange.commitEntry(held, false);
  }

  /** A name less: UNLINK and RMDIR. */
  unlink(op: number): void {
    const parent = this.#exchange.node();
    if (parent === undefined) return;
    const name = this.#exchange.request.name(0);
    if (this.#exchange.hidden(parent, name)) return this.#exchange.fail(-ERRNO.EPERM);
    const held = this.#exchange.objects.lookup(parent, name);
    if (held === -ERRNO.ENOENT && this.#exchange.repeated(parent, name)) return this.#exchange.ok(0);
    if (typeof held === "number") return this.#exchange.fail(held);
    const mutation = this.#exchange.mutation.reset(op, held.id);
    mutation.c = parent.id;
    mutation.name = name;
    mutation.a = this.#loses(held) ? 1 : 0;
    if (mutation.a === 1 && !this.#exchange.road.keepOrphan(held)) return this.#exchange.fail(-ERRNO.EIO);
    this.#exchange.mutateAndCommit(mutation);
    if (mutation.a === 1 && !held.kept) this.#exchange.road.unkeepOrphan(held);
  }

  /** Whether the object is open and about to lose its last name: then someone must hold it. */
  #loses(held: Held): boolean {
    if (held.type !== S_IF.REG || held.opens === 0) return false;
    return this.#exchange.backing.statx(held.path, this.#exchange.stat) >= 0 &&
      this.#exchange.stat.nlink <= 1;
  }

  /** Whether a rename would bring something over the border, or move the border itself. */
  #crosses(held: Held, flags: number, { from, name, to, other }: Way): boolean {
    const { objects } = this.#exchange;
    if (objects.excludes(to, other) !== isLocal(held.id)) return true;
    if (held.type !== S_IF.DIR && (flags & RENAME.EXCHANGE) === 0) return false;
    // What is beneath it would be excluded and was not, or the reverse; the other one of an exchange likewise.
    return objects.onTheWay(from, name) || objects.onTheWay(to, other);
  }

  /** Notes an exchange on this node alone before it is done. Answers false where it was done already, with the reply given. */
  #swaps(held: Held): boolean {
    const { road, request, root } = this.#exchange;
    const before = request.resent ? road.swapOf(root, request.unique) : 0;
    if (before !== 0 && before !== held.id) {
      road.noteSwap(root, 0, 0);
      this.#exchange.ok(0);
      return false;
    }
    road.noteSwap(root, request.unique, held.id);
    return true;
  }

  /** Another name. `nameAt`: where the old one stands in the body. */
  rename(nameAt: number, flags: number): void {
    const request = this.#exchange.request;
    // A whiteout is a new object without an id: the copies would differ from there on.
    if ((flags & RENAME.WHITEOUT) !== 0) return this.#exchange.fail(-ERRNO.EINVAL);
    const from = this.#exchange.node();
    if (from === undefined) return;
    const to = this.#exchange.objects.get(this.#exchange.idOf(request.number(RENAME_IN.newdir)));
    if (to === undefined) return this.#exchange.fail(-ERRNO.ESTALE);
    const name = request.name(nameAt);
    const other = request.name(nameAt + name.length);
    if (this.#exchange.hidden(from, name) || this.#exchange.hidden(to, other)) {
      return this.#exchange.fail(-ERRNO.EPERM);
    }
    const held = this.#exchange.objects.lookup(from, name);
    if (held === -ERRNO.ENOENT && this.#exchange.repeated(from, name)) return this.#exchange.ok(0);
    if (typeof held === "number") return this.#exchange.fail(held);
    if (this.#crosses(held, flags, { from, name, to, other })) return this.#exchange.fail(-ERRNO.EXDEV);
    if ((flags & RENAME.EXCHANGE) !== 0 && isLocal(held.id) && !this.#swaps(held)) return;
    const displaced = this.#exchange.objects.lookup(to, other);
    const mutation = this.#exchange.mutation.reset(OP.rename, held.id);
    mutation.c = from.id;
    mutation.a = to.id;
    mutation.name = name;
    mutation.other = other;
    mutation.b = flags & RENAME_BITS.flags;
    if (typeof displaced !== "number") {
      mutation.displaced = displaced.id;
      if (flags === 0 && displaced.id !== held.id && this.#loses(displaced)) {
        if (!this.#exchange.road.keepOrphan(displaced)) return this.#exchange.fail(-ERRNO.EIO);
        mutation.b |= RENAME_BITS.displacedOpen;
      }
    }
    this.#exchange.mutateAndCommit(mutation);
    if ((flags & RENAME.EXCHANGE) !== 0 && isLocal(held.id)) {
      this.#exchange.road.noteSwap(this.#exchange.root, 0, 0);
    }
    const keeps = (mutation.b & RENAME_BITS.displacedOpen) !== 0;
    if (keeps && typeof displaced !== "number" && !displaced.kept) {
      this.#exchange.road.unkeepOrphan(displaced);
    }
  }
}
