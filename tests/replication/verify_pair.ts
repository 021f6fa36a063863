/**
 * Two equal trees on the real disk and a verification between them, moved by hand; and disks that lose what they were given.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { emptyFields, KEEP } from "../../lib/journal/mod.ts";
import { OFFSET, OP } from "../../lib/journal/record.ts";
import type { Copy } from "../../lib/replication/copy.ts";
import { type Mended, Mender } from "../../lib/replication/mend.ts";
import type { Place } from "../../lib/replication/rot.ts";
import { ASK_KIND, fillFields, Mutation } from "../../lib/replication/mutation.ts";
import type { Ask } from "../../lib/replication/shared.ts";
import type { Difference } from "../../lib/replication/verify_frame.ts";
import { VerifySource } from "../../lib/replication/verify_source.ts";
import { VerifyTarget } from "../../lib/replication/verify_target.ts";
import { Wire } from "../../lib/replication/wire.ts";
import { Witness } from "../../lib/replication/witness.ts";
import { isWrittenSince } from "../../lib/replication/written_since.ts";
import { type Backing, backing } from "../../lib/system/backing.ts";
import { addressOf, memoryAt } from "../../lib/system/libc.ts";
import { sha256 } from "../../lib/system/sha256.ts";
import { STATX, Statx, STATX_NSEC } from "../../lib/system/statx.ts";
import { memoryCopy } from "../sim/memory_copy.ts";
import { oneWay } from "../sim/one_way.ts";
import { Actor, dice, Model } from "./chance.ts";
import { ok, Side } from "./twins.ts";

/** Everything was quiet for an hour. */
const later = (): number => Date.now() + 3_600_000;

/** A witness that forgets with the process. */
export function memoryWitness(): Witness {
  const none = new Uint8Array(0);
  const files = { kept: none, growing: none };
  return new Witness({
    files: {
      read: (which, at, length) => files[which].slice(at, at + length),
      cut: (length) => void (files.growing = files.growing.slice(0, length)),
      append: (bytes) => void (files.growing = Uint8Array.from([...files.growing, ...bytes])),
      publish: () => {
        files.kept = files.growing;
        files.growing = none;
      },
      close: () => {},
    },
    identity: () => "",
    isOurs: () => true,
    log: (message) => {
      throw new Error(message);
    },
  });
}

/** A disk that changes content of itself: times stay what they were, until somebody writes. */
export class LyingBacking {
  /** By inode: the change time that is real, and the one that is shown as long as it is. */
  readonly #shown = new Map<number, { readonly real: bigint; readonly shown: bigint }>();
  /** What cannot be read, by inode. */
  readonly #unreadable = new Map<number, { readonly start: number; readonly end: number }>();
  /** No sync succeeds. */
  broken = false;
  readonly #stat = new Statx();

  readonly backing: Backing = {
    ...backing,
    statx: (fd, into) => {
      const result = backing.statx(fd, into);
      const of = this.#shown.get(into.ino);
      if (result >= 0 && of !== undefined && of.real === into.ctime) {
        into.view.setBigInt64(STATX.ctime, of.shown / 1_000_000_000n, true);
        into.view.setUint32(STATX.ctime + STATX_NSEC, Number(of.shown % 1_000_000_000n), true);
      }
      return result;
    },
    pread: (fd, address, length, offset) => {
      const hurt = this.#hurt(fd);
      const hit = hurt !== undefined && offset < hurt.end && offset + length > hurt.start;
      return hit ? -5 : backing.pread(fd, address, length, offset);
    },
    pwrite: (fd, address, length, offset) => {
      const hurt = this.#hurt(fd);
      if (hurt !== undefined && offset < hurt.end && offset + length > hurt.start) {
        this.#unreadable.delete(this.#stat.ino);
      }
      return backing.pwrite(fd, address, length, offset);
    },
    fsync: (fd) => this.broken ? -5 : backing.fsync(fd),
  };

  /** Turns a bit of a file. */
  rot(path: string, at: number): void {
    const [before, after] = [new Statx(), new Statx()];
    using file = Deno.openSync(path, { read: true, write: true });
    const { mtime, ino } = file.statSync();
    const fd = ok(backing.openat(-100, new TextEncoder().encode(`${path}\0`), 0, 0));
    ok(backing.statx(fd, before));
    const byte = new Uint8Array(1);
    file.seekSync(at, Deno.SeekMode.Start);
    file.readSync(byte);
    byte[0] = (byte[0] ?? 0) ^ 0x10;
    file.seekSync(at, Deno.SeekMode.Start);
    file.writeSync(byte);
    ok(
      backing.utimens(
        fd,
        0,
        1073741822,
        Number(before.mtime / 1_000_000_000n),
        Number(before.mtime % 1_000_000_000n),
      ),
    );
    ok(backing.statx(fd, after));
    ok(backing.close(fd));
    if (ino === null || mtime === null) throw new Error(`${path} has no times`);
    const former = this.#shown.get(ino);
    const shown = former?.real === before.ctime ? former.shown : before.ctime;
    this.#shown.set(ino, { real: after.ctime, shown });
  }

  /** Makes content of a file unreadable until somebody writes there; all of it, if no place is named. */
  lose(path: string, start = 0, end = Infinity): void {
    this.#unreadable.set(Deno.statSync(path).ino ?? 0, { start, end });
  }

  #hurt(fd: number): { readonly start: number; readonly end: number } | undefined {
    backing.statx(fd, this.#stat);
    return this.#unreadable.get(this.#stat.ino);
  }
}

/** Two equal trees, and a verification between them, moved by hand. */
export class Pair implements Disposable {
  readonly path = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "verify-" });
  next = 16;
  readonly source = new Side(`${this.path}/source`, 1, () => this.next++);
  readonly target = new Side(`${this.path}/target`, 1, () => {
    throw new Error("a target gives no ids");
  });
  readonly actor: Actor;
  readonly found: Difference[] = [];
  /** What the disks of source and target have lost, as far as they know. */
  readonly sourceWitness: Witness = memoryWitness();
  readonly targetWitness: Witness = memoryWitness();
  /** What came of what the source's disk had lost. */
  readonly mended: (Mended & { readonly id: number; readonly offset: number })[] = [];
  /** What the source's disk does not give and nobody knows. */
  readonly leftOut: Place[] = [];
  /** What the source's disk does not give, and the target has not what both had. */
  readonly lostOnBoth: number[] = [];
  /** Called before anything is written back. */
  beforeMend: () => void = () => {};
  /** Called after anything was written back. */
  afterMend: () => void = () => {};
  /** Whether the target understands what the source's witness tells. */
  witnessed = true;
  readonly sourceBacking = new LyingBacking();
  readonly targetBacking = new LyingBacking();
  readonly #goods: { readonly id: number; readonly block: number; readonly content: Uint8Array }[] = [];
  readonly #mender: Mender;
  readonly asks: Ask[] = [];
  /** Records and frames on their way, in order: a function applies one on the target. */
  readonly underway: (() => void)[] = [];
  readonly verifier: VerifyTarget;
  readonly wire: Wire;
  readonly copy: Copy = memoryCopy();

  constructor(seed: number) {
    this.actor = new Actor(this.source, new Model(1), dice(seed), () => this.next++);
    const ask = (kind: number, id: number, length = 0): void => {
      this.asks.push({ kind, id, offset: 0, length });
    };
    this.#mender = new Mender({
      backing: this.sourceBacking.backing,
      objects: this.source.objects,
      sha256,
      addressOf,
      witness: this.sourceWitness,
      writtenSince: (rotten) => isWrittenSince(this.copy.journal, rotten),
    });
    this.verifier = new VerifyTarget({
      backing: this.targetBacking.backing,
      objects: this.target.objects,
      sha256,
      addressOf,
      emit: {
        verified: (frames) => ask(ASK_KIND.verified, 0, frames),
        detail: (id) => ask(ASK_KIND.detail, id),
        again: (id) => ask(ASK_KIND.again, id),
        report: (difference) => this.found.push(difference),
        good: (id, block, content) => this.#goods.push({ id, block, content: content.slice() }),
      },
      witness: this.targetWitness,
      wall: later,
    });
    const stream = oneWay((address, length) =>
      this.#send(new Uint8Array(memoryAt(address, length).slice(0)))
    );
    this.wire = new Wire({ stream, crc32, addressOf });
  }

  #send(frame: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(frame.buffer);
    this.underway.push(() => this.verifier.frame(frame[OFFSET.op] ?? 0, frame, view, 0, frame.length));
  }

  grow(count: number): void {
    for (let i = 0; i < count; i++) {
      const mutation = this.actor.act();
      if (mutation !== undefined) this.target.apply(mutation);
    }
  }

  open(from = 1, saidBefore = 0): VerifySource {
    return new VerifySource({
      backing: this.sourceBacking.backing,
      objects: this.source.objects,
      wire: this.wire,
      addressOf,
      sha256,
      exists: (id) => this.source.handles.map.has(id),
      tellTime: () => {},
      saidBefore,
      witness: this.witnessed ? this.sourceWitness : null,
      wall: later,
      sequence: () => this.copy.journal.last,
      onUnreadable: (place) => void this.leftOut.push(place),
      from,
      until: this.next,
    });
  }

  /** Runs to the end; `between` is called between two steps. */
  run(source = this.open(), between: () => void = () => {}): VerifySource {
    for (let i = 0; i < 100_000; i++) {
      for (let ask = this.asks.shift(); ask !== undefined; ask = this.asks.shift()) source.onAsk(ask);
      this.#mend(source);
      const result = source.step(64 * 1024);
      if (result === "done") return source;
      between();
      // The secondary is behind by some frames, as it is with a network between them.
      if (this.underway.length > 3 || result === "waiting") this.underway.shift()?.();
    }
    throw new Error("no end");
  }

  /** A whole pass that comes to its end: what it found equal counts from here on. */
  pass(): void {
    this.verifier.begin();
    this.run();
    this.sourceWitness.finish();
    this.targetWitness.finish();
  }

  #mend(source: VerifySource): void {
    for (let good = this.#goods.shift(); good !== undefined; good = this.#goods.shift()) {
      const rotten = source.settle(good.id, good.block);
      if (rotten?.actual === null && good.content.length === 0) this.lostOnBoth.push(rotten.id);
      if (rotten === undefined || good.content.length === 0) continue;
      this.beforeMend();
      const result = this.#mender.mend(rotten, good.content);
      this.mended.push({ id: rotten.id, offset: rotten.offset, ...result });
      if (result.outcome === "left") continue;
      this.afterMend();
      source.recheck(rotten);
    }
  }

  /** A new file on both sides. */
  make(name: string, content: Uint8Array<ArrayBuffer>): void {
    const created = new Mutation().reset(OP.create, this.next++);
    created.a = 0o100644;
    created.c = 1;
    created.name = new TextEncoder().encode(`${name}\0`);
    this.both(created);
    this.write(created.id, content, 0);
  }

  /** The id of a file that {@link make} made. */
  idOf(name: string): number {
    const root = this.source.objects.get(1);
    if (root === undefined) throw new Error("no root");
    return ok(this.source.objects.idAt(root, new TextEncoder().encode(`${name}\0`)));
  }

  /** What an application writes, on both sides. */
  write(id: number, content: Uint8Array<ArrayBuffer>, offset: number): void {
    const written = new Mutation().reset(OP.write, id);
    written.a = offset;
    written.b = written.payloadLength = content.length;
    written.payloadAddress = addressOf(content);
    this.both(written);
  }

  both(mutation: Mutation): void {
    while (this.underway.length > 0) this.underway.shift()?.();
    const { journal } = this.copy;
    const fields = {
      ...emptyFields(),
      op: mutation.op,
      sequence: journal.last + 1,
      epoch: 1,
      generation: 1n,
    };
    fillFields(fields, mutation);
    journal.append(fields, null, null, KEEP.no);
    ok(this.source.mutate(mutation));
    this.target.apply(mutation);
  }

  [Symbol.dispose](): void {
    this.copy.close();
    this.source.close();
    this.target.close();
    Deno.removeSync(this.path, { recursive: true });
  }
}
