/**
 * How fast a resync goes and how long it will still take, from what was done at some moments of the near past.
 *
 * @module
 */

/** Rates are those of so long a time at most: what applications leave to a resync changes. */
const SPAN_MS = 20_000;
/** Moments are remembered so far apart. */
const APART_MS = 1000;

/** Where a resync is. */
export interface Moment {
  readonly objects: number;
  readonly bytes: number;
  /** Part that is done, from 0 to 1; null: it cannot be told. */
  readonly part: number | null;
}

/** What follows from it. */
export interface Rates {
  readonly objectsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Null: it cannot be told. */
  readonly secondsLeft: number | null;
}

/** Remembers the near past of one resync. */
export class Meter {
  #moments: (Moment & { readonly at: number })[] = [];

  /** Notes where the resync is at `at`, monotonic milliseconds. */
  note(at: number, moment: Moment): void {
    const last = this.#moments.at(-1);
    if (last !== undefined && at - last.at < APART_MS) return;
    this.#moments.push({ at, ...moment });
    // One moment older than the span stays, so that the rates are of all of it.
    while ((this.#moments[1]?.at ?? at) < at - SPAN_MS) this.#moments.shift();
  }

  /** The rates until now. */
  rates(at: number, now: Moment): Rates {
    const first = this.#moments[0] ?? { at, ...now };
    const seconds = Math.max(at - first.at, 1) / 1000;
    const gained = (now.part ?? 0) - (first.part ?? 0);
    const left = now.part === null || first.part === null || gained <= 0
      ? null
      : (1 - now.part) / gained * seconds;
    return {
      objectsPerSecond: (now.objects - first.objects) / seconds,
      bytesPerSecond: (now.bytes - first.bytes) / seconds,
      secondsLeft: left,
    };
  }
}
