/**
 * What is in flight between the kernel and the applications: the request in hand, and the answers that wait for the
 * peer or the disk. All of it lies in `RUN/NAME.inflight`, a file in memory that is mapped, so that a killed process
 * leaves it to the next one. Kernels before Linux 6.9 give a request once and never again.
 *
 * | offset  | size    | what                                                                              |
 * |---------|---------|-----------------------------------------------------------------------------------|
 * |       0 |       4 | {@link MAGIC}                                                                     |
 * |       4 |       4 | {@link LAYOUT}                                                                    |
 * |      64 |      24 | what older programs left of {@link SWAP}, for all directories one                 |
 * |     256 |     256 | control words (`shared.ts`), of which those of the two rings outlive a process    |
 * |     512 |     384 | exchanges of two names that no log tells of, {@link SWAP}: one for each directory |
 * |    4096 | 1056768 | the request in hand (`../fuse/request.ts`)                                        |
 * | 1060864 | 2097152 | ring of replies that wait for the peer, {@link REPLY}                             |
 * | 3158016 |  196608 | ring of fsyncs that wait for the disks, {@link FSYNC}                             |
 *
 * @module
 */

import { REQUEST_BYTES } from "../fuse/request.ts";

/** "BNIF", little-endian. */
export const MAGIC = 0x46494e42;
/** Number of this layout, that of the request and of the rings' entries included: any change raises it. */
export const LAYOUT = 1;

/** Replies that wait: power of two, so that an index wraps by a mask. More than a host has threads in one directory. */
export const REPLY_SLOTS = 8192;
/** A reply that waits is at most an entry with its open reply: 16 + 128 + 16 bytes. */
export const REPLY_SLOT_BYTES = 256;
/** Replies that wait for the disk. */
export const FSYNC_SLOTS = 4096;

/** Layout of one entry of the reply ring: sequence f64 · directory i32 · length i32 · reply bytes. */
export const REPLY = { sequence: 0, root: 8, length: 12, bytes: 16 } as const;
/**
 * Layout of one entry of the fsync ring: sequence f64 · directory i32 · done here i32 · error i32 · answered i32 ·
 * unique u32×2 · size i32 (of the write it answers, −1: an fsync) · object f64.
 */
export const FSYNC = {
  sequence: 0,
  root: 8,
  local: 12,
  error: 16,
  answered: 20,
  uniqueLow: 24,
  uniqueHigh: 28,
  size: 32,
  id: 40,
  bytes: 48,
} as const;

/** Directories of a module at most. */
export const MOUNTS_MAX = 16;
/**
 * The request that exchanges two names of what stays on this node, from before it is done until it is answered: done twice it
 * would be undone, and how things are does not tell. Unique f64 (0: none) · object that had the first name f64 · directory i32.
 * Older programs leave it 0.
 *
 * For each directory its own: the kernel gives what it says again before anything new, but of one mount only, and whoever
 * takes over may meet an exchange in another directory first.
 */
export const SWAP = { unique: 0, id: 8, root: 16, bytes: 24 } as const;

/** Control words that outlive a process: producer and consumer of each ring. */
export const RING_WORD = {
  /** Of the ring of replies waiting for "applied". */
  replyTail: 3,
  replyHead: 4,
  /** Of the ring of replies waiting for "on disk". */
  fsyncTail: 5,
  fsyncHead: 6,
} as const;

const REQUEST_AT = 4096;
const REPLIES_AT = REQUEST_AT + REQUEST_BYTES;
const FSYNCS_AT = REPLIES_AT + REPLY_SLOTS * REPLY_SLOT_BYTES;

/** Where each part lies. */
export const INFLIGHT = {
  swap: 64,
  swaps: 512,
  control: 256,
  controlBytes: 256,
  request: REQUEST_AT,
  replies: REPLIES_AT,
  fsyncs: FSYNCS_AT,
  bytes: FSYNCS_AT + FSYNC_SLOTS * FSYNC.bytes,
} as const;

/**
 * Makes the file this process's own: called with the turn, before any thread looks at it.
 *
 * @param keep what a former process left counts: it was killed, and the kernel will not say it again. Killed while this
 * runs, what counted before counts still.
 * @returns whether the file holds what a former process left, by a layout that is understood.
 */
export function takeOver(inflight: ArrayBuffer, keep: boolean): boolean {
  const head = new Int32Array(inflight, 0, 2);
  const words = new Int32Array(inflight, INFLIGHT.control, INFLIGHT.controlBytes / 4);
  const known = head[0] === MAGIC && head[1] === LAYOUT;
  // The kernel that says a request again does not say how far it came.
  if (known) spreadSwap(inflight);
  else {
    new Uint8Array(inflight, INFLIGHT.swap, SWAP.bytes).fill(0);
    new Uint8Array(inflight, INFLIGHT.swaps, MOUNTS_MAX * SWAP.bytes).fill(0);
  }
  if (keep && known) {
    const rings = new Set<number>(Object.values(RING_WORD));
    for (let word = 0; word < words.length; word++) if (!rings.has(word)) words[word] = 0;
    return true;
  }
  head[0] = 0;
  words.fill(0);
  new Uint8Array(inflight, INFLIGHT.request, REQUEST_BYTES).fill(0);
  head[1] = LAYOUT;
  // Last: a file that was half made is made again.
  head[0] = MAGIC;
  return false;
}

/** What an older program noted goes where this one looks for it. */
function spreadSwap(inflight: ArrayBuffer): void {
  const old = new Uint8Array(inflight, INFLIGHT.swap, SWAP.bytes);
  const root = new DataView(inflight).getInt32(INFLIGHT.swap + SWAP.root, true);
  if (root < 0 || root >= MOUNTS_MAX || old.every((byte) => byte === 0)) return;
  new Uint8Array(inflight, INFLIGHT.swaps + root * SWAP.bytes, SWAP.bytes).set(old);
  // Last: killed in between, the next process does it again.
  old.fill(0);
}
