/**
 * What the roads of both nodes run on in a simulation: disks in memory, a clock that the test moves, chance that it seeds.
 *
 * The real roles reach their directories by `lib/system/backing.ts`. Here its functions are replaced, in this process alone, by
 * ones that look at the descriptor: numbers from {@link FIRST_FD} on are those of disks in memory, all others this machine's.
 *
 * @module
 */

import { type Backing, backing } from "../../lib/system/backing.ts";
import { libc, memoryAt, openLibrary } from "../../lib/system/libc.ts";
import { setNonblocking } from "../../lib/system/worker_io.ts";
import type { Dice } from "../replication/chance.ts";
import { MemoryBacking } from "../sim/memory_backing.ts";

/** The lowest descriptor of the first disk; each disk has as many. */
const FIRST_FD = 1 << 20;
const EXDEV = 18;
const AF_UNIX = 1;
const CLOEXEC = 0o2000000;
/** Types of sockets: a stream, and one that keeps messages apart, as `/dev/fuse` does. */
export const SOCKET = { stream: 1 | CLOEXEC, messages: 5 | CLOEXEC } as const;

const { socketpair } = openLibrary("libc.so.6", {
  /** `int socketpair(int domain, int type, int protocol, int sv[2])` */
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
});

/** Two connected sockets that do not wait. */
export function socketPair(type: number): readonly [number, number] {
  const fds = new Int32Array(2);
  if (socketpair(AF_UNIX, type, 0, fds) !== 0) throw new Error("Cannot make a pair of sockets");
  const [one = -1, other = -1] = fds;
  for (const fd of [one, other]) setNonblocking(fd);
  return [one, other];
}

/** The memory of this process, as a disk reaches it. */
const MEMORY = {
  at: (address: number, length: number): Uint8Array<ArrayBuffer> => new Uint8Array(memoryAt(address, length)),
  text(address: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(memoryAt(address, 4096));
    return bytes.subarray(0, bytes.indexOf(0));
  },
};

const disks: MemoryBacking[] = [];
let chance: Dice = () => 0;
let nanoseconds = 0;
let installed = false;

/** Begins a simulation: no disks, an early time, this chance. */
export function beginMachine(dice: Dice): void {
  if (!installed) install();
  installed = true;
  disks.length = 0;
  nanoseconds = 1e12;
  chance = dice;
}

/** An empty disk. */
export function addDisk(): MemoryBacking {
  const disk = new MemoryBacking(MEMORY, (disks.length + 1) * FIRST_FD);
  disks.push(disk);
  return disk;
}

/** Time goes on, nanoseconds. */
export function passTime(by: number): void {
  nanoseconds += by;
}

function install(): void {
  routeDisks();
  Object.assign(libc, {
    clock_gettime(_clock: number, into: Uint8Array): number {
      // What waits in a loop for time to pass gets on.
      nanoseconds += 20_000;
      const view = new DataView(into.buffer, into.byteOffset);
      view.setBigUint64(0, BigInt(Math.floor(nanoseconds / 1e9)), true);
      view.setBigUint64(8, BigInt(Math.floor(nanoseconds % 1e9)), true);
      return 0;
    },
  });
  Object.assign(crypto, {
    getRandomValues<T extends ArrayBufferView>(into: T): T {
      const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
      bytes.forEach((_, at) => bytes[at] = 1 + chance(255));
      return into;
    },
  });
}

/** Which arguments of a call are descriptors; of all others the first. */
const DESCRIPTORS: Partial<Record<keyof Backing, readonly number[]>> = {
  symlinkat: [1],
  link: [0, 1],
  renameat2: [0, 2],
  copyFileRange: [0, 2],
  umask: [],
};

function routeDisks(): void {
  const real = { ...backing };
  for (const name of Object.keys(real) as (keyof Backing)[]) {
    const places = DESCRIPTORS[name] ?? [0];
    const call = real[name] as (...args: unknown[]) => number;
    const routed = (...args: unknown[]): number => {
      const [disk, ...others] = places.map((place) => diskOf(args[place]));
      if (others.some((other) => other !== disk)) return -EXDEV;
      return disk === undefined ? call(...args) : (disk[name] as (...args: unknown[]) => number)(...args);
    };
    Object.assign(backing, { [name]: routed });
  }
}

function diskOf(fd: unknown): MemoryBacking | undefined {
  return typeof fd === "number" && fd >= FIRST_FD ? disks[Math.floor(fd / FIRST_FD) - 1] : undefined;
}
