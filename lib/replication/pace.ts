/**
 * When background work may take its next step: at once while applications are silent, else only a small part of the time, so
 * that few of their requests find the thread busy.
 *
 * A step delays the requests that come while it is done. Work that is *guaranteed* a share delays no more than one request in
 * {@link PER_DELAYED} by more than {@link SHORT_MS}, and so leaves the 99th percentile of their latency as it is: so many are served before its next step.
 * Where that takes long, as with few requests, or on a machine that is busy with other things (the time of a step is mostly
 * theirs then), it goes on all the same after {@link PAUSE_MAX_MS}: both get on.
 *
 * @module
 */

/** Applications count as silent when nothing came for so long. */
const SILENT_MS = 5;
/** Of so many requests one may find the thread busy. */
const PER_DELAYED = 128;
/** A step that took no longer delayed nobody by what counts: many small objects are compared in many such. */
const SHORT_MS = 0.5;
/** After so long work that is guaranteed takes a step: 40 a second at least. */
const PAUSE_MAX_MS = 25;

/** Shares the thread's time. */
export class Pace {
  /** Part of the time that a step may take beside applications, from 0 to 1. */
  share: number;
  readonly #guaranteed: boolean;
  #requests = -1;
  #requestAt = Number.NEGATIVE_INFINITY;
  #next = Number.NEGATIVE_INFINITY;
  #latest = Number.NEGATIVE_INFINITY;
  #bytesNext = Number.NEGATIVE_INFINITY;
  /** Requests before the step taken last was over; those that were waiting then, once they are served. */
  #before = 0;
  #delayed = 0;
  #short = false;

  /** @param guaranteed the work must get on, however little time applications leave. */
  constructor(share: number, guaranteed = false) {
    this.share = share;
    this.#guaranteed = guaranteed;
  }

  /**
   * Whether a step may be taken now.
   *
   * @param now monotonic milliseconds.
   * @param requests of applications served so far.
   */
  allows(now: number, requests: number): boolean {
    if (requests !== this.#requests) {
      // What is served first after a step has waited for it.
      if (this.#delayed === 0) this.#delayed = requests - this.#before;
      this.#requests = requests;
      this.#requestAt = now;
    }
    if (!this.affords(now)) return false;
    if (!this.active(now)) return true;
    if (!this.#guaranteed) return now >= this.#next;
    const enough = this.#short || requests - this.#before >= this.#delayed * PER_DELAYED;
    return now >= this.#latest || (enough && now >= this.#next);
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
    this.#latest = now + PAUSE_MAX_MS;
    this.#before = Math.max(0, this.#requests);
    this.#delayed = 0;
    this.#short = now - began <= SHORT_MS;
    if (bytesPerSecond > 0 && bytes > 0) {
      this.#bytesNext = Math.max(this.#bytesNext, began) + bytes / bytesPerSecond * 1000;
    }
  }
}
