/**
 * One request of the kernel, read in place: its header and where its body lies.
 *
 * The buffer outlives the process on kernels that give a request only once, so at any moment it tells the next process
 * whether there is a request in hand:
 *
 * | offset | size | what                                                                                              |
 * |--------|------|---------------------------------------------------------------------------------------------------|
 * |      0 |    4 | the directory whose kernel asks                                                                   |
 * |     64 |   80 | a WRITE's headers, from before the record's header takes their place; 0 at first: there is no copy |
 * |   4016 |      | the request, as `read(2)` left it; 0 at first (`fuse_in_header.len`): there is none                |
 *
 * @module
 */

import { addressOf } from "../system/address.ts";
import { IN_HEADER } from "./layout.ts";
import { UNIQUE_RESEND_HIGH } from "./opcode.ts";

/** Room in front of a request's data for the header of a record, so that one write sends both. */
export const HEADROOM = 4096;
/** Where a request is read to: a WRITE's data then starts at {@link HEADROOM}, on a page boundary. */
export const REQUEST_AT: number = HEADROOM - 80;
/** Longest request: a WRITE of 1 MiB and its headers. */
export const REQUEST_MAX: number = (1 << 20) + 4096;
/** Size of the whole buffer. */
export const REQUEST_BYTES: number = HEADROOM + REQUEST_MAX;

const HEADERS = 80;
const COPY_AT = 64;
/** The same places, counted in words of 32 bits. */
const WORDS = { request: REQUEST_AT >> 2, copy: COPY_AT >> 2, headers: HEADERS >> 2 } as const;

/** The buffer requests are read into, and the fields of the one that is in it. */
export class Request {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly address: number;
  readonly #words: Int32Array;
  length = 0;
  opcode = 0;
  uniqueLow = 0;
  uniqueHigh = 0;
  nodeid = 0;
  uid = 0;
  gid = 0;
  /** Offset of the body in {@link bytes}. */
  body = REQUEST_AT + IN_HEADER.sizeof;

  /** A former process had read this request and did not answer. */
  inherited = false;

  /** Who asks, as the process that mounted sees it; 0: it cannot. */
  get pid(): number {
    return this.view.getUint32(REQUEST_AT + IN_HEADER.pid, true);
  }

  /** @param bytes {@link REQUEST_BYTES} of them. */
  constructor(
    of: (bytes: Uint8Array<ArrayBuffer>) => number = addressOf,
    bytes: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_BYTES),
  ) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.address = of(bytes);
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, WORDS.request + WORDS.headers);
  }

  /** The directory whose kernel asks; said before the request is read. */
  get root(): number {
    return this.#words[0] ?? 0;
  }

  set root(root: number) {
    this.#words[0] = root;
  }

  /** Called before a WRITE's headers are overwritten: until it is answered they tell what it was. */
  keepHeaders(): void {
    const words = this.#words;
    for (let i = 1; i < WORDS.headers; i++) words[WORDS.copy + i] = words[WORDS.request + i] ?? 0;
    // Last: what makes it count.
    words[WORDS.copy] = words[WORDS.request] ?? 0;
  }

  /** The request is answered, or waits with its answer in a ring: nothing is in hand. */
  done(): void {
    // In this order: where the headers are copied, what stands in their place is none.
    this.#words[WORDS.request] = 0;
    this.#words[WORDS.copy] = 0;
    this.inherited = false;
  }

  /**
   * Takes up what a former process had in hand when it was killed. False: nothing, or nothing that is whole, and then
   * nothing is in hand any more.
   */
  inherit(): boolean {
    const words = this.#words;
    if (words[WORDS.copy] !== 0) {
      for (let i = 0; i < WORDS.headers; i++) words[WORDS.request + i] = words[WORDS.copy + i] ?? 0;
    }
    const length = words[WORDS.request] ?? 0;
    if (length > REQUEST_MAX || !this.parse(length)) {
      this.done();
      return false;
    }
    this.inherited = true;
    return true;
  }

  /** Reads the header of the request that was read to {@link REQUEST_AT}. False: it is not whole. */
  parse(length: number): boolean {
    const { view } = this;
    this.length = length;
    if (length < IN_HEADER.sizeof || view.getUint32(REQUEST_AT + IN_HEADER.len, true) !== length) {
      return false;
    }
    this.opcode = view.getUint32(REQUEST_AT + IN_HEADER.opcode, true);
    this.uniqueLow = view.getUint32(REQUEST_AT + IN_HEADER.unique, true);
    this.uniqueHigh = view.getUint32(REQUEST_AT + IN_HEADER.unique + 4, true);
    this.nodeid = this.u64(REQUEST_AT + IN_HEADER.nodeid);
    this.uid = view.getUint32(REQUEST_AT + IN_HEADER.uid, true);
    this.gid = view.getUint32(REQUEST_AT + IN_HEADER.gid, true);
    return true;
  }

  /** A former process read this request already and did not answer: the log may know it. */
  get resent(): boolean {
    return this.inherited || (this.uniqueHigh & UNIQUE_RESEND_HIGH) !== 0;
  }

  /** The request's id as the log keeps it: without the resend flag. */
  get unique(): number {
    return this.uniqueLow + (this.uniqueHigh & 0x7fff_ffff) * 0x1_0000_0000;
  }

  /** 32 bits of the body. */
  u32(offset: number): number {
    return this.view.getUint32(this.body + offset, true);
  }

  /** 64 bits at an absolute offset, exact below 2^53. */
  u64(at: number): number {
    return this.view.getUint32(at, true) + this.view.getUint32(at + 4, true) * 0x1_0000_0000;
  }

  /** 64 bits of the body, exact below 2^53. */
  number(offset: number): number {
    return this.u64(this.body + offset);
  }

  /** End of the request in {@link bytes}. */
  get end(): number {
    return REQUEST_AT + this.length;
  }

  /** The name that starts at an offset of the body, with its NUL. */
  name(offset: number): Uint8Array<ArrayBuffer> {
    const start = this.body + offset;
    const nul = this.bytes.indexOf(0, start);
    return this.bytes.subarray(start, nul < 0 || nul >= this.end ? this.end : nul + 1);
  }
}
