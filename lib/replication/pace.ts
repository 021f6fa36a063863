/**
 * When background work may take its next step: at once while applications are silent, else only a small part of the time, so
 * that few of their requests find the thread busy.
 *
 * @module
 */

/** Applications count as silent when nothing came for so long. */
const SILENT_MS = 5;

/** Shares the thread's time. */
export class Pace {
  /** Part of the time that a step may take beside applications, from 0 to 1. */
  share: number;
  #requests = -1;
  #requestAt = Number.NEGATIVE_INFINITY;
  #next = Number.NEGATIVE_INFINITY;
  #bytesNext = Number.NEGATIVE_INFINITY;

  constructor(share: number) {
    this.share = share;
  }

  /**
   * Whether a step may be taken now.
   *
   * @param now monotonic milliseconds.
   * @param requests of applications served so far.
   */
  allows(now: number, requests: number): boolean {
    if (requests !== this.#requests) {
      this.#requests = requests;
      this.#requestAt = now;
    }
    return this.affords(now) && (!this.active(now) || now >= this.#next);
  }

  /** Whether the bandwidth allows to move more. */
  affords(now: number): boolean {
    return now >= this.#bytesNext;
  }

  /** Applications have asked for something just now. */
  active(now: number): boolean {
    return now - this.#requestAt < SILENT_MS;
  }

  /** A step was taken, from `began` to `now`; it moved `bytes`, of which `bytesPerSecond` may be moved (0: no bound). */
  took(began: number, now: number, bytes = 0, bytesPerSecond = 0): void {
    this.#next = now + (now - began) * (1 / this.share - 1);
    if (bytesPerSecond > 0 && bytes > 0) {
      this.#bytesNext = Math.max(this.#bytesNext, began) + bytes / bytesPerSecond * 1000;
    }
  }
}
