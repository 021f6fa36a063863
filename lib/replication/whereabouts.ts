/**
 * Under which name and at which path an object held open lies, as far as the kernel tells.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Dirents } from "../system/dirents.ts";
import { AT, O, PATH_MAX } from "../system/linux.ts";
import { Statx } from "../system/statx.ts";
import { cbytes } from "./bytes.ts";

const ENOENT = 2;
const PROC_FDS = cbytes("/proc/self/fd");

/** Finds names of what is open. */
export class Whereabouts {
  readonly #backing: Backing;
  readonly #stat = new Statx();
  readonly #path: Uint8Array<ArrayBuffer> = new Uint8Array(PATH_MAX);
  readonly #address: number;
  readonly #entries = new Dirents(8192);
  #procFds = -1;

  constructor(backing: Backing, addressOf: (bytes: Uint8Array) => number) {
    this.#backing = backing;
    this.#address = addressOf(this.#path);
  }

  /** The name under which a directory lies in its parent `up`, or −errno. */
  nameIn(up: number, fd: number): Uint8Array<ArrayBuffer> | number {
    const failed = this.#backing.statx(fd, this.#stat);
    if (failed < 0) return failed;
    const { ino } = this.#stat;
    const path = this.pathOf(fd);
    if (path !== undefined) {
      const name = path.subarray(path.lastIndexOf(0x2f) + 1);
      if (name.length > 0 && this.#backing.statxAt(up, name, this.#stat) >= 0 && this.#stat.ino === ino) {
        return name;
      }
    }
    return this.#search(up, ino);
  }

  /** The path of a descriptor as the kernel shows it: for people, and as a hint. */
  pathOf(fd: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.#procFds < 0) this.#procFds = this.#backing.openat(AT.FDCWD, PROC_FDS, O.PATH | O.DIRECTORY, 0);
    if (this.#procFds < 0) return undefined;
    const link = this.#backing.openat(this.#procFds, cbytes(String(fd)), O.PATH | O.NOFOLLOW, 0);
    if (link < 0) return undefined;
    const length = this.#backing.readlink(link, this.#address, this.#path.length);
    this.#backing.close(link);
    // A path that fills the buffer may be cut off.
    return length <= 0 || length === this.#path.length ? undefined : this.#path.slice(0, length);
  }

  /** Closes what it keeps open. */
  close(): void {
    if (this.#procFds >= 0) this.#backing.close(this.#procFds);
    this.#procFds = -1;
  }

  #search(up: number, ino: number): Uint8Array<ArrayBuffer> | number {
    const fd = this.#backing.reopen(up, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return fd;
    try {
      for (;;) {
        const got = this.#backing.getdents(fd, this.#entries);
        if (got <= 0) return got < 0 ? got : -ENOENT;
        while (this.#entries.next()) {
          if (this.#entries.ino === ino && !this.#entries.isDot) return this.#entries.name.slice();
        }
      }
    } finally {
      this.#backing.close(fd);
    }
  }
}
