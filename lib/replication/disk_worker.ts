/**
 * The thread that waits for the disk, so that an fsync never delays what follows it.
 *
 * It takes descriptors in order. On the primary it marks the fsync done and wakes the acknowledging thread; on the
 * secondary it acknowledges on the connection of its own.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { backing } from "../system/backing.ts";
import { addressOf, memoryAt } from "../system/libc.ts";
import { openStream } from "../system/stream.ts";
import { syncfs } from "../system/syncfs.ts";
import { nameThread } from "../system/thread_name.ts";
import { drainWake, PollSet, wake } from "../system/worker_io.ts";
import { encodeLittle, LITTLE_HEADER } from "./frame.ts";
import { INFLIGHT } from "./inflight.ts";
import { ACK } from "./mutation.ts";
import { DISK, DISK_FLAG, FSYNC, Mailbox, Shared, type SharedMemory, WORD } from "./shared.ts";
import { type Stream, StreamError, type StreamHandle } from "./stream.ts";

/** Commands to this thread. */
export type DiskCommand =
  /** The secondary's: acknowledge on this stream from now on. */
  | {
    readonly kind: "attach";
    readonly session: string;
    readonly sync: StreamHandle;
    /** Index of the ring from which on entries are of this session: others are not acknowledged on it. */
    readonly from: number;
  }
  | { readonly kind: "detach"; readonly session: string };

/** What this thread tells. */
export type DiskMessage =
  | { readonly kind: "disk-ready" }
  | { readonly kind: "disk-error"; readonly errno: number; readonly sequence: number }
  | { readonly kind: "stream-lost"; readonly session: string; readonly reason: string }
  | { readonly kind: "checkpoint"; readonly token: number; readonly failed: number };

/** What it is started with. */
export interface DiskStart {
  readonly memory: SharedMemory;
  readonly mail: SharedArrayBuffer;
}

class DiskThread {
  readonly #shared: Shared;
  readonly #mail: Mailbox;
  readonly #poll = new PollSet(1);
  readonly #frame = new Uint8Array(LITTLE_HEADER);
  readonly #frameView = new DataView(this.#frame.buffer);
  readonly #frameAddress = addressOf(this.#frame);
  #stream: Stream | null = null;
  #session = "";
  #from = 0;
  #checkpointFailed = 0;

  constructor(start: DiskStart, readonly say: (message: DiskMessage) => void) {
    this.#shared = new Shared(start.memory, memoryAt(start.memory.inflight, INFLIGHT.bytes));
    this.#mail = new Mailbox(start.mail);
    this.#poll.assign([start.memory.wake.disk]);
  }

  run(): void {
    nameThread("disk");
    this.say({ kind: "disk-ready" });
    while (this.#shared.get(WORD.stopping) === 0) {
      this.#command();
      if (this.#shared.diskWaiting > 0) this.#next();
      else if (this.#poll.wait(1000) > 0) drainWake(this.#shared.memory.wake.disk);
    }
    while (this.#shared.diskWaiting > 0) this.#next();
    this.#stream?.close();
  }

  #command(): void {
    const command = this.#mail.take() as DiskCommand | undefined;
    if (command === undefined) return;
    if (command.kind === "attach") {
      this.#stream?.close();
      this.#stream = openStream(command.sync);
      this.#session = command.session;
      this.#from = command.from;
    } else if (command.session === this.#session) {
      this.#stream?.close();
      this.#stream = null;
    }
  }

  #next(): void {
    const shared = this.#shared;
    const head = shared.get(WORD.diskHead);
    const at = shared.diskSlot(head);
    const fd = shared.disk.getInt32(at + DISK.fd, true);
    const flags = shared.disk.getInt32(at + DISK.flags, true);
    const token = shared.disk.getFloat64(at + DISK.token, true);
    const slot = shared.disk.getInt32(at + DISK.slot, true);
    shared.set(WORD.diskHead, (head + 1) | 0);
    if (flags & DISK_FLAG.checkpoint) return this.#checkpoint(fd, flags, token);
    if (flags & DISK_FLAG.fileSystem) return this.#fileSystem(fd);
    const result = fd < 0 ? 0 : flags & DISK_FLAG.dataOnly ? backing.fdatasync(fd) : backing.fsync(fd);
    if (fd >= 0) backing.close(fd);
    if (slot >= 0) this.#done(slot, token, -result);
    else if (result < 0 || ((head - this.#from) | 0) >= 0) this.#acknowledge(token, -result);
  }

  /** `syncfs(2)`, at the end of a comparison only: it flushes whatever is on that file system. */
  #fileSystem(fd: number): void {
    const error = -syncfs(fd);
    backing.close(fd);
    this.#shared.set(WORD.fileSystemError, error);
    this.#shared.count(WORD.fileSystemSyncs);
  }

  #checkpoint(fd: number, flags: number, token: number): void {
    const wide = (flags & DISK_FLAG.fileSystem) !== 0;
    const result = wide ? syncfs(fd) : fd < 0 ? 0 : backing.fsync(fd);
    if (fd >= 0) backing.close(fd);
    if (result < 0) this.#checkpointFailed = -result;
    if ((flags & DISK_FLAG.barrier) === 0) return;
    this.say({ kind: "checkpoint", token, failed: this.#checkpointFailed });
    this.#checkpointFailed = 0;
  }

  /** The primary's: the application is answered by the acknowledging thread. */
  #done(slot: number, sequence: number, errno: number): void {
    if (errno !== 0) this.say({ kind: "disk-error", errno, sequence });
    const shared = this.#shared;
    const at = slot * FSYNC.bytes;
    shared.fsyncs.setInt32(at + FSYNC.error, errno, true);
    Atomics.store(shared.fsyncWords, (at + FSYNC.local) >> 2, 1);
    wake(shared.memory.wake.acker);
  }

  /** The secondary's: a disk that refuses is told, never acknowledged. */
  #acknowledge(sequence: number, errno: number): void {
    if (errno !== 0) {
      // A later acknowledgement would count for this one too: the session has none any more.
      this.#stream?.close();
      this.#stream = null;
      return this.say({ kind: "disk-error", errno, sequence });
    }
    if (this.#stream === null) return;
    const length = encodeLittle({
      bytes: this.#frame,
      view: this.#frameView,
      offset: 0,
      kind: ACK.synced,
      sequence,
      value: 0n,
      body: 0,
    }, crc32);
    try {
      this.#stream.writeAll(this.#frameAddress, length);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#stream.close();
      this.#stream = null;
      this.say({ kind: "stream-lost", session: this.#session, reason: error.message });
    }
  }
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<DiskStart>) => void) | null;
  postMessage(message: DiskMessage): void;
};
scope.onmessage = (event) => {
  scope.onmessage = null;
  new DiskThread(event.data, (message) => scope.postMessage(message)).run();
};
