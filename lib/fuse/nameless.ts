/**
 * Files without a name (`O_TMPFILE`), until they are given one.
 *
 * Beneath they do have a name: their number, in a directory of the root that the mount hides. So a file of this kind is
 * made, written, linked and removed by ordinary records, is compared and replayed like any other, and needs nobody to
 * hold its descriptor: a killed replicator, a power cut of either node, a secondary that was away change nothing. `linkat`
 * is a rename out of that directory, so it is there whole or not at all. What is left there at a failover nobody can reach:
 * the new primary takes it away.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { cbytes } from "../replication/bytes.ts";
import { Mutation } from "../replication/mutation.ts";
import type { Held } from "../replication/objects.ts";
import { Dirents } from "../system/dirents.ts";
import { O, RENAME } from "../system/linux.ts";
import { ERRNO } from "./errno.ts";
import type { Exchange } from "./exchange.ts";
import { NAMELESS } from "../replication/own_names.ts";

/** Files taken away in one go; requests wait meanwhile. */
const SWEEP_MAX = 32;

/** The files of one root that have no name for the application. */
export class Nameless {
  readonly #exchange: Exchange;
  readonly #mutation = new Mutation();
  readonly #ids = new Set<number>();
  /** A former process gave some to the kernel: which, the directory says. */
  #known: boolean;
  #swept: boolean;

  /** @param resumed the kernel knows files of a former process. */
  constructor(exchange: Exchange, resumed: boolean) {
    this.#exchange = exchange;
    this.#known = !resumed;
    this.#swept = resumed;
  }

  /** Whether a file has no name for the application. */
  has(id: number): boolean {
    if (!this.#known) this.#recall();
    return this.#ids.size > 0 && this.#ids.has(id);
  }

  /** Notes one that was made. */
  add(id: number): void {
    this.#ids.add(id);
  }

  /** Where they are: made when the first is. −errno: it cannot be. */
  directory(): Held | number {
    const found = this.#find();
    if (found !== -ERRNO.ENOENT) return found;
    const { road, tree, root } = this.#exchange;
    const mutation = this.#mutation.reset(OP.mkdir, road.allocate());
    mutation.c = root + 1;
    mutation.a = 0o700;
    mutation.name = NAMELESS;
    const made = road.mutate(mutation, 0);
    return made < 0 ? made : tree.created ?? -ERRNO.EIO;
  }

  /** Fills in how a file gets its first name. Answers false when it is not there any more. */
  link(mutation: Mutation, id: number, parent: Held, name: Uint8Array): boolean {
    const from = this.#find();
    if (typeof from === "number") return false;
    mutation.reset(OP.rename, id);
    mutation.c = from.id;
    mutation.a = parent.id;
    mutation.b = RENAME.NOREPLACE;
    mutation.name = nameOf(id);
    mutation.other = name;
    return true;
  }

  /** It has a name from here on. */
  named(id: number): void {
    this.#ids.delete(id);
  }

  /** The kernel has forgotten it: it is gone. */
  forget(id: number): void {
    this.#ids.delete(id);
    const parent = this.#find();
    if (typeof parent !== "number") this.#remove(parent, id);
  }

  /** Takes away some of what applications of a former primary left. Answers true when there is nothing more. */
  sweep(): boolean {
    if (this.#swept) return true;
    const parent = this.#find();
    this.#swept = typeof parent === "number";
    if (typeof parent === "number") return true;
    const left = this.#list(parent, SWEEP_MAX);
    for (const id of left) this.#remove(parent, id);
    this.#swept = left.length < SWEEP_MAX;
    return this.#swept;
  }

  #find(): Held | number {
    const { objects, root } = this.#exchange;
    const parent = objects.get(root + 1);
    return parent === undefined ? -ERRNO.ESTALE : objects.lookup(parent, NAMELESS);
  }

  #remove(parent: Held, id: number): void {
    const mutation = this.#mutation.reset(OP.unlink, id);
    mutation.c = parent.id;
    mutation.name = nameOf(id);
    const result = this.#exchange.road.mutate(mutation, 0);
    if (result < 0 && result !== -ERRNO.ENOENT) {
      this.#exchange.log(`Cannot remove a temporary file that nobody uses (object ${id}): errno ${-result}`);
    }
  }

  #recall(): void {
    this.#known = true;
    const parent = this.#find();
    if (typeof parent === "number") return;
    for (const id of this.#list(parent, Number.MAX_SAFE_INTEGER)) this.#ids.add(id);
  }

  /** Ids of files that are there and not in use, as far as is known; `max` at most. */
  #list(parent: Held, max: number): number[] {
    const { backing, objects } = this.#exchange;
    const fd = backing.reopen(parent.path, O.RDONLY | O.DIRECTORY);
    const ids: number[] = [];
    const entries = new Dirents();
    while (fd >= 0 && ids.length < max && backing.getdents(fd, entries) > 0) {
      while (ids.length < max && entries.next()) {
        if (entries.isDot) continue;
        const name = entries.bytes.subarray(entries.nameAt, entries.nameAt + entries.nameLength + 1);
        const held = objects.lookup(parent, name);
        if (typeof held !== "number" && !this.#ids.has(held.id)) ids.push(held.id);
      }
    }
    if (fd >= 0) backing.close(fd);
    return ids;
  }
}

/** The name beneath of a file that has none. */
export function nameOf(id: number): Uint8Array {
  return cbytes(id.toString(16));
}
