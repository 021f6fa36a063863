/**
 * A primary's verifications and what they write back, on the disk beneath.
 *
 * @module
 */

import { backing } from "../system/backing.ts";
import { addressOf } from "../system/libc.ts";
import { sha256 } from "../system/sha256.ts";
import { Statx } from "../system/statx.ts";
import { bootNanoseconds } from "../system/worker_io.ts";
import type { Copy } from "./copy.ts";
import { Mender } from "./mend.ts";
import type { Objects } from "./objects.ts";
import { Verification, type VerificationOptions } from "./verification.ts";
import { VerifySource } from "./verify_source.ts";
import type { Witness } from "./witness.ts";
import { isWrittenSince } from "./written_since.ts";

/** What {@link makeVerification} needs of the role. */
export interface VerificationWorld
  extends Pick<VerificationOptions, "requests" | "wall" | "scrubMs" | "onRotten" | "onVerified"> {
  readonly copy: Copy;
  readonly objects: Objects;
  /** What both nodes had when they were compared last. */
  readonly witness: Witness;
  /** Tells the secondary what of an object's times it was not told yet. */
  readonly tellTime: (id: number) => void;
}

/** Of the role's thread, which executes mutations: what is lost is written back between two of them. */
export function makeVerification(world: VerificationWorld): Verification {
  const { copy, objects, witness, tellTime, requests, wall, scrubMs, onRotten, onVerified } = world;
  const beneath = { backing, objects, addressOf, sha256 };
  const mender = new Mender({
    ...beneath,
    witness,
    writtenSince: (rotten) => isWrittenSince(copy.journal, rotten),
  });
  const stat = new Statx();
  return new Verification({
    copy,
    witness,
    see: (held) => witness.see(backing, held, stat, wall()),
    mend: (rotten, content) => mender.mend(rotten, content),
    makeSource: (wire, range, known) =>
      new VerifySource({
        ...beneath,
        wire,
        exists: (id) => copy.map.get(id) !== undefined,
        tellTime,
        witness: known,
        wall,
        sequence: () => copy.journal.last,
        ...range,
      }),
    requests,
    now: () => bootNanoseconds() / 1e6,
    wall,
    scrubMs,
    onRotten,
    onVerified,
  });
}
