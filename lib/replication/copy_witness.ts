/**
 * The witness of a copy: whose it is, and where it lies.
 *
 * @module
 */

import { openWitnessFiles } from "../system/witness_files.ts";
import type { Copy } from "./copy.ts";
import { Witness } from "./witness.ts";

/** Opens the witness in the module's state folder. */
export function openWitness(copy: Copy, directory: string, log: (message: string) => void): Witness {
  return new Witness({
    files: openWitnessFiles(directory),
    identity: () => identityOf(copy),
    isOurs: (identity) => isOfCopy(copy, identity),
    log,
  });
}

/** What is noted now belongs to this copy, and to the line of history it is in. */
export function identityOf(copy: Copy): string {
  const { clusterId, module, node } = copy.meta.value;
  return JSON.stringify({ clusterId, module, node, generation: copy.lastGeneration.toString(16) });
}

/** Whether the copy is still that one: it has not been made anew, nor gone over to a line without that generation. */
export function isOfCopy(copy: Copy, identity: string): boolean {
  const { clusterId, module, node, history } = copy.meta.value;
  return history.some(({ generation }) =>
    identity === JSON.stringify({ clusterId, module, node, generation: generation.toString(16) })
  );
}
