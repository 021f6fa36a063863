/**
 * Random requests of an application, the same for the same seed.
 *
 * @module
 */

import { OPCODE } from "../../lib/fuse/opcode.ts";
import { body, idOf, type Kernel } from "./kernel.ts";
import type { Reply } from "./data_road.ts";

/** A number from 0 to below `below`. */
export type Dice = (below: number) => number;

/** Mulberry32. */
export function dice(seed: number): Dice {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000 * below);
  };
}

/** Names that it gives. */
export const NAMES: readonly string[] = ["a", "b", "c", "\xff\xfe", "-rf", "n".repeat(255)];
const XATTRS = ["user.one", "trusted.two"];
const RENAME_FLAGS = [0, 0, 0, 1, 2];

/** An application that knows the objects it has met. Its requests succeed and fail as they come. */
export class Program {
  readonly kernel: Pick<Kernel, "call" | "all">;
  readonly dice: Dice;
  readonly directories = [1];
  readonly files: number[] = [];
  readonly opened: number[] = [];
  failed = 0;
  done = 0;

  constructor(kernel: Pick<Kernel, "call" | "all">, seed: number) {
    this.kernel = kernel;
    this.dice = dice(seed);
  }

  /** One request. */
  step(): void {
    const reply = this.#request();
    if (reply === undefined) return;
    if (reply.error === 0) this.done++;
    else this.failed++;
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.dice(from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }

  #request(): Reply | undefined {
    const { kernel, dice } = this;
    const parent = this.#pick(this.directories);
    const name = this.#pick(NAMES);
    switch (dice(13)) {
      case 0:
        return this.#made(
          this.files,
          kernel.call(OPCODE.CREATE, parent, body(0o302, 0o106755, 0o22, 0, name)),
          true,
        );
      case 1:
        return this.#made(
          this.directories,
          kernel.call(OPCODE.MKDIR, parent, body(0o2775, 0o22, name)),
          false,
        );
      case 2:
        return this.#made([], kernel.call(OPCODE.SYMLINK, parent, body(name, "target \xe9")), false);
      case 3:
        return this.#made([], kernel.call(OPCODE.MKNOD, parent, body(0o010600, 0, 0, 0, name)), false);
      case 4:
        return kernel.call(OPCODE.UNLINK, parent, body(name));
      case 5:
        return kernel.call(OPCODE.RMDIR, parent, body(name));
      case 6:
        return kernel.call(
          OPCODE.RENAME2,
          parent,
          body(BigInt(this.#pick(this.directories)), this.#pick(RENAME_FLAGS), 0, name, this.#pick(NAMES)),
        );
      case 7:
        return this.#release();
      default:
        return this.files.length === 0 ? undefined : this.#onFile(this.#pick(this.files), parent, name);
    }
  }

  #made(into: number[], reply: Reply, open: boolean): Reply {
    if (reply.error !== 0) return reply;
    into.push(idOf(reply));
    if (open) this.opened.push(idOf(reply));
    return reply;
  }

  /** Closes a file, and now and then the kernel forgets it altogether. */
  #release(): Reply | undefined {
    const { kernel, dice } = this;
    const at = dice(this.opened.length);
    const id = this.opened[at];
    if (id === undefined) return undefined;
    this.opened.splice(at, 1);
    const reply = kernel.call(OPCODE.RELEASE, id, body(0n, 0, 0, 0n));
    if (dice(2) === 0 && !this.opened.includes(id)) kernel.all(OPCODE.FORGET, id, body(1000n));
    return reply;
  }

  #onFile(id: number, parent: number, name: string): Reply {
    const { kernel, dice } = this;
    const offset = BigInt(dice(20_000));
    const length = 1 + dice(9_000);
    switch (dice(9)) {
      case 0:
        return kernel.call(OPCODE.LINK, parent, body(BigInt(id), name));
      case 1:
        return kernel.call(
          OPCODE.SETATTR,
          id,
          body(1 + 2 + 4 + 8, 0, 0n, offset, 0n, 0n, 0n, 0n, 0, 0, 0, 0o4711, 0, dice(3), dice(3), 0),
        );
      case 2:
        return kernel.call(
          OPCODE.SETATTR,
          id,
          body(
            16 + 32,
            0,
            0n,
            0n,
            0n,
            -5n,
            BigInt(dice(2_000_000_000)) - 1_000_000_000n,
            0n,
            999,
            123_456_789,
            0,
            0,
            0,
            0,
            0,
            0,
          ),
        );
      case 3:
        return kernel.call(
          OPCODE.FALLOCATE,
          id,
          body(0n, offset, BigInt(length), this.#pick([0, 1, 3, 16]), 0),
        );
      case 4:
        return kernel.call(
          OPCODE.COPY_FILE_RANGE,
          id,
          body(0n, offset, BigInt(this.#pick(this.files)), 0n, BigInt(dice(30_000)), BigInt(length), 0n),
        );
      case 5:
        return kernel.call(
          OPCODE.SETXATTR,
          id,
          body(3, 0, this.#pick(XATTRS), Uint8Array.of(dice(256), 0, 7)),
        );
      case 6:
        return kernel.call(OPCODE.REMOVEXATTR, id, body(this.#pick(XATTRS)));
      default:
        return kernel.call(
          OPCODE.WRITE,
          id,
          body(0n, offset, length, this.#pick([0, 4]), 0n, 2, 0, new Uint8Array(length).fill(1 + dice(255))),
        );
    }
  }
}
