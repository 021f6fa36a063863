/**
 * The two other threads of a node in a simulation, a step at a time: the one that hears the peer's acknowledgements and answers
 * applications, and the one that waits for the disk. What they do is what `acker_worker.ts` and `disk_worker.ts` do.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { Acknowledgement } from "../../lib/replication/acknowledgement.ts";
import {
  encodeLittle,
  FrameReader,
  kinds,
  LITTLE_HEADER,
  littleFrames,
  littleKind,
  littleSequence,
  littleValue,
} from "../../lib/replication/frame.ts";
import { ACK, ASK_KIND, CONTROL, sessionNumber } from "../../lib/replication/mutation.ts";
import { DISK, DISK_FLAG, FSYNC, REPLY, type Shared, WORD } from "../../lib/replication/shared.ts";
import { type Stream, StreamError } from "../../lib/replication/stream.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { openStream } from "../../lib/system/stream.ts";
import { writeFrom } from "../../lib/system/worker_io.ts";
import type { MemoryBacking } from "../sim/memory_backing.ts";

const FRAME_BYTES = 2 << 20;
const OUT_HEADER = 16;

/** Hears acknowledgements, and answers applications. */
export class AckerThread {
  readonly #shared: Shared;
  #peer: { readonly streams: readonly Stream[]; readonly readers: readonly FrameReader[] } | null = null;
  #acknowledged = new Acknowledgement(0, false);
  #synced = 0;

  constructor(shared: Shared) {
    this.#shared = shared;
  }

  /** A session begins. `applied`, `compares`: as in `AckerCommand`. */
  attach(
    session: string,
    fds: { readonly ack: number; readonly sync: number },
    { applied, compares }: { readonly applied: number; readonly compares: boolean },
  ): void {
    const layout = littleFrames(crc32, kinds(Object.values(ACK)));
    const streams = [fds.ack, fds.sync].map((fd) => openStream({ kind: "plain", fd, label: "peer" }));
    const readers = streams.map((stream) => {
      const bytes = new Uint8Array(FRAME_BYTES);
      return new FrameReader({ stream, layout, bytes, address: addressOf(bytes) });
    });
    this.#peer = { streams, readers };
    this.#acknowledged = new Acknowledgement(applied, compares);
    this.#synced = 0;
    this.#tellApplied();
    this.#push(ASK_KIND.session, sessionNumber(session), 0, 0);
  }

  /** The session is over. */
  drop(): void {
    for (const stream of this.#peer?.streams ?? []) stream.close();
    this.#peer = null;
  }

  /** Hears what has come, and answers what may be answered. `fuse`: where the mount's requests come from. */
  step(fuse: number): void {
    try {
      for (const reader of this.#peer?.readers ?? []) while (reader.next()) this.#frame(reader);
    } catch (error) {
      // The road hears of it too.
      if (!(error instanceof StreamError)) throw error;
      this.drop();
    }
    this.#drainReplies(fuse);
    this.#drainFsyncs(fuse);
  }

  #tellApplied(): void {
    this.#shared.set(WORD.appliedLow, this.#acknowledged.applied | 0);
  }

  #push(kind: number, id: number, offset: number, length: number): void {
    if (!this.#shared.pushAsk({ kind, id, offset, length })) throw new Error("The ring of asks is full");
  }

  #frame(reader: FrameReader): void {
    const { view, offset } = reader;
    const kind = littleKind(view, offset);
    const sequence = littleSequence(view, offset);
    const value = Number(littleValue(view, offset));
    const start = offset + LITTLE_HEADER;
    const end = offset + reader.length;
    switch (kind) {
      case ACK.applied:
        this.#acknowledged.hear(sequence);
        return this.#tellApplied();
      case ACK.synced:
        this.#synced = Math.max(this.#synced, sequence);
        return;
      case ACK.failed:
        return;
      case ACK.credit:
        return this.#push(ASK_KIND.credit, 0, 0, value);
      case ACK.done:
        if (value === CONTROL.reconciled) {
          this.#acknowledged.compared();
          this.#tellApplied();
        }
        return this.#push(ASK_KIND.done, sequence, 0, value);
      case ACK.want:
        for (let at = start; at + 16 <= end; at += 16) {
          this.#push(ASK_KIND.want, sequence, view.getFloat64(at, true), view.getFloat64(at + 8, true));
        }
        return;
      case ACK.missing:
      case ACK.touched: {
        const what = kind === ACK.missing ? ASK_KIND.missing : ASK_KIND.touched;
        for (let at = start; at + 8 <= end; at += 8) this.#push(what, view.getFloat64(at, true), 0, 0);
        if (kind === ACK.touched && value === 1) this.#push(ASK_KIND.touchedAll, 0, 0, 0);
        return;
      }
      default:
        throw new Error(`No verification goes on, and yet there is an acknowledgement of kind ${kind}`);
    }
  }

  #drainReplies(fuse: number): void {
    const shared = this.#shared;
    for (let head = shared.get(WORD.replyHead); head !== shared.get(WORD.replyTail);) {
      const at = shared.replySlot(head);
      const sequence = shared.replies.getFloat64(at + REPLY.sequence, true);
      if (shared.get(WORD.members) === 2 && sequence > this.#acknowledged.applied) return;
      const length = shared.replies.getInt32(at + REPLY.length, true);
      const bytes = new Uint8Array(length);
      bytes.set(shared.replyBytes.subarray(at + REPLY.bytes, at + REPLY.bytes + length));
      writeFrom(fuse, addressOf(bytes), length);
      head = (head + 1) | 0;
      shared.set(WORD.replyHead, head);
    }
  }

  #drainFsyncs(fuse: number): void {
    const shared = this.#shared;
    const { fsyncs } = shared;
    const tail = shared.get(WORD.fsyncTail);
    let head = shared.get(WORD.fsyncHead);
    for (let index = head; index !== tail; index = (index + 1) | 0) {
      const at = shared.fsyncSlot(index);
      if (fsyncs.getInt32(at + FSYNC.answered, true) !== 0) continue;
      if (fsyncs.getInt32(at + FSYNC.local, true) === 0) continue;
      const sequence = fsyncs.getFloat64(at + FSYNC.sequence, true);
      if (shared.get(WORD.members) === 2 && sequence > this.#synced) continue;
      this.#answerFsync(at, fuse);
      fsyncs.setInt32(at + FSYNC.answered, 1, true);
    }
    while (head !== tail && fsyncs.getInt32(shared.fsyncSlot(head) + FSYNC.answered, true) !== 0) {
      head = (head + 1) | 0;
    }
    shared.set(WORD.fsyncHead, head);
  }

  #answerFsync(at: number, fuse: number): void {
    const { fsyncs } = this.#shared;
    const error = fsyncs.getInt32(at + FSYNC.error, true);
    const size = fsyncs.getInt32(at + FSYNC.size, true);
    const bytes = new Uint8Array(OUT_HEADER + 8);
    const view = new DataView(bytes.buffer);
    const length = error !== 0 || size < 0 ? OUT_HEADER : OUT_HEADER + 8;
    view.setUint32(0, length, true);
    view.setInt32(4, -error, true);
    view.setUint32(8, fsyncs.getUint32(at + FSYNC.uniqueLow, true), true);
    view.setUint32(12, fsyncs.getUint32(at + FSYNC.uniqueHigh, true), true);
    view.setUint32(16, Math.max(0, size), true);
    writeFrom(fuse, addressOf(bytes), length);
  }
}

/** Waits for the disk. */
export class DiskThread {
  readonly #shared: Shared;
  readonly #fs: MemoryBacking;
  readonly #onCheckpoint: (token: number, failed: number) => void;
  #stream: Stream | null = null;
  #from = 0;
  #checkpointFailed = 0;

  constructor(
    shared: Shared,
    fs: MemoryBacking,
    onCheckpoint: (token: number, failed: number) => void,
  ) {
    this.#shared = shared;
    this.#fs = fs;
    this.#onCheckpoint = onCheckpoint;
  }

  /** A session of a secondary begins: what is synced from here on is acknowledged on it. */
  attach(sync: number): void {
    this.#stream = openStream({ kind: "plain", fd: sync, label: "sync" });
    this.#from = this.#shared.get(WORD.diskTail);
  }

  /** The session is over. */
  drop(): void {
    this.#stream?.close();
    this.#stream = null;
  }

  /** Does one of the orders. False: there is none. */
  step(): boolean {
    const shared = this.#shared;
    if (shared.diskWaiting === 0) return false;
    const head = shared.get(WORD.diskHead);
    const at = shared.diskSlot(head);
    const fd = shared.disk.getInt32(at + DISK.fd, true);
    const flags = shared.disk.getInt32(at + DISK.flags, true);
    const token = shared.disk.getFloat64(at + DISK.token, true);
    const slot = shared.disk.getInt32(at + DISK.slot, true);
    shared.set(WORD.diskHead, (head + 1) | 0);
    const result = this.#sync(fd, flags);
    if (fd >= 0) this.#fs.close(fd);
    if ((flags & DISK_FLAG.checkpoint) !== 0) this.#checkpoint(flags, token, result);
    else if ((flags & DISK_FLAG.fileSystem) !== 0) {
      shared.set(WORD.fileSystemError, -result);
      shared.count(WORD.fileSystemSyncs);
    } else if (slot >= 0) {
      const local = slot * FSYNC.bytes;
      shared.fsyncs.setInt32(local + FSYNC.error, -result, true);
      Atomics.store(shared.fsyncWords, (local + FSYNC.local) >> 2, 1);
    } else if (((head - this.#from) | 0) >= 0) this.#acknowledge(token);
    return true;
  }

  #sync(fd: number, flags: number): number {
    if ((flags & DISK_FLAG.fileSystem) !== 0) return this.#fs.syncfs(fd);
    if (fd < 0) return 0;
    return (flags & DISK_FLAG.dataOnly) !== 0 ? this.#fs.fdatasync(fd) : this.#fs.fsync(fd);
  }

  #checkpoint(flags: number, token: number, result: number): void {
    if (result < 0) this.#checkpointFailed = -result;
    if ((flags & DISK_FLAG.barrier) === 0) return;
    this.#onCheckpoint(token, this.#checkpointFailed);
    this.#checkpointFailed = 0;
  }

  #acknowledge(sequence: number): void {
    if (this.#stream === null) return;
    const bytes = new Uint8Array(LITTLE_HEADER);
    const view = new DataView(bytes.buffer);
    const frame = { bytes, view, offset: 0, kind: ACK.synced, sequence, value: 0n, body: 0 };
    try {
      this.#stream.writeAll(addressOf(bytes), encodeLittle(frame, crc32));
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.drop();
    }
  }
}
