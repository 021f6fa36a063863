/**
 * `way-back.json`: what a way back leads to. While there is none, there is no way back, whatever else lies around.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { decodeGenerations, type GenerationJson } from "../../journal/mod.ts";
import type { Storage } from "../../journal/storage.ts";

/** The file's name. */
export const HEADER_NAME = "way-back.json";

/**
 * `kept`: whole. `sweeping`: the tree was restored, and what the resync left is being cleared away. `given-up`: there was no
 * room, or it was damaged; none is begun before the stretch is over.
 */
export type WayBackState = "kept" | "sweeping" | "given-up";

/** The content of the file. */
export interface Header {
  readonly state: WayBackState;
  /** Why it was given up; empty else. */
  readonly reason: string;
  /** When the stretch began, milliseconds since 1970. */
  readonly began: number;
  /** When the copy last had everything the primary had, as far as it is known; 0: not known. */
  readonly asOf: number;
  /** False: it was as after a power cut, or a person had it open. */
  readonly exact: boolean;
  readonly edited: boolean;
  readonly history: readonly GenerationJson[];
  readonly last: number;
  readonly checkpoint: number;
}

/** What a way back leads to, when a stretch begins. */
export type Beginning = Omit<Header, "state" | "reason">;

/** Writes the file; durable when it returns. */
export function writeHeader(storage: Storage, header: Header): void {
  const json = JSON.stringify(header);
  storage.writeAtomic(HEADER_NAME, new TextEncoder().encode(`${checksum(json)} ${json}\n`));
}

/**
 * Reads the file; null when there is none.
 *
 * @throws when it is damaged.
 */
export function readHeader(storage: Storage): Header | null {
  const bytes = storage.readAll(HEADER_NAME);
  return bytes === null ? null : parseHeader(bytes);
}

/** What the file says. Throws when it is damaged. */
export function parseHeader(bytes: Uint8Array): Header {
  const text = new TextDecoder().decode(bytes).trimEnd();
  const json = text.slice(text.indexOf(" ") + 1);
  if (text !== `${checksum(json)} ${json}`) throw damaged("the checksum does not fit");
  const of = JSON.parse(json) as Partial<Record<keyof Header, unknown>>;
  const state = of.state;
  if (state !== "kept" && state !== "sweeping" && state !== "given-up") throw damaged("its state is unknown");
  if (!Array.isArray(of.history)) throw damaged("it has no history");
  const history = of.history as GenerationJson[];
  // It becomes this copy's history again: it is checked before anything is restored.
  decodeGenerations(history);
  return {
    state,
    reason: String(of.reason ?? ""),
    began: count(of.began),
    asOf: count(of.asOf),
    exact: of.exact === true,
    edited: of.edited === true,
    history,
    last: count(of.last),
    checkpoint: count(of.checkpoint),
  };
}

function count(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw damaged("a count is missing");
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, "0");
}

function damaged(why: string): Error {
  return new Error(`Cannot read ${HEADER_NAME}: ${why}`);
}
