/**
 * What a secondary tells the primary, on the connection that goes that way.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { encodeLittle, LITTLE_HEADER } from "./frame.ts";
import type { Stream } from "./stream.ts";

/** Ids in one frame. */
const IDS_PER_FRAME = 65536;
/** Of a text, whose rest is left out. */
const TEXT_BYTES = 4096;

/** Sends little frames. Each method returns once the connection has taken them; without one they go nowhere. */
export class AckSender {
  /** Of the session; null: there is none. */
  stream: Stream | null = null;
  readonly #frame = new Uint8Array(LITTLE_HEADER + IDS_PER_FRAME * 16);
  readonly #view = new DataView(this.#frame.buffer);
  readonly #address: number;

  constructor(addressOf: (bytes: Uint8Array<ArrayBuffer>) => number) {
    this.#address = addressOf(this.#frame);
  }

  /** One frame of `body` bytes, which stand in it already. */
  emit(kind: number, sequence: number, value = 0, body = 0): void {
    const { stream } = this;
    if (stream === null) return;
    const length = encodeLittle({
      bytes: this.#frame,
      view: this.#view,
      offset: 0,
      kind,
      sequence,
      value: BigInt(value),
      body,
    }, crc32);
    stream.writeAll(this.#address, length);
  }

  /** Ids, in as many frames as they take, at least one; `last` is the value of the last one. */
  ids(kind: number, ids: readonly number[], last: number): void {
    let at = 0;
    do {
      const part = ids.slice(at, at + IDS_PER_FRAME);
      part.forEach((id, index) => this.#view.setFloat64(LITTLE_HEADER + index * 8, id, true));
      at += part.length;
      this.emit(kind, 0, at >= ids.length ? last : 0, part.length * 8);
    } while (at < ids.length);
  }

  /** Ranges of one object, at most as many as ids in a frame. */
  ranges(
    kind: number,
    id: number,
    ranges: readonly { readonly offset: number; readonly length: number }[],
  ): void {
    ranges.forEach((range, index) => {
      this.#view.setFloat64(LITTLE_HEADER + index * 16, range.offset, true);
      this.#view.setFloat64(LITTLE_HEADER + index * 16 + 8, range.length, true);
    });
    this.emit(kind, id, 0, ranges.length * 16);
  }

  /** A text, cut to {@link TEXT_BYTES}. */
  text(kind: number, text: string): void {
    this.bytes(kind, 0, 0, new TextEncoder().encode(text).subarray(0, TEXT_BYTES));
  }

  /** Bytes, at most a mebibyte. */
  bytes(kind: number, sequence: number, value: number, bytes: Uint8Array): void {
    this.#frame.set(bytes, LITTLE_HEADER);
    this.emit(kind, sequence, value, bytes.length);
  }
}
