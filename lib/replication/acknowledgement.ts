/**
 * Up to which record the peer's copy counts.
 *
 * A copy that is being compared executes live records too, and says so; but what came before them is not whole yet, and
 * such a copy never leads. Nothing counts until the comparison is over: a record acknowledged before would be on one node.
 *
 * @module
 */

/** What the peer of one session has. */
export class Acknowledgement {
  #comparing: boolean;
  #said: number;

  /**
   * @param applied the sequence at which the peer stands when the session begins.
   * @param comparing its copy is compared first.
   */
  constructor(applied: number, comparing: boolean) {
    this.#said = applied;
    this.#comparing = comparing;
  }

  /** The last record that counts. */
  get applied(): number {
    return this.#comparing ? 0 : this.#said;
  }

  /** The peer has applied everything up to a record. */
  hear(sequence: number): void {
    if (sequence > this.#said) this.#said = sequence;
  }

  /** The comparison is over: what was executed meanwhile counts, all at once. */
  compared(): void {
    this.#comparing = false;
  }
}
