/**
 * What makes an object of the source exist on the target.
 *
 * @module
 */

import { OP } from "../journal/record.ts";
import { S_IF } from "../system/linux.ts";
import type { Mutation } from "./mutation.ts";

/** What never changes of an object: the number of a device, the target of a symbolic link. */
export interface Unchangeable {
  readonly rdev: number;
  readonly target: Uint8Array;
}

/** Reads it from the `extra` of an entry. */
export function unchangeable(type: number, extra: Uint8Array): Unchangeable {
  if (type === S_IF.LNK) return { rdev: 0, target: extra };
  const device = (type === S_IF.CHR || type === S_IF.BLK) && extra.length === 4;
  const rdev = device ? new DataView(extra.buffer, extra.byteOffset).getUint32(0, true) : 0;
  return { rdev, target: extra.subarray(0, 0) };
}

/** The mutation that makes an object; its owner, mode and content come with its frame. */
export function creation(into: Mutation, id: number, type: number, made: Unchangeable): Mutation {
  const op = type === S_IF.REG
    ? OP.create
    : type === S_IF.DIR
    ? OP.mkdir
    : type === S_IF.LNK
    ? OP.symlink
    : OP.mknod;
  const mutation = into.reset(op, id);
  mutation.a = type + 0o600 + made.rdev * 65536;
  mutation.other = made.target;
  return mutation;
}
