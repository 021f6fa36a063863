/**
 * Where two copies of the data parted. Pure.
 *
 * | target beyond the common point | source beyond it   | meaning                       | what follows                      |
 * | ------------------------------ | ------------------ | ----------------------------- | --------------------------------- |
 * | no                             | no                 | `same`                        | nothing                           |
 * | no                             | yes                | `replay`                      | records from the log              |
 * | in the common generation only  | no, or elsewhere   | `target-ahead-unacknowledged` | quarantine of the tail, reconcile |
 * | in generations of its own      | no, or yes         | `diverged`                    | a person or the policy decides    |
 * | (no generation in common)      |                    | `foreign`                     | refused                           |
 * | (target has no history)        |                    | `new`                         | first copy                        |
 *
 * A primary mints a generation with its first write after its membership changed. So records of a generation that both
 * share, beyond what the source has, were written while the source was a member and had not acknowledged them: the
 * application was never told they are safe. A generation that only the target has may hold acknowledged writes, also
 * when the source has nothing newer: that is never discarded without a decision (I6).
 *
 * @module
 */

/** A line of writes under one membership. */
export interface Generation {
  /** Random, 64 bits. */
  readonly generation: bigint;
  /** Membership under which it began. */
  readonly epoch: number;
  /** Sequence of its first record. */
  readonly first: number;
}

/** What a node's data went through: oldest first, without gaps. */
export interface History {
  /** Oldest first. */
  readonly generations: readonly Generation[];
  /** Sequence of the last record; 0 when there was none. */
  readonly last: number;
}

/** How many generations are kept: each is one change of membership. Two nodes that far apart are foreign. */
export const GENERATIONS_MAX = 1024;

/** How a target's data relates to a source's. */
export interface Comparison {
  /** What the comparison means. */
  readonly kind: "same" | "replay" | "target-ahead-unacknowledged" | "diverged" | "foreign" | "new";
  /** The last sequence both have; 0 when nothing is common. */
  readonly common: number;
}

/** Compares two histories. */
export function compareHistories(source: History, target: History): Comparison {
  if (target.generations.length === 0) return { kind: "new", common: 0 };
  const shared = lastCommon(source, target);
  if (shared === null) return { kind: "foreign", common: 0 };
  const common = Math.min(endOf(source, shared.source), endOf(target, shared.target));
  const kind = relation({
    targetOwn: shared.target < target.generations.length - 1,
    targetTail: endOf(target, shared.target) > common,
    sourceBeyond: source.last > common,
  });
  return { kind, common };
}

function relation(
  beyond: { readonly targetOwn: boolean; readonly targetTail: boolean; readonly sourceBeyond: boolean },
): Comparison["kind"] {
  if (beyond.targetOwn) return "diverged";
  if (beyond.targetTail) return "target-ahead-unacknowledged";
  return beyond.sourceBeyond ? "replay" : "same";
}

/** Places of the newest generation both have. The same number at another start is chance, or damage: not the same. */
function lastCommon(source: History, target: History): { source: number; target: number } | null {
  for (let i = source.generations.length - 1; i >= 0; i--) {
    const ours = source.generations[i];
    const j = target.generations.findIndex((theirs) =>
      theirs.generation === ours?.generation && theirs.first === ours.first && theirs.epoch === ours.epoch
    );
    if (j >= 0) return { source: i, target: j };
  }
  return null;
}

/** Last sequence of a generation in a history. */
function endOf(history: History, place: number): number {
  const next = history.generations[place + 1];
  return next === undefined ? history.last : next.first - 1;
}

/**
 * Adds a generation, dropping the oldest past {@link GENERATIONS_MAX}.
 *
 * @throws when it does not follow: lower epoch, or a first sequence not after the last one's.
 */
export function withGeneration(
  generations: readonly Generation[],
  added: Generation,
): readonly Generation[] {
  const last = generations.at(-1);
  if (last !== undefined && (added.epoch < last.epoch || added.first <= last.first)) {
    throw new RangeError(
      `Cannot begin a generation at sequence ${added.first} of epoch ${added.epoch}: the last one began at ` +
        `${last.first} of epoch ${last.epoch}`,
    );
  }
  return [...generations, added].slice(-GENERATIONS_MAX);
}

/** The history without what came after a sequence: after a tail was taken back. */
export function historyUpTo(generations: readonly Generation[], last: number): readonly Generation[] {
  return generations.filter((generation) => generation.first <= last);
}

/** A generation in JSON: its number in hexadecimal, since JSON numbers end at 2^53. */
export interface GenerationJson {
  /** 16 hexadecimal digits. */
  readonly generation: string;
  /** Membership. */
  readonly epoch: number;
  /** Sequence of its first record. */
  readonly first: number;
}

/** For files and messages. */
export function encodeGenerations(generations: readonly Generation[]): GenerationJson[] {
  return generations.map(({ generation, epoch, first }) => ({
    generation: generation.toString(16).padStart(16, "0"),
    epoch,
    first,
  }));
}

/**
 * Reads what {@link encodeGenerations} wrote.
 *
 * @throws when it is not that, or not in order.
 */
export function decodeGenerations(json: unknown): readonly Generation[] {
  if (!Array.isArray(json)) throw new TypeError("Cannot read the history: it is not a list");
  if (json.length > GENERATIONS_MAX) {
    throw new TypeError(`Cannot read the history: more than ${GENERATIONS_MAX} generations`);
  }
  let read: readonly Generation[] = [];
  for (const entry of json) read = withGeneration(read, decodeGeneration(entry));
  return read;
}

function decodeGeneration(entry: unknown): Generation {
  const { generation, epoch, first } = (entry ?? {}) as Partial<Record<string, unknown>>;
  if (typeof generation !== "string" || !/^[0-9a-f]{16}$/.test(generation)) {
    throw new TypeError(
      `Cannot read the history: "${generation}" is not a generation of 16 hexadecimal digits`,
    );
  }
  if (!isCount(epoch) || !isCount(first) || first === 0) {
    throw new TypeError(
      `Cannot read the history: generation ${generation} has no valid epoch and first sequence`,
    );
  }
  return { generation: BigInt(`0x${generation}`), epoch, first };
}

/** Whether a value that was read is a whole number from 0 on: a sequence, an id, an epoch. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
