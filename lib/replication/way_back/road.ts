/**
 * The way back, as the thread of the data road has it: opened for the directories of a role, cleared away a little at a
 * time, and gone when a person forces a copy that is part of a resync to serve.
 *
 * Going back: the tree is restored and synced; `sweeping` is written down; what the resync made is cleared away; the copy's
 * ledger says what it was; the header is removed. Killed anywhere, it goes on from the last of these that is on disk.
 *
 * @module
 */

import type { Storage } from "../../journal/storage.ts";
import type { Backing } from "../../system/backing.ts";
import type { Copy } from "../copy.ts";
import { CopyError } from "../copy.ts";
import { handleMap } from "../ids_beneath.ts";
import { GraveyardError } from "./graveyard.ts";
import type { Header } from "./header.ts";
import { restore, RestoreError } from "./restore.ts";
import { WayBack, type WayBackWorld } from "./way_back.ts";

/** ENOSPC and EDQUOT. */
const FULL: readonly number[] = [28, 122];
/** How long a step may take, while applications or a resync go on beside it, and while nothing does. */
const SLICE_NS = 2e6;
const SLICE_ALONE_NS = 50e6;
/** Between two slices of clearing away. */
const PAUSE_NS = 10e6;

/** What the thread tells of it. */
export interface WayBackMessage {
  readonly kind: "way-back";
  readonly what: "kept" | "given-up" | "restored";
  readonly reason: string;
  readonly asOf: number;
  readonly began: number;
  readonly exact: boolean;
}

/** What {@link RoadWayBack} needs. */
export interface RoadWayBackWorld {
  readonly copy: Copy;
  readonly backing: Backing;
  readonly addressOf: WayBackWorld["addressOf"];
  readonly cloneRange: WayBackWorld["cloneRange"];
  readonly maxBytes: number | null;
  /** Opens the storage, made when it is missing, with a descriptor on its file system. */
  readonly openStorage: () => { readonly storage: Storage; readonly fd: number };
  /** Whether there is one. */
  readonly exists: () => boolean;
  readonly sync: (root: number) => number;
  readonly now: () => number;
  readonly say: (message: WayBackMessage) => void;
}

/** The way back of one module. */
export class RoadWayBack {
  readonly #world: RoadWayBackWorld;
  #opened: { readonly storage: Storage; readonly fd: number } | null = null;
  #way: WayBack | null = null;
  #roots: readonly number[] = [];
  #going: Generator<void> | null = null;
  #failed: RestoreError | null = null;
  readonly #progress = { objects: 0, names: 0, bytes: 0 };
  #clearAt = 0;

  constructor(world: RoadWayBackWorld) {
    this.#world = world;
  }

  /** For a role that follows, with descriptors of its directories. */
  open(roots: readonly number[]): WayBack {
    const { copy, backing, addressOf, cloneRange, maxBytes, say } = this.#world;
    this.close();
    this.#opened ??= this.#world.openStorage();
    const { storage, fd } = this.#opened;
    this.#roots = roots;
    this.#way = WayBack.open({
      storage,
      storageFd: fd,
      backing,
      roots,
      addressOf,
      cloneRange,
      maxBytes,
      onKept: (header) => say(messageOf("kept", "", header)),
      onGivenUp: (reason) => say(messageOf("given-up", reason, this.#way?.header ?? null)),
    }, copy.meta.value.copy === "inconsistent");
    return this.#way;
  }

  /** The copy is served: what was kept of before leads nowhere any more. */
  served(roots: readonly number[]): void {
    if (this.#way === null && !this.#world.exists()) return;
    const way = this.open(roots);
    way.end();
  }

  /**
   * A person forces a copy to serve. Answers true when it stands where it may: it was part of no resync, it has gone back, or
   * there is no way back. False: it is on its way; ask again.
   *
   * @throws {CopyError} when it cannot go back. The next time it serves damaged as it is.
   */
  goBack(roots: readonly number[]): boolean {
    if (this.#failed !== null) {
      const { message, errno } = this.#failed;
      this.#failed = null;
      if (FULL.includes(errno)) {
        throw new CopyError(
          `${message}; the disk is full: make room beneath, then say \`force-primary\` once more`,
        );
      }
      throw new CopyError(
        `${message}; the state of before the resync is lost. Start the other node, or serve the copy damaged as it is by ` +
          "`force-primary` once more",
      );
    }
    if (this.#going !== null) return false;
    if (this.#world.copy.meta.value.copy !== "inconsistent") return true;
    if (this.#way === null && !this.#world.exists()) return true;
    if (roots.length === 0) {
      throw new CopyError(
        "Cannot go back to what was before the resync: the keeper does not hold the directories; start the module first",
      );
    }
    const way = this.open(roots);
    if (way.header === null || way.header.state === "given-up") return true;
    // What was compared is not so for long: should it be cut short and follow again, nothing of that counts.
    this.#world.copy.noteCompared(null);
    this.#going = this.#restore(way, way.header);
    return false;
  }

  /** Some of what there is to do. Answers how long the thread may wait, milliseconds; null: nothing to do. */
  step(): number | null {
    if (this.#going !== null) {
      this.#goOn(this.#going);
      return 0;
    }
    const now = this.#world.now();
    if (this.#way?.clearing !== true) return null;
    if (now < this.#clearAt) return 10;
    this.#clearAt = now + PAUSE_NS;
    while (this.#way.step() && this.#world.now() < now + SLICE_NS);
    return 10;
  }

  /** For `status`. */
  status(): unknown {
    const header = this.#way?.header ?? null;
    if (header === null) return null;
    const { state, asOf, began, exact, reason } = header;
    const bytes = this.#way?.bytes ?? 0;
    const restoring = this.#going === null ? null : this.#progress;
    return { state, asOf, began, exact, reason, bytes, restoring };
  }

  /** Lets go of the directories. */
  close(): void {
    this.#going?.return(undefined);
    this.#going = null;
    this.#way?.close();
    this.#way = null;
  }

  #goOn(going: Generator<void>): void {
    const until = this.#world.now() + SLICE_ALONE_NS;
    try {
      while (this.#world.now() < until) {
        if (going.next().done !== true) continue;
        this.#going = null;
        return;
      }
    } catch (error) {
      this.#going = null;
      const message = error instanceof Error ? error.message : String(error);
      const errno = error instanceof RestoreError || error instanceof GraveyardError ? error.errno : 0;
      this.#failed = new RestoreError(message, errno, { cause: error });
      // With more room it can be done; what is damaged stays so.
      if (!FULL.includes(errno)) this.#way?.giveUp(message);
    }
  }

  *#restore(way: WayBack, header: Header): Generator<void> {
    const { copy, backing, addressOf, cloneRange, say } = this.#world;
    Object.assign(this.#progress, { objects: 0, names: 0, bytes: 0 });
    const handles = handleMap(copy.map);
    if (header.state === "kept") {
      const { log, graveyard } = way;
      const roots = this.#roots;
      yield* restore({
        backing,
        roots,
        log,
        graveyard,
        handles,
        addressOf,
        cloneRange,
        progress: this.#progress,
      });
      this.#sync();
      way.sweeping();
    }
    yield* way.graveyard.clear(true);
    this.#sync();
    copy.map.sync();
    copy.wentBack(header);
    way.end();
    say(messageOf("restored", "", header));
  }

  #sync(): void {
    for (const root of this.#roots) {
      const synced = this.#world.sync(root);
      if (synced < 0) throw new RestoreError(`Cannot restore: the disk refused a sync (errno ${-synced})`);
    }
  }
}

function messageOf(what: WayBackMessage["what"], reason: string, header: Header | null): WayBackMessage {
  const { asOf = 0, began = 0, exact = true } = header ?? {};
  return { kind: "way-back", what, reason, asOf, began, exact };
}
