/**
 * Whether a program may take the place of the one installed. Pure.
 *
 * @module
 */

import { agreeVersion, type Protocol, protocolOf, protocolText } from "../protocol.ts";

/** What `binome version --json` says. */
export interface ProgramVersion {
  readonly version: string;
  readonly protocol: Protocol;
}

/** Another node, as the agent knows it. */
export interface PeerVersion {
  readonly node: string;
  /** The newest version of the protocol it speaks; null: not heard. */
  readonly protocol: number | null;
}

/** Smaller is no program with a runtime in it, larger is none of ours. Bytes. */
const SIZE = { min: 1 << 20, max: 2 ** 31 } as const;
/** The head of an ELF file that is looked at (elf(5)): magic, class and byte order, machine at offset 18. */
export const HEAD_BYTES = 20;
const ELF = { magic: [0x7f, 0x45, 0x4c, 0x46], classAt: 4, machineAt: 18 } as const;

/**
 * What is wrong with a file, in words that complete "Cannot upgrade to FILE: …". Null: it may be tried.
 *
 * @param file.head its first {@link HEAD_BYTES}.
 * @param own the same of the program that runs.
 */
export function objectionToFile(
  file: { readonly size: number; readonly head: Uint8Array },
  own: Uint8Array,
): string | null {
  const { size, head } = file;
  if (head.length < HEAD_BYTES || ELF.magic.some((byte, at) => head[at] !== byte)) {
    return "it is no Linux program; give the file binome itself, unpacked";
  }
  const kind = (of: Uint8Array) => [of[ELF.classAt], of[ELF.machineAt], of[ELF.machineAt + 1]].join();
  if (kind(head) !== kind(own)) {
    return "it is made for another processor than this machine's; take the one for this architecture";
  }
  if (size < SIZE.min || size > SIZE.max) return `it has ${size} bytes; was it copied whole?`;
  return null;
}

/**
 * Reads what a program said of itself.
 *
 * @throws {Error} in words that complete "Cannot upgrade to FILE: …".
 */
export function readVersion(text: string): ProgramVersion {
  const wrong = (why: string) => new Error(`what its "version --json" prints is not understood: ${why}`);
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    throw wrong(`it is no JSON: ${text.slice(0, 80).trim()}`);
  }
  const { version, protocol } = said as Partial<ProgramVersion>;
  if (typeof version !== "string") throw wrong("it names no version");
  const { version: newest, versionMin } = protocol ?? {};
  if (!Number.isSafeInteger(newest) || !Number.isSafeInteger(versionMin)) throw wrong("it names no protocol");
  return { version, protocol: protocol as Protocol };
}

/** Why a program cannot work beside what runs here and with the other nodes. Empty: it can. */
export function objectionsToVersion(
  next: ProgramVersion,
  beside: { readonly running: ProgramVersion; readonly peers: readonly PeerVersion[] },
): readonly string[] {
  const speaks = `it speaks protocol ${protocolText(next.protocol)}`;
  const { running, peers } = beside;
  const objections: string[] = [];
  if (agreeVersion(next.protocol, running.protocol) === null) {
    objections.push(
      `${speaks}, binome ${running.version} here ${protocolText(running.protocol)}; go by a version between`,
    );
  }
  for (const { node, protocol } of peers) {
    if (protocol === null || agreeVersion(next.protocol, protocolOf(protocol)) !== null) continue;
    objections.push(
      `${speaks}, ${node} ${protocolText(protocolOf(protocol))}; bring ${node} nearer to it first, ` +
        "one version of the protocol at a time",
    );
  }
  return objections;
}
