/**
 * Executes on a secondary what was done on the primary.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import type { Mutation } from "./mutation.ts";
import type { Tree } from "./tree.ts";

const ENOSPC = 28;
const ENODATA = 61;

/**
 * Executes; a write is repeated until all of it is there. Whether an extended attribute may be there already was the primary's to
 * judge, which after a kill does not know itself.
 *
 * @returns `>= 0`, or −errno.
 */
export function perform(tree: Pick<Tree, "execute">, mutation: Mutation): number {
  if (mutation.op === OP.write) return writeAll(tree, mutation);
  if (mutation.op === OP.setxattr) mutation.a = 0;
  const result = tree.execute(mutation);
  return mutation.op === OP.removexattr && result === -ENODATA ? 0 : result;
}

function writeAll(tree: Pick<Tree, "execute">, mutation: Mutation): number {
  const { a, payloadAddress, payloadLength } = mutation;
  let done = 0;
  let result = 0;
  while (done < payloadLength) {
    mutation.a = a + done;
    mutation.payloadAddress = payloadAddress + done;
    mutation.payloadLength = payloadLength - done;
    result = tree.execute(mutation);
    if (result <= 0) break;
    done += result;
  }
  mutation.a = a;
  mutation.payloadAddress = payloadAddress;
  mutation.payloadLength = payloadLength;
  if (done === payloadLength) return done;
  return result === 0 ? -ENOSPC : result;
}
