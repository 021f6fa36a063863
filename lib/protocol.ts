/**
 * The protocol: one number for everything that two nodes say to each other (heartbeats, the data road's hello and its
 * frames, what an agent asks of another node).
 *
 * It grows by one when something changes that an older node would not understand, and each version speaks the one before
 * as well: nodes are upgraded one after the other, and go on replicating meanwhile. In between both speak the lower one.
 *
 * @module
 */

/** Versions a program understands: the newest, and the oldest. */
export interface Protocol {
  readonly version: number;
  readonly versionMin: number;
}

/**
 * The newest version this program speaks.
 *
 * | version | since then                                                                                        |
 * | ------: | ------------------------------------------------------------------------------------------------- |
 * |       2 | after the hellos an encrypted connection carries sealed records; until then it was TLS to its end |
 * |       3 | the primary may have the copies verified                                                          |
 * |       4 | a comparison may begin with prints of the objects                                                 |
 * |       5 | what a resync sends may be packed                                                                 |
 * |       6 | a verification tells apart which disk has rotted                                                  |
 */
const VERSION = 6;
/** Version 1 was never released. */
const VERSION_FIRST = 2;

/** From this version on a secondary takes part in a verification. */
export const VERIFIES = 3;
/** From this version on a secondary compares prints. */
export const SURVEYS = 4;
/** From this version on a secondary takes packed frames. */
export const PACKS = 5;
/** From this version on a secondary looks whether it has what the primary's disk has lost. */
export const WITNESSES = 6;

/** What this program speaks. */
export const PROTOCOL: Protocol = protocolOf(VERSION);

/** What a program speaks whose newest version is this one: by the rule above, the one before as well. */
export function protocolOf(version: number): Protocol {
  return { version, versionMin: Math.max(VERSION_FIRST, version - 1) };
}

/** The highest version both speak, or null. */
export function agreeVersion(one: Protocol, other: Protocol): number | null {
  const highest = Math.min(one.version, other.version);
  return highest >= Math.max(one.versionMin, other.versionMin) ? highest : null;
}

/** As people read it: `1`, or `1 to 2`. */
export function protocolText({ version, versionMin }: Protocol): string {
  return version === versionMin ? `${version}` : `${versionMin} to ${version}`;
}
