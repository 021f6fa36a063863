/**
 * Reads the frame that begins a comparison: what it says is written down, so it is checked field by field.
 *
 * @module
 */

import { decodeGenerations, type Generation, isCount } from "../journal/mod.ts";
import type { ReconcileBegin } from "./mutation.ts";
import { StreamError } from "./stream.ts";

/** A checked {@link ReconcileBegin}. */
export interface Beginning extends ReconcileBegin {
  readonly generations: readonly Generation[];
}

/**
 * Reads the body of a `CONTROL.reconcile` frame.
 *
 * @throws {StreamError} `protocol` when it makes no sense.
 */
export function decodeBegin(body: Uint8Array): Beginning {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    const of = (value ?? {}) as Partial<Record<keyof ReconcileBegin, unknown>>;
    const { whole, preserve, sequence, history, nextId } = of;
    if (typeof whole !== "boolean" || typeof preserve !== "boolean") {
      throw new TypeError("whole or preserve is no flag");
    }
    if (!isCount(sequence) || !isCount(nextId)) throw new TypeError("sequence or nextId is no count");
    const { from = 0, changed = [] } = of;
    if (!isCount(from)) throw new TypeError("from is no count");
    if (!Array.isArray(changed) || !changed.every(isCount)) throw new TypeError("changed are no ids");
    return {
      whole,
      preserve,
      sequence,
      history,
      nextId,
      from,
      changed,
      generations: decodeGenerations(history),
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new StreamError("protocol", `Cannot begin a comparison: ${reason}; the channel is closed`);
  }
}
