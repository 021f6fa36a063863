/**
 * Whether an application has written to a range, as the log tells: what the range holds does not, since it may have written just
 * what was there.
 *
 * @module
 */

import { type Journal, OP, RecordView } from "../journal/mod.ts";
import { SETATTR_BITS } from "./mutation.ts";

/** A range of an object, and up to which record nothing is asked. */
export interface RangeSince {
  readonly sequence: number;
  readonly id: number;
  readonly offset: number;
  readonly length: number;
}

/** Whether a later record may have changed the content there; true, too, where the log reaches back no further. */
export function isWrittenSince(journal: Journal, { sequence, id, offset, length }: RangeSince): boolean {
  const cursor = journal.read(sequence + 1);
  if (cursor === null) return true;
  const view = new RecordView();
  using _ = cursor;
  while (cursor.next(view)) {
    if (view.id !== id) continue;
    // It may move what lies behind its range.
    if (view.op === OP.fallocate) return true;
    if (view.op === OP.setattr && (view.a & SETATTR_BITS.size) !== 0) return true;
    const ranged = view.op === OP.write || view.op === OP.copy;
    if (ranged && view.a < offset + length && view.a + view.b > offset) return true;
  }
  return cursor.lost;
}
