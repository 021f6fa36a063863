/**
 * An application on the mount of whoever serves: it does what chance says to a tree, and keeps a ledger of what it was promised.
 *
 * @module
 */

import { ATTR, ENTRY_OUT, KERNEL_MINOR_VERSION } from "../../lib/fuse/layout.ts";
import { INIT, OPCODE } from "../../lib/fuse/opcode.ts";
import { S_IF } from "../../lib/system/linux.ts";
import type { Dice } from "../replication/chance.ts";
import { body, idOf, type Kernel } from "../sim/kernel.ts";
import { NAMES, Program } from "../sim/program.ts";
import type { PowerNode } from "./node.ts";
import type { Plant } from "./plant.ts";

const WANTED = INIT.ASYNC_READ | INIT.ATOMIC_O_TRUNC | INIT.BIG_WRITES | INIT.DONT_MASK | INIT.MAX_PAGES |
  INIT.HANDLE_KILLPRIV_V2 | INIT.SETXATTR_EXT | INIT.INIT_EXT;
const DEPTH = 3;
/** Files of the ledger, and blocks of each. */
const FILES = 4;
const BLOCKS = 6;
const BLOCK = 4096;

/** What it was told to be on the disks must be there ever after. */
export class Application {
  readonly #plant: Plant;
  readonly #dice: Dice;
  readonly #flags: bigint;
  #program: Program;
  #ledger: number[] = [];
  #written = 0;
  /** The last number of which an fsync was answered, by file and block. */
  readonly #promised = new Map<string, number>();

  /** Needs {@link mount} before anything else. */
  constructor(
    plant: Plant,
    { dice, durability, resend }: {
      readonly dice: Dice;
      readonly durability: "each-write" | "fsync";
      readonly resend: boolean;
    },
  ) {
    this.#plant = plant;
    this.#dice = dice;
    this.#flags = WANTED | (resend ? INIT.HAS_RESEND : 0n) |
      (durability === "fsync" ? INIT.WRITEBACK_CACHE : 0n);
    this.#program = this.#open();
  }

  /** A new mount: nothing is known of it. */
  mount(): void {
    const low = Number(this.#flags & 0xffff_ffffn);
    const high = Number(this.#flags >> 32n);
    const content = body(7, KERNEL_MINOR_VERSION, 0, low, high, new Uint8Array(44));
    if (this.#plant.call(OPCODE.INIT, 0, content).error !== 0) throw new Error("INIT was refused");
    this.#program = this.#open();
    this.#look(1, 0);
    this.#ledger = Array.from({ length: FILES }, (_, file) => this.#ledgerFile(file));
  }

  /** So many requests. */
  work(requests: number): void {
    for (let i = 0; i < requests; i++) {
      if (this.#dice(4) === 0) this.#write();
      else this.#program.step();
    }
  }

  /** Throws when a node lacks what was promised. */
  check(node: PowerNode): void {
    for (const [place, number] of this.#promised) {
      const [file, block] = place.split("/").map(Number);
      const found = new Uint8Array(4);
      node.fs.find(ledgerName(file ?? 0))?.content.read((block ?? 0) * BLOCK, found);
      const has = new DataView(found.buffer).getUint32(0);
      if (has < number) {
        throw new Error(`${node.name} has lost ${place}: ${has}, where ${number} was promised`);
      }
    }
  }

  #open(): Program {
    const kernel: Pick<Kernel, "call" | "all"> = {
      call: (opcode, id, content) => this.#plant.call(opcode, id, content),
      all: (opcode, id, content) => {
        this.#plant.tell(opcode, id, content);
        return [];
      },
    };
    return new Program(kernel, this.#dice(1 << 30));
  }

  /** What there is already, a few directories deep. */
  #look(parent: number, depth: number): void {
    for (const name of NAMES) {
      const reply = this.#plant.call(OPCODE.LOOKUP, parent, body(name));
      const id = reply.error === 0 ? idOf(reply) : 0;
      if (id === 0) continue;
      const view = new DataView(reply.body.buffer, reply.body.byteOffset);
      const type = view.getUint32(ENTRY_OUT.attr + ATTR.mode, true) & S_IF.MT;
      if (type === S_IF.REG) this.#program.files.push(id);
      if (type !== S_IF.DIR) continue;
      this.#program.directories.push(id);
      if (depth < DEPTH) this.#look(id, depth + 1);
    }
  }

  #ledgerFile(file: number): number {
    const name = ledgerName(file);
    const found = this.#plant.call(OPCODE.LOOKUP, 1, body(name));
    if (found.error === 0 && idOf(found) !== 0) return idOf(found);
    return idOf(this.#plant.call(OPCODE.CREATE, 1, body(0o102, 0o100644, 0, 0, name)));
  }

  /** Some blocks of one file of the ledger, and an fsync. */
  #write(): void {
    const file = this.#dice(FILES);
    const id = this.#ledger[file] ?? 0;
    const number = ++this.#written;
    const content = new Uint8Array(BLOCK).fill(number & 0xff);
    new DataView(content.buffer).setUint32(0, number);
    const blocks = Array.from({ length: 1 + this.#dice(3) }, () => this.#dice(BLOCKS));
    for (const block of blocks) {
      const at = BigInt(block * BLOCK);
      const written = this.#plant.call(OPCODE.WRITE, id, body(0n, at, BLOCK, 0, 0n, 2, 0, content));
      if (written.error !== 0) throw new Error(`A write was answered with errno ${-written.error}`);
    }
    const synced = this.#plant.call(OPCODE.FSYNC, id, body(0n, this.#dice(2), 0));
    if (synced.error !== 0) throw new Error(`An fsync was answered with errno ${-synced.error}`);
    for (const block of blocks) this.#promised.set(`${file}/${block}`, number);
  }
}

function ledgerName(file: number): string {
  return `ledger${file}`;
}
