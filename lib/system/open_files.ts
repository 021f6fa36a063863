/**
 * Who has something open beneath a directory, in any mount namespace that `/proc` shows.
 *
 * What was opened through a read-only mount (a cover) cannot write and is not reported, nor is what hangs on an aborted
 * FUSE mount. A directory may be seen under other names in other namespaces, or through bind mounts: each namespace's
 * mountinfo tells which.
 *
 * @module
 */

import { cstring, errno, openLibrary } from "./libc.ts";
import {
  isWithin,
  type Mount,
  mountBeneath,
  ownLayers,
  parseMountinfo,
  pathInFileSystem,
} from "./mountinfo.ts";
import { FUSE_TYPE } from "./mount.ts";
import { ERRNO } from "./system_error.ts";

const c = openLibrary("libc.so.6", {
  /** `int statfs(const char *path, struct statfs *buf)` */
  statfs: { parameters: ["buffer", "buffer"], result: "i32" },
});

/** `f_flags` in `struct statfs` of 64-bit Linux, and its bit for a mount or file system that is read-only. */
const STATFS_FLAGS = 80;
const ST_RDONLY = 1;
const STATFS_SIZE = 120;
/** Findings told to the operator; the rest is more of the same. */
const FINDINGS_MAX = 10;
/** How long one process may be looked at: one that is blocked in the kernel holds its memory map locked. */
const MAPS_MS = 2_000;
/** A new process has executed its program by then. */
const AGAIN_MS = 100;
/** After so many processes other work of ours gets its turn. */
const TURN = 16;

/** One way into the directory, open for writing. */
export interface OpenFinding {
  readonly pid: number;
  readonly name: string;
  /** `file "…"`, `current directory "…"`, `mapped file "…"`, `mount "…"`. */
  readonly what: string;
}

/** In words for the operator. */
export function describeFinding({ pid, name, what }: OpenFinding): string {
  return `${name} (pid ${pid}) has ${what} open`;
}

/**
 * Looks through all processes, at most {@link FINDINGS_MAX} findings.
 *
 * @param except pids that may have anything open.
 */
export async function findOpen(path: string, except: readonly number[]): Promise<OpenFinding[]> {
  const own = parseMountinfo(await Deno.readTextFile("/proc/self/mountinfo"));
  const place = placeOf(own, path);
  const namespaces = new Map<string, string[]>();
  const found: OpenFinding[] = [];
  let turn = 0;
  for await (const entry of Deno.readDir("/proc")) {
    const pid = Number(entry.name);
    if (!Number.isInteger(pid) || except.includes(pid)) continue;
    if (++turn % TURN === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    // Whoever was found is looked at twice: between fork and exec a process has what its parent has, also a child of ours.
    if (await unlessGone(() => lookAt(pid, path, place, namespaces)) === null) continue;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    const finding = await unlessGone(() => lookAt(pid, path, place, new Map()));
    if (finding !== null) found.push({ pid, name: nameOf(pid), what: finding });
    // What its namespace has, another process has to stand for.
    else namespaces.clear();
    if (found.length >= FINDINGS_MAX) break;
  }
  return found;
}

/** A directory within its file system. */
interface Place {
  readonly device: string;
  readonly path: string;
}

function placeOf(mounts: readonly Mount[], path: string): Place {
  const mount = mountBeneath(mounts, path, ownLayers(mounts, path, FUSE_TYPE).count);
  if (mount === undefined) throw new Error(`Cannot look for open files beneath "${path}": no mount shows it`);
  return { device: mount.device, path: pathInFileSystem(mount, path) };
}

async function lookAt(
  pid: number,
  path: string,
  place: Place,
  namespaces: Map<string, string[]>,
): Promise<string | null> {
  const namespace = await Deno.readLink(`/proc/${pid}/ns/mnt`);
  let names = namespaces.get(namespace);
  if (names === undefined) {
    const mounts = parseMountinfo(await Deno.readTextFile(`/proc/${pid}/mountinfo`));
    const part = mounts.find((mount) => showsPart(mount, place));
    // Once for each namespace: the first of its processes stands for all.
    names = [...new Set([path, ...namesOf(mounts, place)])];
    namespaces.set(namespace, names);
    if (part !== undefined) return `mount "${part.point}"`;
  }
  return openLink(pid, names) ?? await openMap(pid, names);
}

/** Under which names a namespace shows a directory. */
export function namesOf(mounts: readonly Mount[], place: Place): string[] {
  return mounts
    .filter((mount) => mount.device === place.device && isWithin(place.path, mount.root))
    .map((mount) => {
      const rest = place.path.slice(mount.root === "/" ? 0 : mount.root.length);
      return rest === "/" ? mount.point : `${mount.point === "/" ? "" : mount.point}${rest}`;
    });
}

/** A mount of something within the directory: another way in, beside whatever lies on the directory itself. */
function showsPart(mount: Mount, place: Place): boolean {
  return mount.device === place.device && !mount.readOnly && mount.root !== place.path &&
    isWithin(mount.root, place.path);
}

function openLink(pid: number, names: readonly string[]): string | null {
  const links: [string, string][] = [
    ["cwd", "current directory"],
    ["root", "root directory"],
    ["exe", "program"],
  ];
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) links.push([`fd/${name}`, "file"]);
  for (const [link, kind] of links) {
    const at = `/proc/${pid}/${link}`;
    const target = readLink(at);
    if (target !== null && isBeneath(target, names) && mayWrite(at)) return `${kind} "${target}"`;
  }
  return null;
}

/** Mapped files whose descriptor is closed. `maps` first: it is one read, and nearly never names the directory. */
async function openMap(pid: number, names: readonly string[]): Promise<string | null> {
  const maps = await readWithin(`/proc/${pid}/maps`, MAPS_MS);
  if (maps === null) return "its memory map locked, so that nobody can tell what it has";
  for (const line of maps.split("\n")) {
    const start = line.indexOf("/");
    if (start < 0) continue;
    const target = line.slice(start).replace(/ \(deleted\)$/, "");
    const range = line.slice(0, line.indexOf(" ")).split("-").map((part) => part.replace(/^0+(?=.)/, ""))
      .join("-");
    if (isBeneath(target, names) && mayWrite(`/proc/${pid}/map_files/${range}`)) {
      return `mapped file "${target}"`;
    }
  }
  return null;
}

function isBeneath(target: string, names: readonly string[]): boolean {
  return names.some((name) => isWithin(target, name));
}

/** Whether the mount behind a link of `/proc` can be written to. Only asked of what lies beneath the directory. */
function mayWrite(link: string): boolean {
  const buffer = new Uint8Array(STATFS_SIZE);
  if (c.statfs(cstring(link), buffer) === 0) {
    return (Number(new DataView(buffer.buffer).getBigInt64(STATFS_FLAGS, true)) & ST_RDONLY) === 0;
  }
  const dead: readonly number[] = [ERRNO.ENOTCONN, ERRNO.ECONNABORTED, ERRNO.ENOENT, ERRNO.ESRCH];
  return !dead.includes(errno());
}

function readLink(path: string): string | null {
  try {
    return Deno.readLinkSync(path);
  } catch {
    return null; // closed meanwhile, or a kernel thread's
  }
}

/** Null: not within that time. */
async function readWithin(path: string, limitMs: number): Promise<string | null> {
  let timer = 0;
  const late = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), limitMs));
  try {
    return await Promise.race([Deno.readTextFile(path), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A process that ends while it is looked at has nothing open any more. */
async function unlessGone<T>(look: () => Promise<T | null>): Promise<T | null> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    if (error instanceof Error && /os error (2|3|22)\)/.test(error.message)) return null;
    throw error;
  }
}

function nameOf(pid: number): string {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/comm`).trim();
  } catch {
    return "a process"; // it has just ended
  }
}
