/**
 * Lines of a quarantine's manifest.
 *
 * @module
 */

import { withoutNul } from "./bytes.ts";
import type { ObjectState } from "./object_state.ts";

/** One line of the manifest. */
export interface Line {
  readonly id: number;
  /** As the kernel showed it at that time. */
  readonly path: string;
  readonly what: "content" | "attributes" | "entry" | "deleted";
  readonly offset?: number;
  readonly length?: number;
  /** The range was a hole. */
  readonly zeros?: true;
  /** The disk did not give the range: what is saved of it has zeros there. */
  readonly unreadable?: true;
  /** Where it is, from the quarantine folder on. */
  readonly saved?: string;
  readonly attributes?: Attributes;
}

/** An object's attributes, for a person or a script that puts it back. */
export interface Attributes {
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly mtimeNs: string;
  readonly target?: string;
  /** Values in base64. */
  readonly xattrs: Readonly<Record<string, string>>;
}

/** The attributes of a state as they are written. */
export function attributesOf({ mode, uid, gid, rdev, size, mtime, target, xattrs }: ObjectState): Attributes {
  return {
    mode: mode.toString(8),
    uid,
    gid,
    rdev,
    size,
    mtimeNs: String(mtime),
    ...(target.length > 0 ? { target: readable(target) } : {}),
    xattrs: Object.fromEntries(xattrs.map(({ name, value }) => [readable(name), base64(value)])),
  };
}

/**
 * A name or path as a text that loses nothing: UTF-8 where it is, else each byte that is no ASCII as a lone surrogate from
 * U+DC80 on, which `os.fsencode()` of Python turns back.
 */
export function readable(name: Uint8Array): string {
  const bytes = withoutNul(name);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => String.fromCharCode(byte < 0x80 ? byte : 0xdc00 + byte)).join("");
  }
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
