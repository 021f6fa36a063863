/**
 * What the replicator's threads share: control words, two rings of replies waiting for the peer, a ring of
 * descriptors waiting for the disk, and one mailbox per thread.
 *
 * A worker blocked in a system call receives no `postMessage`; so commands go through memory and an eventfd, and only
 * what a worker has to say goes by `postMessage`. Every ring has one producer and one consumer. An entry is written
 * first, the index after it with `Atomics.store`: whoever sees the index sees the entry.
 *
 * @module
 */

import { REQUEST_BYTES } from "../fuse/request.ts";
import {
  FSYNC,
  FSYNC_SLOTS,
  INFLIGHT,
  MOUNTS_MAX,
  REPLY_SLOT_BYTES,
  REPLY_SLOTS,
  RING_WORD,
  SWAP,
} from "./inflight.ts";

export { FSYNC, FSYNC_SLOTS, MOUNTS_MAX, REPLY, REPLY_SLOT_BYTES, REPLY_SLOTS } from "./inflight.ts";

/** Control words, indices into {@link Shared.words}. */
export const WORD = {
  ...RING_WORD,
  /** How many members must have a mutation before it is answered: 1 or 2. */
  members: 0,
  /** 1 once the threads must end. */
  stopping: 1,
  /** 1 while the acknowledging thread has a peer's connections. */
  peerConnected: 2,
  /** Producer and consumer of the ring of descriptors to be synced. */
  diskTail: 7,
  diskHead: 8,
  /** Counts requests answered late because the authority had lapsed. */
  heldByAuthority: 9,
  /** 1 while replies are refused for good: the node surrendered. */
  surrendered: 10,
  /** Set to 1 by the acknowledging thread when it lost the peer, with a message to the main thread. */
  peerLost: 11,
  /** Producer and consumer of the ring of what the peer asks during a resync. */
  askTail: 12,
  askHead: 13,
  /** Lower 32 bits of the last sequence the peer has applied; see {@link Shared.acknowledged}. */
  appliedLow: 14,
  /** How often the disk thread synced a whole file system, and errno of the last time. */
  fileSystemSyncs: 15,
  fileSystemError: 16,
  /** Set to 1 when the mounts are let go: the acknowledging thread forgets the replies that wait and sets it to 0. */
  forget: 17,
  /** From here on, for each directory, the descriptor its requests come from and are answered by; 0: not served yet. */
  fuse: 32,
} as const;

/** Descriptors that wait for the disk; checkpoints use it beside fsync. */
export const DISK_SLOTS = 8192;
/** What one request of the peer during a resync takes: id, offset, length, kind. */
export const ASK_SLOTS = 65536;

/** Layout of one entry of the disk ring, 32 bytes: token f64 · fd i32 · flags i32 · fsync slot i32. */
export const DISK = { token: 0, fd: 8, flags: 12, slot: 16, bytes: 32 } as const;
/** Flags of a disk entry. */
export const DISK_FLAG = { dataOnly: 1, checkpoint: 2, barrier: 4, fileSystem: 8 } as const;
/** What the target of a comparison asks for, as it goes through the ask ring. */
export interface Ask {
  /** `ASK_KIND` of `mutation.ts`. */
  readonly kind: number;
  readonly id: number;
  readonly offset: number;
  readonly length: number;
}

/** Layout of one entry of the ask ring, 32 bytes: id f64 · offset f64 · length f64 · kind i32. */
export const ASK = { id: 0, offset: 8, length: 16, kind: 24, bytes: 32 } as const;

/** The longest command a mailbox takes, bytes of JSON. A follower's activity set is the largest. */
export const MAIL_MAX = 4 << 20;

/** The memory itself; plain so that it can be posted to a worker once, at its start. */
export interface SharedMemory {
  /** Where this process has mapped what outlives it, `inflight.ts`. */
  readonly inflight: number;
  readonly disk: SharedArrayBuffer;
  readonly asks: SharedArrayBuffer;
  /** Eventfd that wakes each thread. */
  readonly wake: { readonly road: number; readonly acker: number; readonly disk: number };
  readonly mail: { readonly road: SharedArrayBuffer; readonly acker: SharedArrayBuffer };
}

/** Makes the memory of one replicator. `wake` are eventfds; `inflight` is the address of what outlives it. */
export function createSharedMemory(wake: SharedMemory["wake"], inflight: number): SharedMemory {
  return {
    inflight,
    disk: new SharedArrayBuffer(DISK_SLOTS * DISK.bytes),
    asks: new SharedArrayBuffer(ASK_SLOTS * ASK.bytes),
    wake,
    mail: { road: new SharedArrayBuffer(MAIL_MAX + 8), acker: new SharedArrayBuffer(65536 + 8) },
  };
}

/** Typed views over {@link SharedMemory}, one set per thread. */
export class Shared {
  readonly words: Int32Array;
  readonly replies: DataView;
  readonly replyBytes: Uint8Array;
  readonly fsyncs: DataView;
  readonly fsyncWords: Int32Array;
  readonly disk: DataView;
  readonly asks: DataView;
  readonly #swaps: DataView;
  /** Where requests are read to. */
  readonly request: Uint8Array<ArrayBuffer>;

  /** @param inflight what lies at {@link SharedMemory.inflight}. */
  constructor(readonly memory: SharedMemory, inflight: ArrayBuffer) {
    const replyBytes = REPLY_SLOTS * REPLY_SLOT_BYTES;
    const fsyncBytes = FSYNC_SLOTS * FSYNC.bytes;
    this.words = new Int32Array(inflight, INFLIGHT.control, INFLIGHT.controlBytes / 4);
    this.replies = new DataView(inflight, INFLIGHT.replies, replyBytes);
    this.replyBytes = new Uint8Array(inflight, INFLIGHT.replies, replyBytes);
    this.fsyncs = new DataView(inflight, INFLIGHT.fsyncs, fsyncBytes);
    this.fsyncWords = new Int32Array(inflight, INFLIGHT.fsyncs, fsyncBytes / 4);
    this.#swaps = new DataView(inflight, INFLIGHT.swaps, MOUNTS_MAX * SWAP.bytes);
    this.request = new Uint8Array(inflight, INFLIGHT.request, REQUEST_BYTES);
    this.disk = new DataView(memory.disk);
    this.asks = new DataView(memory.asks);
  }

  /** Notes which object has the first name of an exchange that is about to be done; unique 0: it was answered. */
  noteSwap(root: number, unique: number, id: number): void {
    const at = root * SWAP.bytes;
    this.#swaps.setFloat64(at + SWAP.unique, 0, true);
    this.#swaps.setFloat64(at + SWAP.id, id, true);
    this.#swaps.setInt32(at + SWAP.root, root, true);
    // Last: a process that is killed on the way leaves none.
    this.#swaps.setFloat64(at + SWAP.unique, unique, true);
  }

  /** Which object had the first name before this request exchanged it; 0: it was not begun. */
  swapOf(root: number, unique: number): number {
    const at = root * SWAP.bytes;
    return this.#swaps.getFloat64(at + SWAP.unique, true) === unique
      ? this.#swaps.getFloat64(at + SWAP.id, true)
      : 0;
  }

  /** No exchange of a mount that is no more says anything about a new one. */
  forgetSwaps(): void {
    for (let root = 0; root < MOUNTS_MAX; root++) this.noteSwap(root, 0, 0);
  }

  /** Reads a control word. */
  get(word: number): number {
    return Atomics.load(this.words, word);
  }

  /** Writes a control word; what was written before it is visible to whoever reads it. */
  set(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }

  /** Adds one to a control word. */
  count(word: number): void {
    Atomics.add(this.words, word, 1);
  }

  /**
   * The last sequence the peer has applied, told in its lowest 32 bits. Never beyond `last`, the newest record: what seems
   * to be is so far behind that those bits do not tell, and then nothing counts as acknowledged.
   */
  acknowledged(last: number): number {
    const behind = ((last | 0) - this.get(WORD.appliedLow)) | 0;
    return behind < 0 ? 0 : last - behind;
  }

  /** The descriptor of a directory's mount; 0: it is not served. */
  fuse(root: number): number {
    return this.get(WORD.fuse + root);
  }

  /** How many replies wait for the peer. */
  get repliesWaiting(): number {
    return (this.get(WORD.replyTail) - this.get(WORD.replyHead)) | 0;
  }

  /** How many fsync replies wait. */
  get fsyncsWaiting(): number {
    return (this.get(WORD.fsyncTail) - this.get(WORD.fsyncHead)) | 0;
  }

  /** How many descriptors wait for the disk. */
  get diskWaiting(): number {
    return (this.get(WORD.diskTail) - this.get(WORD.diskHead)) | 0;
  }

  /** Offset of the reply slot for an index. */
  replySlot(index: number): number {
    return (index & (REPLY_SLOTS - 1)) * REPLY_SLOT_BYTES;
  }

  /** Offset of the fsync slot for an index. */
  fsyncSlot(index: number): number {
    return (index & (FSYNC_SLOTS - 1)) * FSYNC.bytes;
  }

  /** Offset of the disk slot for an index. */
  diskSlot(index: number): number {
    return (index & (DISK_SLOTS - 1)) * DISK.bytes;
  }

  /**
   * Forgets the replies that wait: their mount is gone, and their descriptors' numbers are soon those of other files. Only
   * the consumer may call it, once no more are put in.
   */
  forgetReplies(): void {
    this.set(WORD.replyHead, this.get(WORD.replyTail));
    this.set(WORD.fsyncHead, this.get(WORD.fsyncTail));
    this.set(WORD.forget, 0);
  }

  /** Queues the reply to an fsync, which waits for both disks. Answers its slot. */
  pushFsync(entry: {
    readonly root: number;
    readonly uniqueLow: number;
    readonly uniqueHigh: number;
    /** Of the write it answers; −1: an fsync. */
    readonly size: number;
    readonly id: number;
    /** An errno: nothing is waited for on this node. */
    readonly error: number;
    /** What the peer must have synced; 0: nothing. */
    readonly sequence: number;
  }): number {
    const { fsyncs } = this;
    const tail = this.get(WORD.fsyncTail);
    const at = this.fsyncSlot(tail);
    fsyncs.setFloat64(at + FSYNC.sequence, entry.sequence, true);
    fsyncs.setInt32(at + FSYNC.root, entry.root, true);
    fsyncs.setInt32(at + FSYNC.local, entry.error === 0 ? 0 : 1, true);
    fsyncs.setInt32(at + FSYNC.error, entry.error, true);
    fsyncs.setInt32(at + FSYNC.answered, 0, true);
    fsyncs.setUint32(at + FSYNC.uniqueLow, entry.uniqueLow, true);
    fsyncs.setUint32(at + FSYNC.uniqueHigh, entry.uniqueHigh, true);
    fsyncs.setInt32(at + FSYNC.size, entry.size, true);
    fsyncs.setFloat64(at + FSYNC.id, entry.id, true);
    this.set(WORD.fsyncTail, (tail + 1) | 0);
    return tail & (FSYNC_SLOTS - 1);
  }

  /** Queues a descriptor for the disk thread, which closes it. False when the ring is full. */
  pushDisk(entry: { fd: number; flags: number; token: number; slot: number }): boolean {
    const tail = this.get(WORD.diskTail);
    if (((tail - this.get(WORD.diskHead)) | 0) >= DISK_SLOTS) return false;
    const at = this.diskSlot(tail);
    this.disk.setFloat64(at + DISK.token, entry.token, true);
    this.disk.setInt32(at + DISK.fd, entry.fd, true);
    this.disk.setInt32(at + DISK.flags, entry.flags, true);
    this.disk.setInt32(at + DISK.slot, entry.slot, true);
    this.set(WORD.diskTail, (tail + 1) | 0);
    return true;
  }

  /** Queues what the peer asks for. False when the ring is full. */
  pushAsk(entry: Ask): boolean {
    const tail = this.get(WORD.askTail);
    if (((tail - this.get(WORD.askHead)) | 0) >= ASK_SLOTS) return false;
    const at = (tail & (ASK_SLOTS - 1)) * ASK.bytes;
    this.asks.setFloat64(at + ASK.id, entry.id, true);
    this.asks.setFloat64(at + ASK.offset, entry.offset, true);
    this.asks.setFloat64(at + ASK.length, entry.length, true);
    this.asks.setInt32(at + ASK.kind, entry.kind, true);
    this.set(WORD.askTail, (tail + 1) | 0);
    return true;
  }

  /** Takes what the peer asked for, or undefined. */
  takeAsk(): Ask | undefined {
    const head = this.get(WORD.askHead);
    if (head === this.get(WORD.askTail)) return undefined;
    const at = (head & (ASK_SLOTS - 1)) * ASK.bytes;
    const entry = {
      kind: this.asks.getInt32(at + ASK.kind, true),
      id: this.asks.getFloat64(at + ASK.id, true),
      offset: this.asks.getFloat64(at + ASK.offset, true),
      length: this.asks.getFloat64(at + ASK.length, true),
    };
    this.set(WORD.askHead, (head + 1) | 0);
    return entry;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A place for one JSON command at a time. The writer waits for the answer before it writes the next. */
export class Mailbox {
  readonly #flag: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.#flag = new Int32Array(memory, 0, 2);
    this.#bytes = new Uint8Array(memory, 8);
  }

  /** Whether the last command was taken. */
  get free(): boolean {
    return Atomics.load(this.#flag, 0) === 0;
  }

  /** Puts a command in. Throws when it is too long, or the last one was not taken. */
  put(command: unknown): void {
    const bytes = encoder.encode(JSON.stringify(command));
    if (bytes.length > this.#bytes.length) {
      throw new RangeError(
        `Cannot send a command: ${bytes.length} bytes are more than ${this.#bytes.length}`,
      );
    }
    if (Atomics.load(this.#flag, 0) !== 0) {
      throw new Error("Cannot send a command: the last one was not taken");
    }
    this.#bytes.set(bytes);
    Atomics.store(this.#flag, 1, bytes.length);
    Atomics.store(this.#flag, 0, 1);
  }

  /** Takes the command, or undefined. */
  take(): unknown {
    if (Atomics.load(this.#flag, 0) === 0) return undefined;
    const bytes = this.#bytes.slice(0, Atomics.load(this.#flag, 1));
    Atomics.store(this.#flag, 0, 0);
    return JSON.parse(decoder.decode(bytes));
  }
}

/** Commands that wait at most: a thread that takes none of so many hangs. */
const POST_MAX = 256;

/** What {@link Post} needs. */
export interface PostOptions {
  readonly mailbox: Pick<Mailbox, "free" | "put">;
  readonly wake: () => void;
  /** Runs something a little later. */
  readonly later: (work: () => void) => void;
}

/** Commands on their way to a thread that may be blocked: they keep their order, and nobody waits for it. */
export class Post {
  readonly #options: PostOptions;
  readonly #queue: unknown[] = [];
  #waiting = false;

  constructor(options: PostOptions) {
    this.#options = options;
  }

  /** Sends a command after those before it. Throws when the thread has not taken any for a long time. */
  send(command: unknown): void {
    if (this.#queue.length >= POST_MAX) throw new Error("Cannot send a command: the thread takes none");
    this.#queue.push(command);
    if (!this.#waiting) this.#next();
  }

  #next(): void {
    this.#waiting = false;
    if (this.#options.mailbox.free) {
      this.#options.mailbox.put(this.#queue.shift());
      this.#options.wake();
    }
    if (this.#queue.length === 0) return;
    this.#waiting = true;
    this.#options.later(() => this.#next());
  }
}
