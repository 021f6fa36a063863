/**
 * The replicator's `status`, read with care: a field that is missing means "not so".
 *
 * @module
 */

import type { ResyncStatus, VerificationStatus } from "../agent_control.ts";
import type { ChannelView } from "../failover/types.ts";

/** A JSON object. */
export type Fields = Readonly<Record<string, unknown>>;

/** Takes a JSON value as an object; anything else as an empty one. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Fields : {};
}

/** What the core sees of it. `since` is the core's own. */
export function channelOf(status: Fields): ChannelView {
  const role = status["role"];
  const resync = resyncOf(status);
  return {
    alive: true,
    role: role === "primary" || role === "secondary" ? role : "idle",
    epoch: numberOf(status["epoch"]),
    connected: status["connected"] === true,
    late: status["late"] === true,
    since: 0,
    caughtUp: status["caughtUp"] === true,
    sequence: positionOf(status["sequence"]) ?? 0n,
    acknowledged: positionOf(status["acknowledged"]) ?? 0n,
    history: generationsOf(status["history"]),
    copy: copyOf(status),
    resync: resync === null
      ? null
      : `${resync.phase}: ${resync.files} files, ${resync.bytes} bytes; ${resync.why}`,
    wayBack: wayBackOf(status),
  };
}

/** A new copy claims nothing; one that lost power may be a mix whatever was written before. */
function copyOf(status: Fields): ChannelView["copy"] {
  const copy = status["copy"];
  if (status["fresh"] === true) return null;
  if (copy === "inconsistent") return copy;
  return status["crashed"] !== true && (copy === "uptodate" || copy === "outdated") ? copy : null;
}

/** What a copy that is part of a resync can go back to, in words; null: nothing. */
export function wayBackOf(status: Fields): string | null {
  const of = fieldsOf(status["wayBack"]);
  return of["state"] === "kept" || of["state"] === "sweeping" ? wayBackInWords(of) : null;
}

/** `as of 2026-11-23 14:03:22 UTC, before the resync`. */
export function wayBackInWords(of: Fields): string {
  const asOf = numberOf(of["asOf"]);
  const [date, suffix] = asOf > 0
    ? [asOf, "before the resync"]
    : [numberOf(of["began"]), "when the resync began"];
  const time = new Date(date).toISOString().slice(0, 19).replace("T", " ");
  return `as of ${time} UTC, ${suffix}${of["exact"] === true ? "" : ", and as after a power cut"}`;
}

/** Progress of a resync, null when none runs. */
export function resyncOf(status: Fields): ResyncStatus | null {
  const of = fieldsOf(status["resync"] ?? status["progress"]);
  if (typeof of["phase"] !== "string" || of["phase"] === "" || of["phase"] === "none") return null;
  return {
    phase: of["phase"],
    bytes: numberOf(of["bytes"]),
    sent: numberOf(of["sent"]),
    files: numberOf(of["files"]),
    compared: numberOf(of["compared"]),
    filesTotal: numberOrNull(of["filesTotal"]),
    bytesPerSecond: numberOrNull(of["bytesPerSecond"]),
    filesPerSecond: numberOrNull(of["objectsPerSecond"]),
    secondsLeft: numberOrNull(of["secondsLeft"]),
    why: typeof of["why"] === "string" ? of["why"] : "",
  };
}

/** What is known of the equality of the copies. */
export function verificationOf(status: Fields): VerificationStatus {
  const verified = fieldsOf(status["verified"]);
  const running = fieldsOf(status["verifying"]);
  const at = numberOf(verified["at"]);
  return {
    verified: at === 0 ? null : new Date(at).toISOString(),
    differences: numberOf(verified["differences"]),
    rotten: numberOf(verified["rotten"]),
    mended: numberOf(verified["mended"]),
    objects: numberOf(verified["objects"]),
    bytes: numberOf(verified["bytes"]),
    running: typeof running["began"] !== "number" ? null : {
      part: numberOf(running["part"]),
      objects: numberOf(running["objects"]),
      bytes: numberOf(running["bytes"]),
      differences: numberOf(running["differences"]),
      waiting: running["waiting"] === true,
    },
  };
}

/** A position, sent as a number or as decimal text. */
export function positionOf(value: unknown): bigint | null {
  if (typeof value === "bigint") return value;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  if (typeof value === "string" && /^\d{1,19}$/.test(value)) return BigInt(value);
  return null;
}

/** Newest first: the replicator's history is oldest first. */
function generationsOf(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return [];
  const names = value.map((entry) => typeof entry === "string" ? entry : fieldsOf(entry)["generation"]);
  return names.filter((name): name is string => typeof name === "string" && name !== "").reverse();
}

function numberOf(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
