/**
 * How much of the processor this process gets when others want it too.
 *
 * What decides and what carries writes must run within a second on a machine that is busy with something else: a lease
 * that is renewed late is lost. What it starts for the operator is not part of that, and runs like anything else.
 *
 * @module
 */

import { openLibrary } from "./libc.ts";
import { check } from "./system_error.ts";

const c = openLibrary("libc.so.6", {
  /** `int setpriority(int which, id_t who, int prio)` */
  setpriority: { parameters: ["i32", "u32", "i32"], result: "i32" },
  /** `int getpriority(int which, id_t who)` */
  getpriority: { parameters: ["i32", "u32"], result: "i32" },
  /** `pid_t getsid(pid_t pid)` */
  getsid: { parameters: ["i32"], result: "i32" },
});

/** Nine times the share of an ordinary process. */
const NICE = -10;
const PRIO_PROCESS = 0;
/** The thread that calls. */
const CALLER = 0;

/**
 * Raises this process. Call it first of all: later threads inherit it.
 *
 * @returns what could not be done, each a sentence for the operator; none of it stops us.
 */
export function raisePriority(): string[] {
  try {
    // Linux keeps the value per thread, and the runtime has made some already.
    for (const { name } of Deno.readDirSync("/proc/self/task")) {
      check(c.setpriority(PRIO_PROCESS, Number(name), NICE), `set nice value ${NICE}; it needs CAP_SYS_NICE`);
    }
    raiseSession();
    return [];
  } catch (error) {
    return [`A busy machine may delay us: ${error instanceof Error ? error.message : error}`];
  }
}

/**
 * Runs something that starts a process, which then has the ordinary priority. By lowering our own for that moment: the
 * child inherits it before its first instruction, and it can have no children of its own yet.
 */
export function atOrdinaryPriority<T>(start: () => T): T {
  const ours = c.getpriority(PRIO_PROCESS, CALLER);
  if (ours >= 0) return start();
  check(c.setpriority(PRIO_PROCESS, CALLER, 0), "set nice value 0");
  try {
    return start();
  } finally {
    check(c.setpriority(PRIO_PROCESS, CALLER, ours), `set nice value ${ours}`);
  }
}

/** With autogroups (sched(7)) nice values count within a session only, and sessions have one of their own. */
function raiseSession(): void {
  // A session that began with somebody else, such as a person's shell, is not ours to raise.
  if (c.getsid(0) !== Deno.pid) return;
  try {
    Deno.writeTextFileSync("/proc/self/autogroup", String(NICE), { create: false });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
