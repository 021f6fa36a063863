/**
 * What a node knows about its own copy: `meta.json`, replaced whole, with a checksum. One writer.
 *
 * @module
 */

import { crc32 as zlibCrc32 } from "node:zlib";
import { decodeGenerations, encodeGenerations, type Generation, isCount } from "./history.ts";
import type { Checksum, Storage } from "./storage.ts";

/** The file's name in the log folder. */
export const META_NAME = "meta.json";

const VERSION = 1;

/** Whether the copy may serve. `inconsistent`: a resync is not finished. `outdated`: a true past state, known to be behind. */
export type CopyState = "uptodate" | "inconsistent" | "outdated";

/** What was being done when the file was last written. */
export type LastRole = "none" | "primary" | "secondary";

/** What a verification found. */
export interface Verified {
  /** When it ended, milliseconds since 1970. */
  readonly at: number;
  readonly objects: number;
  /** Of content, read on either node. */
  readonly bytes: number;
  /** What the secondary had otherwise; it has it as the primary since. */
  readonly differences: number;
  /** Ranges that the primary's disk had lost, and that are still as they were. */
  readonly rotten: number;
  /** The same, written back from the secondary. */
  readonly mended: number;
}

/** A verification that has not ended: what is done of it need not be done again. */
export interface Verifying {
  /** When it began, milliseconds since 1970. */
  readonly began: number;
  /** All objects with lower ids are done; those from `until` on came later. */
  readonly next: number;
  readonly until: number;
  readonly objects: number;
  readonly bytes: number;
  readonly differences: number;
  readonly rotten: number;
  readonly mended: number;
  /** How often it went back to look again at what was made equal. */
  readonly repairs: number;
}

/** The content of `meta.json`. */
export interface Meta {
  /** Of the cluster this copy belongs to. */
  readonly clusterId: string;
  /** Of the module this copy belongs to. */
  readonly module: string;
  /** The node this is. */
  readonly node: string;
  /** The highest epoch accepted: anything lower is refused, also after a restart (I2). Never goes down. */
  readonly epoch: number;
  /** Lines of writes this copy went through, oldest first. */
  readonly history: readonly Generation[];
  /** Up to here both the directory and the log are on disk. */
  readonly checkpoint: number;
  /**
   * The sequence left out when the copy served what a power cut had left: its directory stood at none up to here, whatever number
   * others have reached. 0: there was no power cut, or the other node was compared in full since.
   */
  readonly gap: number;
  /** The last run ended in order: directory, log and this file are at one sequence. */
  readonly clean: boolean;
  /** `RUN/boot-id` of that run: the same one now means that no power was lost, even when not clean. */
  readonly bootId: string;
  /** Whether the copy may serve. */
  readonly copy: CopyState;
  /** What this node was when the file was last written. */
  readonly role: LastRole;
  /** Object ids below are taken, perhaps. Never goes down. */
  readonly nextId: number;
  /**
   * First sequence logged for the FUSE connection now served; 0 when none is. A connection counts its requests from the
   * start, so a request id only means something from here on.
   */
  readonly servedFrom: number;
  /**
   * The disk refused a sync since the copy was last compared. The kernel says so once and then takes the lost pages for
   * clean: memory may show what the disk does not have, and no later sync tells.
   */
  readonly suspect: boolean;
  /** Ids of objects that a verification found not to be the primary's, and that were not compared since. */
  readonly doubted: readonly number[];
  /** A person had the directory open for editing since the copy was last served or compared: nothing names what differs. */
  readonly edited: boolean;
  /** Of what was kept from replication then, see `lib/replication/border.ts`; `""`: nothing. */
  readonly excluded: string;
  /** The last verification that came to its end; null: none did. */
  readonly verified: Verified | null;
  /** The one that runs, or was interrupted; null: none. */
  readonly verifying: Verifying | null;
  /** When it last had all that was to be had, milliseconds since 1970, ten seconds more or less; 0: not known. */
  readonly asOf: number;
  /** How far a comparison of everything came that was cut short; null: none was. */
  readonly compared: (Compared & { readonly bootId: string }) | null;
}

/** Objects that are the primary's while the copy as a whole is not: all with ids below `from` but those in `open`. */
export interface Compared {
  readonly from: number;
  readonly open: readonly number[];
}

/** The fields a writer may change. */
export type MetaChange = Partial<Omit<Meta, "clusterId" | "module" | "node">>;

/** Reads and replaces `meta.json`. */
export class MetaStore {
  readonly #storage: Storage;
  readonly #crc32: Checksum;
  #meta: Meta;

  private constructor(storage: Storage, crc32: Checksum, meta: Meta) {
    this.#storage = storage;
    this.#crc32 = crc32;
    this.#meta = meta;
  }

  /**
   * Opens the file of an existing copy.
   *
   * @returns `null` when there is none: the copy is new.
   * @throws when it is damaged or belongs to another cluster or module. Never answers a default instead.
   */
  static open(
    storage: Storage,
    identity: { readonly clusterId: string; readonly module: string },
    crc32: Checksum = zlibCrc32,
  ): MetaStore | null {
    const bytes = storage.readAll(META_NAME);
    if (bytes === null) return null;
    const meta = decodeMeta(bytes, crc32);
    if (meta.clusterId !== identity.clusterId || meta.module !== identity.module) {
      throw new Error(
        `Cannot open the copy: its ${META_NAME} belongs to module "${meta.module}" of cluster "${meta.clusterId}", ` +
          `not to "${identity.module}" of "${identity.clusterId}"; move the log folder away if that data is not needed`,
      );
    }
    return new MetaStore(storage, crc32, meta);
  }

  /**
   * Writes the file of a new copy.
   *
   * @throws when there is one already.
   */
  static create(storage: Storage, meta: Meta, crc32: Checksum = zlibCrc32): MetaStore {
    if (storage.size(META_NAME) !== null) throw new Error(`Cannot create ${META_NAME}: it exists`);
    const store = new MetaStore(storage, crc32, meta);
    store.#write(meta);
    return store;
  }

  /** What is on disk. */
  get value(): Meta {
    return this.#meta;
  }

  /**
   * Replaces fields; returns when that survives a power cut. Does nothing when nothing changes.
   *
   * @throws when the epoch, or the next id, would go down. Nothing is changed then.
   */
  update(change: MetaChange): void {
    const next = { ...this.#meta, ...change };
    if (next.epoch < this.#meta.epoch) {
      throw new RangeError(
        `Cannot accept epoch ${next.epoch}: this copy accepted epoch ${this.#meta.epoch} before`,
      );
    }
    if (next.nextId < this.#meta.nextId) {
      throw new RangeError(
        `Cannot set the next id to ${next.nextId}: ids up to ${this.#meta.nextId} may be taken`,
      );
    }
    if (same(next, this.#meta)) return;
    this.#write(next);
  }

  #write(meta: Meta): void {
    this.#storage.writeAtomic(META_NAME, encodeMeta(meta, this.#crc32));
    this.#meta = meta;
  }
}

function same(a: Meta, b: Meta): boolean {
  return (Object.keys(a) as (keyof Meta)[]).every((key) => a[key] === b[key]);
}

/** The bytes of the file. */
export function encodeMeta(meta: Meta, crc32: Checksum = zlibCrc32): Uint8Array<ArrayBuffer> {
  const body = JSON.stringify(
    { version: VERSION, ...meta, history: encodeGenerations(meta.history) },
    null,
    1,
  );
  const text = `{"crc32":"${hex(checksum(body, crc32))}","meta":${body}}\n`;
  return new TextEncoder().encode(text);
}

/**
 * Reads what {@link encodeMeta} wrote.
 *
 * @throws with what is wrong and what to do.
 */
export function decodeMeta(bytes: Uint8Array, crc32: Checksum = zlibCrc32): Meta {
  const { crc32: stated, meta } = fields(parse(bytes), "the file");
  const body = JSON.stringify(meta, null, 1);
  if (body === undefined || stated !== hex(checksum(body, crc32))) throw damaged("the checksum does not fit");
  return readMeta(fields(meta, "meta"));
}

type Fields = Partial<Record<string, unknown>>;

function readMeta(meta: Fields): Meta {
  if (meta["version"] !== VERSION) throw damaged(`version ${meta["version"]} is not ${VERSION}`);
  return {
    clusterId: text(meta, "clusterId"),
    module: text(meta, "module"),
    node: text(meta, "node"),
    epoch: count(meta, "epoch"),
    history: history(meta["history"]),
    checkpoint: count(meta, "checkpoint"),
    // Files from before it was known do not have it.
    gap: meta["gap"] === undefined ? 0 : count(meta, "gap"),
    clean: flag(meta, "clean"),
    bootId: text(meta, "bootId"),
    copy: oneOf(meta, "copy", ["uptodate", "inconsistent", "outdated"]),
    role: oneOf(meta, "role", ["none", "primary", "secondary"]),
    nextId: count(meta, "nextId"),
    servedFrom: count(meta, "servedFrom"),
    suspect: meta["suspect"] === undefined ? false : flag(meta, "suspect"),
    doubted: meta["doubted"] === undefined ? [] : ids(meta, "doubted"),
    edited: meta["edited"] === undefined ? false : flag(meta, "edited"),
    excluded: meta["excluded"] === undefined ? "" : text(meta, "excluded"),
    verified: counts(meta, "verified", ["at", "objects", "bytes", "differences", ...ROT]),
    verifying: counts(meta, "verifying", [
      "began",
      "next",
      "until",
      "objects",
      "bytes",
      "differences",
      ...ROT,
      "repairs",
    ]),
    asOf: meta["asOf"] === undefined ? 0 : count(meta, "asOf"),
    compared: compared(meta["compared"]),
  };
}

/** Without it a comparison begins again: nothing else depends on it. */
function compared(value: unknown): Meta["compared"] {
  if (typeof value !== "object" || value === null) return null;
  const { from, open, bootId } = value as Partial<Record<"from" | "open" | "bootId", unknown>>;
  if (!isCount(from) || typeof bootId !== "string" || !Array.isArray(open) || !open.every(isCount)) {
    return null;
  }
  return { from, open, bootId };
}

function ids(of: Fields, name: string): number[] {
  const value = of[name];
  if (!Array.isArray(value) || !value.every(isCount)) throw damaged(`${name} is no list of ids`);
  return value;
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw damaged(error instanceof Error ? error.message : String(error));
  }
}

function history(json: unknown): readonly Generation[] {
  try {
    return decodeGenerations(json);
  } catch (error) {
    throw damaged(error instanceof Error ? error.message : String(error));
  }
}

function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null) throw damaged(`${what} is not an object`);
  return value as Fields;
}

function text(meta: Fields, key: string): string {
  const value = meta[key];
  if (typeof value !== "string") throw damaged(`${key} is not a text`);
  return value;
}

function count(meta: Fields, key: string): number {
  const value = meta[key];
  if (!isCount(value)) throw damaged(`${key} is not a count`);
  return value;
}

/** Counts that files from before they were known do not have. */
const ROT = ["rotten", "mended"] as const;

/** An object of counts. Files from before it was known do not have it. */
function counts<const T extends string>(
  meta: Fields,
  key: string,
  names: readonly T[],
): Readonly<Record<T, number>> | null {
  if (meta[key] === undefined || meta[key] === null) return null;
  const of = fields(meta[key], key);
  const later: readonly string[] = ROT;
  const read = (name: T): number => of[name] === undefined && later.includes(name) ? 0 : count(of, name);
  return Object.fromEntries(names.map((name) => [name, read(name)])) as Record<T, number>;
}

function flag(meta: Fields, key: string): boolean {
  const value = meta[key];
  if (typeof value !== "boolean") throw damaged(`${key} is neither true nor false`);
  return value;
}

function oneOf<const T extends string>(meta: Fields, key: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === meta[key]);
  if (found === undefined) throw damaged(`${key} is none of ${allowed.join(", ")}`);
  return found;
}

function damaged(why: string): Error {
  return new Error(
    `Cannot read ${META_NAME}: ${why}; what this copy holds is unknown, so remove the module's log folder and copy ` +
      `all data from the other node`,
  );
}

function checksum(text: string, crc32: Checksum): number {
  return crc32(new TextEncoder().encode(text));
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}
