/**
 * Ranges of one file that need not be saved again.
 *
 * @module
 */

/** A range, its end excluded. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A set of ranges, sorted, apart from each other. */
export class Spans {
  #spans: Span[] = [];

  /** How many ranges it takes. */
  get count(): number {
    return this.#spans.length;
  }

  /** What of a range is not in the set. */
  missing(start: number, end: number): Span[] {
    const found: Span[] = [];
    let at = start;
    for (let i = this.#firstEndingAfter(start); i < this.#spans.length && at < end; i++) {
      const span = this.#spans[i];
      if (span === undefined || span.start >= end) break;
      if (span.start > at) found.push({ start: at, end: span.start });
      at = Math.max(at, span.end);
    }
    if (at < end) found.push({ start: at, end });
    return found;
  }

  /** Adds a range. */
  add(start: number, end: number): void {
    if (start >= end) return;
    // One that ends where this begins is joined, too.
    const first = this.#firstEndingAfter(start - 1);
    let last = first;
    let [from, to] = [start, end];
    for (; last < this.#spans.length; last++) {
      const span = this.#spans[last];
      if (span === undefined || span.start > end) break;
      from = Math.min(from, span.start);
      to = Math.max(to, span.end);
    }
    this.#spans.splice(first, last - first, { start: from, end: to });
  }

  #firstEndingAfter(at: number): number {
    let low = 0;
    let high = this.#spans.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#spans[middle]?.end ?? 0) > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
