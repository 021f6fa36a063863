/**
 * What the log says of work that was done: the steps a person looks for afterwards.
 *
 * @module
 */

import type { ModuleConfig } from "../config/types.ts";
import { formatSize } from "../config/units.ts";
import type { Task } from "../failover/mod.ts";
import { type Fields, fieldsOf, wayBackInWords } from "./replicator_status.ts";

/** What happened, and what it was. */
export interface Told {
  readonly what: string;
  readonly why: string;
}

/** Tells of a task that has ended well. Null: nothing a person looks for. */
export function tellTask(config: ModuleConfig, task: Task["do"], tookMs: number): Told | null {
  const addresses = config.virtualIps.map(({ address, prefix }) => `${address}/${prefix}`).join(", ");
  const { service } = config;
  switch (task) {
    case "vip-add":
      return addresses === "" ? null : { what: "Has the virtual address", why: addresses };
    case "vip-remove":
      return addresses === "" ? null : { what: "Gave the virtual address up", why: addresses };
    case "service-start":
      if (service === null) return null;
      return {
        what: "Service started",
        why: `${service.unit ?? service.start?.join(" ")} took ${tookMs} ms`,
      };
    case "service-stop": {
      if (service === null) return null;
      const how = service.unit ?? service.stop?.join(" ") ?? "signals";
      return { what: "Service stopped", why: `${how} took ${tookMs} ms` };
    }
    default:
      return null;
  }
}

/** errno of a copy that cannot be kept → what a person can do about it. */
const CURES: Readonly<Record<number, string>> = {
  5: "the disk fails (EIO): see dmesg, replace it",
  28: "no space left on device (ENOSPC): make room",
  30: "the file system is read-only (EROFS): see dmesg",
  122: "the quota is used up (EDQUOT): raise it",
};

/** The reason a replicator gives for not keeping its copy, with what to do where that is known. */
export function tellFailure(reason: string, event: Fields): string {
  const cure = CURES[Number(event["errno"])];
  return cure === undefined ? reason : `${reason}; ${cure}`;
}

/** Tells what a verification found otherwise on the peer. */
export function tellDifference(event: Fields, peer: string): Told {
  const { path, what, offset, length, primary, secondary } = event;
  const range = rangeOf(offset, length);
  const hash = what === "content" ? "sha256 " : "";
  return {
    what: event["rotten"] === true
      ? `The disk of ${peer} has lost content that nobody changed: it is repaired from this copy; see dmesg there`
      : `The copy on ${peer} differs, and is repaired from this one`,
    why: `${String(path)}: ${String(what)}${range}: ${hash}${String(primary)} here, ${hash}${
      String(secondary)
    } on ${peer}`,
  };
}

/** Tells what a verification found lost on this node's disk. */
export function tellRotten(event: Fields, peer: string): Told {
  const { path, offset, length, outcome, why } = event;
  const place = `${String(path)}: content${rangeOf(offset, length)}`;
  switch (outcome) {
    case "repaired":
      return {
        what:
          `The disk here has lost content that nobody changed: it was repaired from the copy on ${peer}; see dmesg`,
        why: place,
      };
    case "read":
      return { what: "The disk here gave other content than it was given, once; see dmesg", why: place };
    default:
      return {
        what:
          `The disk here has lost content that nobody changed; the copy on ${peer} has it and was left as it is: ` +
          `switch over to ${peer}, then verify`,
        why: `${place}: ${String(why)}`,
      };
  }
}

function rangeOf(offset: unknown, length: unknown): string {
  if (typeof length !== "number" || length <= 0) return "";
  return `, bytes ${String(offset)} to ${Number(offset) + length - 1}`;
}

/** Tells of the way back out of a resync. */
export function tellWayBack(event: Fields): Told & { readonly level: "info" | "warning" } {
  const state = wayBackInWords(event);
  switch (event["what"]) {
    case "kept":
      return { level: "info", what: "Keeps what its copy was before the resync", why: state };
    case "restored":
      return { level: "warning", what: "Its copy went back to what it was", why: state };
    default:
      return {
        level: "warning",
        what: "Keeps no way back out of the resync",
        why: `${String(event["reason"])}; should the other node die before its end, this copy is of no use`,
      };
  }
}

/** Tells what came of a verification. */
export function tellVerified(event: Fields): Told {
  const { objects, bytes, differences, tookMs, complete, rotten = 0, mended = 0 } = event;
  const seconds = Math.max(Number(tookMs), 1) / 1000;
  const rate = formatSize(Math.round(Number(bytes) / seconds));
  const read = `${Number(objects)} objects, ${formatSize(Number(bytes))} of content in ${
    seconds.toFixed(1)
  } s (${rate}/s)`;
  if (complete !== true) {
    return {
      what: "Gave up verifying the copies",
      why:
        `what was repaired differed again, ${
          Number(differences)
        } differences in all: is something else writing ` +
        `beneath the secondary's directory, or does its disk or memory fail? See dmesg there`,
    };
  }
  return {
    what: rotten !== 0
      ? "The copies differ where the disk here has lost content"
      : differences === 0 && mended === 0
      ? "The copies are identical"
      : "The copies are identical again",
    why: `${read}, ${Number(differences)} difference${differences === 1 ? "" : "s"}${
      mended === 0 ? "" : `, ${Number(mended)} lost by the disk here and repaired`
    }${rotten === 0 ? "" : `, ${Number(rotten)} lost by the disk here and left as they are`}`,
  };
}

/** Tells how much the peer has received before it had everything. Null: it lacked nothing, or the replicator does not say. */
export function tellResync(event: Fields, peer: string, tookMs: number): Told | null {
  const { phase, files, bytes, sent, compared } = fieldsOf(event["resync"]);
  if (typeof files !== "number" || typeof bytes !== "number" || files === 0) return null;
  const seconds = Math.max(tookMs, 1) / 1000;
  const [unit, rest] = phase === "replay" ? ["operation", " of the log"] : ["object", " compared"];
  const rate = `${formatSize(Math.round(bytes / seconds))}/s`;
  // Only where it was compressed: otherwise headers and hashes make it more.
  const moved = typeof sent === "number" && sent < bytes ? `, moved as ${formatSize(sent)},` : "";
  return {
    what: `Has copied what ${peer} was missing`,
    why: `${formatSize(bytes)}${moved} in ${seconds.toFixed(1)} s (${rate}), ${files} ${unit}${
      files === 1 ? "" : "s"
    }${rest}${
      typeof compared === "number" && compared > 0 ? `, ${formatSize(compared)} of content by hashes` : ""
    }`,
  };
}
