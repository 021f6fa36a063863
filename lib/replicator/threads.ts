/**
 * The threads of a replicator, as its main thread sees them: what each is told, and what comes back.
 *
 * @module
 */

import { messageOf } from "../message.ts";
import type { AckerCommand, AckerMessage } from "../replication/acker_worker.ts";
import type { DiskCommand, DiskMessage } from "../replication/disk_worker.ts";
import type { RoadCommand, RoadMessage, RoadStart } from "../replication/road_worker.ts";
import { createSharedMemory, Mailbox, Post, Shared, type SharedMemory, WORD } from "../replication/shared.ts";
import { delay, logLine } from "../system/replicator_host.ts";
import { RpcError } from "../system/rpc_error.ts";
import { makeEventfd, wake } from "../system/worker_io.ts";

/** A question to the data road, before it has its number. */
export type Asked = Omit<RoadCommand, "id"> & { kind: RoadCommand["kind"] } & Record<string, unknown>;

/** What the data road tells without having been asked. */
export type RoadNews = Exclude<RoadMessage, { kind: "reply" }>;

/** What {@link Threads} needs. */
export interface ThreadsOptions {
  /** Where a thread's program is. */
  readonly locate: (name: "road" | "acker" | "disk") => URL;
  /** What is in flight, where the next process finds it. */
  readonly inflight: { readonly address: number; readonly bytes: ArrayBuffer };
  readonly onRoad: (message: RoadNews) => void;
  readonly onAcker: (message: AckerMessage) => void;
  readonly onDisk: (message: DiskMessage) => void;
  /** Ends the process: a thread that fails, or hangs, takes it along, and another goes on with the same descriptors. */
  readonly die: (reason: string) => void;
}

/** How long the data road may need for a command. */
const COMMAND_MS = 30_000;
/** A thread that waits for the disk takes its next command later. */
const POST_AGAIN_MS = 2;
const DISK_MAIL_BYTES = 65536 + 8;

/** Three threads. They read their programs when they are made, and begin with {@link Threads.start}. */
export class Threads {
  readonly memory: SharedMemory;
  readonly shared: Shared;
  readonly #options: ThreadsOptions;
  readonly #roadMail: Mailbox;
  readonly #ackerPost: Post;
  readonly #diskMail = new SharedArrayBuffer(DISK_MAIL_BYTES);
  readonly #diskPost: Post;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  readonly #begin: Record<"road" | "acker" | "disk", (start: unknown) => Promise<void>>;
  #nextId = 1;
  #mailQueue: Promise<void> = Promise.resolve();

  constructor(options: ThreadsOptions) {
    this.#options = options;
    const eventfds = { road: makeEventfd(), acker: makeEventfd(), disk: makeEventfd() };
    this.memory = createSharedMemory(eventfds, options.inflight.address);
    this.shared = new Shared(this.memory, options.inflight.bytes);
    const { mail } = this.memory;
    this.#roadMail = new Mailbox(mail.road);
    const later = (work: () => void): void => void delay(POST_AGAIN_MS).then(work);
    this.#ackerPost = new Post({
      mailbox: new Mailbox(mail.acker),
      wake: () => wake(eventfds.acker),
      later,
    });
    this.#diskPost = new Post({
      mailbox: new Mailbox(this.#diskMail),
      wake: () => wake(eventfds.disk),
      later,
    });
    this.#begin = {
      road: this.#load("road", (message) => this.#fromRoad(message as RoadMessage)),
      acker: this.#load("acker", (message) => options.onAcker(message as AckerMessage)),
      disk: this.#load("disk", (message) => options.onDisk(message as DiskMessage)),
    };
  }

  /** Tells the threads to begin; resolves when all have. */
  async start(road: Omit<RoadStart, "memory">, authority: string): Promise<void> {
    const { memory } = this;
    await Promise.all([
      this.#begin.road({ ...road, memory }),
      this.#begin.acker({ memory, authority }),
      this.#begin.disk({ memory, mail: this.#diskMail }),
    ]);
  }

  /** Has all threads end. */
  stop(): void {
    this.shared.set(WORD.stopping, 1);
    for (const fd of Object.values(this.memory.wake)) wake(fd);
  }

  /** Asks the data road. Its mailbox holds one command: they are put in one after the other. */
  ask(command: Asked): Promise<unknown> {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const settled = answer.then(() => {}, () => {});
    this.#mailQueue = this.#mailQueue.then(() => {
      this.#roadMail.put({ ...command, id });
      wake(this.memory.wake.road);
      return Promise.race([settled, delay(COMMAND_MS)]).then(() => {
        if (!this.#waiting.has(id)) return;
        this.#options.die(`the data road did not answer "${command.kind}" within ${COMMAND_MS} ms`);
      });
    });
    return answer;
  }

  /** For what nobody waits for: that it could not be done is in the log. */
  tell(command: Asked): void {
    this.ask(command).catch((error) => logLine(`Cannot do "${command.kind}": ${messageOf(error)}`));
  }

  /** Tells the acknowledging thread. */
  toAcker(command: AckerCommand): void {
    this.#ackerPost.send(command);
  }

  /** Tells the disk thread. */
  toDisk(command: DiskCommand): void {
    this.#diskPost.send(command);
  }

  /** One thread. Answers how it is told to begin. */
  #load(
    name: "road" | "acker" | "disk",
    handle: (message: unknown) => void,
  ): (start: unknown) => Promise<void> {
    const worker = new Worker(this.#options.locate(name), { type: "module" });
    const ready = Promise.withResolvers<void>();
    worker.onmessage = (event: MessageEvent<{ kind: string }>) => {
      if (event.data.kind.endsWith("-ready")) ready.resolve();
      handle(event.data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#options.die(`thread ${name}: ${event.message}`);
    };
    return (start) => {
      worker.postMessage(start);
      return ready.promise;
    };
  }

  #fromRoad(message: RoadMessage): void {
    if (message.kind !== "reply") return this.#options.onRoad(message);
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error === undefined) waiting?.resolve(message.result);
    else if (message.code === undefined) waiting?.reject(new Error(message.error));
    else waiting?.reject(new RpcError(message.code, message.error));
  }
}
