/**
 * The data road, as a connection of the kernel sees it.
 *
 * @module
 */

import type { Mutation } from "../replication/mutation.ts";
import type { Held } from "../replication/objects.ts";
import type { Request } from "./request.ts";

/** A mutation found in the log under the id of a resent request. */
export interface Logged {
  readonly op: number;
  readonly id: number;
  readonly length: number;
}

/** How an fsync is to be answered. */
export interface SyncHow {
  readonly dataOnly: boolean;
  readonly size: number;
  readonly relaxed: boolean;
}

/** The data road, as a connection sees it. */
export interface Road {
  /**
   * Numbers, logs, executes and sends a mutation. Answers what was done, or −errno with nothing changed. A reply that
   * follows goes through {@link answer}.
   */
  mutate(mutation: Mutation, unique: number): number;
  /**
   * Gives the reply to the last mutation, of `length` bytes at `address`, when every member has it; `relaxed`: while the
   * secondary is not too far behind. `root`: the directory whose kernel asked.
   */
  answer(root: number, bytes: Uint8Array, address: number, length: number, relaxed: boolean): void;
  /** Gives a reply that waits for nobody: bytes, or −errno. */
  reply(root: number, address: number, length: number): number;
  /**
   * Answers once object `held`, or all that was written to it so far, is on every member's disk.
   * `size`: of the write that is answered, or −1 for an fsync. `relaxed`: this node's disk is enough.
   */
  sync(held: Held, request: Request, root: number, how: SyncHow): void;
  /** Called before the kernel is shown an object's attributes. */
  tellTime(id: number): void;
  /**
   * The kernel tells the mtime, nanoseconds since 1970, of a file that it has written itself. True: it is what that write made it but
   * for a moment, and is set before anyone is shown it. False: it is to be set now.
   */
  deferTime(held: Held, time: bigint): boolean;
  /** The mutation a former process logged for this request and applied, if it did. */
  logged(unique: number): Logged | undefined;
  /**
   * Notes, where it outlives the process, that the request is about to exchange two names that no log tells of, and which object
   * has the first. Unique 0: it was answered.
   */
  noteSwap(root: number, unique: number, id: number): void;
  /** The object that {@link noteSwap} noted for this request; 0: none. */
  swapOf(root: number, unique: number): number;
  /** Takes a fresh id. */
  allocate(): number;
  /** Puts the descriptor of an object that is about to lose its last name into the keeper's hands. False: it cannot. */
  keepOrphan(held: Held): boolean;
  /** It kept its name: the keeper need not hold it. */
  unkeepOrphan(held: Held): void;
  /** The kernel asks no more about an orphan. */
  releaseOrphan(held: Held): void;
}
