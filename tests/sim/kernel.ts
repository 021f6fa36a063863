/**
 * The kernel's side of a FUSE connection: builds requests, counts replies.
 *
 * @module
 */

import { grantedBy } from "../../lib/fuse/init.ts";
import { FuseServer } from "../../lib/fuse/server.ts";
import { REQUEST_AT } from "../../lib/fuse/request.ts";
import { IN_HEADER } from "../../lib/fuse/layout.ts";
import { OPCODE, UNIQUE_RESEND_HIGH } from "../../lib/fuse/opcode.ts";
import type { Primary, Reply } from "./data_road.ts";
import { latin1 } from "./inodes.ts";

/** A part of a request's body: a name with its NUL, raw bytes, or numbers of 4 or (bigint) 8 bytes. */
export type Part = string | Uint8Array | number | bigint;

/** Lays parts out one after the other. */
export function body(...parts: readonly Part[]): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") bytes.push(...latin1(`${part}\0`));
    else if (part instanceof Uint8Array) { for (const byte of part) bytes.push(byte); }
    else {
      const size = typeof part === "number" ? 4 : 8;
      const view = new DataView(new ArrayBuffer(8));
      view.setBigUint64(0, BigInt.asUintN(64, BigInt(part)), true);
      for (let i = 0; i < size; i++) bytes.push(view.getUint8(i));
    }
  }
  return Uint8Array.from(bytes);
}

/** One connection. */
export class Kernel {
  readonly primary: Primary;
  readonly server: FuseServer;
  readonly logs: string[] = [];
  /** What `/proc/PID/status` says of whoever asks; null: it cannot be seen. */
  status: string | null = null;
  #unique = 2;

  /**
   * @param flags of a connection that a former process answered INIT of: what it granted.
   * @param tellsCloses and whether that was one of durability `fsync`, which tells of closes.
   */
  constructor(primary: Primary, flags?: bigint, tellsCloses = false) {
    this.primary = primary;
    const { node, sequencer, request } = primary;
    this.server = new FuseServer({
      fd: 900,
      root: 0,
      rootFd: node.rootFd,
      backing: node.fs,
      objects: node.objects,
      tree: node.tree,
      road: sequencer,
      request,
      ...(flags !== undefined
        ? { granted: grantedBy({ flags, minor: 45, maxWrite: 1 << 20, maxRead: 1 << 20, tellsCloses }) }
        : {}),
      durability: flags === undefined ? "each-write" : "fsync",
      onGranted: () => {},
      log: (message) => this.logs.push(message),
      statusOf: () => this.status,
      addressOf: node.memory.addressOf,
    });
  }

  /** The id the next request gets. */
  get unique(): number {
    return this.#unique;
  }

  /** Sends a request; answers every reply it got. */
  all(
    opcode: number,
    nodeid: number,
    content: Uint8Array,
    options: {
      readonly unique?: number;
      readonly resent?: boolean;
      /** Replies that wait for the peer go on waiting. */
      readonly wait?: boolean;
      /** Who asks; default root. */
      readonly uid?: number;
    } = {},
  ): Reply[] {
    const { request, replies } = this.primary;
    const unique = options.unique ?? this.#unique;
    if (options.unique === undefined) this.#unique += 2;
    const { view } = request;
    const length = IN_HEADER.sizeof + content.length;
    request.bytes.fill(0xee, REQUEST_AT, REQUEST_AT + length + 4096);
    view.setUint32(REQUEST_AT + IN_HEADER.len, length, true);
    view.setUint32(REQUEST_AT + IN_HEADER.opcode, opcode, true);
    view.setUint32(REQUEST_AT + IN_HEADER.unique, unique, true);
    view.setUint32(REQUEST_AT + IN_HEADER.unique + 4, options.resent === true ? UNIQUE_RESEND_HIGH : 0, true);
    view.setBigUint64(REQUEST_AT + IN_HEADER.nodeid, BigInt(nodeid), true);
    view.setUint32(REQUEST_AT + IN_HEADER.uid, options.uid ?? 0, true);
    view.setUint32(REQUEST_AT + IN_HEADER.gid, 0, true);
    view.setBigUint64(REQUEST_AT + IN_HEADER.pid, 1n, true);
    request.bytes.set(content, REQUEST_AT + IN_HEADER.sizeof);
    const before = replies.length;
    if (!request.parse(length)) throw new Error("the request is not whole");
    this.server.handle();
    request.done();
    if (options.wait !== true) this.primary.takeWaiting();
    return replies.slice(before);
  }

  /** A process takes up what a killed one had in flight; answers the replies that were still to give. */
  inherit(): Reply[] {
    const { request, replies, sequencer } = this.primary;
    const before = replies.length;
    sequencer.fsyncs.takeUp();
    if (request.inherit()) this.server.handle();
    request.done();
    this.primary.takeWaiting();
    return replies.slice(before);
  }

  /** Sends a request that has exactly one reply. */
  call(
    opcode: number,
    nodeid: number,
    content: Uint8Array,
    options: { readonly unique?: number; readonly resent?: boolean; readonly uid?: number } = {},
  ): Reply {
    const replies = this.all(opcode, nodeid, content, options);
    const [reply] = replies;
    if (reply === undefined || replies.length !== 1) {
      throw new Error(`request ${opcode} got ${replies.length} replies`);
    }
    return reply;
  }

  /** Creates and opens a file; answers its id. */
  create(parent: number, name: string, flags = 0o102): number {
    return idOf(this.call(OPCODE.CREATE, parent, body(flags, 0o100644, 0, 0, name)));
  }

  /** Makes a file without a name; answers its id. */
  tmpfile(parent: number): number {
    return idOf(this.call(OPCODE.TMPFILE, parent, body(0o20000002, 0o100600, 0, 0, "/")));
  }

  /** Makes a directory; answers its id. */
  mkdir(parent: number, name: string): number {
    return idOf(this.call(OPCODE.MKDIR, parent, body(0o755, 0, name)));
  }

  /** Writes; answers the errno or 0. */
  write(id: number, offset: number, data: Uint8Array): number {
    return this.call(OPCODE.WRITE, id, body(0n, BigInt(offset), data.length, 0, 0n, 2, 0, data)).error;
  }
}

/** The node id at the start of an entry. Throws when the reply is an error. */
export function idOf(reply: Reply): number {
  if (reply.error !== 0) throw new Error(`errno ${-reply.error}`);
  return Number(new DataView(reply.body.buffer).getBigUint64(0, true));
}
