/**
 * Executes records on a tree that may differ from the source's.
 *
 * While two trees are made equal, a live record says what is true at its place in the stream: *this name leads to this
 * object*, *this name does not*. About an object whose frame comes later it may have any effect, since the frame says
 * everything; about one that was made equal already its effect is exact. Where that is impossible, because an object is
 * not there or is of another type, its frame is asked for (again) instead.
 *
 * Outside of a comparison the same class executes one record that may have been executed already, on a tree that is
 * otherwise exact: what a killed process leaves.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import type { Backing } from "../system/backing.ts";
import { AT, S_IF } from "../system/linux.ts";
import { withoutRights } from "./exposure.ts";
import type { Limbo } from "./limbo.ts";
import { creates, type Mutation, RENAME_BITS, SETATTR, SETATTR_BITS } from "./mutation.ts";
import type { Held, Objects } from "./objects.ts";
import { perform } from "./perform.ts";
import { setMtime, type Tree } from "./tree.ts";
import { u64 } from "./bytes.ts";

const EIO = 5;
const ESTALE = 116;
/** What no comparison cures: EIO, ENOMEM, ENFILE, EMFILE, ENOSPC, EROFS, EDQUOT. */
const REAL: readonly number[] = [-5, -12, -23, -24, -28, -30, -122];
const EXCHANGE = 2;

/** What {@link Lenient} needs. */
export interface LenientOptions {
  readonly backing: Backing;
  readonly objects: Objects;
  readonly tree: Tree;
  readonly limbo: Limbo;
  /** The object, or the directory with its entries, must be sent (again). */
  readonly onMissing: (id: number) => void;
}

/** Executes records leniently, each with the times that the primary measured. */
export class Lenient {
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #tree: Tree;
  readonly #limbo: Limbo;

  constructor(options: LenientOptions) {
    this.#backing = options.backing;
    this.#objects = options.objects;
    this.#tree = options.tree;
    this.#limbo = options.limbo;
    options.limbo.onMissing = options.onMissing;
  }

  /** Executes a mutation and sets its times. Answers `>= 0`, or −errno for what the disk really refuses. */
  execute(mutation: Mutation): number {
    if (this.#limbo.phase !== "collecting") return this.#repeat(mutation);
    switch (mutation.op) {
      case OP.create:
      case OP.mkdir:
      case OP.mknod:
      case OP.symlink:
        return this.#create(mutation);
      case OP.link:
        return this.#link(mutation);
      case OP.unlink:
      case OP.rmdir:
        return this.#unlink(mutation);
      case OP.rename:
        return this.#rename(mutation);
      case OP.copy:
        // What it would copy may not be the source's yet.
        this.#limbo.missing(mutation.id);
        return 0;
      default:
        return this.#change(mutation);
    }
  }

  #create(mutation: Mutation): number {
    const limbo = this.#limbo;
    const parent = this.#directory(mutation.c);
    if (parent === undefined) return 0;
    const stranger = this.#objects.get(mutation.id);
    const retired = stranger === undefined ? 0 : limbo.retire(stranger);
    if (retired < 0) return retired;
    const cleared = limbo.displace(parent, mutation.name);
    if (cleared < 0) return cleared;
    // A stale handle would be believed otherwise.
    this.#objects.remove(mutation.id);
    const made = this.#tree.execute(mutation);
    if (made < 0) return made;
    limbo.note(parent, mutation.name);
    // What a new object inherits (group, setgid, ACLs) is right only where its directory is.
    if (limbo.seen.has(parent.id) || limbo.finished.has(parent.id)) limbo.finished.add(mutation.id);
    else limbo.missing(mutation.id);
    return this.#impose(mutation);
  }

  #link(mutation: Mutation): number {
    const parent = this.#directory(mutation.c);
    const object = this.#named(mutation.id);
    this.#askUnseen(mutation.id);
    const placed = this.#lead(parent, mutation.name, object);
    return placed < 0 ? placed : this.#impose(mutation);
  }

  #unlink(mutation: Mutation): number {
    if (mutation.a === 1) this.#limbo.orphans.add(mutation.id);
    const parent = this.#directory(mutation.c);
    if (parent === undefined) return 0;
    this.#limbo.unnamed(mutation.id);
    const displaced = this.#limbo.displaceFrom(parent, mutation.name, mutation.id);
    return displaced < 0 ? displaced : this.#impose(mutation);
  }

  #rename(mutation: Mutation): number {
    const limbo = this.#limbo;
    const { id, displaced } = mutation;
    const exchange = (mutation.b & EXCHANGE) !== 0;
    if ((mutation.b & RENAME_BITS.displacedOpen) !== 0) limbo.orphans.add(displaced);
    // Two names of one object: rename(2) does nothing then.
    if (id === displaced) return this.#impose(mutation);
    const from = this.#directory(mutation.c);
    const to = this.#directory(mutation.a);
    const moved = this.#named(id);
    this.#askUnseen(id);
    if (!exchange) limbo.unnamed(displaced);
    const placed = this.#lead(to, mutation.other, moved, mutation.c);
    if (placed < 0) return placed;
    if (exchange) {
      this.#askUnseen(displaced);
      const other = this.#lead(from, mutation.name, this.#named(displaced), mutation.a);
      return other < 0 ? other : this.#impose(mutation);
    }
    const left = from === undefined ? 0 : limbo.displaceFrom(from, mutation.name, id);
    return left < 0 ? left : this.#impose(mutation);
  }

  /** Makes a name lead to an object; where either is not there, what must come again is asked for. */
  #lead(parent: Held | undefined, name: Uint8Array, object: Held | undefined, leaving = 0): number {
    if (parent === undefined) return 0;
    if (object !== undefined) return this.#limbo.placeLive(parent, name, object, leaving);
    // The directory will lead to it once it is sent again: it may have been made equal already.
    this.#limbo.missing(parent.id);
    return this.#limbo.displace(parent, name);
  }

  /** In a walk over everything a moved object may be missed: from a directory not listed yet to one that was. */
  #askUnseen(id: number): void {
    if (this.#limbo.whole && !this.#limbo.seen.has(id) && !this.#limbo.finished.has(id)) {
      this.#limbo.missing(id);
    }
  }

  #directory(id: number): Held | undefined {
    const held = this.#objects.get(id);
    if (held?.type === S_IF.DIR) return held;
    this.#limbo.missing(id);
    return undefined;
  }

  #named(id: number): Held | undefined {
    const held = this.#objects.get(id);
    if (held !== undefined && this.#limbo.linked(held)) return held;
    this.#limbo.missing(id);
    return undefined;
  }

  /** Content, attributes and xattrs. */
  #change(mutation: Mutation): number {
    const held = this.#objects.get(mutation.id);
    if (held === undefined || (ofContent(mutation) && held.type !== S_IF.REG)) {
      // Above all, nothing is written to a device that stands where the source has a file.
      this.#limbo.missing(mutation.id);
      return 0;
    }
    this.#save(mutation, held);
    const result = this.#limbo.finished.has(held.id)
      ? perform(this.#tree, mutation)
      : this.#hold(mutation, held);
    if (result >= 0) return this.#impose(mutation);
    if (REAL.includes(result)) return result;
    this.#limbo.missing(mutation.id);
    return 0;
  }

  /** Executes what gives no rights to an object that may hold something else than on the source: its last frame gives them. */
  #hold(mutation: Mutation, held: Held): number {
    const { a, name } = mutation;
    const now = withoutRights(mutation, held.type);
    if (now === null || now.a !== a || now.name !== name) {
      // Perhaps no frame of it is to come.
      if (!this.#limbo.comes(held.id) && !this.#limbo.seen.has(held.id)) this.#limbo.missing(held.id);
    }
    if (now === null) return 0;
    mutation.a = now.a;
    mutation.name = now.name;
    const result = perform(this.#tree, mutation);
    mutation.a = a;
    mutation.name = name;
    return result;
  }

  #save(mutation: Mutation, held: Held): void {
    const { guard, finished } = this.#limbo;
    if (guard === null || finished.has(held.id)) return;
    if (mutation.op === OP.write || mutation.op === OP.fallocate) guard.content(held, mutation.a, mutation.b);
    else guard.attributes(held);
    if (mutation.op !== OP.setattr || (mutation.a & SETATTR_BITS.size) === 0) return;
    const size = u64(viewOf(mutation.name), SETATTR.size);
    guard.content(held, size, Number.MAX_SAFE_INTEGER - size);
  }

  /** Sets the times that the primary measured, of the objects that are here. */
  #impose(mutation: Mutation): number {
    const names = mutation.op >= OP.create && mutation.op <= OP.rename;
    if (!names) {
      // The time of a write is told later, see `untold_times.ts`.
      return mutation.op <= OP.copy && mutation.time !== 0n ? this.#setTime(mutation.id, mutation.time) : 0;
    }
    const first = this.#setTime(mutation.c, mutation.time);
    if (first < 0) return first;
    if (creates(mutation.op)) return this.#setTime(mutation.id, mutation.timeOther);
    return mutation.op === OP.rename && mutation.a !== mutation.c
      ? this.#setTime(mutation.a, mutation.timeOther)
      : 0;
  }

  #setTime(id: number, time: bigint): number {
    const held = this.#objects.get(id);
    if (held === undefined) return 0;
    const result = setMtime(this.#backing, held.path, time);
    return REAL.includes(result) ? result : 0;
  }

  /** Executes a record that may have been executed already, on a tree that is otherwise exact. */
  #repeat(mutation: Mutation): number {
    const names = mutation.op >= OP.create && mutation.op <= OP.rename;
    const done = names ? this.#namesSay(mutation) : false;
    if (typeof done === "number") return done;
    if (done) return this.#impose(mutation);
    const kept = names ? this.#keepOpen(mutation) : 0;
    if (kept < 0) return kept;
    const result = names ? this.#tree.execute(mutation) : perform(this.#tree, mutation);
    if (mutation.op === OP.copy && result >= 0 && result !== mutation.b) return -EIO;
    return result < 0 ? result : this.#impose(mutation);
  }

  /** Whether the names show that it was executed; takes away what was only half made. */
  #namesSay(mutation: Mutation): boolean | number {
    const { op, id } = mutation;
    const removes = op === OP.unlink || op === OP.rmdir;
    const renames = op === OP.rename;
    const parent = this.#objects.get(renames && (mutation.b & EXCHANGE) !== 0 ? mutation.a : mutation.c);
    if (parent === undefined) return -ESTALE;
    if (renames && (mutation.b & EXCHANGE) !== 0) return this.#limbo.leadsTo(parent, mutation.other, id);
    if (removes || renames) return !this.#limbo.leadsTo(parent, mutation.name, id);
    const found = this.#limbo.idAt(parent, mutation.name);
    if (found === id) return true;
    if (found !== 0 || !creates(op)) return false;
    // Made, but without its id: the process was killed in between.
    const removed = this.#backing.unlinkat(parent.path, mutation.name, op === OP.mkdir ? AT.REMOVEDIR : 0);
    return removed < 0 ? removed : false;
  }

  /** What is about to lose its last name but is open on the source is held. */
  #keepOpen(mutation: Mutation): number {
    const open = mutation.op === OP.unlink && mutation.a === 1
      ? mutation.id
      : mutation.op === OP.rename && (mutation.b & RENAME_BITS.displacedOpen) !== 0
      ? mutation.displaced
      : 0;
    const held = open === 0 ? undefined : this.#objects.get(open);
    if (held === undefined) return 0;
    this.#limbo.orphans.add(open);
    return this.#limbo.keep(held);
  }
}

/** Whether a mutation needs a regular file. */
function ofContent(mutation: Mutation): boolean {
  const { op } = mutation;
  return op === OP.write || op === OP.fallocate ||
    (op === OP.setattr && (mutation.a & SETATTR_BITS.size) !== 0);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
