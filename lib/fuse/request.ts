/**
 * One request of the kernel, read in place: its header and where its body lies.
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

/** The buffer requests are read into, and the fields of the one that is in it. */
export class Request {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(HEADROOM + REQUEST_MAX);
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);
  readonly address: number;
  length = 0;
  opcode = 0;
  uniqueLow = 0;
  uniqueHigh = 0;
  nodeid = 0;
  uid = 0;
  gid = 0;
  /** Offset of the body in {@link bytes}. */
  body = REQUEST_AT + IN_HEADER.sizeof;

  constructor(of: (bytes: Uint8Array<ArrayBuffer>) => number = addressOf) {
    this.address = of(this.bytes);
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

  /** A former process read this request already and did not answer. */
  get resent(): boolean {
    return (this.uniqueHigh & UNIQUE_RESEND_HIGH) !== 0;
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
