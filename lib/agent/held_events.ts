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

/** What becomes of an event whose record cannot be saved now. */
type Fate = "again" | "held" | "refused";

/** Keeps events in order. */
export class HeldEvents {
  #events: EventBody[] = [];

  get waiting(): boolean {
    return this.#events.length > 0;
  }

  /** Whether the event has to wait behind those held. Others pass: they are decided as things stand. */
  blocks(event: EventBody): boolean {
    return this.waiting && fateOf(event) === "held";
  }

  /** Takes an event that could not be decided. Answers what became of it. */
  hold(event: EventBody): Fate {
    const fate = fateOf(event);
    if (fate !== "held") return fate;
    const said = event.kind === "copy-failed" || event.kind === "diverged" || event.kind === "fenced";
    if (said && this.#events.some(({ kind }) => kind === event.kind)) return fate;
    if (this.#events.length >= HELD_MAX) {
      throw new Error(`Cannot go on: ${HELD_MAX} decisions wait for room on the disk`);
    }
    this.#events.push(event);
    return fate;
  }

  /** Decides what is held, oldest first; ends at the first that throws, which stays. */
  retry(decide: (event: EventBody) => void): void {
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      decide(event);
      this.#events.shift();
    }
  }
}

function fateOf(event: EventBody): Fate {
  switch (event.kind) {
    case "tick":
    case "heard":
    case "channel":
      return "again";
    case "command":
      return "refused";
    default:
      return "held";
  }
}
