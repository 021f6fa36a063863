/**
 * When a peer that was dropped is taken in again: after it has held up for a time that doubles with each drop.
 *
 * Every change of membership is an epoch, and a peer that is taken in too early costs the applications its next stall.
 * A link that flaps must therefore not make the membership flap. What is remembered here is volatile: an agent that
 * restarts forgives, which costs one early return and never a wrong one.
 *
 * @module
 */

/** What a primary remembers of the peer it has dropped. */
export interface Readmission {
  /** When it was dropped, oldest first, within {@link WINDOW_MS}; at most {@link DROPS_MAX}. */
  readonly drops: readonly number[];
  /** Since when it has held up without interruption: caught up, and acknowledging in time. Null: it does not. */
  readonly steadySince: number | null;
  /** What it must acknowledge next, and since when it owes that. */
  readonly owed: { readonly sequence: bigint; readonly at: number };
}

/** What is seen of the peer at one moment. */
export interface Sight {
  readonly at: number;
  /** Connected and caught up. */
  readonly live: boolean;
  /** Position of this node's own copy. */
  readonly sequence: bigint;
  /** Position the peer has acknowledged. */
  readonly acknowledged: bigint;
  /** How long it may take to acknowledge. */
  readonly boundMs: number;
}

/** A drop counts for this long. */
const WINDOW_MS = 3_600_000;
/** One drop has a cause and is forgiven: the second costs this, each further one twice as much. */
const PAUSE_MS = 5000;
/** No cause is worth more time without a second copy. */
const PAUSE_MAX_MS = 300_000;
/** More drops than lead to {@link PAUSE_MAX_MS} change nothing. */
const DROPS_MAX = 16;

/** A peer that was never dropped. */
export const FORGIVEN: Readmission = { drops: [], steadySince: null, owed: { sequence: 0n, at: 0 } };

/** The peer was dropped. */
export function afterDrop(readmission: Readmission, at: number): Readmission {
  const drops = [...recent(readmission.drops, at), at].slice(-DROPS_MAX);
  return { drops, steadySince: null, owed: { sequence: 0n, at } };
}

/** Looks whether the peer holds up. */
export function observe(readmission: Readmission, sight: Sight): Readmission {
  const { drops, steadySince, owed } = readmission;
  const { at, live, sequence, acknowledged, boundMs } = sight;
  if (!live) return { drops, steadySince: null, owed: { sequence: 0n, at } };
  if (acknowledged >= owed.sequence) {
    return { drops, steadySince: steadySince ?? at, owed: { sequence, at } };
  }
  // It still owes the same: it counts as steady again only once it has delivered.
  return at - owed.at > boundMs ? { drops, steadySince: null, owed } : readmission;
}

/** How long the peer must hold up. */
export function pauseMs(readmission: Readmission, at: number): number {
  const count = recent(readmission.drops, at).length;
  return count < 2 ? 0 : Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** (count - 2));
}

/** Whether a peer that has caught up may be taken in. */
export function mayReturn(readmission: Readmission, at: number): boolean {
  const pause = pauseMs(readmission, at);
  return pause === 0 || (readmission.steadySince !== null && at - readmission.steadySince >= pause);
}

/** When a peer that holds up is taken in; null while it does not, or need not wait. */
export function returnAt(readmission: Readmission, at: number): number | null {
  const pause = pauseMs(readmission, at);
  return pause === 0 || readmission.steadySince === null ? null : readmission.steadySince + pause;
}

/** `dropped 3 times in 10 min`. */
export function dropsInWords(readmission: Readmission, at: number): string {
  const drops = recent(readmission.drops, at);
  return `dropped ${drops.length} times in ${spanInWords(at - (drops[0] ?? at))}`;
}

/** `45 s`, `10 min`: rounded up, for people. */
export function spanInWords(ms: number): string {
  const seconds = Math.max(1, Math.ceil(ms / 1000));
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

function recent(drops: readonly number[], at: number): readonly number[] {
  return drops.filter((drop) => at - drop < WINDOW_MS);
}
