/**
 * Everything a file system holds, to its disk. Never on the data road of a node that serves: it waits for every writer
 * of that file system.
 *
 * @module
 */

import { once } from "./certain_errno.ts";
import { errno, openLibrary } from "./libc.ts";

const c = openLibrary("libc.so.6", {
  /** `int syncfs(int fd)` */
  syncfs: { parameters: ["i32"], result: "i32" },
});

/** Brings the file system of a descriptor to disk. Answers 0 or −errno, also for what failed since it was opened. */
export const syncfs: (fd: number) => number = once((fd) => c.syncfs(fd) < 0 ? -errno() : 0);
