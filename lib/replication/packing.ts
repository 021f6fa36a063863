/**
 * Packed frames: what a resync sends, compressed by zstd where that brings it there sooner.
 *
 * A frame of op `CONTROL.packed` stands for the frames in it, as if they had come one by one; `a` is their length, 96 to
 * {@link FRAME_MAX} bytes, and the body is zstd's. There is no packed frame in a packed frame.
 *
 * **The rule.** A block is packed while both are true:
 *
 * - The line is what holds the resync up: `resync_bandwidth` bounds it, or bytes wait for the line, with us or in the kernel, and
 *   it is not the peer's window that stands in the way.
 * - The compressor is faster than the line, by what both did lately. So each packed block leaves the line idle for no moment, and
 *   whatever it saves is time saved.
 *
 * What does not shrink by an eighth goes as it is, and nothing is tried again for some MiB, twice as many each time.
 *
 * @module
 */

import { FRAME_HEADER, FRAME_MAX } from "./frame.ts";

/** Compresses. One for each role. */
export interface Codec {
  /** Whether {@link pack} can do anything here. */
  readonly packs: boolean;
  /** Answers how many bytes came of it, −1 where they do not fit. */
  pack(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): number;
  /** Answers how many bytes came of it, −1 where it is damaged or does not fit: never writes past the end of `into`. */
  unpack(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): number;
}

/** What the kernel knows of a connection. */
export interface LineSpeed {
  /** Bytes a second that the peer's kernel has confirmed lately; 0: not known. */
  readonly bytesPerSecond: number;
  /** Microseconds, since the connection began, in which the peer had no room for more. */
  readonly peerFullUs: number;
  /** Bytes that the kernel has taken and not sent yet. */
  readonly unsent: number;
}

/** What {@link Packing} needs. */
export interface PackingOptions {
  readonly codec: Codec;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Null: it does not say. */
  readonly line: () => LineSpeed | null;
  /** Bytes that the socket did not take. */
  readonly kept: () => number;
  /** The most a resync may send, bytes a second; null: no bound. */
  readonly bandwidth: number | null;
}

/** Bytes of a session's resync by what became of them, for `status`, and what it was decided by. */
export interface PackingStatus {
  /** Packed. */
  readonly packed: number;
  /** As they are, because: they do not shrink, or those before did not. */
  readonly dense: number;
  /** … nothing waited for the line. */
  readonly idle: number;
  /** … the peer is slow. */
  readonly peer: number;
  /** … the line is as fast as the compressor. */
  readonly fast: number;
  readonly compressorBytesPerSecond: number;
  /** As the kernel measured it last; 0: not asked. */
  readonly lineBytesPerSecond: number;
}

/** Shorter blocks go as they are: a frame's header is 96 bytes. */
const BLOCK_MIN = 512;
/** A block that does not shrink to so much of it goes as it is. */
const WORTH = 7 / 8;
/** How much is not tried after such a block, at first and at most. */
const SKIP_MIN = 1 << 20;
const SKIP_MAX = 8 << 20;
/** So much waits for a line that is behind. */
const BEHIND = 64 * 1024;
/** Over so long a time it is seen whether the peer has room. */
const SPAN_MS = 200;
/** Until something was measured: of one busy core. */
const COMPRESSOR_GUESS = 200e6;
/** So much goes as it is because the line is fast, then one block tells how fast the compressor is now. */
const MEASURE_AGAIN = 32 << 20;
/** How much the latest block counts in the compressor's speed. */
const LATEST = 1 / 8;
/** The peer is what is slow where it had no room for so much of the time. */
const PEER_FULL = 0.5;

/** Decides, and packs. */
export class Packing {
  readonly #options: PackingOptions;
  readonly #into = new Uint8Array(FRAME_HEADER + Math.ceil(FRAME_MAX * WORTH));
  /** Content that is not tried. */
  #skip = 0;
  #skipNext = SKIP_MIN;
  #compressor = COMPRESSOR_GUESS;
  /** Content since the compressor was measured. */
  #unmeasured = 0;
  #lineSpeed = 0;
  readonly #counts = { packed: 0, dense: 0, idle: 0, peer: 0, fast: 0 };
  #peer = { at: Number.NEGATIVE_INFINITY, fullUs: 0, slow: false };

  constructor(options: PackingOptions) {
    this.#options = options;
  }

  /** Where {@link pack} puts the body, with a header's room before it. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#into;
  }

  /** For `status`. */
  get status(): PackingStatus {
    return {
      ...this.#counts,
      compressorBytesPerSecond: Math.round(this.#compressor),
      lineBytesPerSecond: this.#lineSpeed,
    };
  }

  /** Packs a block. Answers the length of the body, or 0: it goes as it is. */
  pack(block: Uint8Array<ArrayBuffer>): number {
    if (block.length < BLOCK_MIN || block.length > FRAME_MAX || !this.#options.codec.packs) return 0;
    const reason = this.#reason() ?? (this.#skip > 0 ? "dense" : null);
    if (reason === "dense") this.#skip -= block.length;
    if (reason === "fast") this.#unmeasured += block.length;
    const length = reason === null ? this.#try(block) : 0;
    this.#counts[reason ?? (length > 0 ? "packed" : "dense")] += block.length;
    return length;
  }

  #try(block: Uint8Array<ArrayBuffer>): number {
    const { codec, now } = this.#options;
    const room = Math.floor(block.length * WORTH) - FRAME_HEADER;
    const began = now();
    this.#unmeasured = 0;
    const length = codec.pack(block, this.#into.subarray(FRAME_HEADER, FRAME_HEADER + room));
    if (length > 0) {
      // Of what it packs: it gives the rest up in a tenth of the time.
      const speed = block.length * 1000 / Math.max(now() - began, 1e-3);
      this.#compressor += (speed - this.#compressor) * LATEST;
      this.#skipNext = SKIP_MIN;
      return length;
    }
    this.#skip = this.#skipNext;
    this.#skipNext = Math.min(SKIP_MAX, this.#skipNext * 2);
    return 0;
  }

  /** Why a block goes as it is; null: it should be tried. */
  #reason(): "idle" | "peer" | "fast" | null {
    const { kept, line, bandwidth } = this.#options;
    if (bandwidth !== null && bandwidth < this.#compressor) return null;
    const speed = line();
    if (kept() === 0 && (speed?.unsent ?? 0) < BEHIND) return "idle";
    // A kernel that does not say how fast: all that is known is that the line is behind.
    if (speed === null) return null;
    this.#lineSpeed = speed.bytesPerSecond;
    this.#lookAtPeer(speed.peerFullUs);
    if (this.#peer.slow) return "peer";
    // Measured while the machine was busy with other things it would be too slow for ever.
    const tries = speed.bytesPerSecond < this.#compressor || this.#unmeasured >= MEASURE_AGAIN;
    return tries ? null : "fast";
  }

  #lookAtPeer(fullUs: number): void {
    const now = this.#options.now();
    const before = this.#peer;
    if (now - before.at < SPAN_MS) return;
    // Since it was looked at last, as long as that may be: a peer that was slow once is not slow for ever.
    this.#peer = { at: now, fullUs, slow: fullUs - before.fullUs > (now - before.at) * 1000 * PEER_FULL };
  }
}
