/**
 * Puts what loses its last name while it is open into the keeper's hands.
 *
 * A keeper that is away holds nobody up for long: past its time the file is held here alone, and offered again until the
 * keeper has it. Until then the death of this process would be the end of the file: a keeper that was restarted asks for
 * everything by itself, one that only hung does not know that it missed something.
 *
 * @module
 */

import type { Answer, KeeperLine } from "../system/keeper_line.ts";
import { ORPHAN_PREFIX, orphanKey } from "./orphan_key.ts";

/** What the keeper is told at a time: well below what a socket takes at once. */
const OFFERED_MAX = 64;
/** Pause between two attempts to reach a keeper, and between two looks for its answer. */
const AGAIN_NS = 200e6;
const LOOK_NS = 10e6;
/** More than a keeper takes. */
const UNTOLD_MAX = 16_384;

/** What {@link OrphanKeeping} needs. */
export interface OrphanKeepingOptions {
  readonly line: Pick<KeeperLine, "call" | "post" | "answers">;
  readonly module: string;
  /** Of this process, whose descriptors are copied. */
  readonly pid: number;
  /** One line of log. */
  readonly log: (message: string) => void;
  /** Nanoseconds of a clock that only goes forward. */
  readonly now: () => number;
}

/** What the keeper does not know yet of one orphan. */
interface Untold {
  readonly id: number;
  /** To be kept; −1: to be dropped. */
  readonly fd: number;
  /** It may have reached the keeper, though no answer came. */
  sent: boolean;
}

/** Keeps and drops orphans, for one process. */
export class OrphanKeeping {
  readonly #options: OrphanKeepingOptions;
  /** By the orphan's id. An entry is never changed into another's meaning: an answer is about the very entry it was asked for. */
  readonly #untold = new Map<number, Untold>();
  /** How many of them this process holds alone. */
  #alone = 0;
  /** On its way to the keeper. */
  #offered: readonly Untold[] | null = null;
  #nextAt = 0;

  constructor(options: OrphanKeepingOptions) {
    this.#options = options;
  }

  /** Whether there is something the keeper has not been told. */
  get waiting(): boolean {
    return this.#untold.size > 0;
  }

  /**
   * Called before the last name goes. Without a keeper this process alone holds the file; to refuse would be an error to
   * the application for certain.
   *
   * @param fd stays open until {@link drop}.
   * @returns whether it is held.
   */
  keep(id: number, fd: number): boolean {
    const entry = { id, fd, sent: false };
    if (this.#alone > 0) this.#look();
    // Its time was waited for already: from here on nobody waits until it has answered.
    if (this.#alone === 0) {
      const { method, params } = this.#request(entry);
      const called = this.#options.line.call(method, params);
      if (called !== "away") {
        this.#forget(id);
        return called === "done";
      }
      entry.sent = true;
      this.#options.log(
        "no keeper answers: what loses its name while it is open is held here alone until one does",
      );
    }
    return this.#note(entry);
  }

  /** It is not needed any more, or has kept its name. */
  drop(id: number): void {
    const known = this.#untold.get(id);
    if (known !== undefined && known.fd >= 0 && !known.sent) return this.#forget(id);
    const entry = { id, fd: -1, sent: false };
    if (this.#untold.size === 0) {
      const { method, params } = this.#request(entry);
      if (this.#options.line.call(method, params, 0) !== "away") return;
    }
    this.#note(entry);
  }

  /** A role ends, and with it all it held: `ids`. */
  dropAll(ids: readonly number[]): void {
    const { line, module } = this.#options;
    if (this.#untold.size === 0 && line.call("drop", { module, prefix: ORPHAN_PREFIX }, 0) !== "away") return;
    for (const id of ids) this.drop(id);
  }

  /** Offers what the keeper has not been told; called often, and never waits. */
  step(): void {
    if (this.#untold.size === 0 || this.#options.now() < this.#nextAt) return;
    this.#look();
    if (this.#offered === null && this.#untold.size > 0) this.#offer();
  }

  #offer(): void {
    const entries = [...this.#untold.values().take(OFFERED_MAX)];
    for (const entry of entries) entry.sent = true;
    const reached = this.#options.line.post(entries.map((entry) => this.#request(entry)));
    this.#offered = reached ? entries : null;
    this.#pause(reached ? LOOK_NS : AGAIN_NS);
  }

  #look(): void {
    if (this.#offered === null) return;
    const answers = this.#options.line.answers();
    if (answers === null) return this.#pause(LOOK_NS);
    const offered = this.#offered;
    this.#offered = null;
    if (answers === "lost") return this.#pause(AGAIN_NS);
    const before = this.#alone;
    offered.forEach((entry, index) => this.#told(entry, answers[index] ?? "later"));
    if (before > 0 && this.#alone === 0) {
      this.#options.log("the keeper answers again, and holds what was held here alone");
    }
  }

  #told(entry: Untold, answer: Answer): void {
    if (answer === "later") return this.#pause(AGAIN_NS);
    if (answer === "refused" && entry.fd >= 0) {
      this.#options.log(
        `the keeper refuses object ${entry.id}, open and without a name: it would be lost with this process`,
      );
    }
    // Else another wish took its place meanwhile.
    if (this.#untold.get(entry.id) === entry) this.#forget(entry.id);
  }

  #note(entry: Untold): boolean {
    this.#forget(entry.id);
    // What is not dropped costs the keeper a descriptor until the next role; what is not kept would be lost.
    if (this.#untold.size >= UNTOLD_MAX) return false;
    this.#untold.set(entry.id, entry);
    if (entry.fd >= 0) this.#alone++;
    return true;
  }

  #forget(id: number): void {
    const known = this.#untold.get(id);
    if (known === undefined) return;
    this.#untold.delete(id);
    if (known.fd >= 0) this.#alone--;
  }

  #request({ id, fd }: Untold): { readonly method: string; readonly params: Record<string, unknown> } {
    const { module, pid } = this.#options;
    const key = orphanKey(id);
    return fd < 0
      ? { method: "drop", params: { module, key } }
      : { method: "keep", params: { module, key, pid, fd } };
  }

  #pause(ns: number): void {
    this.#nextAt = this.#options.now() + ns;
  }
}
