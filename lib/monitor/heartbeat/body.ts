/**
 * The body of a heartbeat, checked field by field: a node of another version must be refused, not half understood.
 *
 * @module
 */

import { HISTORY_MAX, type Report } from "../../failover/types.ts";
import type { Heartbeat, Refused } from "./codec.ts";

const NAMES = ["stopped", "waiting", "alone", "primary", "secondary"] as const;
const READINESS = ["ready", "transient", "not-ready"] as const;
const COPIES = ["none", "uptodate", "inconsistent", "outdated"] as const;
const REQUESTS = ["none", "switchover", "restart"] as const;
const NAME_MAX = 64;
const MODULES_MAX = 64;

/** Reads and checks a body. */
export function readBody(text: string): Pick<Heartbeat, "from" | "to" | "modules"> | Refused {
  try {
    const body = record(JSON.parse(text), "body");
    const modules = list(body["modules"], "modules", MODULES_MAX).map((entry): readonly [string, Report] => {
      const [name, report] = list(entry, "module", 2);
      return [word(name, "module name"), readReport(record(report, "report"))];
    });
    return { from: word(body["from"], "from"), to: word(body["to"], "to"), modules };
  } catch (error) {
    return { refused: `its body is wrong: ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** Who wrote a body, whatever its version; null when it does not say. */
export function readSender(text: string): string | null {
  try {
    return word(record(JSON.parse(text), "body")["from"], "from");
  } catch {
    return null; // the datagram is refused anyway
  }
}

function readReport(of: Readonly<Record<string, unknown>>): Report {
  const request = record(of["request"], "request");
  return {
    name: oneOf(of["name"], NAMES, "name"),
    readiness: oneOf(of["readiness"], READINESS, "readiness"),
    epoch: count(of["epoch"], "epoch"),
    primary: of["primary"] === null ? null : word(of["primary"], "primary"),
    members: list(of["members"], "members", 2).map((member) => word(member, "member")),
    copy: oneOf(of["copy"], COPIES, "copy"),
    promised: count(of["promised"], "promised"),
    intact: flag(of["intact"], "intact"),
    handover: flag(of["handover"], "handover"),
    memberAt: count(of["memberAt"], "memberAt"),
    took: flag(of["took"], "took"),
    started: flag(of["started"], "started"),
    serving: flag(of["serving"], "serving"),
    proposal: count(of["proposal"], "proposal"),
    sequence: position(of["sequence"], "sequence"),
    pairedAt: position(of["pairedAt"], "pairedAt"),
    history: list(of["history"], "history", HISTORY_MAX).map((generation) => word(generation, "generation")),
    request: { number: count(request["number"], "request"), verb: oneOf(request["verb"], REQUESTS, "verb") },
    requestTaken: count(of["requestTaken"], "requestTaken"),
  };
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${what} is no object`);
  }
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, what: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${what} is no list`);
  if (value.length > max) throw new Error(`${what} has more than ${max} entries`);
  return value;
}

function word(value: unknown, what: string): string {
  if (typeof value !== "string" || value === "" || value.length > NAME_MAX) {
    throw new Error(`${what} is no name`);
  }
  return value;
}

function count(value: unknown, what: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new Error(`${what} is no count`);
  }
  return value;
}

function position(value: unknown, what: string): bigint {
  if (typeof value !== "string" || !/^\d{1,19}$/.test(value)) throw new Error(`${what} is no position`);
  return BigInt(value);
}

function flag(value: unknown, what: string): boolean {
  if (typeof value !== "boolean") throw new Error(`${what} is no flag`);
  return value;
}

function oneOf<const T extends readonly string[]>(value: unknown, allowed: T, what: string): T[number] {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new Error(`${what} ${JSON.stringify(value)} is not known`);
  return found;
}
