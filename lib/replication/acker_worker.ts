/**
 * The thread that hears the secondary's acknowledgements and gives the applications their answers itself: no other
 * thread is woken on the way of a write.
 *
 * Authority is looked at after durability and immediately before each reply (I3). Without it the reply waits.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { addressOf, memoryAt } from "../system/libc.ts";
import { openStream } from "../system/stream.ts";
import { nameThread } from "../system/thread_name.ts";
import { Authority, bootNanoseconds, drainWake, PollSet, wake, writeFrom } from "../system/worker_io.ts";
import { Acknowledgement } from "./acknowledgement.ts";
import {
  FrameReader,
  kinds,
  LITTLE_HEADER,
  littleFrames,
  littleKind,
  littleSequence,
  littleValue,
} from "./frame.ts";
import { ACK, ASK_KIND, CONTROL, sessionNumber } from "./mutation.ts";
import { INFLIGHT } from "./inflight.ts";
import { type Ask, FSYNC, Mailbox, REPLY, Shared, type SharedMemory, WORD } from "./shared.ts";
import { type Stream, StreamError, type StreamHandle } from "./stream.ts";

/** Commands to this thread. */
export type AckerCommand =
  | {
    readonly kind: "attach";
    readonly session: string;
    readonly ack: StreamHandle;
    readonly sync: StreamHandle;
    /** The sequence at which the peer stands: what it has needs no acknowledgement any more. */
    readonly applied: number;
    /** Its copy is compared first. */
    readonly compares: boolean;
    readonly timeoutMs: number;
  }
  | { readonly kind: "detach"; readonly session: string };

/** What this thread tells. */
export type AckerMessage =
  | { readonly kind: "acker-ready" }
  | {
    readonly kind: "peer-lost";
    readonly session: string;
    readonly reason: string;
    /** It was dropped on purpose: it held applications up for as long as it may. */
    readonly late: boolean;
  }
  | { readonly kind: "peer-failed"; readonly session: string; readonly reason: string }
  | { readonly kind: "difference"; readonly session: string; readonly difference: string }
  | {
    readonly kind: "good";
    readonly session: string;
    readonly object: number;
    readonly block: number;
    readonly content: Uint8Array;
  };

/** What it is started with. */
export interface AckerStart {
  readonly memory: SharedMemory;
  readonly authority: string;
}

const FRAME_BYTES = 2 << 20;
/** Little answers are answered by hand: header, and the size for a write. */
const OUT_HEADER = 16;
const SILENCE_NS = 1e6;
/**
 * What the peer asks for and the road has not taken is kept here once the ring is full: after a power cut a secondary names all it
 * may have touched at once, perhaps before the road is in the session. So much at most, some 300 MB.
 */
const ASKS_MAX = 4 << 20;
/** How often the road is offered what is kept. */
const OFFER_MS = 2;

interface Peer {
  readonly session: string;
  readonly ack: Stream;
  readonly sync: Stream;
  readonly ackReader: FrameReader;
  readonly syncReader: FrameReader;
  readonly timeoutNs: number;
}

class AckerThread {
  readonly #shared: Shared;
  readonly #mail: Mailbox;
  readonly #authority: Authority;
  readonly #poll = new PollSet(3);
  readonly #ackBytes = new Uint8Array(FRAME_BYTES);
  readonly #syncBytes = new Uint8Array(FRAME_BYTES);
  readonly #ackAddress = addressOf(this.#ackBytes);
  readonly #syncAddress = addressOf(this.#syncBytes);
  readonly #repliesAddress: number;
  readonly #small = new Uint8Array(24);
  readonly #smallView = new DataView(this.#small.buffer);
  readonly #smallAddress = addressOf(this.#small);
  #peer: Peer | null = null;
  #acknowledged = new Acknowledgement(0, false);
  #synced = 0;
  #progressAt = 0;
  /** What the peer must have for its next acknowledgement to count: many small steps are no progress to who waits. */
  #owed = 0;
  /** What the ring had no room for, oldest first. */
  #asks: Ask[] = [];
  /** Which fsyncs, done here, the peer must have done next, by sequence, and since when; 0: none waits for it alone. */
  #fsyncOwed = 0;
  #fsyncSince = 0;

  constructor(start: AckerStart, readonly say: (message: AckerMessage) => void) {
    this.#shared = new Shared(start.memory, memoryAt(start.memory.inflight, INFLIGHT.bytes));
    this.#mail = new Mailbox(start.memory.mail.acker);
    this.#authority = new Authority(start.authority);
    this.#repliesAddress = addressOf(this.#shared.replyBytes);
    this.#poll.assign([start.memory.wake.acker]);
  }

  run(): void {
    nameThread("acker");
    this.say({ kind: "acker-ready" });
    while (this.#shared.get(WORD.stopping) === 0) {
      this.#command();
      if (this.#shared.get(WORD.forget) === 1) this.#shared.forgetReplies();
      const waiting = this.#shared.repliesWaiting + this.#shared.fsyncsWaiting > 0;
      // A peer that has nothing to do is not late: the time runs from when somebody waits.
      if (!waiting) this.#progressed();
      const ready = this.#poll.wait(this.#asks.length > 0 ? OFFER_MS : waiting ? 20 : 200);
      if (ready > 0) this.#receive();
      if (this.#asks.length > 0) this.#offerAsks();
      this.#drainReplies();
      if (this.#shared.fsyncsWaiting > 0) this.#drainFsyncs();
      if (ready === 0 && waiting) this.#watch();
    }
    this.#drop();
  }

  #command(): void {
    const command = this.#mail.take() as AckerCommand | undefined;
    if (command === undefined) return;
    if (command.kind === "detach") {
      if (this.#peer?.session === command.session) this.#drop();
      return;
    }
    this.#drop();
    this.#attach(command);
  }

  #attach(command: Extract<AckerCommand, { kind: "attach" }>): void {
    const ack = openStream(command.ack);
    const sync = openStream(command.sync);
    const layout = littleFrames(crc32, kinds(Object.values(ACK)));
    this.#peer = {
      session: command.session,
      ack,
      sync,
      ackReader: new FrameReader({ stream: ack, layout, bytes: this.#ackBytes, address: this.#ackAddress }),
      syncReader: new FrameReader({
        stream: sync,
        layout,
        bytes: this.#syncBytes,
        address: this.#syncAddress,
      }),
      timeoutNs: command.timeoutMs * SILENCE_NS,
    };
    this.#acknowledged = new Acknowledgement(command.applied, command.compares);
    this.#tellApplied();
    this.#synced = 0;
    // The road thread may still find what the last session asked for.
    this.#push(ASK_KIND.session, sessionNumber(command.session), 0, 0);
    this.#progressed();
    this.#poll.assign([this.#shared.memory.wake.acker, ack.fd, sync.fd]);
    this.#shared.set(WORD.peerConnected, 1);
  }

  /** Told before the ring is looked at: whoever puts a reply in after that look sees it, and wakes us. */
  #tellApplied(): void {
    this.#shared.set(WORD.appliedLow, this.#acknowledged.applied | 0);
  }

  #drop(): void {
    this.#shared.set(WORD.peerConnected, 0);
    this.#poll.assign([this.#shared.memory.wake.acker]);
    this.#peer?.ack.close();
    this.#peer?.sync.close();
    this.#peer = null;
    // Of a session that is over: the next one asks anew.
    this.#asks = [];
  }

  #receive(): void {
    if (this.#poll.ready(0) !== 0) drainWake(this.#shared.memory.wake.acker);
    const peer = this.#peer;
    if (peer === null) return;
    try {
      if (this.#poll.ready(1) !== 0) this.#read(peer.ackReader, peer.ack);
      if (this.#poll.ready(2) !== 0) this.#read(peer.syncReader, peer.sync);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.#drop();
      this.say({ kind: "peer-lost", session: peer.session, reason: error.message, late: false });
    }
  }

  #read(reader: FrameReader, stream: Stream): void {
    do {
      if (!reader.next()) return;
      this.#frame(reader);
    } while (reader.ready || stream.pending() > 0);
  }

  #frame(reader: FrameReader): void {
    const kind = littleKind(reader.view, reader.offset);
    const sequence = littleSequence(reader.view, reader.offset);
    if (kind === ACK.applied) {
      this.#acknowledged.hear(sequence);
      this.#tellApplied();
      if (sequence >= this.#owed) this.#progressed();
      return;
    }
    this.#progressed();
    switch (kind) {
      case ACK.synced:
        if (sequence > this.#synced) this.#synced = sequence;
        return;
      case ACK.failed:
        return this.say({
          kind: "peer-failed",
          session: this.#peer?.session ?? "",
          reason: bodyText(reader),
        });
      case ACK.difference:
        return this.say({
          kind: "difference",
          session: this.#peer?.session ?? "",
          difference: bodyText(reader),
        });
      case ACK.good:
        return this.say({
          kind: "good",
          session: this.#peer?.session ?? "",
          object: sequence,
          block: Number(littleValue(reader.view, reader.offset)),
          content: reader.bytes.slice(reader.offset + LITTLE_HEADER, reader.offset + reader.length),
        });
      default:
        this.#ask(reader, kind, sequence);
        wake(this.#shared.memory.wake.road);
    }
  }

  /** The time runs anew, for what waits now: nobody waits longer than twice the bound for a peer that is merely slow. */
  #progressed(): void {
    const shared = this.#shared;
    this.#progressAt = bootNanoseconds();
    const newest = shared.replySlot((shared.get(WORD.replyTail) - 1) | 0);
    this.#owed = shared.repliesWaiting === 0 ? 0 : shared.replies.getFloat64(newest + REPLY.sequence, true);
  }

  /** Passes on what the peer asks for during a resync. */
  #ask(reader: FrameReader, kind: number, sequence: number): void {
    const value = Number(littleValue(reader.view, reader.offset));
    const start = reader.offset + LITTLE_HEADER;
    const end = reader.offset + reader.length;
    if (kind === ACK.credit) return this.#push(ASK_KIND.credit, 0, 0, value);
    if (kind === ACK.done) {
      if (value === CONTROL.reconciled) {
        this.#acknowledged.compared();
        this.#tellApplied();
      }
      return this.#push(ASK_KIND.done, sequence, 0, value);
    }
    if (kind === ACK.verified) return this.#push(ASK_KIND.verified, 0, 0, value);
    if (kind === ACK.detail) return this.#push(ASK_KIND.detail, sequence, 0, 0);
    if (kind === ACK.again) return this.#push(ASK_KIND.again, sequence, 0, 0);
    if (kind === ACK.want) {
      for (let at = start; at + 16 <= end; at += 16) {
        this.#push(
          ASK_KIND.want,
          sequence,
          reader.view.getFloat64(at, true),
          reader.view.getFloat64(at + 8, true),
        );
      }
      return;
    }
    const what = kind === ACK.missing ? ASK_KIND.missing : ASK_KIND.touched;
    for (let at = start; at + 8 <= end; at += 8) this.#push(what, reader.view.getFloat64(at, true), 0, 0);
    if (kind === ACK.touched && value === 1) this.#push(ASK_KIND.touchedAll, 0, 0, 0);
  }

  #push(kind: number, id: number, offset: number, length: number): void {
    const ask = { kind, id, offset, length };
    if (this.#asks.length === 0 && this.#shared.pushAsk(ask)) return;
    if (this.#asks.length >= ASKS_MAX) {
      throw new StreamError(
        "protocol",
        "Cannot take what the peer asks for: it asks for more than it was offered",
      );
    }
    this.#asks.push(ask);
  }

  #offerAsks(): void {
    let taken = 0;
    for (const ask of this.#asks) {
      if (!this.#shared.pushAsk(ask)) break;
      taken++;
    }
    if (taken === 0) return;
    this.#asks = this.#asks.slice(taken);
    wake(this.#shared.memory.wake.road);
  }

  /** Replies whose mutation every member has. */
  #drainReplies(): void {
    const shared = this.#shared;
    let head = shared.get(WORD.replyHead);
    const tail = shared.get(WORD.replyTail);
    while (head !== tail) {
      const at = shared.replySlot(head);
      if (
        shared.get(WORD.members) === 2 &&
        shared.replies.getFloat64(at + REPLY.sequence, true) > this.#acknowledged.applied
      ) return;
      if (!this.#authority.valid) return this.#held();
      const fd = shared.fuse(shared.replies.getInt32(at + REPLY.root, true));
      // Of a former process: the road does not serve yet.
      if (fd === 0) return;
      const length = shared.replies.getInt32(at + REPLY.length, true);
      writeFrom(fd, this.#repliesAddress + at + REPLY.bytes, length);
      head = (head + 1) | 0;
      shared.set(WORD.replyHead, head);
    }
  }

  #held(): void {
    this.#shared.count(WORD.heldByAuthority);
  }

  /** Fsyncs that are on every member's disk, in whatever order they get there. */
  #drainFsyncs(): void {
    const shared = this.#shared;
    const tail = shared.get(WORD.fsyncTail);
    let head = shared.get(WORD.fsyncHead);
    let newest = 0;
    for (let index = head; index !== tail; index = (index + 1) | 0) {
      const at = shared.fsyncSlot(index);
      if (shared.fsyncs.getInt32(at + FSYNC.answered, true) !== 0) continue;
      if (Atomics.load(shared.fsyncWords, (at + FSYNC.local) >> 2) === 0) continue;
      const sequence = shared.fsyncs.getFloat64(at + FSYNC.sequence, true);
      if (shared.get(WORD.members) === 2 && sequence > this.#synced) {
        newest = Math.max(newest, sequence);
        continue;
      }
      if (!this.#authority.valid) {
        this.#held();
        break;
      }
      if (shared.fuse(shared.fsyncs.getInt32(at + FSYNC.root, true)) === 0) break;
      this.#answerFsync(at);
      shared.fsyncs.setInt32(at + FSYNC.answered, 1, true);
    }
    while (head !== tail && shared.fsyncs.getInt32(shared.fsyncSlot(head) + FSYNC.answered, true) !== 0) {
      head = (head + 1) | 0;
    }
    shared.set(WORD.fsyncHead, head);
    this.#watchFsyncs(newest);
  }

  /**
   * Writes that go on hide a disk that hangs: what is synced here has a time of its own. `newest`: of the fsyncs that wait
   * for the peer alone, 0 for none.
   */
  #watchFsyncs(newest: number): void {
    const peer = this.#peer;
    if (peer === null || newest === 0) {
      this.#fsyncOwed = 0;
      return;
    }
    if (this.#fsyncOwed === 0 || this.#synced >= this.#fsyncOwed || !this.#authority.valid) {
      this.#fsyncOwed = newest;
      this.#fsyncSince = bootNanoseconds();
    } else if (bootNanoseconds() - this.#fsyncSince >= peer.timeoutNs) {
      this.#part(peer, "sync to its disk");
    }
  }

  #answerFsync(at: number): void {
    const { fsyncs } = this.#shared;
    const error = fsyncs.getInt32(at + FSYNC.error, true);
    const size = fsyncs.getInt32(at + FSYNC.size, true);
    const length = error !== 0 || size < 0 ? OUT_HEADER : OUT_HEADER + 8;
    const view = this.#smallView;
    view.setUint32(0, length, true);
    view.setInt32(4, -error, true);
    view.setUint32(8, fsyncs.getUint32(at + FSYNC.uniqueLow, true), true);
    view.setUint32(12, fsyncs.getUint32(at + FSYNC.uniqueHigh, true), true);
    view.setUint32(16, Math.max(0, size), true);
    view.setUint32(20, 0, true);
    writeFrom(this.#shared.fuse(fsyncs.getInt32(at + FSYNC.root, true)), this.#smallAddress, length);
  }

  /** A peer that holds applications up longer than the bound is dropped on purpose. */
  #watch(): void {
    const peer = this.#peer;
    if (peer === null || this.#shared.get(WORD.members) !== 2) return;
    if (!this.#authority.valid) {
      this.#progressed();
      return;
    }
    if (bootNanoseconds() - this.#progressAt < peer.timeoutNs) return;
    this.#part(peer, "acknowledge");
  }

  #part(peer: Peer, refused: string): void {
    this.#drop();
    this.say({
      kind: "peer-lost",
      session: peer.session,
      reason: `it did not ${refused} for ${peer.timeoutNs / SILENCE_NS} ms what applications waited for`,
      late: true,
    });
  }
}

function bodyText(reader: FrameReader): string {
  const start = reader.offset + LITTLE_HEADER;
  return new TextDecoder().decode(reader.bytes.subarray(start, reader.offset + reader.length));
}

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<AckerStart>) => void) | null;
  postMessage(message: AckerMessage): void;
};
scope.onmessage = (event) => {
  scope.onmessage = null;
  new AckerThread(event.data, (message) => scope.postMessage(message)).run();
};
