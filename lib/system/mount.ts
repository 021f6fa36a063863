/**
 * Mounts of this mount namespace: read-only covers, FUSE over a directory, and how to get rid of both.
 *
 * Nothing here walks into a FUSE mount, with one exception that says so: a process that waits on a dead mount cannot be killed.
 *
 * @module
 */

import { cstring, libc, openLibrary } from "./libc.ts";
import { O } from "./linux.ts";
import { check, ERRNO, SystemError } from "./system_error.ts";
import { layers, type Mount, parseMountinfo } from "./mountinfo.ts";

const c = openLibrary("libc.so.6", {
  /** `int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)` */
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  /** `int umount2(const char *target, int flags)` */
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
});

const MS = { RDONLY: 1, REMOUNT: 32, BIND: 4096 } as const;
const UMOUNT = { FORCE: 1, DETACH: 2, NOFOLLOW: 8 } as const;
const CONNECTIONS = "/sys/fs/fuse/connections";

/** Where the kernel's bounds of what waits to be written are, by device (Documentation/ABI/testing/sysfs-class-bdi). */
const BOUNDS = "/sys/class/bdi";
/** What applications wrote and nobody synced may wait in memory up to here, for each mount. */
const DIRTY_BYTES = 256 << 20;

/** The file system type of our mounts in mountinfo. */
export const FUSE_TYPE = "fuse.binome";

/** All mounts of this namespace, bottom first where several share a mount point. */
export function readMounts(): Mount[] {
  return parseMountinfo(Deno.readTextFileSync("/proc/self/mountinfo"));
}

/** Opens a directory for reaching what is beneath a later mount: `/proc/self/fd/N/.` is its path. */
export function openDirectory(path: string): number {
  return check(
    libc.open(cstring(path), O.RDONLY | O.DIRECTORY | O.NOFOLLOW | O.CLOEXEC, 0),
    `open directory "${path}"`,
  );
}

/** Mounts a directory over itself, read-only. */
export function mountCover(path: string): void {
  const at = cstring(path);
  check(c.mount(at, at, null, MS.BIND, null), `cover "${path}"`);
  try {
    // Two steps because the first ignores the flag (mount(2), "Creating a bind mount").
    check(
      c.mount(null, at, null, MS.REMOUNT | MS.BIND | MS.RDONLY, null),
      `make the cover of "${path}" read-only`,
    );
  } catch (error) {
    detach(path);
    throw error;
  }
}

/**
 * Mounts FUSE over a directory and answers the new connection's descriptor. Nobody serves it yet: whoever touches the
 * directory waits. Device nodes and set-uid files keep working, as on the directory itself.
 *
 * @param source shown in mountinfo, so that a later keeper knows whose mount it is.
 */
export function mountFuse(path: string, source: string): number {
  const fd = check(
    libc.open(cstring("/dev/fuse"), O.RDWR | O.CLOEXEC, 0),
    `open "/dev/fuse" (is the fuse kernel module loaded?)`,
  );
  const options =
    `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576`;
  try {
    check(
      c.mount(cstring(source), cstring(path), cstring(FUSE_TYPE), 0, cstring(options)),
      `mount over "${path}"`,
    );
    const device = layers(readMounts(), path)[0]?.device;
    if (device !== undefined) boundDirty(device);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/**
 * Lets more wait to be written back than the kernel lets of FUSE by itself, a hundredth of what it lets of all: past that bound who
 * writes goes as slowly as the secondary takes it. Yet it is what a hand-over has to wait for. A kernel before 6.2 has no such setting, a container
 * may not let us, a small machine not so much: then the bound is lower, and nothing else is different.
 */
function boundDirty(device: string): void {
  for (let bytes = DIRTY_BYTES; bytes >= DIRTY_BYTES / 8; bytes /= 2) {
    try {
      return Deno.writeTextFileSync(`${BOUNDS}/${device}/max_bytes`, String(bytes), { create: false });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
    }
  }
}

/** Takes the topmost mount of a mount point away at once; who is inside keeps it until leaving. */
export function detach(path: string): void {
  check(c.umount2(cstring(path), UMOUNT.DETACH | UMOUNT.NOFOLLOW), `unmount "${path}"`);
}

/**
 * Ends a FUSE connection: every waiting and later request fails at once. The mount itself stays.
 *
 * @param minor minor number of the mount's device, as mountinfo has it: also the connection's name.
 * @param fallback directory of ours, for mounting the control file system where `/sys` has none.
 * @returns false when the control file system cannot be had; then {@link abortAndDetach}.
 */
export function abortConnection(minor: number, fallback: string): boolean {
  for (const folder of [CONNECTIONS, fallback]) {
    if (folder === fallback && !mountControl(fallback)) return false;
    if (writeAbort(`${folder}/${minor}/abort`)) return true;
  }
  return false;
}

/** Aborts the topmost FUSE mount of a mount point and detaches it, in one call that needs no control file system. */
export function abortAndDetach(path: string): void {
  check(c.umount2(cstring(path), UMOUNT.FORCE | UMOUNT.DETACH | UMOUNT.NOFOLLOW), `unmount "${path}"`);
}

function writeAbort(path: string): boolean {
  try {
    Deno.writeTextFileSync(path, "1", { create: false });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function mountControl(path: string): boolean {
  Deno.mkdirSync(path, { recursive: true, mode: 0o700 });
  if (readMounts().some((mount) => mount.point === path)) return true;
  try {
    check(
      c.mount(cstring("fusectl"), cstring(path), cstring("fusectl"), 0, null),
      `mount fusectl on "${path}"`,
    );
    return true;
  } catch (error) {
    // A container may forbid it; the caller has another way.
    if (error instanceof SystemError && error.errno !== ERRNO.EINVAL) return false;
    throw error;
  }
}
