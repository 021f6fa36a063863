/**
 * Events whose decision could not be written down, since the disk was full: they are decided again once there is room.
 *
 * Until then the module stands where it stood before them, as if they had not come yet: nothing that depends on the
 * record has been done. What comes again by itself (a tick, a heartbeat, news of the channel) is not kept.
 *
 * @module
 */

import type { EventBody } from "../failover/mod.ts";

/** Ends of work and answers of probes: one for each that is out. More is our mistake. */
const HELD_MAX = 256;

/** Keeps events in order. */
export class HeldEvents {
  #events: EventBody[] = [];

  get waiting(): boolean {
    return this.#events.length > 0;
  }

  /** Whether the event has to wait behind those held. Others pass: they are decided as things stand. */
  blocks(event: EventBody): boolean {
    return this.waiting && !comesAgain(event) && event.kind !== "command";
  }

  /** Takes an event that could not be decided, unless it comes again by itself. */
  hold(event: EventBody): void {
    if (comesAgain(event)) return;
    const said = event.kind === "copy-failed" || event.kind === "diverged" || event.kind === "fenced";
    if (said && this.#events.some(({ kind }) => kind === event.kind)) return;
    if (this.#events.length >= HELD_MAX) {
      throw new Error(`Cannot go on: ${HELD_MAX} decisions wait for room on the disk`);
    }
    this.#events.push(event);
  }

  /** Decides what is held, oldest first; ends at the first that throws, which stays. */
  retry(decide: (event: EventBody) => void): void {
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      decide(event);
      this.#events.shift();
    }
  }
}

function comesAgain(event: EventBody): boolean {
  return event.kind === "tick" || event.kind === "heard" || event.kind === "channel";
}
