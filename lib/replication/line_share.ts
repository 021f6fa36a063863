/**
 * Whether a resync may add to what waits for the line. Where little waits, it may. Where applications write faster than the line
 * or the peer takes it, much waits all the time: then the resync has a part of what the line takes, so that it ends
 * though they never pause. A peer that takes nothing gets nothing more.
 *
 * @module
 */

/** Past so much what applications write would wait behind the resync. */
const LITTLE = 256 << 10;
/** Past that, one step (at most 256 KiB beside applications) for so much that was taken: a ninth of the line. */
const TAKEN_PER_STEP = 2 << 20;

/** The part of one connection's line that a resync has. */
export class LineShare {
  #taken = 0;

  /**
   * Whether a step may be done.
   *
   * @param kept bytes that the line has not taken.
   * @param sent bytes since the connection began, those included.
   */
  allows(kept: number, sent: number): boolean {
    return kept <= LITTLE || sent - kept - this.#taken >= TAKEN_PER_STEP;
  }

  /** A step was done. */
  stepped(kept: number, sent: number): void {
    this.#taken = sent - kept;
  }
}
