/**
 * What a secondary has its disk thread bring to disk, while it goes on applying.
 *
 * @module
 */

import { backing } from "../system/backing.ts";
import { wake } from "../system/worker_io.ts";
import { DISK_FLAG, type Shared, WORD } from "./shared.ts";

/** Orders to the disk thread. */
export class DiskOrders {
  readonly #shared: Shared;
  readonly #pause: () => void;
  /** Which sync of the file system is waited for, of those the disk thread counts; 0: none. */
  #awaited = 0;

  /** @param pause waits a moment, for a ring that is full. */
  constructor(shared: Shared, pause: () => void) {
    this.#shared = shared;
    this.#pause = pause;
  }

  /** An fsync that the peer's applications wait for, of the record `sequence`; the descriptor is the disk thread's to close. */
  fsync(fd: number, dataOnly: boolean, sequence: number): void {
    this.#push({ fd, flags: dataOnly ? DISK_FLAG.dataOnly : 0, token: sequence, slot: -1 });
  }

  /** Everything beneath to disk: what comes meanwhile is applied meanwhile. 0: done; 1: not yet, ask again; −errno. */
  fileSystem(fd: number): number {
    const shared = this.#shared;
    if (this.#awaited === 0) {
      this.#awaited = shared.get(WORD.fileSystemSyncs) + 1;
      this.#push({ fd: backing.dup(fd), flags: DISK_FLAG.fileSystem, token: 0, slot: -1 });
    }
    if (shared.get(WORD.fileSystemSyncs) < this.#awaited) return 1;
    this.#awaited = 0;
    return -shared.get(WORD.fileSystemError);
  }

  /** Whoever waited for a file system does so no more. */
  forget(): void {
    this.#awaited = 0;
  }

  #push(entry: { fd: number; flags: number; token: number; slot: number }): void {
    while (!this.#shared.pushDisk(entry)) this.#pause();
    wake(this.#shared.memory.wake.disk);
  }
}
