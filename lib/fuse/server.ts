/**
 * One FUSE connection: each request becomes a look at the directory beneath, answered at once, or a mutation, handed to
 * the data road and answered when every member has it.
 *
 * Exactly one reply per request. Names come as they stand in the request; objects are ids, and the root of this
 * connection is node 1.
 *
 * @module
 */

import { addressOf } from "../system/address.ts";
import type { Backing, Name } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { O, RENAME, S_IF, S_IS, SEEK } from "../system/linux.ts";
import { Statfs, Statx } from "../system/statx.ts";
import { OP } from "../journal/record.ts";
import { cbytes } from "../replication/bytes.ts";
import { Mutation, RENAME_BITS, SETATTR, SETATTR_BITS } from "../replication/mutation.ts";
import { type Held, LIMBO_NAME, type Objects, OWN_XATTR_PREFIX } from "../replication/objects.ts";
import type { Tree } from "../replication/tree.ts";
import {
  BATCH_FORGET_IN,
  COPY_FILE_RANGE_IN,
  CREATE_IN,
  FALLOCATE_IN,
  FORGET_ONE,
  FSYNC_IN,
  GETXATTR_IN,
  LINK_IN,
  LSEEK_IN,
  MKDIR_IN,
  MKNOD_IN,
  NAME_OFFSET_DIRENTPLUS,
  OPEN_IN,
  OUT_HEADER,
  READ_IN,
  recordAlign,
  RENAME2_IN,
  RENAME_IN,
  ROOT_ID,
  SETATTR_IN,
  SETXATTR_IN,
  WRITE_IN,
} from "./layout.ts";
import {
  FOPEN,
  FSYNC_FDATASYNC,
  OPCODE,
  OPEN_KILL_SUIDGID,
  SETXATTR_ACL_KILL_SGID,
  WRITE,
} from "./opcode.ts";
import { type Granted, INIT_OPTIONS, negotiate } from "./init.ts";
import {
  attrOut,
  createOut,
  dirent,
  direntplus,
  entryOut,
  lseekOut,
  negativeEntryOut,
  openOut,
  outHeader,
  statfsOut,
  type Validity,
  writeOut,
  xattrSizeOut,
} from "./reply.ts";
import type { Request } from "./request.ts";

const ENOENT = 2;
const EPERM = 1;
const EEXIST = 17;
const EINVAL = 22;
const EFBIG = 27;
const ENOSYS = 38;
const ENODATA = 61;
const ERANGE = 34;
const ENOTTY = 25;
const ESTALE = 116;
const EPROTO = 71;
const EIO = 5;
/** We alone change the tree, so what the kernel was told stays true: an hour, whole seconds. */
const VALIDITY: Validity = { entrySec: 3600, attrSec: 3600 };
const LIMBO = cbytes(LIMBO_NAME);
/** What `mke2fs` puts into the root of a file system; it belongs to each node's own disk. */
const LOST_FOUND = cbytes("lost+found");
const DEFAULT_ACL = cbytes("system.posix_acl_default");
const OWN_PREFIX = cbytes(OWN_XATTR_PREFIX).subarray(0, OWN_XATTR_PREFIX.length);
const REPLY_MAX = (1 << 20) + 4096;

/** A mutation found in the log under the id of a resent request. */
export interface Logged {
  readonly op: number;
  readonly id: number;
  readonly length: number;
}

/** The data road, as a connection sees it. */
export interface Road {
  /**
   * Numbers, logs, executes and sends a mutation. Answers what was done, or −errno with nothing changed. A reply that
   * follows goes through {@link answer}.
   */
  mutate(mutation: Mutation, unique: number): number;
  /** Gives the reply to the last mutation, of `length` bytes at `address`, when every member has it. */
  answer(fd: number, bytes: Uint8Array, address: number, length: number): void;
  /** Gives a reply that waits for nobody: bytes, or −errno. */
  reply(fd: number, address: number, length: number): number;
  /**
   * Answers once object `held`, or all that was written to it so far, is on every member's disk.
   * `size`: of the write that is answered, or −1 for an fsync.
   */
  sync(held: Held, request: Request, fd: number, dataOnly: boolean, size: number): void;
  /** The mutation a former process logged for this request and applied, if it did. */
  logged(unique: number): Logged | undefined;
  /** Takes a fresh id. */
  allocate(): number;
  /** Puts the descriptor of an object that is about to lose its last name into the keeper's hands. False: it cannot. */
  keepOrphan(held: Held): boolean;
  /** It kept its name: the keeper need not hold it. */
  unkeepOrphan(held: Held): void;
  /** The kernel asks no more about an orphan. */
  releaseOrphan(held: Held): void;
}

/** What {@link FuseServer} needs. */
export interface FuseServerOptions {
  readonly fd: number;
  /** Index of the module's directory. */
  readonly root: number;
  readonly rootFd: number;
  readonly backing: Backing;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly road: Road;
  readonly request: Request;
  /** What INIT granted, when a former process answered it. */
  readonly granted?: Granted;
  /** Called once INIT is answered. */
  readonly onGranted: (granted: Granted) => void;
  readonly log: (message: string) => void;
  /** Where the reply buffer lies; a test has its own memory. */
  readonly addressOf?: (bytes: Uint8Array<ArrayBuffer>) => number;
}

interface DirectoryHandle {
  readonly fd: number;
  position: bigint;
}

/** One connection of the kernel. */
export class FuseServer {
  readonly fd: number;
  readonly root: number;
  readonly #rootFd: number;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #tree: Tree;
  readonly #road: Road;
  readonly #request: Request;
  readonly #options: FuseServerOptions;
  #granted: Granted | undefined;
  /** Reply buffer: header, body. */
  readonly #reply: Uint8Array<ArrayBuffer> = new Uint8Array(REPLY_MAX);
  readonly #out: DataView<ArrayBuffer> = new DataView(this.#reply.buffer);
  readonly #replyAddress: number;
  readonly #stat = new Statx();
  readonly #statfs = new Statfs();
  readonly #mutation = new Mutation();
  readonly #blob = new Uint8Array(SETATTR.bytes);
  readonly #blobView = new DataView(this.#blob.buffer);
  readonly #eight = new Uint8Array(8);
  readonly #directories = new Map<number, DirectoryHandle>();
  readonly #dirents = new Dirents(32768);
  #nextHandle: number;

  constructor(options: FuseServerOptions) {
    this.fd = options.fd;
    this.root = options.root;
    this.#rootFd = options.rootFd;
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#tree = options.tree;
    this.#road = options.road;
    this.#request = options.request;
    this.#options = options;
    this.#replyAddress = (options.addressOf ?? addressOf)(this.#reply);
    this.#granted = options.granted;
    // A directory handle of a former process must not be taken for one of ours.
    this.#nextHandle = (options.fd + 1) * 0x1_0000_0000 + options.rootFd * 0x10_0000;
  }

  /** Whether INIT is done. */
  get granted(): Granted | undefined {
    return this.#granted;
  }

  /** Closes what it opened. */
  close(): void {
    for (const handle of this.#directories.values()) this.#backing.close(handle.fd);
    this.#directories.clear();
  }

  /** Serves the request in the buffer. */
  handle(): void {
    const request = this.#request;
    if (request.resent && this.#answerFromLog()) return;
    switch (request.opcode) {
      case OPCODE.WRITE:
        return this.#write();
      case OPCODE.READ:
        return this.#read();
      case OPCODE.LOOKUP:
        return this.#lookup();
      case OPCODE.GETATTR:
        return this.#getattr();
      case OPCODE.FORGET:
        return this.#forget(this.#id(), request.number(0));
      case OPCODE.BATCH_FORGET:
        return this.#batchForget();
      case OPCODE.CREATE:
        return this.#create();
      case OPCODE.OPEN:
        return this.#open();
      case OPCODE.RELEASE:
        return this.#release();
      case OPCODE.FSYNC:
      case OPCODE.FSYNCDIR:
        return this.#fsync();
      case OPCODE.SETATTR:
        return this.#setattr();
      case OPCODE.MKDIR:
        return this.#make(
          OP.mkdir,
          MKDIR_IN.sizeof,
          request.u32(MKDIR_IN.mode),
          request.u32(MKDIR_IN.umask),
          0,
        );
      case OPCODE.MKNOD:
        return this.#make(
          OP.mknod,
          MKNOD_IN.sizeof,
          request.u32(MKNOD_IN.mode),
          request.u32(MKNOD_IN.umask),
          request.u32(MKNOD_IN.rdev),
        );
      case OPCODE.SYMLINK:
        return this.#symlink();
      case OPCODE.LINK:
        return this.#link();
      case OPCODE.UNLINK:
        return this.#unlink(OP.unlink);
      case OPCODE.RMDIR:
        return this.#unlink(OP.rmdir);
      case OPCODE.RENAME:
        return this.#rename(RENAME_IN.sizeof, 0);
      case OPCODE.RENAME2:
        return this.#rename(RENAME2_IN.sizeof, request.u32(RENAME2_IN.flags));
      case OPCODE.READLINK:
        return this.#readlink();
      case OPCODE.OPENDIR:
        return this.#opendir();
      case OPCODE.READDIR:
        return this.#readdir(false);
      case OPCODE.READDIRPLUS:
        return this.#readdir(true);
      case OPCODE.RELEASEDIR:
        return this.#releasedir();
      case OPCODE.GETXATTR:
        return this.#getxattr();
      case OPCODE.LISTXATTR:
        return this.#listxattr();
      case OPCODE.SETXATTR:
        return this.#setxattr();
      case OPCODE.REMOVEXATTR:
        return this.#removexattr();
      case OPCODE.STATFS:
        return this.#statfsReply();
      case OPCODE.FALLOCATE:
        return this.#fallocate();
      case OPCODE.LSEEK:
        return this.#lseek();
      case OPCODE.COPY_FILE_RANGE:
        return this.#copy();
      case OPCODE.INIT:
        return this.#init();
      // An interrupt is a wish: what it is about is nearly done. It has no reply.
      case OPCODE.INTERRUPT:
        return;
      case OPCODE.IOCTL:
        return this.#fail(-ENOTTY);
      // ENOSYS makes the kernel do it itself from now on: FLUSH needs nothing, writes are answered when all have them.
      default:
        return this.#fail(-ENOSYS);
    }
  }

  #id(): number {
    const { nodeid } = this.#request;
    return nodeid === ROOT_ID ? this.root + 1 : nodeid;
  }

  #idOf(nodeid: number): number {
    return nodeid === ROOT_ID ? this.root + 1 : nodeid;
  }

  #node(): Held | undefined {
    const held = this.#objects.get(this.#id());
    if (held === undefined) this.#fail(-ESTALE);
    return held;
  }

  #fail(error: number): void {
    const { uniqueLow, uniqueHigh } = this.#request;
    outHeader(this.#out, 0, OUT_HEADER.sizeof, error, uniqueLow, uniqueHigh);
    this.#send(OUT_HEADER.sizeof);
  }

  /** Sends a reply whose body of `length` bytes stands behind the header's place. */
  #ok(length: number): void {
    const { uniqueLow, uniqueHigh } = this.#request;
    outHeader(this.#out, 0, OUT_HEADER.sizeof + length, 0, uniqueLow, uniqueHigh);
    this.#send(OUT_HEADER.sizeof + length);
  }

  #send(length: number): void {
    const result = this.#road.reply(this.fd, this.#replyAddress, length);
    // ENOENT: the request was interrupted meanwhile. ENODEV: the connection was aborted; the loop sees that by itself.
    if (result < 0 && result !== -ENOENT && result !== -19) {
      this.#options.log(`Cannot answer request ${this.#request.opcode}: errno ${-result}`);
    }
  }

  /** The reply to a mutation: given when every member has it. */
  #commit(length: number): void {
    const { uniqueLow, uniqueHigh } = this.#request;
    outHeader(this.#out, 0, OUT_HEADER.sizeof + length, 0, uniqueLow, uniqueHigh);
    this.#road.answer(this.fd, this.#reply, this.#replyAddress, OUT_HEADER.sizeof + length);
  }

  #mutate(mutation: Mutation): number {
    const { op, id, a, b } = mutation;
    if (!Number.isSafeInteger(id)) return -ESTALE;
    if (!namesEnd(mutation)) return -EIO;
    // A record counts in 53 bits; the kernel lets an application name any offset below 2^63.
    if (op >= OP.write && op <= OP.copy && !Number.isSafeInteger(a + b)) return -EFBIG;
    return this.#road.mutate(mutation, this.#request.unique);
  }

  /** Executes a mutation that has no result but success. */
  #mutateAndCommit(mutation: Mutation): void {
    const result = this.#mutate(mutation);
    if (result < 0) this.#fail(result);
    else this.#commit(0);
  }

  /** A request that a former process had read: when the log says it was done, it is answered, not repeated. */
  #answerFromLog(): boolean {
    const request = this.#request;
    const logged = this.#road.logged(request.unique);
    if (logged === undefined) return false;
    switch (request.opcode) {
      case OPCODE.CREATE:
      case OPCODE.MKDIR:
      case OPCODE.MKNOD:
      case OPCODE.SYMLINK:
      case OPCODE.LINK: {
        const held = this.#objects.get(logged.id);
        if (held === undefined) return this.#fail(-ESTALE), true;
        if (request.opcode === OPCODE.CREATE) held.opens++;
        this.#commitEntry(held, request.opcode === OPCODE.CREATE);
        return true;
      }
      case OPCODE.SETATTR: {
        const held = this.#objects.get(logged.id);
        if (held === undefined) return this.#fail(-ESTALE), true;
        this.#commitAttr(held);
        return true;
      }
      case OPCODE.WRITE:
      case OPCODE.COPY_FILE_RANGE:
        this.#commit(writeOut(this.#out, OUT_HEADER.sizeof, logged.length));
        return true;
      case OPCODE.OPEN: {
        const held = this.#objects.get(logged.id);
        if (held !== undefined) held.opens++;
        this.#commit(openOut(this.#out, OUT_HEADER.sizeof, 0, FOPEN.KEEP_CACHE));
        return true;
      }
      case OPCODE.UNLINK:
      case OPCODE.RMDIR:
      case OPCODE.RENAME:
      case OPCODE.RENAME2:
      case OPCODE.FALLOCATE:
      case OPCODE.SETXATTR:
      case OPCODE.REMOVEXATTR:
        this.#commit(0);
        return true;
      default:
        return false;
    }
  }

  #init(): void {
    const request = this.#request;
    const result = negotiate(
      request.view,
      request.body,
      request.end - request.body,
      this.#out,
      OUT_HEADER.sizeof,
      INIT_OPTIONS,
    );
    if (result.kind === "refused") {
      this.#options.log(result.reason);
      return this.#fail(-EPROTO);
    }
    this.#ok(result.length);
    if (result.kind === "granted") {
      this.#granted = result.granted;
      this.#options.onGranted(result.granted);
    }
  }

  /** Names in the root that are not the application's. */
  #hidden(parent: Held, name: Uint8Array): boolean {
    return parent.id === this.root + 1 && (sameName(name, LIMBO) || sameName(name, LOST_FOUND));
  }

  #lookup(): void {
    const parent = this.#node();
    if (parent === undefined) return;
    const name = this.#request.name(0);
    if (this.#hidden(parent, name)) return this.#fail(-ENOENT);
    const held = this.#objects.lookup(parent, name);
    if (typeof held === "number") return this.#fail(held);
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) return this.#fail(failed);
    held.lookups++;
    this.#ok(entryOut(this.#out, OUT_HEADER.sizeof, held.id, 0, this.#stat, VALIDITY));
  }

  #forget(id: number, count: number): void {
    const held = this.#objects.peek(id);
    if (held !== undefined && this.#objects.forget(id, count)) this.#road.releaseOrphan(held);
  }

  #batchForget(): void {
    const request = this.#request;
    const count = request.u32(BATCH_FORGET_IN.count);
    const available = Math.floor((request.end - request.body - BATCH_FORGET_IN.sizeof) / FORGET_ONE.sizeof);
    for (let i = 0; i < Math.min(count, available); i++) {
      const at = BATCH_FORGET_IN.sizeof + i * FORGET_ONE.sizeof;
      this.#forget(
        this.#idOf(request.number(at + FORGET_ONE.nodeid)),
        request.number(at + FORGET_ONE.nlookup),
      );
    }
  }

  #getattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) return this.#fail(failed);
    this.#ok(attrOut(this.#out, OUT_HEADER.sizeof, held.id, this.#stat, VALIDITY));
  }

  #commitAttr(held: Held): void {
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) return this.#fail(failed);
    this.#commit(attrOut(this.#out, OUT_HEADER.sizeof, held.id, this.#stat, VALIDITY));
  }

  #commitEntry(held: Held, opened: boolean): void {
    const failed = this.#backing.statx(held.path, this.#stat);
    if (failed < 0) return this.#fail(failed);
    held.lookups++;
    const length = opened
      ? createOut(this.#out, OUT_HEADER.sizeof, held.id, 0, this.#stat, VALIDITY, 0, FOPEN.KEEP_CACHE)
      : entryOut(this.#out, OUT_HEADER.sizeof, held.id, 0, this.#stat, VALIDITY);
    this.#commit(length);
  }

  #setattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const request = this.#request;
    const valid = request.u32(SETATTR_IN.valid);
    const mutation = this.#mutation.reset(OP.setattr, held.id);
    mutation.a = valid & (SETATTR_BITS.mode | SETATTR_BITS.uid | SETATTR_BITS.gid | SETATTR_BITS.size |
      SETATTR_BITS.atime | SETATTR_BITS.mtime | SETATTR_BITS.killSuidgid);
    const blob = this.#blobView;
    blob.setUint32(SETATTR.mode, request.u32(SETATTR_IN.mode), true);
    blob.setUint32(SETATTR.uid, request.u32(SETATTR_IN.uid), true);
    blob.setUint32(SETATTR.gid, request.u32(SETATTR_IN.gid), true);
    blob.setBigUint64(SETATTR.size, request.view.getBigUint64(request.body + SETATTR_IN.size, true), true);
    blob.setBigInt64(SETATTR.atime, this.#time(SETATTR_IN.atime, SETATTR_IN.atimensec), true);
    blob.setBigInt64(SETATTR.mtime, this.#time(SETATTR_IN.mtime, SETATTR_IN.mtimensec), true);
    mutation.name = this.#blob;
    if (!Number.isSafeInteger(request.number(SETATTR_IN.size))) return this.#fail(-EFBIG);
    const result = this.#mutate(mutation);
    if (result < 0) return this.#fail(result);
    this.#commitAttr(held);
  }

  #time(seconds: number, nanoseconds: number): bigint {
    const request = this.#request;
    return request.view.getBigInt64(request.body + seconds, true) * 1_000_000_000n +
      BigInt(request.u32(nanoseconds));
  }

  #read(): void {
    const held = this.#node();
    if (held === undefined) return;
    const fd = this.#objects.io(held);
    if (fd < 0) return this.#fail(fd);
    const request = this.#request;
    const size = Math.min(request.u32(READ_IN.size), 1 << 20);
    const got = this.#backing.pread(
      fd,
      this.#replyAddress + OUT_HEADER.sizeof,
      size,
      request.number(READ_IN.offset),
    );
    if (got < 0) return this.#fail(got);
    this.#ok(got);
  }

  #write(): void {
    const request = this.#request;
    const mutation = this.#mutation.reset(OP.write, this.#id());
    const size = request.u32(WRITE_IN.size);
    const flags = request.u32(WRITE_IN.writeFlags);
    if (WRITE_IN.sizeof + size > request.end - request.body) return this.#fail(-EIO);
    mutation.a = request.number(WRITE_IN.offset);
    mutation.b = size;
    mutation.c = flags & WRITE.KILL_SUIDGID ? 1 : 0;
    mutation.payloadAddress = request.address + request.body + WRITE_IN.sizeof;
    mutation.payloadLength = size;
    // O_DSYNC and O_SYNC of a direct write are ours to keep; for buffered ones the kernel sends FSYNC itself.
    const durable = (request.u32(WRITE_IN.flags) & O.DSYNC) !== 0 && (flags & WRITE.CACHE) === 0;
    const result = this.#mutate(mutation);
    if (result < 0) return this.#fail(result);
    if (!durable) return this.#commit(writeOut(this.#out, OUT_HEADER.sizeof, result));
    const held = this.#objects.get(mutation.id);
    if (held === undefined) return this.#fail(-ESTALE);
    this.#road.sync(held, request, this.fd, true, result);
  }

  #open(): void {
    const held = this.#node();
    if (held === undefined) return;
    const request = this.#request;
    const fd = this.#objects.io(held);
    if (fd < 0) return this.#fail(fd);
    const flags = request.u32(OPEN_IN.flags);
    const reply = openOut(this.#out, OUT_HEADER.sizeof, 0, FOPEN.KEEP_CACHE);
    if ((flags & O.TRUNC) === 0) {
      held.opens++;
      return this.#ok(reply);
    }
    const result = this.#truncate(held, (request.u32(OPEN_IN.openFlags) & OPEN_KILL_SUIDGID) !== 0);
    if (result < 0) return this.#fail(result);
    held.opens++;
    this.#commit(reply);
  }

  #truncate(held: Held, kill: boolean): number {
    const mutation = this.#mutation.reset(OP.setattr, held.id);
    mutation.a = SETATTR_BITS.size | (kill ? SETATTR_BITS.killSuidgid : 0);
    this.#blob.fill(0);
    mutation.name = this.#blob;
    return this.#mutate(mutation);
  }

  #release(): void {
    const held = this.#objects.peek(this.#id());
    if (held !== undefined && held.opens > 0) held.opens--;
    this.#ok(0);
  }

  #fsync(): void {
    const held = this.#node();
    if (held === undefined) return;
    const request = this.#request;
    const dataOnly = (request.u32(FSYNC_IN.fsyncFlags) & FSYNC_FDATASYNC) !== 0;
    this.#road.sync(held, request, this.fd, dataOnly, -1);
  }

  /** The parent of a new name, or undefined with the reply given. */
  #parentOf(name: Uint8Array): Held | undefined {
    const parent = this.#node();
    if (parent === undefined) return undefined;
    if (this.#hidden(parent, name)) {
      this.#fail(-EPERM);
      return undefined;
    }
    const failed = this.#backing.statx(parent.path, this.#stat);
    if (failed < 0) {
      this.#fail(failed);
      return undefined;
    }
    return parent;
  }

  /** Fills in what a new object gets: id, owner, mode. The parent's attributes stand in `#stat`. */
  #newborn(op: number, parent: Held, mode: number, umask: number): Mutation {
    const mutation = this.#mutation.reset(op, this.#road.allocate());
    mutation.c = parent.id;
    mutation.uid = this.#request.uid;
    mutation.gid = this.#stat.mode & S_IS.GID ? this.#stat.gid : this.#request.gid;
    // With a default ACL the umask does not count: acl(5), "object creation and default ACLs".
    mutation.a = this.#hasDefaultAcl(parent) ? mode : mode & ~umask;
    return mutation;
  }

  #hasDefaultAcl(parent: Held): boolean {
    if (parent.defaultAcl < 0) {
      parent.defaultAcl = this.#backing.getxattr(parent.path, DEFAULT_ACL, 0, 0) > 0 ? 1 : 0;
    }
    return parent.defaultAcl === 1;
  }

  #make(op: number, nameAt: number, mode: number, umask: number, rdev: number): void {
    const name = this.#request.name(nameAt);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const mutation = this.#newborn(op, parent, mode, umask);
    mutation.a += rdev * 65536;
    mutation.name = name;
    const result = this.#mutate(mutation);
    const { created } = this.#tree;
    if (result < 0 || created === undefined) return this.#fail(result < 0 ? result : -EIO);
    this.#commitEntry(created, false);
  }

  #symlink(): void {
    const name = this.#request.name(0);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const mutation = this.#newborn(OP.symlink, parent, 0, 0);
    mutation.name = name;
    mutation.other = this.#request.name(name.length);
    const result = this.#mutate(mutation);
    const { created } = this.#tree;
    if (result < 0 || created === undefined) return this.#fail(result < 0 ? result : -EIO);
    this.#commitEntry(created, false);
  }

  #create(): void {
    const request = this.#request;
    const name = request.name(CREATE_IN.sizeof);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const flags = request.u32(CREATE_IN.flags);
    const mutation = this.#newborn(
      OP.create,
      parent,
      request.u32(CREATE_IN.mode),
      request.u32(CREATE_IN.umask),
    );
    mutation.name = name;
    const result = this.#mutate(mutation);
    if (result === -EEXIST && (flags & O.EXCL) === 0) return this.#openExisting(parent, name, flags);
    const { created } = this.#tree;
    if (result < 0 || created === undefined) return this.#fail(result < 0 ? result : -EIO);
    created.opens++;
    this.#commitEntry(created, true);
  }

  /** CREATE without O_EXCL on a name that appeared since the kernel looked. */
  #openExisting(parent: Held, name: Name, flags: number): void {
    const held = this.#objects.lookup(parent, name);
    if (typeof held === "number") return this.#fail(held);
    const fd = this.#objects.io(held);
    if (fd < 0) return this.#fail(fd);
    if (flags & O.TRUNC) {
      const result = this.#truncate(held, true);
      if (result < 0) return this.#fail(result);
    }
    held.opens++;
    this.#commitEntry(held, true);
  }

  #link(): void {
    const request = this.#request;
    const name = request.name(LINK_IN.sizeof);
    const parent = this.#parentOf(name);
    if (parent === undefined) return;
    const mutation = this.#mutation.reset(OP.link, this.#idOf(request.number(LINK_IN.oldnodeid)));
    mutation.c = parent.id;
    mutation.name = name;
    const result = this.#mutate(mutation);
    if (result < 0) return this.#fail(result);
    const held = this.#objects.get(mutation.id);
    if (held === undefined) return this.#fail(-ESTALE);
    this.#commitEntry(held, false);
  }

  #unlink(op: number): void {
    const parent = this.#node();
    if (parent === undefined) return;
    const name = this.#request.name(0);
    if (this.#hidden(parent, name)) return this.#fail(-EPERM);
    const held = this.#objects.lookup(parent, name);
    if (typeof held === "number") return this.#fail(held);
    const mutation = this.#mutation.reset(op, held.id);
    mutation.c = parent.id;
    mutation.name = name;
    mutation.a = this.#loses(held) ? 1 : 0;
    if (mutation.a === 1 && !this.#road.keepOrphan(held)) return this.#fail(-EIO);
    this.#mutateAndCommit(mutation);
    if (mutation.a === 1 && !held.kept) this.#road.unkeepOrphan(held);
  }

  /** Whether the object is open and about to lose its last name: then someone must hold it. */
  #loses(held: Held): boolean {
    if (held.type !== S_IF.REG || held.opens === 0) return false;
    return this.#backing.statx(held.path, this.#stat) >= 0 && this.#stat.nlink <= 1;
  }

  #rename(nameAt: number, flags: number): void {
    const request = this.#request;
    // A whiteout is a new object without an id: the copies would differ from there on.
    if ((flags & RENAME.WHITEOUT) !== 0) return this.#fail(-EINVAL);
    const from = this.#node();
    if (from === undefined) return;
    const to = this.#objects.get(this.#idOf(request.number(RENAME_IN.newdir)));
    if (to === undefined) return this.#fail(-ESTALE);
    const name = request.name(nameAt);
    const other = request.name(nameAt + name.length);
    if (this.#hidden(from, name) || this.#hidden(to, other)) return this.#fail(-EPERM);
    const held = this.#objects.lookup(from, name);
    if (typeof held === "number") return this.#fail(held);
    const displaced = this.#objects.lookup(to, other);
    const mutation = this.#mutation.reset(OP.rename, held.id);
    mutation.c = from.id;
    mutation.a = to.id;
    mutation.name = name;
    mutation.other = other;
    mutation.b = flags & RENAME_BITS.flags;
    if (typeof displaced !== "number") {
      mutation.displaced = displaced.id;
      if (flags === 0 && displaced.id !== held.id && this.#loses(displaced)) {
        if (!this.#road.keepOrphan(displaced)) return this.#fail(-EIO);
        mutation.b |= RENAME_BITS.displacedOpen;
      }
    }
    this.#mutateAndCommit(mutation);
    const keeps = (mutation.b & RENAME_BITS.displacedOpen) !== 0;
    if (keeps && typeof displaced !== "number" && !displaced.kept) this.#road.unkeepOrphan(displaced);
  }

  #readlink(): void {
    const held = this.#node();
    if (held === undefined) return;
    const got = this.#backing.readlink(held.path, this.#replyAddress + OUT_HEADER.sizeof, 4095);
    if (got < 0) return this.#fail(got);
    this.#ok(got);
  }

  #opendir(): void {
    const held = this.#node();
    if (held === undefined) return;
    const fd = this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return this.#fail(fd);
    const handle = this.#nextHandle++;
    this.#directories.set(handle, { fd, position: 0n });
    this.#ok(openOut(this.#out, OUT_HEADER.sizeof, handle, FOPEN.KEEP_CACHE));
  }

  #releasedir(): void {
    const handle = this.#request.number(0);
    const directory = this.#directories.get(handle);
    if (directory !== undefined) {
      this.#backing.close(directory.fd);
      this.#directories.delete(handle);
    }
    this.#ok(0);
  }

  /** The directory's handle; after a restart of ours it is opened anew, at the place the kernel says. */
  #directory(handle: number, held: Held): DirectoryHandle | number {
    const known = this.#directories.get(handle);
    if (known !== undefined) return known;
    const fd = this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return fd;
    const opened = { fd, position: 0n };
    this.#directories.set(handle, opened);
    return opened;
  }

  #readdir(plus: boolean): void {
    const request = this.#request;
    const held = this.#node();
    if (held === undefined) return;
    const directory = this.#directory(request.number(READ_IN.fh), held);
    if (typeof directory === "number") return this.#fail(directory);
    const offset = request.view.getBigInt64(request.body + READ_IN.offset, true);
    if (offset !== directory.position) {
      const failed = this.#backing.seekdir(directory.fd, offset);
      if (failed < 0) return this.#fail(failed);
      directory.position = offset;
    }
    const limit = OUT_HEADER.sizeof + Math.min(request.u32(READ_IN.size), 1 << 20);
    const used = this.#fillDirectory(held, directory, limit, plus);
    if (used < 0) return this.#fail(used);
    this.#ok(used - OUT_HEADER.sizeof);
  }

  #fillDirectory(held: Held, directory: DirectoryHandle, limit: number, plus: boolean): number {
    const entries = this.#dirents;
    let at: number = OUT_HEADER.sizeof;
    for (;;) {
      const got = this.#backing.getdents(directory.fd, entries);
      if (got < 0) return at > OUT_HEADER.sizeof ? at : got;
      if (got === 0) return at;
      while (entries.next()) {
        const size = this.#putEntry(held, at, limit, plus);
        if (size < 0) {
          // Full: the next call continues behind the last entry given.
          const failed = this.#backing.seekdir(directory.fd, directory.position);
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
        ? direntplus(this.#out, at, limit, parent.id, entries)
        : dirent(this.#out, at, limit, parent.id, entries);
      // Listed, not looked up: whatever stood in the buffer must not be taken for an object.
      if (plus && size > 0) negativeEntryOut(this.#out, at, 0);
      return size === 0 ? -1 : size;
    }
    const name = this.#dirents.bytes.subarray(entries.nameAt, entries.nameAt + entries.nameLength + 1);
    if (this.#hidden(parent, name)) return 0;
    const held = this.#objects.lookup(parent, name);
    // Gone between the listing and the look: not there.
    if (typeof held === "number") return 0;
    if (!plus) {
      const size = dirent(this.#out, at, limit, held.id, entries);
      return size === 0 ? -1 : size;
    }
    if (this.#backing.statx(held.path, this.#stat) < 0) return 0;
    const size = direntplus(this.#out, at, limit, held.id, entries);
    if (size === 0) return -1;
    entryOut(this.#out, at, held.id, 0, this.#stat, VALIDITY);
    held.lookups++;
    return size;
  }

  /** Our own attributes are not the application's. */
  #ownXattr(name: Uint8Array): boolean {
    for (let i = 0; i < OWN_PREFIX.length; i++) if (name[i] !== OWN_PREFIX[i]) return false;
    return true;
  }

  #getxattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const request = this.#request;
    const size = Math.min(request.u32(GETXATTR_IN.size), 65536);
    const name = request.name(GETXATTR_IN.sizeof);
    if (this.#ownXattr(name)) return this.#fail(-ENODATA);
    const got = this.#backing.getxattr(held.path, name, this.#replyAddress + OUT_HEADER.sizeof, size);
    if (got < 0) return this.#fail(got);
    this.#ok(size === 0 ? xattrSizeOut(this.#out, OUT_HEADER.sizeof, got) : got);
  }

  #listxattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const size = Math.min(this.#request.u32(GETXATTR_IN.size), 65536);
    const got = this.#backing.listxattr(held.path, this.#replyAddress + OUT_HEADER.sizeof, 65536);
    if (got < 0) return this.#fail(got);
    const kept = this.#dropOwnNames(OUT_HEADER.sizeof, OUT_HEADER.sizeof + got) - OUT_HEADER.sizeof;
    if (size === 0) return this.#ok(xattrSizeOut(this.#out, OUT_HEADER.sizeof, kept));
    if (kept > size) return this.#fail(-ERANGE);
    this.#ok(kept);
  }

  #dropOwnNames(start: number, end: number): number {
    let from = start;
    let to = start;
    while (from < end) {
      const nul = this.#reply.indexOf(0, from) + 1;
      if (nul <= 0 || nul > end) return to;
      if (!this.#ownXattr(this.#reply.subarray(from, nul))) {
        this.#reply.copyWithin(to, from, nul);
        to += nul - from;
      }
      from = nul;
    }
    return to;
  }

  #setxattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const request = this.#request;
    const extended = this.#granted?.setxattrExt === true;
    const nameAt = extended ? SETXATTR_IN.sizeof : 8;
    const name = request.name(nameAt);
    if (this.#ownXattr(name)) return this.#fail(-EPERM);
    const mutation = this.#mutation.reset(OP.setxattr, held.id);
    mutation.a = request.u32(SETXATTR_IN.flags);
    mutation.b = extended && request.u32(SETXATTR_IN.setxattrFlags) & SETXATTR_ACL_KILL_SGID ? 1 : 0;
    mutation.name = name;
    mutation.payloadLength = request.u32(SETXATTR_IN.size);
    mutation.payloadAddress = request.address + request.body + nameAt + name.length;
    if (nameAt + name.length + mutation.payloadLength > request.end - request.body) return this.#fail(-EIO);
    this.#mutateAndCommit(mutation);
  }

  #removexattr(): void {
    const held = this.#node();
    if (held === undefined) return;
    const name = this.#request.name(0);
    if (this.#ownXattr(name)) return this.#fail(-ENODATA);
    const mutation = this.#mutation.reset(OP.removexattr, held.id);
    mutation.name = name;
    this.#mutateAndCommit(mutation);
  }

  #statfsReply(): void {
    const failed = this.#backing.fstatfs(this.#rootFd, this.#statfs);
    if (failed < 0) return this.#fail(failed);
    this.#ok(statfsOut(this.#out, OUT_HEADER.sizeof, this.#statfs));
  }

  #fallocate(): void {
    const request = this.#request;
    const mutation = this.#mutation.reset(OP.fallocate, this.#id());
    mutation.a = request.number(FALLOCATE_IN.offset);
    mutation.b = request.number(FALLOCATE_IN.length);
    mutation.c = request.u32(FALLOCATE_IN.mode);
    this.#mutateAndCommit(mutation);
  }

  #lseek(): void {
    const held = this.#node();
    if (held === undefined) return;
    const fd = this.#objects.io(held);
    if (fd < 0) return this.#fail(fd);
    const whence = this.#request.u32(LSEEK_IN.whence);
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return this.#fail(-ENOSYS);
    const found = this.#backing.lseek(fd, this.#request.number(LSEEK_IN.offset), whence);
    if (found < 0) return this.#fail(found);
    this.#ok(lseekOut(this.#out, OUT_HEADER.sizeof, found));
  }

  #copy(): void {
    const request = this.#request;
    const mutation = this.#mutation.reset(OP.copy, this.#idOf(request.number(COPY_FILE_RANGE_IN.nodeidOut)));
    mutation.c = this.#id();
    mutation.a = request.number(COPY_FILE_RANGE_IN.offOut);
    // The reply counts in 32 bits, and a copy is done in one go: other requests wait meanwhile.
    mutation.b = Math.min(request.number(COPY_FILE_RANGE_IN.len), 1 << 20);
    this.#eight.set(request.bytes.subarray(request.body + COPY_FILE_RANGE_IN.offIn).subarray(0, 8));
    mutation.name = this.#eight;
    const result = this.#mutate(mutation);
    if (result < 0) return this.#fail(result);
    this.#commit(writeOut(this.#out, OUT_HEADER.sizeof, result));
  }
}

/** Whether each name of a mutation ends with its NUL: one of a request that was cut short does not. */
function namesEnd({ op, name, other }: Mutation): boolean {
  const named = op <= OP.rename || op === OP.setxattr || op === OP.removexattr;
  if (named && name.at(-1) !== 0) return false;
  return (op !== OP.symlink && op !== OP.rename) || other.at(-1) === 0;
}

function sameName(name: Uint8Array, other: Uint8Array): boolean {
  if (name.length !== other.length) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== other[i]) return false;
  return true;
}
