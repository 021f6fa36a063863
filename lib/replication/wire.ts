/**
 * Records and control frames onto the data stream.
 *
 * A write's header is put just before its data where the kernel left them, so that one `write` sends both. Everything
 * else is small and is put together in a buffer of its own.
 *
 * @module
 */

import {
  encodeHeader,
  FLAG,
  HEADER_BYTES,
  OFFSET,
  type RecordFields,
  sealRecord,
} from "../journal/record.ts";
import type { Checksum } from "../journal/storage.ts";
import { setU64 } from "./bytes.ts";
import { FRAME_MAX, sealControl } from "./frame.ts";
import { CONTROL, type Mutation, packNames } from "./mutation.ts";
import type { Packing, PackingStatus } from "./packing.ts";
import type { Stream } from "./stream.ts";

/** What {@link Wire} needs. */
export interface WireOptions {
  readonly stream: Stream;
  readonly crc32: Checksum;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** Frames up to {@link GATHER_BYTES} wait for {@link Wire.flush}, so that those of several requests travel together. */
  readonly gather?: boolean;
  /** Packs what a resync sends, see {@link Wire.resync}; left out: the peer does not understand that. */
  readonly packing?: Packing;
}

/** Longer frames are sent at once, from where they lie. */
const GATHER_BYTES = 32 * 1024;
/** So much is gathered at most. */
const GATHERED_MAX = 256 * 1024;

/** Frames where they lie. */
interface Block {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly address: number;
  readonly length: number;
}

/** The sending end of the data stream. Throws `StreamError` when the peer is gone or too slow. */
export class Wire {
  readonly stream: Stream;
  readonly #crc32: Checksum;
  readonly #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(FRAME_MAX);
  readonly #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer);
  readonly #address: number;
  readonly #shape = { flags: 0, namesLength: 0, payloadLength: 0 };
  readonly #gathered: Uint8Array<ArrayBuffer>;
  readonly #gatheredAddress: number;
  #waiting = 0;
  readonly #packing: Packing | null;
  readonly #packingAddress: number;
  /** What is sent is a resync's. */
  #resyncs = false;
  /** What was gathered is. */
  #gatheredResync = false;
  readonly #resyncBytes = { plain: 0, sent: 0 };
  #sent = 0;

  constructor(options: WireOptions) {
    this.#gathered = new Uint8Array(options.gather === true ? GATHERED_MAX : 0);
    this.#gatheredAddress = options.addressOf(this.#gathered);
    this.stream = options.stream;
    this.#crc32 = options.crc32;
    this.#address = options.addressOf(this.#bytes);
    this.#packing = options.packing ?? null;
    this.#packingAddress = options.packing === undefined ? 0 : options.addressOf(options.packing.bytes);
  }

  /** Bytes of frames that {@link resync} made, and what was sent for them. */
  get resyncBytes(): { readonly plain: number; readonly sent: number } {
    return this.#resyncBytes;
  }

  /** Bytes given to the stream since the session began. */
  get sent(): number {
    return this.#sent;
  }

  /** For `status`; null: nothing is packed for this peer. */
  get packing(): PackingStatus | null {
    return this.#packing?.status ?? null;
  }

  /** Does a step of a resync: what it sends may be packed, and is counted. */
  resync<T>(step: () => T): T {
    this.#resyncs = true;
    try {
      return step();
    } finally {
      this.#resyncs = false;
    }
  }

  /** Room for the body of a control frame. */
  get body(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(HEADER_BYTES);
  }

  /** {@link body} as numbers; offsets start at 0. */
  get bodyView(): DataView<ArrayBuffer> {
    return new DataView(this.#bytes.buffer, HEADER_BYTES);
  }

  /** Address of {@link body}. */
  get bodyAddress(): number {
    return this.#address + HEADER_BYTES;
  }

  /**
   * Sends a write whose data lies in `bytes` at `dataAt`, with at least 96 bytes of room before it, which are
   * overwritten.
   */
  write(
    fields: RecordFields,
    mutation: Mutation,
    data: {
      readonly bytes: Uint8Array;
      readonly view: DataView;
      readonly address: number;
      readonly at: number;
    },
  ): void {
    const start = data.at - HEADER_BYTES;
    const shape = this.#shape;
    shape.flags = mutation.payloadLength > 0 ? FLAG.payload : 0;
    shape.namesLength = 0;
    shape.payloadLength = mutation.payloadLength;
    const length = encodeHeader(data.view, start, fields, shape);
    putTimes(data.view, start, mutation);
    sealRecord(data.bytes, start, this.#crc32);
    this.#put(data.bytes, start, data.address + start, length);
  }

  /** Sends any other mutation. `payload` is copied. */
  record(fields: RecordFields, mutation: Mutation, payload: Uint8Array | null): void {
    const bytes = this.#bytes;
    const shape = this.#shape;
    shape.namesLength = packNames(
      mutation,
      bytes.subarray(HEADER_BYTES),
      new DataView(bytes.buffer, HEADER_BYTES),
    );
    shape.payloadLength = payload?.length ?? 0;
    shape.flags = shape.payloadLength > 0 ? FLAG.payload : 0;
    if (payload !== null) bytes.set(payload, HEADER_BYTES + shape.namesLength);
    const length = encodeHeader(this.#view, 0, fields, shape);
    putTimes(this.#view, 0, mutation);
    sealRecord(bytes, 0, this.#crc32);
    this.#put(bytes, 0, this.#address, length);
  }

  /** Sends a control frame whose body of `length` bytes stands in {@link body}. */
  control(
    op: number,
    fields: { readonly id?: number; readonly a?: number; readonly b?: number; readonly c?: number },
    length: number,
  ): void {
    this.#bytes.fill(0, 0, HEADER_BYTES);
    setU64(this.#view, OFFSET.id, fields.id ?? 0);
    setU64(this.#view, OFFSET.a, fields.a ?? 0);
    setU64(this.#view, OFFSET.b, fields.b ?? 0);
    setU64(this.#view, OFFSET.c, fields.c ?? 0);
    const whole = sealControl(
      { bytes: this.#bytes, view: this.#view, offset: 0, op, body: length },
      this.#crc32,
    );
    this.#put(this.#bytes, 0, this.#address, whole);
  }

  /** Sends what was gathered. Called before the thread waits for anything. */
  flush(): void {
    const length = this.#waiting;
    if (length === 0) return;
    this.#waiting = 0;
    const whole = { bytes: this.#gathered, start: 0, address: this.#gatheredAddress, length };
    this.#send(whole, this.#gatheredResync);
  }

  #put(bytes: Uint8Array, start: number, address: number, length: number): void {
    const long = length > GATHER_BYTES || length > this.#gathered.length;
    // What was gathered came first, and nothing but a resync's frames is packed.
    const other = this.#resyncs !== this.#gatheredResync;
    if (long || other || this.#waiting + length > this.#gathered.length) this.flush();
    if (long) return this.#send({ bytes, start, address, length }, this.#resyncs);
    this.#gatheredResync = this.#resyncs;
    this.#gathered.set(bytes.subarray(start, start + length), this.#waiting);
    this.#waiting += length;
  }

  #send({ bytes, start, address, length }: Block, resync: boolean): void {
    if (!resync) return this.#write(address, length);
    const packing = this.#packing;
    const packed = packing?.pack(bytes.subarray(start, start + length) as Uint8Array<ArrayBuffer>) ?? 0;
    this.#resyncBytes.plain += length;
    if (packing === null || packed === 0) {
      this.#resyncBytes.sent += length;
      return this.#write(address, length);
    }
    const into = packing.bytes;
    const view = new DataView(into.buffer);
    into.fill(0, 0, HEADER_BYTES);
    setU64(view, OFFSET.a, length);
    const whole = sealControl(
      { bytes: into, view, offset: 0, op: CONTROL.packed, body: packed },
      this.#crc32,
    );
    this.#resyncBytes.sent += whole;
    this.#write(this.#packingAddress, whole);
  }

  #write(address: number, length: number): void {
    this.#sent += length;
    this.stream.writeAll(address, length);
  }

  /** Sends a control frame with a JSON body. */
  json(op: number, body: unknown): void {
    const bytes = new TextEncoder().encode(JSON.stringify(body));
    this.#bytes.set(bytes, HEADER_BYTES);
    this.control(op, {}, bytes.length);
  }
}

function putTimes(view: DataView, start: number, mutation: Mutation): void {
  view.setBigInt64(start + OFFSET.mtime, mutation.time, true);
  view.setBigInt64(start + OFFSET.unique, mutation.timeOther, true);
}
