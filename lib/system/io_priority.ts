/**
 * How urgent a thread's disk requests are (ioprio_set(2)).
 *
 * @module
 */

import { libc } from "./libc.ts";

/** Number of `ioprio_set`: by architecture. */
const IOPRIO_SET = Deno.build.arch === "aarch64" ? 30 : 251;
const WHO_PROCESS = 1;
/** The thread that calls. */
const CALLER = 0;
/** Class in the upper three of 16 bits: 3 is idle; 0 is none, the thread's nice value counts. */
const IDLE = 3 << 13;
const NONE = 0;

/** Runs something whose disk requests are done when nobody else has any. Schedulers without classes ignore it. */
export function atIdlePriority<T>(work: () => T): T {
  libc.syscall(IOPRIO_SET, WHO_PROCESS, CALLER, IDLE, 0);
  try {
    return work();
  } finally {
    libc.syscall(IOPRIO_SET, WHO_PROCESS, CALLER, NONE, 0);
  }
}
