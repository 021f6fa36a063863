/**
 * The first message on each of a session's connections, and the answer to it.
 *
 * | offset | size | field    | meaning                                                            |
 * | -----: | ---: | -------- | ------------------------------------------------------------------ |
 * |      0 |    4 | magic    | `BHL1`, little-endian like all that follows                        |
 * |      4 |    1 | kind     | 1 data, 2 ack, 3 sync: hello of that connection; 4 reply           |
 * |      5 |    3 | reserved | 0                                                                  |
 * |      8 |    4 | length   | of the JSON that follows; at most {@link helloMax}                 |
 * |     12 |    4 | crc32    | of bytes 0 to 12, then the JSON                                    |
 *
 * @module
 */

import type { Crc32 } from "./frame.ts";
import { StreamError } from "./stream.ts";

/** What a connection is for. */
export type ConnectionKind = "data" | "ack" | "sync";

/** What the secondary says first on each connection. */
export interface Hello {
  readonly version: number;
  readonly versionMin: number;
  readonly cluster: string;
  readonly module: string;
  /** Who speaks. */
  readonly node: string;
  readonly kind: ConnectionKind;
  /** Random; joins the three connections. */
  readonly session: string;
  /** JSON for the data road; on `data` only, else null. */
  readonly body: unknown;
}

/** The primary's answer, on `data`, once all three connections are there. */
export type Reply =
  | {
    readonly accept: true;
    /** The version both speak from now on. */
    readonly version: number;
    readonly node: string;
    readonly body: unknown;
  }
  | { readonly accept: false; readonly code: string; readonly reason: string };

/** Bytes before the JSON. */
export const HELLO_HEADER = 16;

const MAGIC = 0x314c4842; // "BHL1"
const OFFSET = { magic: 0, kind: 4, length: 8, crc32: 12 } as const;
const CODES = { data: 1, ack: 2, sync: 3, reply: 4 } as const;

/** What a message is: a hello by its connection, or the reply. */
export type HelloKind = ConnectionKind | "reply";

/** The most JSON a message may have: on `data` it may carry an activity set. */
export function helloMax(kind: HelloKind): number {
  return kind === "data" || kind === "reply" ? 4 * 1024 * 1024 : 64 * 1024;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Header and JSON of a message. */
export function encodeHello(kind: HelloKind, value: Hello | Reply, crc32: Crc32): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(JSON.stringify(value));
  if (json.length > helloMax(kind)) {
    throw new RangeError(
      `Cannot say hello: ${json.length} bytes of ${kind}, at most ${helloMax(kind)} are accepted`,
    );
  }
  const bytes = new Uint8Array(HELLO_HEADER + json.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(OFFSET.magic, MAGIC, true);
  view.setUint8(OFFSET.kind, CODES[kind]);
  view.setUint32(OFFSET.length, json.length, true);
  bytes.set(json, HELLO_HEADER);
  view.setUint32(OFFSET.crc32, sum(bytes.subarray(0, OFFSET.crc32), json, crc32), true);
  return bytes;
}

/** A header that may be believed as far as its length. */
export interface HelloHeader {
  readonly kind: HelloKind;
  /** Bytes of JSON to read. */
  readonly length: number;
}

/** Checks a header before anything is allocated for what follows. Throws {@link StreamError}. */
export function decodeHelloHeader(header: Uint8Array): HelloHeader {
  const view = new DataView(header.buffer, header.byteOffset, HELLO_HEADER);
  if (view.getUint32(OFFSET.magic, true) !== MAGIC) throw bad("it does not begin like a hello");
  const word = view.getUint32(OFFSET.kind, true);
  const kind = (["data", "ack", "sync", "reply"] as const).find((name) => CODES[name] === word);
  if (kind === undefined) throw bad(`kind ${word} is not known`);
  const length = view.getUint32(OFFSET.length, true);
  if (length > helloMax(kind)) {
    throw bad(`it has ${length} bytes, at most ${helloMax(kind)} are accepted on ${kind}`);
  }
  return { kind, length };
}

/** The hello after a checked header. Throws {@link StreamError}. */
export function decodeHello(header: Uint8Array, json: Uint8Array, crc32: Crc32): Hello {
  const fields = decodeJson(header, json, crc32);
  const { kind } = decodeHelloHeader(header);
  if (kind === "reply" || fields["kind"] !== kind) throw bad("header and text name different connections");
  return {
    version: integer(fields, "version"),
    versionMin: integer(fields, "versionMin"),
    cluster: text(fields, "cluster"),
    module: text(fields, "module"),
    node: text(fields, "node"),
    session: text(fields, "session"),
    kind,
    body: fields["body"] ?? null,
  };
}

/** The reply after a checked header. Throws {@link StreamError}. */
export function decodeReply(header: Uint8Array, json: Uint8Array, crc32: Crc32): Reply {
  const fields = decodeJson(header, json, crc32);
  if (decodeHelloHeader(header).kind !== "reply") throw bad("a hello came where the reply was expected");
  if (fields["accept"] === true) {
    const version = integer(fields, "version");
    return { accept: true, version, node: text(fields, "node"), body: fields["body"] ?? null };
  }
  if (fields["accept"] !== false) throw bad('"accept" is neither true nor false');
  return { accept: false, code: text(fields, "code"), reason: text(fields, "reason") };
}

function decodeJson(header: Uint8Array, json: Uint8Array, crc32: Crc32): Readonly<Record<string, unknown>> {
  const view = new DataView(header.buffer, header.byteOffset, HELLO_HEADER);
  if (sum(header.subarray(0, OFFSET.crc32), json, crc32) !== view.getUint32(OFFSET.crc32, true)) {
    throw bad("its checksum is wrong");
  }
  const value = parse(json);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw bad("it is not a JSON object");
  }
  return value as Readonly<Record<string, unknown>>;
}

function parse(json: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(json));
  } catch (cause) {
    throw new StreamError("protocol", "Cannot understand the hello: it is not JSON", { cause });
  }
}

function sum(head: Uint8Array, json: Uint8Array, crc32: Crc32): number {
  return crc32(json, crc32(head));
}

function integer(fields: Readonly<Record<string, unknown>>, key: string): number {
  const value = fields[key];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw bad(`"${key}" is not a whole number`);
}

function text(fields: Readonly<Record<string, unknown>>, key: string): string {
  const value = fields[key];
  if (typeof value === "string" && value.length > 0 && value.length <= 1024) return value;
  throw bad(`"${key}" is not a text of 1 to 1024 characters`);
}

function bad(reason: string): StreamError {
  return new StreamError("protocol", `Cannot understand the hello: ${reason}`);
}
