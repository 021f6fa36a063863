/**
 * What the threads of a replicator tell without having been asked, and what comes of it: a line of log, an event for the
 * agent, a session that ends, the end of the process.
 *
 * @module
 */

import { messageOf } from "../message.ts";
import type { AckerMessage } from "../replication/acker_worker.ts";
import type { DiskMessage } from "../replication/disk_worker.ts";
import type { KeptGrant } from "../replication/mounts.ts";
import { readDifference } from "../replication/verify_frame.ts";
import type { Link } from "./link.ts";
import type { RoadNews, Threads } from "./threads.ts";

/** What {@link News} needs. */
export interface NewsOptions {
  readonly threads: Pick<Threads, "ask" | "tell">;
  readonly link: Pick<Link, "is" | "lose" | "loseAny" | "partWith">;
  /** Tells whoever listens, the agent. */
  readonly broadcast: (event: string, body: Readonly<Record<string, unknown>>) => void;
  /** What INIT of a directory's mount granted must outlive this process: the kernel says it once. */
  readonly onGranted: (root: number, grant: KeptGrant) => void;
  /** Has the kernel forget what it has of a range of a file; closes the descriptor. */
  readonly forgetPages: (
    fd: number,
    range: { readonly nodeid: number; readonly offset: number; readonly length: number },
  ) => Promise<void>;
  /** Ends the process: the next one goes on. */
  readonly die: (reason: string) => void;
  /** One line of log. */
  readonly log: (line: string) => void;
}

/** Takes the threads' messages, one method for each thread. */
export class News {
  readonly #options: NewsOptions;

  constructor(options: NewsOptions) {
    this.#options = options;
  }

  /** From the data road. */
  fromRoad(message: RoadNews): void {
    const { broadcast, die, link, log, onGranted } = this.#options;
    switch (message.kind) {
      case "road-ready":
        return log(`the copy was opened ${message.recovered}`);
      case "road-failed":
        return die(message.reason);
      case "granted":
        return onGranted(message.root, message.grant);
      case "link-lost":
        return void link.lose(message.session, message.reason);
      case "caught-up":
        log(`caught up at sequence ${message.sequence}`);
        return broadcast("caught-up", {
          sequence: message.sequence,
          ...("resync" in message ? { resync: message.resync } : {}),
        });
      case "verified":
        log(`the copies were verified: ${JSON.stringify(message)}`);
        return broadcast("verified", { ...message });
      case "rotten":
        return void this.#rotten(message);
      case "unmounted":
        return log(`the mount of directory ${message.root} is gone`);
      case "apply-failed":
        log(message.reason);
        broadcast("failed", { reason: message.reason, errno: message.errno });
        return void link.loseAny(message.reason);
      case "quarantined":
        log(`${message.entries} entries, ${message.bytes} bytes were saved to ${message.path}`);
        return broadcast("quarantined", { ...message });
      case "way-back":
        log(`way back: ${JSON.stringify(message)}`);
        return broadcast("way-back", { ...message });
      case "log":
        return log(message.message);
    }
  }

  /** From the thread that hears the peer's acknowledgements. */
  fromAcker(message: AckerMessage): void {
    if (message.kind === "peer-lost" || message.kind === "peer-failed") {
      const late = message.kind === "peer-lost" && message.late;
      void this.#options.link.partWith(message.session, message.reason, late);
    } else if (message.kind === "difference") void this.#differs(message.session, message.difference);
    else if (message.kind === "good" && this.#options.link.is(message.session)) {
      const { object, block, content } = message;
      this.#options.threads.tell({ kind: "good", object, block, content: content.toBase64() });
    }
  }

  /** From the thread that brings to disk. */
  fromDisk(message: DiskMessage): void {
    const { link, threads } = this.#options;
    if (message.kind === "checkpoint") {
      threads.tell({ kind: "checkpointed", token: message.token, failed: message.failed });
      if (message.failed !== 0) void this.#diskRefused(message.failed);
    } else if (message.kind === "stream-lost") void link.lose(message.session, message.reason);
    else if (message.kind === "disk-error") void this.#diskRefused(message.errno);
  }

  /** The disk here has lost something: what the kernel has of it may be as rotten. */
  async #rotten({ kind: _, stale, ...rotten }: Extract<RoadNews, { kind: "rotten" }>): Promise<void> {
    const { broadcast, forgetPages, log } = this.#options;
    log(`the disk has lost what it was given: ${JSON.stringify(rotten)}`);
    const { offset, length } = rotten;
    if (stale !== null) await forgetPages(stale.fd, { nodeid: stale.nodeid, offset, length });
    broadcast("rotten", rotten);
  }

  /** A verification found something: told before it is repaired. */
  async #differs(session: string, text: string): Promise<void> {
    const { broadcast, link, log, threads } = this.#options;
    if (!link.is(session)) return;
    try {
      const difference = readDifference(text);
      const where = await threads.ask({ kind: "difference", object: difference.id }) as { path: string };
      log(`the copies differ: ${where.path}: ${text}`);
      broadcast("difference", { ...difference, ...where });
    } catch (error) {
      log(`Cannot take a difference that the secondary tells: ${messageOf(error)}`);
      await link.lose(session, messageOf(error));
    }
  }

  /**
   * The kernel says it once and forgets the pages: only a comparison that reads from the disk can make this copy a member
   * again.
   */
  async #diskRefused(errno: number): Promise<void> {
    const { broadcast, die, link, log, threads } = this.#options;
    const reason = `the disk refused a sync: errno ${errno}`;
    try {
      const { news, secondary } = await threads.ask({ kind: "doubt" }) as {
        news: boolean;
        secondary: boolean;
      };
      if (news || secondary) broadcast("failed", { reason, errno });
      if (secondary) await link.loseAny(reason);
      else log(`${reason}; this copy is compared when it follows another`);
    } catch (error) {
      // A copy that cannot even be marked must not go on as if nothing was.
      die(`${reason}, which could not be written down: ${messageOf(error)}`);
    }
  }
}
