/**
 * The target's owners, modes, xattrs and times, made the source's: rights last, with the content they are for.
 *
 * @module
 */

import { S_IF } from "../system/linux.ts";
import { refusal } from "./content_target.ts";
import { concealed } from "./exposure.ts";
import { type ObjectState, sameState, type StateKeeper } from "./object_state.ts";
import type { Held } from "./objects.ts";
import type { Quarantine } from "./quarantine.ts";

/** Throws `ApplyError` when the disk refuses. */
export class AttributesTarget {
  readonly #states: StateKeeper;

  constructor(states: StateKeeper) {
    this.#states = states;
  }

  /** Before the content: what will change is saved first, and new rights wait for {@link finish}. */
  begin(held: Held, wanted: ObjectState, quarantine: Quarantine | null): void {
    const contains = held.type === S_IF.REG || held.type === S_IF.DIR;
    if (quarantine === null && !contains) return this.#impose(held, wanted);
    const own = this.#states.read(held);
    if (typeof own === "number") throw refusal("read the attributes of", held.id, own);
    const same = sameState(own, wanted);
    if (!same || own.mtime !== wanted.mtime) quarantine?.attributes(held);
    if (!contains) this.#impose(held, wanted);
    else if (!same) this.#impose(held, concealed(wanted));
  }

  /** The content is there. */
  finish(held: Held, wanted: ObjectState): void {
    this.#impose(held, wanted);
  }

  #impose(held: Held, state: ObjectState): void {
    const result = this.#states.impose(held, state);
    if (result < 0) throw refusal("set the attributes of", held.id, result);
  }
}
