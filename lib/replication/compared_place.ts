/**
 * How far a comparison of everything has come on the target, so that one cut short goes on there and does not begin again.
 *
 * Invariant: whatever is written down, every object with an id below `from` that is not among `open` is the source's as of
 * the last record applied here. So an object below `from` is written down as open *before* anything happens on account of
 * its difference; that it was closed may be told later. Directories are not among them: names are compared every time.
 *
 * It holds for a process that was killed or a link that was cut, not for a power cut: what was applied may be gone then.
 *
 * @module
 */

import type { Compared } from "../journal/meta.ts";

/** A sync of the disk for so many objects costs them next to nothing. */
const STRIDE = 8192;
/** More objects that differ are not listed: the place stays where it was. */
export const OPEN_MAX = 4096;
/** So many times at most it is written down out of turn: each costs a sync of the disk. */
const URGENT_MAX = 64;

/** See the file's head. */
export class ComparedPlace {
  readonly #save: (compared: Compared | null) => void;
  readonly #stride: number;
  #from = 0;
  #saved = 0;
  #urgent = 0;
  readonly #open = new Set<number>();

  /** @param stride it is written down when so many more ids were compared. */
  constructor(save: (compared: Compared | null) => void, stride: number = STRIDE) {
    this.#save = save;
    this.#stride = stride;
  }

  /** A comparison begins; `compared` is where it goes on, and is written down already. */
  begin(compared: Compared | null): void {
    this.#open.clear();
    for (const id of compared?.open ?? []) this.#open.add(id);
    this.#from = this.#saved = compared?.from ?? 0;
    this.#urgent = 0;
  }

  /** Everything below `next` was compared, and what differs is known to be open. */
  reached(next: number): void {
    this.#from = Math.max(this.#from, next);
    if (this.#from - this.#saved < this.#stride || this.#urgent >= URGENT_MAX) return;
    if (this.#open.size > OPEN_MAX) return;
    this.#write();
  }

  /** The object differs. Called before it is changed, or asked for. */
  open(id: number): void {
    if (this.#open.has(id)) return;
    this.#open.add(id);
    if (id >= this.#saved) return;
    this.#urgent++;
    if (this.#urgent < URGENT_MAX && this.#open.size <= OPEN_MAX) return this.#write();
    // Too much differs to list it: should this be cut short, prints are compared from the beginning.
    this.#saved = 0;
    this.#urgent = URGENT_MAX;
    this.#save(null);
  }

  /** The object is the source's. */
  close(id: number): void {
    this.#open.delete(id);
  }

  #write(): void {
    this.#saved = this.#from;
    this.#save({ from: this.#from, open: [...this.#open] });
  }
}
