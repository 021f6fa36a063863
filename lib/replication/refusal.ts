/**
 * A disk that refused: when the copy may try again.
 *
 * Each try costs the primary a session, and tells a person of another failure; a full disk stays full for hours. So the
 * secondary stays away until there is room, and longer each time it failed all the same.
 *
 * @module
 */

import type { Backing } from "../system/backing.ts";
import { Statfs } from "../system/statx.ts";
import { CopyError } from "./copy.ts";

/** EIO, ENOSPC, EROFS, EDQUOT: the disk refuses, the tree stands at a known place. */
const DISK_REFUSALS: readonly number[] = [5, 28, 30, 122];
/** First pause after a refusal, milliseconds; doubled with each until caught up. */
const PAUSE_MIN_MS = 1000;
const PAUSE_MAX_MS = 30_000;
/** Free on a file system before a copy that found it full tries again. */
const ROOM_BYTES = 16 << 20;

/** Whether an error means that the disk refuses, and not that the copies differ. */
export function isDiskRefusal(errno: number): boolean {
  return DISK_REFUSALS.includes(errno);
}

/** What a {@link Refusal} asks. */
export interface RefusalWorld {
  /** Milliseconds of a clock that does not go back. */
  readonly now: () => number;
  /** Whether the disk of the log has room again. */
  readonly logHasRoom: () => boolean;
}

/** What is remembered of refusals since the copy last had everything. */
export class Refusal {
  readonly #world: RefusalWorld;
  #pauseMs = 0;
  #until = 0;
  #full = false;

  constructor(world: RefusalWorld) {
    this.#world = world;
  }

  /** The disk refused. */
  note(errno: number): void {
    this.#pauseMs = Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, 2 * this.#pauseMs));
    this.#until = this.#world.now() + this.#pauseMs;
    this.#full = errno === 28;
  }

  /** The copy has everything: the disk takes what it is given. */
  forget(): void {
    this.#pauseMs = this.#until = 0;
    this.#full = false;
  }

  /**
   * Asks before a try. `hasRoom`, of the directories, is asked after a full disk only.
   *
   * @throws {CopyError} when it is not time.
   */
  check(hasRoom: () => boolean): void {
    if (this.#world.now() < this.#until) {
      throw new CopyError("Cannot follow now: the disk refused; tries again by itself");
    }
    if (this.#full && !(this.#world.logHasRoom() && hasRoom())) {
      throw new CopyError("Cannot follow now: the disk is full; make room, then it goes on by itself");
    }
  }
}

/** Whether the file systems of these directories have room again. */
export function haveRoom(backing: Backing, roots: readonly number[]): boolean {
  const statfs = new Statfs();
  return roots.every((fd) => backing.fstatfs(fd, statfs) >= 0 && statfs.bfree * statfs.frsize >= ROOM_BYTES);
}
