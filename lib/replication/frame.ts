/**
 * Frames on the three streams of a replication session.
 *
 * **`data`** carries journal records (op 1–63) and control frames (op 64–255). Both begin with the journal's 96-byte
 * little-endian header; what matters here:
 *
 * | offset | size | field    | meaning                                                              |
 * | -----: | ---: | -------- | -------------------------------------------------------------------- |
 * |      0 |    4 | magic    | `BRC1`; the last character is the version of the layout              |
 * |      4 |    4 | crc32    | of bytes 16 to `length`, with byte 92 taken as 0                     |
 * |     16 |    4 | length   | of the whole frame, header included; 96 to {@link FRAME_MAX}         |
 * |     20 |    1 | op       | what it is; one the reader was not told about closes the channel     |
 * |     22 |    2 | names    | of a record: bytes of names after the header                         |
 * |     88 |    4 | payload  | of a record: bytes after the names; all three make up `length`       |
 * |     92 |    1 | state    | of the record on the sender's disk; outside the checksum             |
 * |     93 |    3 | reserved | 0                                                                    |
 *
 * Frames follow each other without padding. **`ack`** and **`sync`** carry little frames:
 *
 * | offset | size | field    | meaning                                                              |
 * | -----: | ---: | -------- | -------------------------------------------------------------------- |
 * |      0 |    4 | magic    | `BAK1`                                                               |
 * |      4 |    1 | kind     | one the reader was not told about closes the channel                 |
 * |      5 |    3 | reserved | 0                                                                    |
 * |      8 |    8 | sequence | journal position it speaks of, below 2^53                            |
 * |     16 |    8 | value    | by kind                                                              |
 * |     24 |    4 | length   | of the body that follows; 0 to {@link LITTLE_BODY_MAX}               |
 * |     28 |    4 | crc32    | of bytes 0 to 28, then the body                                      |
 *
 * @module
 */

import { type Stream, StreamError } from "./stream.ts";

/** The longest frame on `data`, header included: a 1 MiB write, its names, and room to grow. */
export const FRAME_MAX: number = 2 * 1024 * 1024;
/** The header of a frame on `data`. */
export const FRAME_HEADER = 96;
/** The header of a frame on `ack` and `sync`. */
export const LITTLE_HEADER = 32;
/** The longest body of a frame on `ack` and `sync`. */
export const LITTLE_BODY_MAX: number = 1024 * 1024;
/** The first op of control frames on `data`; those below are journal records. */
export const CONTROL_FIRST = 64;

const MAGIC = 0x31435242; // "BRC1"
const LITTLE_MAGIC = 0x314b4142; // "BAK1"
const OFFSET = {
  magic: 0,
  crc32: 4,
  length: 16,
  op: 20,
  names: 22,
  payload: 88,
  state: 92,
  reserved: 93,
} as const;
const LITTLE = { magic: 0, kind: 4, reserved: 5, sequence: 8, value: 16, length: 24, crc32: 28 } as const;
const TWO_32 = 0x1_0000_0000;

/** zlib's CRC-32 of `bytes`, going on from `value`. */
export type Crc32 = (bytes: Uint8Array, value?: number) => number;

/** The kinds a reader accepts: index → 1. */
export function kinds(values: Iterable<number>): Uint8Array {
  const table = new Uint8Array(256);
  for (const value of values) {
    if (!Number.isInteger(value) || value < 1 || value > 255) {
      throw new RangeError(`Cannot accept frame kind ${value}: expected 1 to 255`);
    }
    table[value] = 1;
  }
  return table;
}

/** What a {@link FrameReader} must know of a kind of frame. */
export interface FrameLayout {
  /** Bytes after which the length is known. */
  readonly header: number;
  /** The longest frame. */
  readonly max: number;
  /** Checks a header. Answers the length of the whole frame, or why the channel must be closed. */
  measure(view: DataView, offset: number): number | string;
  /** Checks a whole frame. Answers why the channel must be closed, or null. */
  verify(bytes: Uint8Array, view: DataView, offset: number, length: number): string | null;
}

/** Records and control frames, for `data`. `ops` from {@link kinds}. */
export function dataFrames(crc32: Crc32, ops: Uint8Array): FrameLayout {
  return {
    header: FRAME_HEADER,
    max: FRAME_MAX,
    measure(view, offset) {
      const magic = view.getUint32(offset + OFFSET.magic, true);
      if (magic !== MAGIC) return `its magic is 0x${magic.toString(16)}, expected 0x${MAGIC.toString(16)}`;
      const length = view.getUint32(offset + OFFSET.length, true);
      if (length < FRAME_HEADER || length > FRAME_MAX) {
        return `its length is ${length}, expected ${FRAME_HEADER} to ${FRAME_MAX}`;
      }
      const op = view.getUint8(offset + OFFSET.op);
      if (ops[op] !== 1) return `its kind ${op} is not known here`;
      if (op < CONTROL_FIRST) {
        // Whoever applies the record goes by these two: they must not point outside it.
        const names = view.getUint16(offset + OFFSET.names, true);
        const payload = view.getUint32(offset + OFFSET.payload, true);
        if (FRAME_HEADER + names + payload !== length) {
          return `its length is ${length}, but header, names (${names}) and payload (${payload}) make another`;
        }
      }
      const reserved = view.getUint8(offset + OFFSET.reserved) |
        view.getUint16(offset + OFFSET.reserved + 1, true);
      return reserved === 0 ? length : "its reserved bytes are not 0";
    },
    verify(bytes, view, offset, length) {
      const expected = view.getUint32(offset + OFFSET.crc32, true);
      return frameCrc(crc32, bytes, offset, length) === expected ? null : "its checksum is wrong";
    },
  };
}

/** The checksum of a frame on `data`. The state byte belongs to each side's own disk, so it counts as 0. */
function frameCrc(crc32: Crc32, bytes: Uint8Array, offset: number, length: number): number {
  const state = bytes[offset + OFFSET.state] ?? 0;
  bytes[offset + OFFSET.state] = 0;
  const sum = crc32(bytes.subarray(offset + OFFSET.length, offset + length));
  bytes[offset + OFFSET.state] = state;
  return sum;
}

/**
 * Makes a control frame out of 96 bytes whose own fields the caller may have set, followed by `body` bytes already in
 * place: writes magic, length, op, reserved bytes and checksum. Answers the length of the frame.
 */
export function sealControl(
  frame: {
    readonly bytes: Uint8Array;
    readonly view: DataView;
    readonly offset: number;
    readonly op: number;
    readonly body: number;
  },
  crc32: Crc32,
): number {
  const { bytes, view, offset, op } = frame;
  const length = FRAME_HEADER + frame.body;
  if (op < CONTROL_FIRST || op > 255) {
    throw new RangeError(`Cannot make a control frame: op ${op} is not 64 to 255`);
  }
  if (frame.body < 0 || length > FRAME_MAX) {
    throw new RangeError(
      `Cannot make a control frame: ${frame.body} bytes of body, at most ${FRAME_MAX - FRAME_HEADER} fit`,
    );
  }
  view.setUint32(offset + OFFSET.magic, MAGIC, true);
  view.setUint32(offset + OFFSET.length, length, true);
  view.setUint8(offset + OFFSET.op, op);
  view.setUint32(offset + OFFSET.state, 0, true);
  view.setUint32(offset + OFFSET.crc32, frameCrc(crc32, bytes, offset, length), true);
  return length;
}

/** Frames of `ack` and `sync`. `accepted` from {@link kinds}. */
export function littleFrames(crc32: Crc32, accepted: Uint8Array): FrameLayout {
  return {
    header: LITTLE_HEADER,
    max: LITTLE_HEADER + LITTLE_BODY_MAX,
    measure(view, offset) {
      const magic = view.getUint32(offset + LITTLE.magic, true);
      if (magic !== LITTLE_MAGIC) {
        return `its magic is 0x${magic.toString(16)}, expected 0x${LITTLE_MAGIC.toString(16)}`;
      }
      const length = view.getUint32(offset + LITTLE.length, true);
      if (length > LITTLE_BODY_MAX) {
        return `its body has ${length} bytes, at most ${LITTLE_BODY_MAX} are accepted`;
      }
      const word = view.getUint32(offset + LITTLE.kind, true);
      if (word > 0xff) return "its reserved bytes are not 0";
      if (accepted[word] !== 1) return `its kind ${word} is not known here`;
      if (view.getUint32(offset + LITTLE.sequence + 4, true) >= 0x20_0000) {
        return "its sequence is 2^53 or more";
      }
      return LITTLE_HEADER + length;
    },
    verify(bytes, view, offset, length) {
      const expected = view.getUint32(offset + LITTLE.crc32, true);
      return littleCrc(crc32, bytes, offset, length) === expected ? null : "its checksum is wrong";
    },
  };
}

function littleCrc(crc32: Crc32, bytes: Uint8Array, offset: number, length: number): number {
  const head = crc32(bytes.subarray(offset, offset + LITTLE.crc32));
  return length === LITTLE_HEADER
    ? head
    : crc32(bytes.subarray(offset + LITTLE_HEADER, offset + length), head);
}

/** A frame of `ack` or `sync` to be made. */
export interface LittleFrame {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly offset: number;
  /** 1 to 255. */
  readonly kind: number;
  /** Below 2^53. */
  readonly sequence: number;
  readonly value: bigint;
  /** Bytes of body already in place after the header. */
  readonly body: number;
}

/** Makes a frame of `ack` or `sync`. Answers its length, body included. */
export function encodeLittle(frame: LittleFrame, crc32: Crc32): number {
  const { bytes, view, offset, sequence, body } = frame;
  if (!Number.isSafeInteger(sequence) || sequence < 0) {
    throw new RangeError(`Cannot make a frame: sequence ${sequence} is not 0 to 2^53 − 1`);
  }
  if (body < 0 || body > LITTLE_BODY_MAX) {
    throw new RangeError(`Cannot make a frame: ${body} bytes of body, at most ${LITTLE_BODY_MAX} fit`);
  }
  view.setUint32(offset + LITTLE.magic, LITTLE_MAGIC, true);
  view.setUint32(offset + LITTLE.kind, frame.kind & 0xff, true);
  view.setUint32(offset + LITTLE.sequence, sequence % TWO_32, true);
  view.setUint32(offset + LITTLE.sequence + 4, Math.floor(sequence / TWO_32), true);
  view.setBigUint64(offset + LITTLE.value, frame.value, true);
  view.setUint32(offset + LITTLE.length, body, true);
  view.setUint32(offset + LITTLE.crc32, littleCrc(crc32, bytes, offset, LITTLE_HEADER + body), true);
  return LITTLE_HEADER + body;
}

/** Kind of the little frame at `offset`. */
export function littleKind(view: DataView, offset: number): number {
  return view.getUint8(offset + LITTLE.kind);
}

/** Sequence of the little frame at `offset`. */
export function littleSequence(view: DataView, offset: number): number {
  return view.getUint32(offset + LITTLE.sequence, true) +
    view.getUint32(offset + LITTLE.sequence + 4, true) * TWO_32;
}

/** Value of the little frame at `offset`. */
export function littleValue(view: DataView, offset: number): bigint {
  return view.getBigUint64(offset + LITTLE.value, true);
}

/** What a {@link FrameReader} needs. */
export interface FrameReaderOptions {
  readonly stream: Pick<Stream, "readSome" | "label">;
  readonly layout: FrameLayout;
  /** At least `layout.max` bytes, better twice that: the more room, the fewer moves. */
  readonly bytes: Uint8Array;
  /** Where `bytes` lie in memory. The reader keeps a reference to `bytes`, so the address stays good. */
  readonly address: number;
}

/**
 * Frames out of a stream, without copying: {@link FrameReader.next} moves {@link FrameReader.offset} and
 * {@link FrameReader.length} over one buffer.
 *
 * Invariant: `next <= end <= bytes.length`; bytes from `next` to `end` are received and not yet given out. The current
 * frame lies just before `next` and stays valid until the next call.
 */
export class FrameReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the current frame begins in {@link FrameReader.bytes}. */
  offset = 0;
  /** Length of the current frame, header included. */
  length = 0;
  #end = 0;
  #next = 0;
  readonly #stream: Pick<Stream, "readSome" | "label">;
  readonly #layout: FrameLayout;
  readonly #address: number;

  constructor(options: FrameReaderOptions) {
    const { bytes, layout } = options;
    if (bytes.length < layout.max) {
      throw new RangeError(
        `Cannot read frames: the buffer has ${bytes.length} bytes, a frame up to ${layout.max}`,
      );
    }
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#stream = options.stream;
    this.#layout = layout;
    this.#address = options.address;
  }

  /** Whether {@link FrameReader.next} gives a frame without waiting: several can be handled, then acknowledged at once. */
  get ready(): boolean {
    const held = this.#end - this.#next;
    if (held < this.#layout.header) return false;
    const length = this.#layout.measure(this.view, this.#next);
    return typeof length === "string" || held >= length;
  }

  /**
   * Goes to the next frame. Answers false when it is not complete and nothing came within the stream's receive
   * timeout: call again. Throws {@link StreamError} when the stream ended or a frame is bad: close it then.
   */
  next(): boolean {
    const layout = this.#layout;
    if (!this.#have(layout.header)) return false;
    const length = layout.measure(this.view, this.#next);
    // The length is bounded before a single byte is waited for: it is what a broken peer would damage first.
    if (typeof length === "string") throw this.#bad(length);
    if (!this.#have(length)) return false;
    const reason = layout.verify(this.bytes, this.view, this.#next, length);
    if (reason !== null) throw this.#bad(reason);
    this.offset = this.#next;
    this.length = length;
    this.#next += length;
    return true;
  }

  /** Shows each frame behind the current one that is here whole and sound; {@link next} gives them out later. */
  ahead(visit: (offset: number, length: number) => void): void {
    visitFrames(this.#layout, this, { from: this.#next, to: this.#end }, visit);
  }

  /** Receives until `length` bytes from `#next` are here. */
  #have(length: number): boolean {
    while (this.#end - this.#next < length) {
      if (this.#next === this.#end) this.#next = this.#end = 0;
      if (this.#next + length > this.bytes.length) this.#toFront();
      const got = this.#stream.readSome(this.#address + this.#end, this.bytes.length - this.#end);
      if (got === 0) return false;
      this.#end += got;
    }
    return true;
  }

  #toFront(): void {
    this.bytes.copyWithin(0, this.#next, this.#end);
    this.#end -= this.#next;
    this.#next = 0;
  }

  #bad(reason: string): StreamError {
    return new StreamError(
      "protocol",
      `Cannot read a frame from ${this.#stream.label}: ${reason}; the channel is closed`,
    );
  }
}

/** Shows each frame that lies in a range of memory whole and sound, up to the first that does not. */
export function visitFrames(
  { header, measure, verify }: FrameLayout,
  { bytes, view }: { readonly bytes: Uint8Array; readonly view: DataView },
  { from, to }: { readonly from: number; readonly to: number },
  visit: (offset: number, length: number) => void,
): void {
  for (let at = from; to - at >= header;) {
    const length = measure(view, at);
    if (typeof length === "string" || to - at < length) return;
    if (verify(bytes, view, at, length) !== null) return;
    visit(at, length);
    at += length;
  }
}
