/**
 * One request and its reply: what every operation of a connection shares.
 *
 * Exactly one reply per request. Names come as they stand in the request; objects are ids, and the root of this
 * connection is node 1.
 *
 * @module
 */

import type { Durability } from "../config/types.ts";
import { addressOf } from "../system/address.ts";
import type { Backing } from "../system/backing.ts";
import { STATX, Statx, STATX_MASK, STATX_TIMELESS } from "../system/statx.ts";
import { OP } from "../journal/record.ts";
import { isLocal, LOCAL_FIRST } from "../replication/border.ts";
import { Mutation } from "../replication/mutation.ts";
import type { Held, Objects } from "../replication/objects.ts";
import type { Tree } from "../replication/tree.ts";
import { ERRNO } from "./errno.ts";
import { isHidden } from "./hidden.ts";
import type { Granted } from "./init.ts";
import { OUT_HEADER, ROOT_ID } from "./layout.ts";
import { Nameless } from "./nameless.ts";
import { FOPEN } from "./opcode.ts";
import { attrOut, createOut, entryOut, outHeader, type Validity } from "./reply.ts";
import type { Request } from "./request.ts";
import type { Road } from "./road.ts";
import { CAP_FOWNER, hasCapability, modeWithout, type StatusOf } from "./setgid.ts";
import { Writers } from "./writers.ts";

/** We alone change the tree, so what the kernel was told stays true: an hour, whole seconds. */
export const VALIDITY: Validity = { entrySec: 3600, attrSec: 3600 };
const REPLY_MAX = (1 << 20) + 4096;

/** What {@link Exchange} needs. */
export interface ExchangeOptions {
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
  /** What a call that returns promises; `each-write` where nothing is said. */
  readonly durability?: Durability;
  readonly log: (message: string) => void;
  /** What is known of who asks; left out: nothing. */
  readonly statusOf?: StatusOf;
  /** Where the reply buffer lies; a test has its own memory. */
  readonly addressOf?: (bytes: Uint8Array<ArrayBuffer>) => number;
}

/** The request in the buffer, and the reply to it. */
export class Exchange {
  readonly fd: number;
  readonly root: number;
  readonly rootFd: number;
  readonly backing: Backing;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly road: Road;
  readonly request: Request;
  readonly log: (message: string) => void;
  readonly durability: Durability;
  /** Answers need not wait for the secondary. */
  readonly relaxed: boolean;
  /** Undefined until INIT is done. */
  granted: Granted | undefined;
  /** Reply buffer: header, body. */
  readonly reply: Uint8Array<ArrayBuffer> = new Uint8Array(REPLY_MAX);
  readonly out: DataView<ArrayBuffer> = new DataView(this.reply.buffer);
  readonly replyAddress: number;
  /** Attributes of the object looked at last. */
  readonly stat: Statx = new Statx();
  readonly mutation: Mutation = new Mutation();
  readonly nameless: Nameless;
  readonly writers: Writers = new Writers();
  readonly #statusOf: StatusOf;
  /** The mutation of this request was of what stays on this node: nobody else is waited for. */
  #local = false;

  constructor(options: ExchangeOptions) {
    this.fd = options.fd;
    this.root = options.root;
    this.rootFd = options.rootFd;
    this.backing = options.backing;
    this.objects = options.objects;
    this.tree = options.tree;
    this.road = options.road;
    this.request = options.request;
    this.log = options.log;
    this.durability = options.durability ?? "each-write";
    this.relaxed = this.durability === "relaxed";
    this.granted = options.granted;
    this.#statusOf = options.statusOf ?? (() => null);
    this.replyAddress = (options.addressOf ?? addressOf)(this.reply);
    this.nameless = new Nameless(this, options.granted !== undefined);
  }

  /** The object the request is about. */
  id(): number {
    const { nodeid } = this.request;
    return nodeid === ROOT_ID ? this.root + 1 : nodeid;
  }

  /** The object of a node number. */
  idOf(nodeid: number): number {
    return nodeid === ROOT_ID ? this.root + 1 : nodeid;
  }

  /** The object the request is about, or undefined with the reply given. */
  node(): Held | undefined {
    const held = this.objects.get(this.id());
    if (held === undefined) this.fail(-ERRNO.ESTALE);
    return held;
  }

  /** Replies −errno. */
  fail(error: number): void {
    const { uniqueLow, uniqueHigh } = this.request;
    outHeader(this.out, 0, OUT_HEADER.sizeof, error, uniqueLow, uniqueHigh);
    this.#send(OUT_HEADER.sizeof);
  }

  /** Sends a reply whose body of `length` bytes stands behind the header's place. */
  ok(length: number): void {
    const { uniqueLow, uniqueHigh } = this.request;
    outHeader(this.out, 0, OUT_HEADER.sizeof + length, 0, uniqueLow, uniqueHigh);
    this.#send(OUT_HEADER.sizeof + length);
  }

  #send(length: number): void {
    const result = this.road.reply(this.root, this.replyAddress, length);
    // ENOENT: the request was interrupted meanwhile. ENODEV: the connection was aborted; the loop sees that by itself.
    if (result < 0 && result !== -ERRNO.ENOENT && result !== -ERRNO.ENODEV) {
      this.log(`Cannot answer request ${this.request.opcode}: errno ${-result}`);
    }
  }

  /** Another request is in the buffer. */
  begin(): void {
    this.#local = false;
  }

  /**
   * What the kernel flushes on its own account nobody waits for yet: the close or the fsync that made it flush comes next,
   * and waits for all of it. So its answer need not wait.
   */
  get #flushesAhead(): boolean {
    return this.durability === "fsync" && this.granted?.tellsCloses === true;
  }

  /** The reply to a mutation: given when every member has it. `flushed`: the kernel asked for it, not an application. */
  commit(length: number, flushed = false): void {
    if (this.#local) return this.ok(length);
    const relaxed = this.relaxed || flushed && this.#flushesAhead;
    const { uniqueLow, uniqueHigh } = this.request;
    outHeader(this.out, 0, OUT_HEADER.sizeof + length, 0, uniqueLow, uniqueHigh);
    this.road.answer(this.root, this.reply, this.replyAddress, OUT_HEADER.sizeof + length, relaxed);
  }

  /** Hands a mutation to the data road. Answers what was done, or −errno. */
  mutate(mutation: Mutation): number {
    const { op, id, a, b } = mutation;
    if (!Number.isSafeInteger(id)) return -ERRNO.ESTALE;
    if (!namesEnd(mutation)) return -ERRNO.EIO;
    // A record counts in 53 bits; the kernel lets an application name any offset below 2^63.
    this.#local = isLocal(id);
    if (op >= OP.write && op <= OP.copy && !Number.isSafeInteger(a + b)) return -ERRNO.EFBIG;
    return this.road.mutate(mutation, this.request.unique);
  }

  /** Executes a mutation that has no result but success. */
  mutateAndCommit(mutation: Mutation): void {
    const result = this.mutate(mutation);
    if (result < 0) this.fail(result);
    else this.commit(0);
  }

  /** Names in the root that are not the application's. */
  hidden(parent: Held, name: Uint8Array): boolean {
    return parent.id === this.root + 1 && isHidden(name);
  }

  /** Whether a name stays on this node. */
  excluded(parent: Held, name: Uint8Array): boolean {
    return this.objects.excludes(parent, name);
  }

  /** The id of what gets a name now. */
  allocate(parent: Held, name: Uint8Array): number {
    return this.road.allocate() + (this.excluded(parent, name) ? LOCAL_FIRST : 0);
  }

  /**
   * A request on what stays on this node comes again, since the process that read it was killed. No log tells whether it was
   * done: where things are as it wants them, it was.
   */
  repeated(parent: Held, name: Uint8Array): boolean {
    return this.request.resent && this.excluded(parent, name);
  }

  /** The kernel has it open once more, with the flags of the request. */
  opened(held: Held, flags: number): void {
    held.opens++;
    this.writers.opened(held.id, flags);
  }

  /** Reads the attributes the application sees into {@link stat}. Answers 0 or −errno. */
  look(held: Held): number {
    this.road.tellTime(held.id);
    return this.#look(held, STATX_MASK);
  }

  #look(held: Held, mask: number): number {
    const failed = this.backing.statx(held.path, this.stat, mask);
    if (failed >= 0 && this.nameless.has(held.id)) this.stat.view.setUint32(STATX.nlink, 0, true);
    return failed;
  }

  /**
   * The mode a file gets when setuid and setgid go from it, where `killSuidgid` takes less than the kernel would; −1: it does
   * not. Who cannot be looked at is told so by what is done to it.
   */
  modeLeft(held: Held): number {
    return this.look(held) < 0 ? -1 : this.modeWithoutSetgid();
  }

  /** Whether who asks may do what is the owner's to do. */
  isAsOwner(): boolean {
    const { pid, uid } = this.request;
    if (uid === 0) return true;
    const status = this.#statusOf(pid);
    return status !== null && hasCapability(status, CAP_FOWNER);
  }

  /** The same of the object that was just looked at. */
  modeWithoutSetgid(): number {
    return modeWithout(this.request, this.stat, this.#statusOf);
  }

  /** The reply to a mutation: the attributes. `flushed` as in {@link commit}. */
  commitAttr(held: Held, flushed = false): void {
    const failed = this.look(held);
    if (failed < 0) return this.fail(failed);
    this.commit(attrOut(this.out, OUT_HEADER.sizeof, held.id, this.stat, VALIDITY), flushed);
  }

  /** The reply to a time that is set later. */
  deferredAttr(held: Held, time: bigint): void {
    const failed = this.#look(held, STATX_TIMELESS);
    if (failed < 0) return this.fail(failed);
    this.stat.showTime(time);
    this.ok(attrOut(this.out, OUT_HEADER.sizeof, held.id, this.stat, VALIDITY));
  }

  /** The reply to a mutation: an object the kernel looks at from now on. `opened`: and has open. */
  commitEntry(held: Held, opened: boolean): void {
    const failed = this.look(held);
    if (failed < 0) return this.fail(failed);
    this.#commitStat(held, opened, this.stat);
  }

  /** The same for an object that was made just now: what it is was read when it was measured. */
  commitCreated(held: Held, opened: boolean): void {
    const { born } = this.tree;
    if (born === undefined) this.commitEntry(held, opened);
    else this.#commitStat(held, opened, born);
  }

  #commitStat(held: Held, opened: boolean, stat: Statx): void {
    held.lookups++;
    const length = opened
      ? createOut(this.out, OUT_HEADER.sizeof, held.id, 0, stat, VALIDITY, 0, FOPEN.KEEP_CACHE)
      : entryOut(this.out, OUT_HEADER.sizeof, held.id, 0, stat, VALIDITY);
    this.commit(length);
  }
}

/** Whether each name of a mutation ends with its NUL: one of a request that was cut short does not. */
function namesEnd({ op, name, other }: Mutation): boolean {
  const named = op <= OP.rename || op === OP.setxattr || op === OP.removexattr;
  if (named && name.at(-1) !== 0) return false;
  return (op !== OP.symlink && op !== OP.rename) || other.at(-1) === 0;
}
