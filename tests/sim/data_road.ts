/**
 * Two nodes' data roads without sockets, disks or threads: a byte queue between them, file systems in memory. The test is the
 * scheduler.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { MemoryStorage } from "../../lib/journal/memory_storage.ts";
import { Request } from "../../lib/fuse/request.ts";
import { borderOf } from "../../lib/replication/border.ts";
import { Copy } from "../../lib/replication/copy.ts";
import { Follower } from "../../lib/replication/follower.ts";
import { dataFrames, FRAME_MAX, FrameReader, kinds } from "../../lib/replication/frame.ts";
import { handleMap } from "../../lib/replication/ids_beneath.ts";
import { Lenient } from "../../lib/replication/lenient.ts";
import { Limbo } from "../../lib/replication/limbo.ts";
import { CONTROL, MUTATIONS } from "../../lib/replication/mutation.ts";
import { INFLIGHT, takeOver } from "../../lib/replication/inflight.ts";
import { Objects } from "../../lib/replication/objects.ts";
import { Replayer } from "../../lib/replication/replayer.ts";
import { Sequencer } from "../../lib/replication/sequencer.ts";
import { createSharedMemory, DISK, REPLY, Shared, WORD } from "../../lib/replication/shared.ts";
import { type Stream, StreamError } from "../../lib/replication/stream.ts";
import { Tree } from "../../lib/replication/tree.ts";
import { Wire } from "../../lib/replication/wire.ts";
import { Memory } from "./memory.ts";
import { MemoryBacking } from "./memory_backing.ts";

/** A queue of bytes with both ends of a stream. */
export class MemoryStream implements Stream {
  readonly fd = -1;
  readonly label = "memory";
  readonly #memory: Memory;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #closed = false;
  /** How many bytes one read gives at most: a network cuts where it likes. */
  grain: number = Number.MAX_SAFE_INTEGER;
  /** A write past so many bytes fails as a lost link does. */
  room: number = Number.MAX_SAFE_INTEGER;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  writeAll(address: number, length: number): void {
    if (this.#closed || length > this.room) {
      throw new StreamError("closed", "Cannot write to memory: it is closed");
    }
    this.room -= length;
    const joined = new Uint8Array(this.#bytes.length + length);
    joined.set(this.#bytes);
    joined.set(this.#memory.at(address, length), this.#bytes.length);
    this.#bytes = joined;
  }

  keepUpTo(): void {}
  readonly kept = 0;
  sendKept(): void {}

  readSome(address: number, max: number): number {
    const length = Math.min(max, this.#bytes.length, this.grain);
    if (length > 0) this.#memory.at(address, length).set(this.#bytes.subarray(0, length));
    this.#bytes = this.#bytes.slice(length);
    return length;
  }

  pending(): number {
    return this.#bytes.length;
  }

  setTimeouts(): void {}

  close(): void {
    this.#closed = true;
  }
}

/** What one node has: disk, log, and the table of a process. */
export class Node {
  readonly memory: Memory;
  readonly fs: MemoryBacking;
  readonly rootFd: number;
  storage = new MemoryStorage();
  copy: Copy;
  objects: Objects;
  tree: Tree;
  /** Descriptors in the keeper's hands, by id. */
  readonly keeper = new Map<number, number>();
  allocate: () => number = () => {
    throw new Error("A secondary gives no ids");
  };

  constructor(name: string, memory: Memory, readonly exclude: readonly string[] = []) {
    this.memory = memory;
    this.fs = new MemoryBacking(memory);
    this.rootFd = this.fs.openRoot();
    this.copy = this.#openCopy(name);
    this.objects = this.#openObjects();
    this.tree = new Tree({ backing: this.fs, objects: this.objects });
    const marked = this.objects.markRoots();
    if (marked < 0) throw new Error(`Cannot mark the root: errno ${-marked}`);
  }

  /** The process was killed; another takes over what its disk, log and keeper hold. */
  restart(name: string): void {
    this.fs.killProcess(new Set([this.rootFd, ...this.keeper.values()]));
    this.storage = this.storage.killed();
    this.copy = this.#openCopy(name);
    this.objects = this.#openObjects();
    this.tree = new Tree({ backing: this.fs, objects: this.objects });
    for (const [id, fd] of this.keeper) this.objects.adoptOrphan(id, this.fs.dup(fd));
  }

  readonly keepOrphan = (id: number, fd: number): boolean => {
    if (!this.keeper.has(id)) this.keeper.set(id, this.fs.dup(fd));
    return true;
  };

  readonly dropOrphan = (id: number): void => {
    const fd = this.keeper.get(id);
    if (fd !== undefined) this.fs.close(fd);
    this.keeper.delete(id);
  };

  #openCopy(name: string): Copy {
    return Copy.open({
      storage: this.storage,
      cluster: "plant",
      module: "data",
      node: name,
      bootId: "boot",
      logBudgetBytes: 1 << 20,
    });
  }

  #openObjects(): Objects {
    return new Objects({
      backing: this.fs,
      roots: [{ fd: this.rootFd, border: borderOf(this.exclude) }],
      handles: handleMap(this.copy.map),
      allocate: () => this.allocate(),
      addressOf: this.memory.addressOf,
      fdsMax: 64,
    });
  }
}

/** A reply given to the kernel. */
export interface Reply {
  readonly error: number;
  readonly body: Uint8Array;
}

/** The primary's end. */
export class Primary {
  readonly node: Node;
  readonly request: Request;
  readonly shared: Shared;
  readonly sequencer: Sequencer;
  readonly replies: Reply[] = [];
  /** What outlives the process. */
  readonly inflight: ArrayBuffer;
  readonly authority = { valid: true };
  lost = "";

  constructor(
    node: Node,
    options: {
      readonly resumed?: boolean;
      readonly epoch?: number;
      /** What a killed process left in flight. */
      readonly inflight?: ArrayBuffer;
      /** The kernel sends requests again: what was in flight does not count. */
      readonly resends?: boolean;
    } = {},
  ) {
    this.node = node;
    const inflight = options.inflight ?? new ArrayBuffer(INFLIGHT.bytes);
    takeOver(inflight, options.inflight !== undefined && options.resends !== true);
    this.inflight = inflight;
    this.shared = new Shared(createSharedMemory({ road: 1, acker: 2, disk: 3 }, 0), inflight);
    this.shared.set(WORD.fuse, 900);
    const { memory, copy, fs } = node;
    const resumed = options.resumed === true;
    this.request = new Request(memory.addressOf, this.shared.request);
    this.shared.set(WORD.members, 1);
    const mountedAt = resumed ? copy.meta.value.servedFrom - 1 : copy.journal.last;
    copy.accept(options.epoch ?? 1);
    copy.begin("primary", { servedFrom: mountedAt + 1, copy: "uptodate" });
    node.allocate = () => this.sequencer.allocate();
    this.sequencer = new Sequencer({
      backing: fs,
      journal: copy.journal,
      objects: node.objects,
      tree: node.tree,
      ledger: {
        get nextId() {
          return copy.nextId;
        },
        reserve: (nextId) => copy.reserve(nextId),
        begin: (entry) => copy.addGeneration(entry),
      },
      activity: copy,
      shared: this.shared,
      request: this.request,
      authority: this.authority,
      randomGeneration: () => BigInt(copy.journal.last + 1000),
      writeReply: (_fd, address, length) => this.#reply(memory.at(address, length)),
      wake: () => {},
      keepOrphan: node.keepOrphan,
      dropOrphan: node.dropOrphan,
      pause: () => {
        throw new Error("the ring is full and nobody empties it");
      },
      onLinkLost: (error) => this.lost = error.message,
      addressOf: memory.addressOf,
      now: () => Number(fs.now),
      wall: () => Number(fs.now) / 1e6,
    }, { epoch: options.epoch ?? 1, mountedAt, generation: resumed ? copy.lastGeneration : 0n });
    if (resumed) this.sequencer.resume();
    else this.sequencer.begin();
  }

  /** Joins a secondary that stands where this node stands. */
  connect(stream: MemoryStream): void {
    this.sequencer.link = { wire: this.wire(stream), live: true };
  }

  wire(stream: MemoryStream): Wire {
    return new Wire({ stream, crc32, addressOf: this.node.memory.addressOf });
  }

  /** Sends what the log has from a sequence on. */
  replay(stream: MemoryStream, from: number): void {
    const replayer = this.replayer(stream, from);
    while (replayer.step(1 << 20) !== true);
    replayer.close();
  }

  /** The same, a step at a time. */
  replayer(stream: MemoryStream, from: number): Replayer {
    this.sequencer.keepUnderWay();
    return new Replayer({
      journal: this.node.copy.journal,
      backing: this.node.fs,
      objects: this.node.objects,
      tree: this.node.tree,
      wire: this.wire(stream),
      from,
      dataOf: (sequence) => this.sequencer.underWay.dataOf(sequence),
      addressOf: this.node.memory.addressOf,
    });
  }

  /** Takes the replies that wait for the peer, as if it had acknowledged all. */
  takeWaiting(): void {
    const { shared } = this;
    for (let head = shared.get(WORD.replyHead); head !== shared.get(WORD.replyTail); head++) {
      const at = shared.replySlot(head);
      this.#reply(
        shared.replyBytes.subarray(
          at + REPLY.bytes,
          at + REPLY.bytes + shared.replies.getInt32(at + REPLY.length, true),
        ),
      );
      shared.set(WORD.replyHead, (head + 1) | 0);
    }
  }

  /** Closes what waits for the disk; answers how many syncs that were. */
  takeDisk(): number {
    const { shared } = this;
    const count = shared.diskWaiting;
    for (let head = shared.get(WORD.diskHead); head !== shared.get(WORD.diskTail); head++) {
      this.node.fs.close(shared.disk.getInt32(shared.diskSlot(head) + DISK.fd, true));
      shared.set(WORD.diskHead, (head + 1) | 0);
    }
    return count;
  }

  #reply(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.replies.push({ error: view.getInt32(4, true), body: bytes.slice(16) });
    return bytes.length;
  }
}

/** The secondary's end. */
export class Secondary {
  readonly node: Node;
  readonly stream: MemoryStream;
  readonly follower: Follower;
  readonly synced: number[] = [];
  /** Sequence and op of each record that came. */
  readonly seen: { readonly sequence: number; readonly op: number }[] = [];
  readonly #reader: FrameReader;
  readonly #address: number;

  constructor(node: Node) {
    this.node = node;
    const { memory, copy, fs, objects, tree } = node;
    this.stream = new MemoryStream(memory);
    if (copy.exact) copy.begin("secondary");
    const limbo = new Limbo({
      backing: fs,
      objects,
      addressOf: memory.addressOf,
      keepOrphan: node.keepOrphan,
    });
    const lenient = new Lenient({ backing: fs, objects, tree, limbo, onMissing: () => {} });
    this.follower = new Follower({
      backing: fs,
      journal: copy.journal,
      objects,
      tree,
      activity: copy,
      ledger: {
        get lastEpoch() {
          return copy.lastEpoch;
        },
        get lastGeneration() {
          return copy.lastGeneration;
        },
        begin: (entry) => copy.addGeneration(entry),
        reserve: (nextId) => copy.reserve(nextId),
      },
      lenient,
      syncLater: (fd, _dataOnly, sequence) => {
        fs.close(fd);
        this.synced.push(sequence);
      },
      keepOrphan: node.keepOrphan,
      dropOrphan: node.dropOrphan,
    });
    const bytes = new Uint8Array(2 * FRAME_MAX);
    this.#address = memory.addressOf(bytes);
    this.#reader = new FrameReader({
      stream: this.stream,
      layout: dataFrames(crc32, kinds([...MUTATIONS, ...Object.values(CONTROL)])),
      bytes,
      address: this.#address,
    });
  }

  /** Applies everything that has come. */
  receive(): void {
    while (this.stream.pending() > 0 || this.#reader.ready) {
      if (!this.#reader.next()) continue;
      const { bytes, view, offset } = this.#reader;
      this.seen.push({
        sequence: Number(view.getBigUint64(offset + 24, true)),
        op: view.getUint8(offset + 20),
      });
      this.follower.apply(bytes, view, offset, this.#address);
    }
  }
}

/** A primary and a secondary, equal and connected. */
export class Pair {
  readonly memory = new Memory();
  readonly a: Node;
  readonly b: Node;
  primary: Primary;
  secondary: Secondary;

  /** @param exclude patterns of what stays on its node. */
  constructor(exclude: readonly string[] = []) {
    this.a = new Node("node1", this.memory, exclude);
    this.b = new Node("node2", this.memory, exclude);
    this.primary = new Primary(this.a);
    this.secondary = new Secondary(this.b);
    // Clocks that differ: what is equal in the end was carried over.
    this.b.fs.now += 5_000_000_000n;
    // Two roots made by two people; from here on the records say everything.
    this.b.fs.root.mtime = this.a.fs.root.mtime;
    this.primary.connect(this.secondary.stream);
  }

  /** Lets the secondary catch up by its link. */
  settle(): void {
    this.primary.sequencer.tellTimes();
    this.secondary.receive();
  }

  /** Time goes on, differently on both. */
  tick(): void {
    this.a.fs.now += 1_000_003n;
    this.b.fs.now += 700_001n;
  }
}
