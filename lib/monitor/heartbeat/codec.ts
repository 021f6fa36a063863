/**
 * The heartbeat datagram: "I am here, this is my state, and this is what I last heard of you".
 *
 * Little-endian.
 *
 * | offset | size | field           | meaning                                                            |
 * | -----: | ---: | --------------- | ------------------------------------------------------------------ |
 * |      0 |    4 | magic           | `BNHB`                                                             |
 * |      4 |    1 | version         | of the protocol (`lib/protocol.ts`), in which this one is written  |
 * |      5 |    1 | newest          | the newest version the sender speaks                               |
 * |      6 |    2 | length          | bytes of the body, at most {@link BODY_MAX}                        |
 * |      8 |    8 | incarnation     | random number of the sender's run                                  |
 * |     16 |    8 | counter         | grows with every datagram of this run                              |
 * |     24 |    8 | sentAt          | sender's clock, milliseconds                                       |
 * |     32 |    8 | echoIncarnation | run of the receiver that was heard last, 0: none                   |
 * |     40 |    8 | echoSentAt      | `sentAt` of the latest datagram heard of that run                  |
 * |     48 |    n | body            | UTF-8 JSON: `{from, to, modules: [[name, report], …]}`             |
 * |   48+n |   32 | mac             | HMAC-SHA256 with the cluster's key over everything before          |
 *
 * Until it has heard the other one, a node writes in the oldest version it speaks: a node one version behind understands
 * that. From then on it writes in the highest both speak. What stands before the body, the mac and the body's `from` are
 * the same in every version: who was taken back by a version is known by what is refused.
 *
 * @module
 */

import type { Report } from "../../failover/types.ts";
import { PROTOCOL, protocolText } from "../../protocol.ts";
import { readBody, readSender } from "./body.ts";

const MAGIC = 0x42484e42;
const OFFSET = {
  magic: 0,
  version: 4,
  newest: 5,
  length: 6,
  incarnation: 8,
  counter: 16,
  sentAt: 24,
  echoIncarnation: 32,
  echoSentAt: 40,
  body: 48,
} as const;
const MAC_BYTES = 32;

/** Longest body: with headers it stays within one Ethernet frame unless a single report needs more. */
export const BODY_MAX = 4096;
/** Longest datagram anyone may send us. */
export const DATAGRAM_MAX: number = OFFSET.body + BODY_MAX + MAC_BYTES;

/** HMAC-SHA256 with the cluster's key: 32 bytes. */
export type Sign = (bytes: Uint8Array) => Uint8Array;

/** What orders and dates a datagram. */
export interface Envelope {
  readonly incarnation: bigint;
  readonly counter: bigint;
  /** Milliseconds of the sender's `CLOCK_BOOTTIME`. */
  readonly sentAt: number;
  readonly echoIncarnation: bigint;
  readonly echoSentAt: number;
}

/** One heartbeat. */
export interface Heartbeat extends Envelope {
  /** Of the protocol, in which this one is written. */
  readonly version: number;
  /** The newest version its sender speaks. */
  readonly newest: number;
  readonly from: string;
  readonly to: string;
  /** Module name → what the sender says of it. */
  readonly modules: readonly (readonly [string, Report])[];
}

/** A datagram that is not a heartbeat of this cluster, and why. */
export interface Refused {
  readonly refused: string;
  /** Signed, but in a version this program does not speak: who it is, and the newest version it speaks. */
  readonly speaker?: { readonly from: string; readonly newest: number };
}

/** Encodes and signs. Throws when the body is too long: split the modules by {@link splitModules} first. */
export function encodeHeartbeat(heartbeat: Heartbeat, sign: Sign): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(bodyText(heartbeat));
  if (body.length > BODY_MAX) {
    throw new RangeError(`Cannot encode a heartbeat: its body has ${body.length} bytes`);
  }
  const bytes = new Uint8Array(OFFSET.body + body.length + MAC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(OFFSET.magic, MAGIC, true);
  view.setUint8(OFFSET.version, heartbeat.version);
  view.setUint8(OFFSET.newest, heartbeat.newest);
  view.setUint16(OFFSET.length, body.length, true);
  view.setBigUint64(OFFSET.incarnation, heartbeat.incarnation, true);
  view.setBigUint64(OFFSET.counter, heartbeat.counter, true);
  view.setBigUint64(OFFSET.sentAt, BigInt(heartbeat.sentAt), true);
  view.setBigUint64(OFFSET.echoIncarnation, heartbeat.echoIncarnation, true);
  view.setBigUint64(OFFSET.echoSentAt, BigInt(heartbeat.echoSentAt), true);
  bytes.set(body, OFFSET.body);
  bytes.set(sign(bytes.subarray(0, OFFSET.body + body.length)), OFFSET.body + body.length);
  return bytes;
}

/** Decodes what came. Nothing is read but lengths before the signature is known to be right. */
export function decodeHeartbeat(bytes: Uint8Array, sign: Sign, protocol = PROTOCOL): Heartbeat | Refused {
  if (bytes.length < OFFSET.body + MAC_BYTES) return { refused: "shorter than a heartbeat" };
  if (bytes.length > DATAGRAM_MAX) return { refused: "longer than a heartbeat" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(OFFSET.magic, true) !== MAGIC) return { refused: "not a heartbeat" };
  const version = view.getUint8(OFFSET.version);
  const end = OFFSET.body + view.getUint16(OFFSET.length, true);
  if (bytes.length !== end + MAC_BYTES) return { refused: "its length is not what it says" };
  if (!sameBytes(sign(bytes.subarray(0, end)), bytes.subarray(end))) return { refused: "wrong cluster key" };
  const newest = view.getUint8(OFFSET.newest);
  if (newest < version) return { refused: "it is written in a version its sender does not speak" };
  const text = new TextDecoder().decode(bytes.subarray(OFFSET.body, end));
  if (version < protocol.versionMin || version > protocol.version) {
    const refused = `protocol ${version}, this program speaks ${protocolText(protocol)}`;
    const from = readSender(text);
    return from === null ? { refused } : { refused, speaker: { from, newest } };
  }
  const body = readBody(text);
  if ("refused" in body) return body;
  return {
    ...body,
    version,
    newest,
    incarnation: view.getBigUint64(OFFSET.incarnation, true),
    counter: view.getBigUint64(OFFSET.counter, true),
    sentAt: Number(view.getBigUint64(OFFSET.sentAt, true)),
    echoIncarnation: view.getBigUint64(OFFSET.echoIncarnation, true),
    echoSentAt: Number(view.getBigUint64(OFFSET.echoSentAt, true)),
  };
}

/** Groups modules so that each group fits in one datagram of about one Ethernet frame. At least one group, maybe empty. */
export function splitModules(
  modules: readonly (readonly [string, Report])[],
  frameBytes = 1200,
): readonly (readonly (readonly [string, Report])[])[] {
  const groups: (readonly [string, Report])[][] = [[]];
  let used = 0;
  for (const entry of modules) {
    const size = JSON.stringify(entry, bigintAsText).length + 1;
    let group = groups[groups.length - 1];
    if (group === undefined || (group.length > 0 && used + size > frameBytes)) {
      group = [];
      groups.push(group);
      used = 0;
    }
    group.push(entry);
    used += size;
  }
  return groups;
}

function bodyText(heartbeat: Heartbeat): string {
  const { from, to, modules } = heartbeat;
  return JSON.stringify({ from, to, modules }, bigintAsText);
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

/** Looks at every byte whatever it finds: the time taken tells nothing about a guess. */
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}
