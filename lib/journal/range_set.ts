/**
 * Ranges of large objects, marked twice as blocks are: on disk as active, and touched since the last checkpoint began.
 *
 * @module
 */

/** Past this many ranges (16 GiB) of an object it counts as a whole. */
export const RANGES_MAX = 1024;

/** Past this many objects with ranges of their own, all active objects count as a whole. */
export const OBJECTS_MAX = 16_384;

/** What must be written before a touch may go on. */
export type RangePlan =
  | { readonly kind: "ranges"; readonly ranges: readonly number[] }
  | { readonly kind: "whole" }
  | { readonly kind: "allWhole" };

interface Marks {
  readonly ranges: Set<number>;
  whole: boolean;
}

function marks(): Marks {
  return { ranges: new Set(), whole: false };
}

interface ObjectRanges {
  durable: Marks;
  recent: Marks;
}

/** A set of ranges by object. */
export class RangeSet {
  readonly #objects = new Map<number, ObjectRanges>();
  #allWhole = false;
  #allWholeRecent = false;
  #lastId = -1;
  #last: ObjectRanges | undefined;

  /** All active objects count as a whole. */
  get allWhole(): boolean {
    return this.#allWhole;
  }

  /** Marks ranges as touched if all of them are on disk as active; false when not. */
  touch(id: number, first: number, last: number): boolean {
    if (this.#allWhole) {
      this.#allWholeRecent = true;
      return true;
    }
    const object = this.#object(id);
    if (object === undefined) return false;
    if (object.durable.whole) {
      object.recent.whole = true;
      return true;
    }
    for (let range = first; range <= last; range++) {
      if (object.recent.ranges.has(range)) continue;
      if (!object.durable.ranges.has(range)) return false;
      object.recent.ranges.add(range);
    }
    return true;
  }

  /** What is missing on disk for these ranges to be active. */
  plan(id: number, first: number, last: number): RangePlan {
    const object = this.#object(id);
    if (this.#allWhole || object?.durable.whole === true) return { kind: "ranges", ranges: [] };
    if (object === undefined && this.#objects.size >= OBJECTS_MAX) return { kind: "allWhole" };
    const known = object?.durable.ranges ?? new Set<number>();
    if (last - first >= RANGES_MAX) return { kind: "whole" };
    const ranges: number[] = [];
    for (let range = first; range <= last; range++) {
      if (!known.has(range)) ranges.push(range);
    }
    return known.size + ranges.length > RANGES_MAX ? { kind: "whole" } : { kind: "ranges", ranges };
  }

  /** Notes that a plan is on disk. */
  add(id: number, plan: RangePlan): void {
    if (plan.kind === "allWhole") {
      this.#allWhole = true;
      return;
    }
    const object = this.#object(id) ?? { durable: marks(), recent: marks() };
    this.#objects.set(id, object);
    if (plan.kind === "whole") object.durable.whole = true;
    else for (const range of plan.ranges) object.durable.ranges.add(range);
  }

  /** Forgets what was touched. */
  clearRecent(): void {
    this.#allWholeRecent = false;
    for (const object of this.#objects.values()) object.recent = marks();
  }

  /** The set of what was touched since {@link clearRecent}. */
  recentOnly(): RangeSet {
    const kept = new RangeSet();
    kept.#allWhole = this.#allWholeRecent;
    kept.#allWholeRecent = this.#allWholeRecent;
    for (const [id, { recent }] of this.#objects) {
      if (!recent.whole && recent.ranges.size === 0) continue;
      kept.#objects.set(id, {
        durable: { ranges: new Set(recent.ranges), whole: recent.whole },
        recent: { ranges: new Set(recent.ranges), whole: recent.whole },
      });
    }
    return kept;
  }

  /** The ranges of an object, ascending. */
  of(id: number): readonly number[] | "all" {
    if (this.#allWhole) return "all";
    const object = this.#objects.get(id);
    if (object === undefined) return [];
    return object.durable.whole ? "all" : [...object.durable.ranges].sort((a, b) => a - b);
  }

  /** Calls with each object that has ranges. */
  forEach(visit: (id: number, ranges: readonly number[] | "all") => void): void {
    for (const [id, { durable }] of this.#objects) visit(id, durable.whole ? "all" : [...durable.ranges]);
  }

  #object(id: number): ObjectRanges | undefined {
    if (id === this.#lastId) return this.#last;
    const object = this.#objects.get(id);
    if (object === undefined) return undefined;
    this.#lastId = id;
    this.#last = object;
    return object;
  }
}
