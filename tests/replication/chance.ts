/**
 * Random trees and random mutations, the same for the same seed.
 *
 * @module
 */

import { OP } from "../../lib/journal/record.ts";
import { creates, Mutation, SETATTR, SETATTR_BITS } from "../../lib/replication/mutation.ts";
import { addressOf } from "../../lib/system/libc.ts";
import { FALLOC, S_IF } from "../../lib/system/linux.ts";
import { bytesOf } from "./compare.ts";
import type { Side } from "./twins.ts";

/** A number from 0 to below `below`. */
export type Dice = (below: number) => number;

/** Mulberry32. */
export function dice(seed: number): Dice {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000 * below);
  };
}

const NAMES = [
  "a",
  "b",
  "c",
  "d",
  "e",
  "\xc3\xa9t\xc3\xa9",
  "x y",
  "new\nline",
  "\xff\xfe",
  "-rf",
  "n".repeat(255),
];
const XATTRS = [
  "user.one",
  "user.two",
  "trusted.three",
  "system.posix_acl_access",
  "system.posix_acl_default",
];

interface Node {
  readonly id: number;
  readonly type: number;
  readonly root: number;
  /** How many names lead to it. */
  links: number;
  /** Of a directory. */
  readonly names: Map<string, number>;
}

/** What a side's tree is, as far as choosing the next mutation needs it. */
export class Model {
  readonly nodes = new Map<number, Node>();
  readonly open = new Set<number>();

  constructor(readonly rootCount: number) {
    for (let root = 0; root < rootCount; root++) {
      this.nodes.set(root + 1, { id: root + 1, type: S_IF.DIR, root, links: 1, names: new Map() });
    }
  }

  clone(): Model {
    const copy = new Model(this.rootCount);
    copy.nodes.clear();
    for (const node of this.nodes.values()) copy.nodes.set(node.id, { ...node, names: new Map(node.names) });
    for (const id of this.open) copy.open.add(id);
    return copy;
  }

  /** All directories that have a name for an object. */
  parentsOf(id: number): number[] {
    return [...this.nodes.values()].filter((node) => [...node.names.values()].includes(id)).map((node) =>
      node.id
    );
  }

  isBeneath(id: number, top: number): boolean {
    if (id === top) return true;
    return this.parentsOf(id).some((parent) => this.isBeneath(parent, top));
  }
}

/** Ids that a record touches: what the activity set would name. */
export function touchedBy(mutation: Mutation): number[] {
  const ids = [mutation.id];
  if (mutation.op <= OP.rename) ids.push(mutation.c);
  if (mutation.op === OP.rename) ids.push(mutation.a, mutation.displaced);
  return ids.filter((id) => id > 0);
}

/** Makes random mutations on one side. */
export class Actor {
  readonly mutation = new Mutation();
  readonly #payload = new Uint8Array(1 << 20);
  readonly #address = addressOf(this.#payload);

  constructor(
    readonly side: Side,
    readonly model: Model,
    readonly roll: Dice,
    readonly allocate: () => number,
    readonly largest = 300_000,
  ) {}

  /** One mutation that succeeded, executed and measured; undefined when none came about. */
  act(): Mutation | undefined {
    for (let i = 0; i < 20; i++) {
      const mutation = this.#choose();
      if (mutation === undefined) continue;
      if (this.side.mutate(mutation) < 0) continue;
      this.#learn(mutation);
      return mutation;
    }
    return undefined;
  }

  #choose(): Mutation | undefined {
    const kinds = [
      () => this.#create(OP.create, S_IF.REG),
      () => this.#create(OP.create, S_IF.REG),
      () => this.#create(OP.mkdir, S_IF.DIR),
      () => this.#create(OP.mkdir, S_IF.DIR),
      () => this.#create(OP.symlink, S_IF.LNK),
      () => this.#create(OP.mknod, this.roll(2) === 0 ? S_IF.IFO : S_IF.CHR),
      () => this.#link(),
      () => this.#unlink(),
      () => this.#rename(),
      () => this.#rename(),
      () => this.#setattr(),
      () => this.#setattr(),
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#punch(),
      () => this.#copy(),
      () => this.#setxattr(),
      () => this.#setxattr(),
      () => this.#removexattr(),
      () => this.#release(),
    ];
    return kinds[this.roll(kinds.length)]?.();
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[this.roll(from.length)];
  }

  directories(): Node[] {
    return [...this.model.nodes.values()].filter((node) => node.type === S_IF.DIR);
  }

  files(): Node[] {
    return [...this.model.nodes.values()].filter((node) => node.type === S_IF.REG);
  }

  #name(): string {
    return this.pick(NAMES) ?? "a";
  }

  #create(op: number, type: number): Mutation | undefined {
    const parent = this.pick(this.directories());
    if (parent === undefined) return undefined;
    const name = this.#name();
    if (parent.names.has(name)) return undefined;
    const mutation = this.mutation.reset(op, this.allocate());
    const rdev = type === S_IF.CHR ? 0x103 + this.roll(4) : 0;
    mutation.a = (op === OP.mknod ? type : 0) + (this.pick([0o644, 0o600, 0o4755, 0o2775, 0o1777]) ?? 0o644) +
      rdev * 65536;
    mutation.uid = this.roll(3) * 1000;
    mutation.gid = this.roll(3) * 1000;
    mutation.c = parent.id;
    mutation.name = terminated(name);
    if (op === OP.symlink) mutation.other = terminated("t".repeat(1 + this.roll(80)) + "\xfe");
    return mutation;
  }

  #link(): Mutation | undefined {
    const parent = this.pick(this.directories());
    const object = this.pick(
      [...this.model.nodes.values()].filter((node) => node.type !== S_IF.DIR && node.links > 0),
    );
    if (parent === undefined || object === undefined || object.root !== parent.root) return undefined;
    const name = this.#name();
    if (parent.names.has(name)) return undefined;
    const mutation = this.mutation.reset(OP.link, object.id);
    mutation.c = parent.id;
    mutation.name = terminated(name);
    return mutation;
  }

  #unlink(): Mutation | undefined {
    const parent = this.pick(this.directories());
    const name = parent === undefined ? undefined : this.pick([...parent.names.keys()]);
    const child = this.model.nodes.get(parent?.names.get(name ?? "") ?? 0);
    if (parent === undefined || name === undefined || child === undefined) return undefined;
    if (child.type === S_IF.DIR && child.names.size > 0) return undefined;
    const mutation = this.mutation.reset(child.type === S_IF.DIR ? OP.rmdir : OP.unlink, child.id);
    mutation.c = parent.id;
    mutation.name = terminated(name);
    if (child.type === S_IF.REG && child.links === 1 && this.roll(3) === 0) mutation.a = 1;
    return mutation;
  }

  #rename(): Mutation | undefined {
    const from = this.pick(this.directories());
    const name = from === undefined ? undefined : this.pick([...from.names.keys()]);
    const to = this.pick(this.directories());
    const child = this.model.nodes.get(from?.names.get(name ?? "") ?? 0);
    if (from === undefined || name === undefined || to === undefined || child === undefined) return undefined;
    const other = this.#name();
    const displaced = this.model.nodes.get(to.names.get(other) ?? 0);
    if (from.root !== to.root || this.model.isBeneath(to.id, child.id) || displaced?.id === child.id) {
      return undefined;
    }
    const mutation = this.mutation.reset(OP.rename, child.id);
    mutation.c = from.id;
    mutation.a = to.id;
    mutation.name = terminated(name);
    mutation.other = terminated(other);
    mutation.displaced = displaced?.id ?? 0;
    if (displaced === undefined) return mutation;
    if (this.model.isBeneath(from.id, displaced.id)) return undefined;
    if (this.roll(3) === 0) {
      mutation.b = 2;
      return mutation;
    }
    const directory = child.type === S_IF.DIR;
    if (directory !== (displaced.type === S_IF.DIR) || displaced.names.size > 0) return undefined;
    if (displaced.type === S_IF.REG && displaced.links === 1 && this.roll(3) === 0) mutation.b = 8;
    return mutation;
  }

  #setattr(): Mutation | undefined {
    const object = this.pick([...this.model.nodes.values()].filter((node) => node.type !== S_IF.LNK));
    if (object === undefined) return undefined;
    const mutation = this.mutation.reset(OP.setattr, object.id);
    const blob = new Uint8Array(SETATTR.bytes);
    const view = new DataView(blob.buffer);
    view.setUint32(SETATTR.mode, [0o755, 0o700, 0o640, 0o6755][this.roll(4)] ?? 0o755, true);
    view.setUint32(SETATTR.uid, this.roll(4), true);
    view.setUint32(SETATTR.gid, this.roll(4), true);
    view.setUint32(SETATTR.size, this.roll(this.largest), true);
    view.setBigInt64(
      SETATTR.mtime,
      BigInt(this.roll(2_000_000_000)) * 1_000_000_000n - 500_000_000_000_000_123n,
      true,
    );
    mutation.name = blob;
    const bits = object.type === S_IF.REG ? SETATTR_BITS.size : 0;
    const choice = this.roll(5);
    mutation.a = [
      SETATTR_BITS.mode,
      SETATTR_BITS.uid | SETATTR_BITS.gid,
      SETATTR_BITS.mtime,
      bits,
      bits | SETATTR_BITS.mode,
    ][
      choice
    ] ?? 0;
    return mutation.a === 0 ? undefined : mutation;
  }

  #write(): Mutation | undefined {
    const file = this.pick(this.files());
    if (file === undefined) return undefined;
    const mutation = this.mutation.reset(OP.write, file.id);
    const length = 1 + this.roll(this.roll(4) === 0 ? 200_000 : 5_000);
    mutation.a = this.roll(2) === 0 ? 0 : this.roll(this.largest);
    mutation.b = mutation.payloadLength = length;
    mutation.payloadAddress = this.#address;
    this.fill(length);
    mutation.c = this.roll(2);
    return mutation;
  }

  /** Random bytes into the payload; answers their address. */
  fill(length: number): number {
    const first = this.roll(256);
    for (let i = 0; i < length; i++) this.#payload[i] = (first + i * 7 + (i >> 9)) & 255;
    return this.#address;
  }

  #punch(): Mutation | undefined {
    const file = this.pick(this.files());
    if (file === undefined) return undefined;
    const mutation = this.mutation.reset(OP.fallocate, file.id);
    mutation.a = this.roll(this.largest);
    mutation.b = 1 + this.roll(150_000);
    mutation.c = this.roll(3) === 0 ? 0 : FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
    return mutation;
  }

  #copy(): Mutation | undefined {
    const target = this.pick(this.files());
    const source = this.pick(this.files());
    if (target === undefined || source === undefined || source.id === target.id) return undefined;
    const mutation = this.mutation.reset(OP.copy, target.id);
    mutation.a = this.roll(50_000);
    mutation.c = source.id;
    mutation.name = new Uint8Array(8);
    const held = this.side.objects.get(source.id);
    const size = held === undefined ? 0 : Deno.statSync(`/proc/self/fd/${held.path}`).size;
    // The sequencer logs what was really copied.
    mutation.b = Math.min(size, 1 + this.roll(100_000));
    return mutation.b === 0 ? undefined : mutation;
  }

  #setxattr(): Mutation | undefined {
    const object = this.pick([...this.model.nodes.values()]);
    const name = this.pick(XATTRS);
    if (object === undefined || name === undefined) return undefined;
    const mutation = this.mutation.reset(OP.setxattr, object.id);
    mutation.name = terminated(name);
    const value = name.startsWith("system.") ? acl(this.roll(5000)) : bytesOf("v".repeat(this.roll(40)));
    mutation.payloadAddress = this.fill(0);
    this.#payload.set(value);
    mutation.payloadLength = value.length;
    return mutation;
  }

  #removexattr(): Mutation | undefined {
    const object = this.pick([...this.model.nodes.values()]);
    const name = this.pick(XATTRS);
    if (object === undefined || name === undefined) return undefined;
    const mutation = this.mutation.reset(OP.removexattr, object.id);
    mutation.name = terminated(name);
    return mutation;
  }

  #release(): Mutation | undefined {
    const id = this.pick([...this.model.open]);
    return id === undefined ? undefined : this.mutation.reset(OP.release, id);
  }

  #learn(mutation: Mutation): void {
    const { nodes, open } = this.model;
    const { op, id } = mutation;
    const parent = nodes.get(mutation.c);
    const name = key(mutation.name);
    if (creates(op)) {
      const type = op === OP.create
        ? S_IF.REG
        : op === OP.mkdir
        ? S_IF.DIR
        : op === OP.symlink
        ? S_IF.LNK
        : mutation.a & S_IF.MT;
      nodes.set(id, { id, type, root: parent?.root ?? 0, links: 1, names: new Map() });
      parent?.names.set(name, id);
    } else if (op === OP.link) {
      parent?.names.set(name, id);
      this.#add(id, 1);
    } else if (op === OP.unlink || op === OP.rmdir) {
      parent?.names.delete(name);
      if (mutation.a === 1) open.add(id);
      this.#add(id, -1);
    } else if (op === OP.rename) {
      const to = nodes.get(mutation.a);
      if (mutation.b === 8) open.add(mutation.displaced);
      if (mutation.b === 2) parent?.names.set(name, mutation.displaced);
      else {
        parent?.names.delete(name);
        if (mutation.displaced > 0) this.#add(mutation.displaced, -1);
      }
      to?.names.set(key(mutation.other), id);
    } else if (op === OP.release) {
      open.delete(id);
      nodes.delete(id);
    }
  }

  #add(id: number, count: number): void {
    const node = this.model.nodes.get(id);
    if (node === undefined) return;
    node.links += count;
    if (node.links === 0 && !this.model.open.has(id)) this.model.nodes.delete(id);
  }
}

/** The NUL-terminated bytes of a name. */
export function terminated(name: string): Uint8Array<ArrayBuffer> {
  return bytesOf(`${name}\0`);
}

function key(name: Uint8Array): string {
  return Array.from(name.subarray(0, Math.max(0, name.indexOf(0))), (byte) => String.fromCharCode(byte)).join(
    "",
  );
}

/** A valid ACL: owner, one user, group, mask, others. */
function acl(user: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + 5 * 8));
  view.setUint32(0, 2, true);
  [[1, 6, -1], [2, 4, user], [4, 5, -1], [16, 5, -1], [32, 4, -1]].forEach(
    ([tag, permissions, id], index) => {
      view.setUint16(4 + index * 8, tag ?? 0, true);
      view.setUint16(6 + index * 8, permissions ?? 0, true);
      view.setInt32(8 + index * 8, id ?? 0, true);
    },
  );
  return new Uint8Array(view.buffer);
}
