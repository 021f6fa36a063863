/**
 * Reading the log from a sequence on, across segments, while it grows at one end and loses segments at the other.
 *
 * @module
 */

import type { Journal } from "./journal.ts";
import { padded, RecordView } from "./record.ts";
import type { Segment } from "./segment.ts";

/** A place in the log. Holds its segment in memory, also when the log drops it, until it moves on or is closed. */
export class Cursor {
  readonly #journal: Journal;
  readonly #cuts: number;
  #segment: Segment | null = null;
  #offset = 0;
  #sequence: number;
  #lost = false;

  /** Use {@link Journal.read}. */
  constructor(journal: Journal, sequence: number) {
    this.#journal = journal;
    this.#cuts = journal.cuts;
    this.#sequence = sequence;
    this.#enter();
  }

  /** Sequence of the record that {@link next} shows next. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The log was cut, or dropped what comes next: the peer must be reconciled. */
  get lost(): boolean {
    return this.#lost;
  }

  /**
   * Points the view at the next record.
   *
   * @returns false when there is none yet, or when {@link lost}.
   */
  next(view: RecordView): boolean {
    if (this.#journal.cuts !== this.#cuts) this.#lose();
    if (this.#lost || this.#sequence > this.#journal.last) return false;
    if (this.#segment === null || this.#sequence > this.#segment.last) this.#enter();
    const segment = this.#segment;
    if (segment === null) return false;
    view.point(segment.bytes, segment.view, this.#offset);
    this.#offset += padded(view.length);
    this.#sequence++;
    return true;
  }

  /** Lets go of the log. */
  close(): void {
    this.#leave();
  }

  /** [Symbol.dispose] so that `using` closes it. */
  [Symbol.dispose](): void {
    this.#leave();
  }

  #enter(): void {
    this.#leave();
    const segment = this.#journal.segmentOf(this.#sequence);
    if (segment === undefined) {
      this.#lost = true;
      return;
    }
    this.#offset = this.#sequence > segment.last ? segment.used : segment.find(this.#sequence);
    segment.pins++;
    this.#segment = segment;
  }

  #lose(): void {
    this.#lost = true;
    this.#leave();
  }

  #leave(): void {
    const segment = this.#segment;
    if (segment === null) return;
    this.#segment = null;
    segment.pins--;
    if (segment.dropped && segment.pins === 0) segment.close();
  }
}

/**
 * Shows the last `count` records, or as many as there are, the oldest first. In one pass: to look each up by its sequence
 * would walk its segment from the start each time.
 */
export function eachOfLast(journal: Journal, count: number, visit: (record: RecordView) => void): void {
  using cursor = journal.read(Math.max(journal.first, journal.last + 1 - count));
  const view = new RecordView();
  while (cursor?.next(view) === true) visit(view);
}
