/**
 * How far a `relaxed` directory's secondary may be behind: what was answered and is not there yet is lost with the
 * primary. Past the bound, answers wait for the secondary like everyone's.
 *
 * @module
 */

/** Half of the bound of one second: a mark is set up to as much later than the oldest record it stands for. */
const MARK_NS = 0.5e9;
/** Records that may be under way. */
const RECORDS_MAX = 4096;

/** The bound, from what is asked as time goes on. */
export class LagBound {
  #mark = 0;
  #markedAt = 0;

  /**
   * The sequence the secondary must have acknowledged before the reply to record `last` is given.
   *
   * @param applied what it has acknowledged.
   * @param now nanoseconds of any clock that only goes forward.
   */
  required(last: number, applied: number, now: number): number {
    if (applied >= this.#mark) {
      this.#mark = last;
      this.#markedAt = now;
    }
    if (now - this.#markedAt > MARK_NS) return this.#mark;
    return Math.max(0, last - RECORDS_MAX);
  }
}
