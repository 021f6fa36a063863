/**
 * This process and the ones it starts.
 *
 * Children are started with `posix_spawn(3)`: in a session of their own, with files as their output, so that they
 * live on when we die and never get a broken pipe. `Deno.Command` can do neither.
 *
 * @module
 */

import { directories } from "./directories.ts";
import { addressOf, cstring, openLibrary } from "./libc.ts";
import { O } from "./linux.ts";
import { ownProgram } from "./program.ts";
import { check, ERRNO, SystemError } from "./system_error.ts";

const c = openLibrary("libc.so.6", {
  /** `int posix_spawnp(pid_t *, const char *file, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const argv[], char *const envp[])` */
  posix_spawnp: { parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  /** `int posix_spawn_file_actions_init(posix_spawn_file_actions_t *)` */
  posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
  /** `int posix_spawn_file_actions_addopen(…, int fd, const char *path, int flags, mode_t)` */
  posix_spawn_file_actions_addopen: { parameters: ["buffer", "i32", "buffer", "i32", "u32"], result: "i32" },
  /** `int posix_spawn_file_actions_adddup2(…, int fd, int newfd)` */
  posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  /** `int posix_spawn_file_actions_addchdir_np(…, const char *path)`: glibc 2.29 */
  posix_spawn_file_actions_addchdir_np: { parameters: ["buffer", "buffer"], result: "i32" },
  /** `int posix_spawn_file_actions_destroy(…)` */
  posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
  /** `int posix_spawnattr_init(posix_spawnattr_t *)` */
  posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
  /** `int posix_spawnattr_setflags(…, short flags)` */
  posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
  /** `int posix_spawnattr_setsigdefault(…, const sigset_t *)` */
  posix_spawnattr_setsigdefault: { parameters: ["buffer", "buffer"], result: "i32" },
  /** `int posix_spawnattr_setsigmask(…, const sigset_t *)` */
  posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
  /** `int posix_spawnattr_destroy(…)` */
  posix_spawnattr_destroy: { parameters: ["buffer"], result: "i32" },
  /** `pid_t waitpid(pid_t, int *status, int options)` */
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  /** `int kill(pid_t, int)` */
  kill: { parameters: ["i32", "i32"], result: "i32" },
  /** `int prctl(int option, unsigned long…)` */
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  /** `int getrlimit(int resource, struct rlimit *)` */
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  /** `int setrlimit(int resource, const struct rlimit *)` */
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
});

/** `sizeof` in glibc is 336 and 80; more does no harm. */
const SPAWN_ATTRIBUTES_SIZE = 512;
const SPAWN_ACTIONS_SIZE = 256;
const SIGSET_SIZE = 128;
const SPAWN = { SETSIGDEF: 0x04, SETSIGMASK: 0x08, SETSID: 0x80 } as const;
const WNOHANG = 1;
const PR_SET_IO_FLUSHER = 57;
const RLIMIT_NOFILE = 7;

/** Numbers of the signals we send. */
export const SIGNAL = { KILL: 9, TERM: 15 } as const;

/** A child to be. */
export interface Spawn {
  /** Program (looked up in PATH) and arguments. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Output and errors are appended here. Null: they go where ours go, and the child stays in our session. */
  readonly output: string | null;
  readonly directory: string;
}

/** How a child ended. */
export type Exit = { readonly code: number } | { readonly signal: number };

/**
 * Starts a program, in a session of its own unless it shares our output.
 *
 * @returns its pid, which stays ours until {@link reap} has answered how it ended.
 * @throws {SystemError} also when the program does not exist.
 */
export function spawn(child: Spawn): number {
  const [program = ""] = child.argv;
  const actions = new Uint8Array(SPAWN_ACTIONS_SIZE);
  const attributes = new Uint8Array(SPAWN_ATTRIBUTES_SIZE);
  const { output } = child;
  c.posix_spawn_file_actions_init(actions);
  c.posix_spawnattr_init(attributes);
  try {
    c.posix_spawn_file_actions_addopen(actions, 0, cstring("/dev/null"), O.RDONLY, 0);
    if (output !== null) {
      const flags = O.WRONLY | O.CREAT | O.APPEND;
      c.posix_spawn_file_actions_addopen(actions, 1, cstring(output), flags, 0o600);
      c.posix_spawn_file_actions_adddup2(actions, 1, 2);
    }
    c.posix_spawn_file_actions_addchdir_np(actions, cstring(child.directory));
    c.posix_spawnattr_setflags(
      attributes,
      (output === null ? 0 : SPAWN.SETSID) | SPAWN.SETSIGDEF | SPAWN.SETSIGMASK,
    );
    // Deno ignores SIGPIPE, and what is ignored stays so across exec: shells in pipelines rely on it.
    c.posix_spawnattr_setsigdefault(attributes, new Uint8Array(SIGSET_SIZE).fill(0xff));
    c.posix_spawnattr_setsigmask(attributes, new Uint8Array(SIGSET_SIZE));
    const pid = new Int32Array(1);
    const argv = new CStrings(child.argv);
    const envp = new CStrings(Object.entries(child.environment).map(([name, value]) => `${name}=${value}`));
    const failure = c.posix_spawnp(
      pid as unknown as Uint8Array<ArrayBuffer>,
      cstring(program),
      actions,
      attributes,
      argv.pointers,
      envp.pointers,
    );
    if (failure !== 0) throw new SystemError(`start "${program}"`, failure);
    return pid[0] ?? 0;
  } finally {
    c.posix_spawn_file_actions_destroy(actions);
    c.posix_spawnattr_destroy(attributes);
  }
}

/** A NULL-terminated `char *[]`. Holds the strings: V8 does not see that the pointers need them. */
class CStrings {
  readonly #strings: Uint8Array<ArrayBuffer>[];
  readonly pointers: Uint8Array<ArrayBuffer>;

  constructor(texts: readonly string[]) {
    this.#strings = texts.map(cstring);
    const addresses = new BigUint64Array(texts.length + 1);
    this.#strings.forEach((bytes, index) => addresses[index] = BigInt(addressOf(bytes)));
    this.pointers = new Uint8Array(addresses.buffer);
  }
}

/** How a child of ours ended, or null while it lives. Answers once. */
export function reap(pid: number): Exit | null {
  const status = new Int32Array(1);
  const got = c.waitpid(pid, status as unknown as Uint8Array<ArrayBuffer>, WNOHANG);
  if (check(got, `wait for process ${pid}`) === 0) return null;
  const word = status[0] ?? 0;
  return (word & 0x7f) === 0 ? { code: (word >> 8) & 0xff } : { signal: word & 0x7f };
}

/** Sends a signal to every process of a process group. False: the group is empty. */
export function signalGroup(leader: number, signal: number): boolean {
  try {
    check(c.kill(-leader, signal), `send signal ${signal} to process group ${leader}`);
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.errno === ERRNO.ESRCH) return false;
    throw error;
  }
}

/** When a process started, in clock ticks since boot: with its pid, who it is. Null: there is none. */
export function startTime(pid: number): string | null {
  try {
    // proc(5), field 22; the name (field 2) may hold spaces and brackets.
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? null : fields[18] ?? null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || isGone(error)) return null;
    throw error;
  }
}

/** `/proc/PID/status`; null: there is no such process here. It waits for nothing that the process waits for. */
export function statusOf(pid: number): string | null {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/status`);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** `ESRCH`, which a process that ends while it is looked at gives. */
export function isGone(error: unknown): boolean {
  return error instanceof Error && /os error 3\)|os error 2\)/.test(error.message);
}

/** How to start another role of this very program, also when its file has been replaced since. */
export function selfCommand(role: readonly string[]): string[] {
  return Deno.build.standalone
    ? [ownProgram(directories()), ...role]
    : [Deno.execPath(), "run", "--allow-all", Deno.mainModule, ...role];
}

/** This process's environment, for children. */
export function ownEnvironment(): Record<string, string> {
  return Deno.env.toObject();
}

/**
 * Makes this process the last to suffer when memory is short: it may be the one that frees some (it writes the
 * file system's dirty pages). Call it first of all: threads inherit the third.
 *
 * Memory is not locked (`mlockall`): V8 gives pages back by `madvise(MADV_DONTNEED)`, which answers EINVAL for locked ones,
 * and V8 ends the process on that. It was seen with the first worker.
 *
 * @returns what could not be done, each a sentence for the operator; none of it stops us.
 */
export function harden(): string[] {
  const warnings: string[] = [];
  const attempt = (what: string, action: () => void) => {
    try {
      action();
    } catch (error) {
      warnings.push(`${what}: ${error instanceof Error ? error.message : error}`);
    }
  };
  attempt("Blocked I/O may wait for us (PR_SET_IO_FLUSHER)", () => {
    check(c.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0), "become an I/O flusher; it needs CAP_SYS_RESOURCE");
  });
  attempt("The out-of-memory killer may choose us", () => {
    Deno.writeTextFileSync("/proc/self/oom_score_adj", "-1000");
  });
  attempt("Few files can be kept open", () => {
    const limits = new BigUint64Array(2);
    const bytes = new Uint8Array(limits.buffer);
    check(c.getrlimit(RLIMIT_NOFILE, bytes), "read the limit of open files");
    limits[0] = limits[1] ?? 0n;
    check(c.setrlimit(RLIMIT_NOFILE, bytes), "raise the limit of open files");
  });
  return warnings;
}

/**
 * How many descriptors a cache may keep of this process's limit, `most` at most: half, since one listing of a directory
 * opens thousands before the cache is cut back.
 */
export function cachedFilesMax(most: number): number {
  const limits = new BigUint64Array(2);
  check(c.getrlimit(RLIMIT_NOFILE, new Uint8Array(limits.buffer)), "read the limit of open files");
  const half = (limits[0] ?? 0n) / 2n;
  return half < BigInt(most) ? Number(half) : most;
}

/** Cuts an appended log when it has grown past `max` bytes; its old content is kept once, as `PATH.1`. */
export function capLog(path: string, max: number): void {
  try {
    if (Deno.statSync(path).size <= max) return;
    // By copy: the writer's descriptor stays on this file, and appends at its new end.
    Deno.copyFileSync(path, `${path}.1`);
    Deno.truncateSync(path, 0);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
