/**
 * What a secondary says of itself when it comes, and how the primary means to bring it up to date. Pure but for the
 * reading of the log.
 *
 * @module
 */

import {
  compareHistories,
  decodeGenerations,
  encodeGenerations,
  type GenerationJson,
  isCount,
} from "../journal/mod.ts";
import type { Copy } from "./copy.ts";

/** A secondary's hello. */
export interface Position {
  readonly epoch: number;
  readonly history: readonly GenerationJson[];
  readonly last: number;
  /** It stands at exactly `last`. */
  readonly exact: boolean;
  /** Up to here everything is on its disk. */
  readonly checkpoint: number;
  /** Its log begins here: what it did before, the log does not name. */
  readonly logFirst: number;
  /** It served when its last run ended, so what it has and the source has not may be somebody's work. */
  readonly served: boolean;
  /** It can tell which of its objects may differ, after a power cut or a verification. */
  readonly activeKnown: boolean;
  /** It has objects that the source may know: asking whether they are equal pays. */
  readonly holds: boolean;
  /** Ids below were compared before a comparison of everything was cut short; 0: none. */
  readonly compared: number;
  /** A person accepts that what it wrote apart is taken to quarantine and overwritten. */
  readonly overwrite: boolean;
  /** Of what stays on the node, `markOf` in `border.ts`. Missing where the program does not know of it: nothing. */
  readonly excluded: string;
}

/** How a secondary is brought up to date. */
export type Plan =
  | { readonly mode: "replay"; readonly from: number }
  | {
    readonly mode: "reconcile";
    /** Everything is compared; else what source and target name. */
    readonly whole: boolean;
    readonly preserve: boolean;
    /** Prints come first. */
    readonly survey: boolean;
    /** Ids below were compared before, as of `common`. */
    readonly from: number;
    /** The last sequence both have. */
    readonly common: number;
    /** The source's log names what it changed after this. */
    readonly since: number;
  };

/** What the primary answers. */
export type Verdict =
  | { readonly accept: true; readonly plan: Plan; readonly epoch: number }
  | {
    readonly accept: false;
    readonly code: "epoch" | "diverged" | "foreign" | "exclude" | "file-system";
    readonly reason: string;
  };

/** What this node says of its copy. */
export function positionOf(copy: Copy, overwrite: boolean): Position {
  return {
    epoch: copy.epoch,
    history: encodeGenerations(copy.history.generations),
    last: copy.journal.last,
    exact: copy.exact,
    checkpoint: copy.checkpoint,
    logFirst: copy.logFirst,
    served: copy.meta.value.role === "primary",
    // Without a power cut the log alone names what this copy did.
    activeKnown: !copy.suspect && !copy.edited && copy.meta.value.copy !== "inconsistent" &&
      (copy.activity.found === "whole" || !copy.crashed),
    holds: !copy.map.empty,
    compared: copy.compared?.from ?? 0,
    overwrite,
    excluded: copy.meta.value.excluded,
  };
}

/** Reads what a secondary said. Throws on anything else. */
export function readPosition(body: unknown): Position {
  const of = body as Partial<Record<keyof Position, unknown>>;
  if (typeof body !== "object" || body === null) {
    throw new TypeError("Cannot read the secondary's position: it is no object");
  }
  return {
    epoch: count(of.epoch, "epoch"),
    history: encodeGenerations(decodeGenerations(of.history)),
    last: count(of.last, "last"),
    exact: of.exact === true,
    checkpoint: count(of.checkpoint, "checkpoint"),
    logFirst: count(of.logFirst, "first of the log"),
    served: of.served === true,
    activeKnown: of.activeKnown === true,
    holds: of.holds === true,
    compared: of.compared === undefined ? 0 : count(of.compared, "place of a comparison"),
    overwrite: of.overwrite === true,
    excluded: typeof of.excluded === "string" ? of.excluded : "",
  };
}

function count(value: unknown, what: string): number {
  if (isCount(value)) return value;
  throw new TypeError(`Cannot read the secondary's position: its ${what} is no count`);
}

/** Decides how a secondary at `position` is brought to where `copy` is. `epoch` is the one served under. */
export function planFor(copy: Copy, position: Position, epoch: number): Verdict {
  if (position.epoch > epoch) {
    return {
      accept: false,
      code: "epoch",
      reason:
        `the secondary accepted epoch ${position.epoch}, this primary serves under ${epoch}: the primary is old`,
    };
  }
  if (position.excluded !== copy.meta.value.excluded) {
    return {
      accept: false,
      code: "exclude",
      reason:
        "its `exclude` is not the primary's: apply the module's configuration again, with both nodes up",
    };
  }
  const target = { generations: decodeGenerations(position.history), last: position.last };
  const { kind, common } = compareHistories(copy.history, target);
  switch (kind) {
    case "new":
      return whole(position, epoch, { preserve: false });
    case "foreign":
      return position.overwrite
        ? whole(position, epoch, { preserve: true })
        : refuse("foreign", "the secondary's data has no history in common with the primary's");
    case "diverged":
      return position.overwrite
        ? compare(copy, position, epoch, { preserve: true, common })
        : refuse("diverged", `both copies were written apart after sequence ${common}`);
    case "target-ahead-unacknowledged":
      return compare(copy, position, epoch, { preserve: true, common });
    default:
      if (
        position.exact && copy.doubted.length === 0 && common + 1 >= copy.logFirst &&
        common <= copy.journal.last
      ) {
        return {
          accept: true,
          epoch,
          plan: { mode: "replay", from: common + 1 },
        };
      }
      return compare(copy, position, epoch, { preserve: position.served, common });
  }
}

/** A comparison of what both name, or of everything where that cannot be told. */
function compare(
  copy: Copy,
  position: Position,
  epoch: number,
  plan: { readonly preserve: boolean; readonly common: number },
): Verdict {
  const since = position.exact ? plan.common : Math.min(plan.common, position.checkpoint);
  // What the target did by itself is named by its log; after a power cut by its activity set, from the checkpoint on.
  const ownNamed = position.logFirst <= plan.common + 1 ||
    (!position.exact && position.checkpoint <= plan.common);
  const named = position.activeKnown && ownNamed && since + 1 >= copy.logFirst;
  // What was compared before is equal but for what the log names since.
  const goesOn = !position.served && plan.common === position.last && plan.common + 1 >= copy.logFirst;
  if (!named && goesOn && position.compared > 0) return whole(position, epoch, plan);
  return named
    ? {
      accept: true,
      epoch,
      plan: { mode: "reconcile", whole: false, survey: true, from: 0, since, ...plan },
    }
    : whole(position, epoch, { preserve: plan.preserve });
}

/** Everything; with `common` from where an earlier comparison was cut short. */
function whole(
  { holds, compared }: Position,
  epoch: number,
  { preserve, common }: { readonly preserve: boolean; readonly common?: number },
): Verdict {
  const place = common === undefined
    ? { from: 0, common: 0, since: 0 }
    : { from: compared, common, since: common };
  return { accept: true, epoch, plan: { mode: "reconcile", whole: true, preserve, survey: holds, ...place } };
}

function refuse(code: "diverged" | "foreign", why: string): Verdict {
  return {
    accept: false,
    code,
    reason:
      `${why}; decide which copy is kept, then \`binome start --as secondary\` on the other (what it has is saved to quarantine first)`,
  };
}
