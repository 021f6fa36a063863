/**
 * Two trees on the real disk, a source and a target, in one process, with a queue of bytes between them: what the data road
 * does with sockets and threads.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import type { Compared } from "../../lib/journal/meta.ts";
import { OFFSET, OP, type RecordFields } from "../../lib/journal/record.ts";
import { Aside } from "../../lib/replication/aside.ts";
import { borderOf } from "../../lib/replication/border.ts";
import type { FileSourceOptions } from "../../lib/replication/file_source.ts";
import { Lenient } from "../../lib/replication/lenient.ts";
import { Limbo } from "../../lib/replication/limbo.ts";
import { ASK_KIND, CONTROL, decodeMutation, fillFields, Mutation } from "../../lib/replication/mutation.ts";
import { type HandleMap, Objects } from "../../lib/replication/objects.ts";
import { Quarantine, type Saved } from "../../lib/replication/quarantine.ts";
import { ReconcileSource } from "../../lib/replication/reconcile_source.ts";
import type { Ask } from "../../lib/replication/shared.ts";
import { ReconcileTarget } from "../../lib/replication/reconcile_target.ts";
import { Tree } from "../../lib/replication/tree.ts";
import { Wire } from "../../lib/replication/wire.ts";
import { type Backing, backing } from "../../lib/system/backing.ts";
import type { FileHandle } from "../../lib/system/handle.ts";
import { addressOf, cstring, memoryAt } from "../../lib/system/libc.ts";
import { AT, O } from "../../lib/system/linux.ts";
import { sha256 } from "../../lib/system/sha256.ts";
import { oneWay } from "../sim/one_way.ts";
import { touchedBy } from "./chance.ts";
import { syncfs } from "../../lib/system/syncfs.ts";

/** A handle map in memory. */
export class MemoryHandles implements HandleMap {
  readonly map = new Map<number, { type: number; bytes: Uint8Array }>();

  get(id: number, into: FileHandle): number | undefined {
    const found = this.map.get(id);
    if (found === undefined) return undefined;
    into.set(found.type, found.bytes);
    return found.type;
  }
  set(id: number, type: number, bytes: Uint8Array): void {
    this.map.set(id, { type, bytes: bytes.slice() });
  }
  delete(id: number): void {
    this.map.delete(id);
  }
}

/** One node's copy. */
export class Side {
  readonly path: string;
  readonly handles = new MemoryHandles();
  readonly objects: Objects;
  readonly tree: Tree;
  readonly roots: readonly { readonly fd: number; readonly path: string }[];
  readonly kept = new Set<number>();

  /** What its tree is written by. */
  readonly disk: Backing;

  constructor(
    path: string,
    roots: number,
    allocate: () => number,
    noted?: (roots: readonly number[]) => Backing,
    exclude: readonly string[] = [],
  ) {
    this.path = path;
    this.roots = Array.from({ length: roots }, (_, index) => {
      const root = `${path}/root${index}`;
      Deno.mkdirSync(root, { recursive: true });
      return { path: root, fd: ok(backing.openat(AT.FDCWD, cstring(root), O.RDONLY | O.DIRECTORY, 0)) };
    });
    this.disk = noted?.(this.roots.map(({ fd }) => fd)) ?? backing;
    this.objects = new Objects({
      backing: this.disk,
      roots: this.roots.map(({ fd }) => ({ fd, border: borderOf(exclude) })),
      handles: this.handles,
      allocate,
      addressOf,
      fdsMax: 24,
    });
    ok(this.objects.markRoots());
    this.tree = new Tree({
      backing: this.disk,
      objects: this.objects,
      aside: new Aside(this.disk, this.objects),
    });
  }

  /** Executes as the primary's sequencer does: measures the times afterwards. */
  mutate(mutation: Mutation): number {
    const result = this.tree.execute(mutation);
    if (result >= 0) this.tree.measure(mutation);
    this.objects.trim();
    return result;
  }

  /** Executes as a secondary does that is equal. */
  apply(mutation: Mutation): void {
    if (mutation.op === OP.unlink && mutation.a === 1) this.#keep(mutation.id);
    if (mutation.op === OP.rename && (mutation.b & 8) !== 0) this.#keep(mutation.displaced);
    ok(this.tree.execute(mutation));
    if (mutation.op === OP.release) this.kept.delete(mutation.id);
    else ok(this.tree.impose(mutation));
    this.objects.trim();
  }

  #keep(id: number): void {
    const held = this.objects.get(id);
    if (held === undefined || this.objects.io(held) < 0) throw new Error(`orphan ${id} cannot be kept`);
    this.kept.add(id);
  }

  close(): void {
    this.objects.close();
    for (const { fd } of this.roots) backing.close(fd);
  }
}

/** What a comparison is to do. */
export interface SessionOptions {
  readonly whole: boolean;
  readonly ids: Iterable<number>;
  /** Where the comparison goes on; left out: it begins. */
  readonly compared?: Compared | undefined;
  /** Ids that changed on the source since. */
  readonly changed?: readonly number[];
  /** Whether prints come first; left out: they do. */
  readonly survey?: boolean;
  /** What the target touches: its activity set. */
  readonly touched?: Set<number>;
  /** Where a quarantine goes; left out: nothing is preserved. */
  readonly quarantine?: string;
  /** The target's disk refused a sync before. */
  readonly suspect?: boolean;
  /** What the source is read by. */
  readonly sourceBacking?: Backing;
  /** What the target is reached by. */
  readonly targetBacking?: Backing;
  /** What a quarantine takes things out of the tree by. */
  readonly quarantineBacking?: Backing;
  /** Where what was never replicated goes; left out: everything is replicated. */
  readonly own?: string;
  /** What the source's disk has lost. */
  readonly lost?: NonNullable<FileSourceOptions["lost"]>;
}

/** One session between two sides: every move is made by hand. */
export class Session {
  readonly sourceSide: Side;
  readonly targetSide: Side;
  readonly source: ReconcileSource;
  readonly target: ReconcileTarget;
  readonly limbo: Limbo;
  readonly lenient: Lenient;
  readonly #wire: Wire;
  readonly #frames: Uint8Array<ArrayBuffer>[] = [];
  readonly #asks: Ask[] = [];
  readonly #mutation = new Mutation();
  readonly #fields: RecordFields = {
    op: 0,
    sequence: 0,
    epoch: 1,
    generation: 1n,
    unique: 0,
    id: 0,
    a: 0,
    b: 0,
    c: 0,
  };
  readonly #outgoing = new Uint8Array(1 << 21);
  readonly #receive = new Uint8Array(1 << 22);
  readonly #receiveView = new DataView(this.#receive.buffer);
  readonly #receiveAddress = addressOf(this.#receive);
  #sequence = 0;
  saved: Saved | null = null;
  /** What is written down of how far it is. */
  compared: Compared | null = null;
  finished = false;
  bytesOnWire = 0;
  hashedBytes = 0;

  constructor(sourceSide: Side, targetSide: Side, options: SessionOptions) {
    this.sourceSide = sourceSide;
    this.targetSide = targetSide;
    const stream = oneWay((address, length) => {
      const frame = new Uint8Array(memoryAt(address, length).slice(0));
      this.bytesOnWire += length;
      this.#frames.push(frame);
    });
    this.#wire = new Wire({ stream, crc32, addressOf });
    this.source = new ReconcileSource({
      backing: options.sourceBacking ?? backing,
      objects: sourceSide.objects,
      wire: this.#wire,
      addressOf,
      sha256: (address, length, into) => {
        this.hashedBytes += length;
        sha256(address, length, into);
      },
      ...(options.lost === undefined ? {} : { lost: options.lost }),
      whole: options.whole,
      ids: options.ids,
      known: options.whole ? sourceSide.handles.map.size : 0,
      survey: options.survey === false ? null : {
        exists: (id) => sourceSide.handles.map.has(id),
        tellTime: () => {},
        from: options.compared?.from ?? 0,
        until: 1 + Math.max(0, ...sourceSide.handles.map.keys()),
      },
    });
    this.limbo = new Limbo({
      backing: targetSide.disk,
      objects: targetSide.objects,
      addressOf,
      keepOrphan: (id) => {
        targetSide.kept.add(id);
        return true;
      },
    });
    this.lenient = new Lenient({
      backing: targetSide.disk,
      objects: targetSide.objects,
      tree: targetSide.tree,
      limbo: this.limbo,
      onMissing: (id) => this.target.missing(id),
    });
    this.target = new ReconcileTarget({
      backing: options.targetBacking ?? targetSide.disk,
      objects: targetSide.objects,
      limbo: this.limbo,
      lenient: this.lenient,
      addressOf,
      sha256,
      emit: {
        want: (id, ranges) => {
          for (const { offset, length } of ranges) {
            this.#asks.push({ kind: ASK_KIND.want, id, offset, length });
          }
        },
        missing: (ids) => {
          for (const id of ids) this.#asks.push({ kind: ASK_KIND.missing, id, offset: 0, length: 0 });
        },
        credit: (bytes) => this.#asks.push({ kind: ASK_KIND.credit, id: 0, offset: 0, length: bytes }),
      },
      touch: (id) => options.touched?.add(id),
      dropOrphan: (id) => targetSide.kept.delete(id),
      sync: (root) => syncfs(root),
      suspect: () => options.suspect === true,
      saveCompared: (place) => this.compared = place,
      saveEvery: 1,
    });
    const preserve = options.quarantine !== undefined;
    const directory = options.quarantine ?? options.own;
    const keeping = directory === undefined ? null : {
      what: preserve ? "all" : "own",
      quarantine: Quarantine.open({
        directory,
        at: new Date(),
        backing: options.quarantineBacking ?? backing,
        addressOf,
      }),
    } as const;
    const { whole, compared, changed = [] } = options;
    const begin = {
      whole,
      preserve,
      sequence: 0,
      history: null,
      nextId: 0,
      from: compared?.from ?? 0,
      changed,
    };
    this.compared = compared === undefined
      ? null
      : { from: compared.from, open: [...new Set([...compared.open, ...changed])] };
    this.target.begin(begin, this.compared, keeping);
  }

  /** Sends a mutation that was executed on the source, with its measured times. */
  record(mutation: Mutation): void {
    const fields = this.#fields;
    fields.op = mutation.op;
    fields.sequence = ++this.#sequence;
    fillFields(fields, mutation);
    if (mutation.op !== OP.write) {
      const { payloadAddress: from, payloadLength: length } = mutation;
      return this.#wire.record(
        fields,
        mutation,
        length === 0 ? null : new Uint8Array(memoryAt(from, length)),
      );
    }
    this.#outgoing.set(new Uint8Array(memoryAt(mutation.payloadAddress, mutation.payloadLength)), 96);
    this.#wire.write(fields, mutation, {
      bytes: this.#outgoing,
      view: new DataView(this.#outgoing.buffer),
      address: addressOf(this.#outgoing),
      at: 96,
    });
  }

  /** Frames and asks on their way. */
  get underway(): number {
    return this.#frames.length + this.#asks.length;
  }

  /** Frames on their way to the target, oldest first. */
  get frames(): readonly Uint8Array<ArrayBuffer>[] {
    return this.#frames;
  }

  /** The target takes one frame; false when there is none. */
  receive(): boolean {
    const frame = this.#frames.shift();
    if (frame === undefined) return false;
    // As in a receive buffer: not at its start, and used again for the next.
    const offset = 64;
    this.#receive.set(frame, offset);
    const op = frame[OFFSET.op] ?? 0;
    if (op >= 64) {
      this.target.frame(op, this.#receive, this.#receiveView, offset, frame.length, this.#receiveAddress);
      return true;
    }
    const mutation = this.#mutation;
    decodeMutation(this.#receive, this.#receiveView, offset, this.#receiveAddress, mutation);
    if (this.finished) this.targetSide.apply(mutation);
    else if (mutation.op === OP.release) {
      this.targetSide.tree.execute(mutation);
      this.targetSide.kept.delete(mutation.id);
    } else ok(this.lenient.execute(mutation));
    this.targetSide.objects.trim();
    return true;
  }

  /** What the target does besides frames. */
  idle(): boolean {
    if (this.finished) return false;
    const more = this.target.step();
    if (!this.target.complete) return more;
    this.saved = this.target.finish();
    this.finished = true;
    this.#asks.push({ kind: ASK_KIND.done, id: 0, offset: 0, length: CONTROL.reconciled });
    return true;
  }

  /** The source takes one thing the target asked for; false when there is none. */
  hear(): boolean {
    const ask = this.#asks.shift();
    if (ask !== undefined) this.source.onAsk(ask);
    return ask !== undefined;
  }

  /** Runs to the end. */
  run(limit = 200_000): void {
    for (let i = 0; i < limit; i++) {
      while (this.hear());
      const state = this.source.step(1 << 20);
      if (state === "done") return;
      const moved = this.receive();
      if (!moved && state === "waiting" && !this.idle() && this.underway === 0) {
        throw new Error(`stuck: ${JSON.stringify(this.source.progress())}`);
      }
    }
    throw new Error(`no end: ${JSON.stringify(this.source.progress())}`);
  }

  /** The line is cut: what was underway is lost. Answers the objects that lost records were of. */
  cut(): Set<number> {
    const lost = new Set<number>();
    for (const frame of this.#frames) {
      if ((frame[OFFSET.op] ?? 0) >= 64) continue;
      decodeMutation(frame, new DataView(frame.buffer), 0, addressOf(frame), this.#mutation);
      for (const id of touchedBy(this.#mutation)) lost.add(id);
    }
    this.#frames.length = 0;
    this.#asks.length = 0;
    this.source.close();
    this.target.abort();
    return lost;
  }
}

/** Throws where a call failed. */
export function ok(result: number): number {
  if (result < 0) throw new Error(`failed with errno ${-result}`);
  return result;
}
