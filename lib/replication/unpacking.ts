/**
 * The receiving end of packed frames (`packing.ts`): gives the frames of the data stream one by one, those in a packed frame too.
 *
 * What a packed frame claims is bounded before anything is unpacked, and no memory is taken for it: there is room for one
 * block of the longest length, whatever comes.
 *
 * @module
 */

import { OFFSET } from "../journal/record.ts";
import { u64 } from "./bytes.ts";
import { FRAME_HEADER, FRAME_MAX, type FrameLayout, type FrameReader, visitFrames } from "./frame.ts";
import { CONTROL } from "./mutation.ts";
import type { Codec } from "./packing.ts";
import { StreamError } from "./stream.ts";

/** What {@link Unpacking} needs. */
export interface UnpackingOptions {
  readonly reader: FrameReader;
  /** Where the reader's bytes lie. */
  readonly address: number;
  readonly codec: Pick<Codec, "unpack">;
  /** Of frames in a packed frame: it does not know the packed frame itself. */
  readonly layout: FrameLayout;
  readonly addressOf: (bytes: Uint8Array) => number;
  /** Who sends, for messages. */
  readonly label: string;
}

/** Frames, wherever they lie: `offset` and `length` of {@link Unpacking.next}'s are those in {@link Unpacking.bytes}. */
export class Unpacking {
  readonly #options: UnpackingOptions;
  bytes: Uint8Array;
  view: DataView;
  /** Where {@link bytes} lie. */
  address: number;
  offset = 0;
  length = 0;
  /** The current frame is the first of those in one: what {@link ahead} shows was not to be seen before. */
  opened = false;
  /** Taken with the first packed frame, and kept. */
  #block:
    | { readonly bytes: Uint8Array<ArrayBuffer>; readonly view: DataView; readonly address: number }
    | null = null;
  #next = 0;
  #end = 0;

  constructor(options: UnpackingOptions) {
    this.#options = options;
    this.bytes = options.reader.bytes;
    this.view = options.reader.view;
    this.address = options.address;
  }

  /** Whether {@link next} gives a frame without waiting. */
  get ready(): boolean {
    return this.#next < this.#end || this.#options.reader.ready;
  }

  /** Goes to the next frame, as {@link FrameReader.next} does. Throws {@link StreamError}. */
  next(): boolean {
    if (this.#next < this.#end) return this.#inner(false);
    const { reader } = this.#options;
    if (!reader.next()) return false;
    if (reader.view.getUint8(reader.offset + OFFSET.op) === CONTROL.packed) return this.#unpack();
    this.bytes = reader.bytes;
    this.view = reader.view;
    this.address = this.#options.address;
    this.offset = reader.offset;
    this.length = reader.length;
    this.opened = false;
    return true;
  }

  /** Shows each frame behind the current one that is here whole and sound, of those that lie in the same memory. */
  ahead(visit: (offset: number, length: number) => void): void {
    if (this.bytes === this.#options.reader.bytes) return this.#options.reader.ahead(visit);
    visitFrames(this.#options.layout, this, { from: this.#next, to: this.#end }, visit);
  }

  #unpack(): boolean {
    const { reader, codec, addressOf } = this.#options;
    const wanted = u64(reader.view, reader.offset + OFFSET.a);
    if (wanted < FRAME_HEADER || wanted > FRAME_MAX) {
      throw this.#bad(`it claims ${wanted} bytes, expected ${FRAME_HEADER} to ${FRAME_MAX}`);
    }
    if (this.#block === null) {
      const bytes = new Uint8Array(FRAME_MAX);
      this.#block = { bytes, view: new DataView(bytes.buffer), address: addressOf(bytes) };
    }
    const { bytes, view, address } = this.#block;
    const { offset, length } = reader;
    const packed = reader.bytes.subarray(offset + FRAME_HEADER, offset + length) as Uint8Array<ArrayBuffer>;
    const got = codec.unpack(packed, bytes.subarray(0, wanted));
    if (got !== wanted) throw this.#bad(got < 0 ? "it is damaged" : `${got} bytes came of it, not ${wanted}`);
    this.bytes = bytes;
    this.view = view;
    this.address = address;
    this.#next = 0;
    this.#end = wanted;
    return this.#inner(true);
  }

  #inner(opened: boolean): boolean {
    const { header, measure, verify } = this.#options.layout;
    const left = this.#end - this.#next;
    const length = left < header ? "it ends within a frame" : measure(this.view, this.#next);
    if (typeof length === "string") throw this.#bad(length);
    if (length > left) throw this.#bad("it ends within a frame");
    const reason = verify(this.bytes, this.view, this.#next, length);
    if (reason !== null) throw this.#bad(reason);
    this.offset = this.#next;
    this.length = length;
    this.opened = opened;
    this.#next += length;
    return true;
  }

  #bad(reason: string): StreamError {
    return new StreamError(
      "protocol",
      `Cannot unpack a frame from ${this.#options.label}: ${reason}; the channel is closed`,
    );
  }
}
