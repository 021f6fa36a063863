/**
 * A primary's verifications: when one begins, how it goes on from session to session, what came of it.
 *
 * A pass is a number, the id reached, kept in `meta.json`: an interrupted one goes on there, also on the other node when
 * the roles were exchanged, since ids are the same. Where a difference was found the secondary leaves the set, is compared
 * as after a power cut, and the pass goes back to before the difference: that it is gone is seen, not believed. What the
 * primary's disk has lost is not brought to the secondary: it is written back from there, and looked at again.
 *
 * @module
 */

import type { Verified, Verifying } from "../journal/meta.ts";
import type { Copy } from "./copy.ts";
import type { Mended } from "./mend.ts";
import { CONTROL } from "./mutation.ts";
import { Pace } from "./pace.ts";
import type { Ask } from "./shared.ts";
import { sameBytes } from "./bytes.ts";
import type { Held } from "./objects.ts";
import type { Place, Rotten } from "./rot.ts";
import type { VerifySource, VerifySourceOptions } from "./verify_source.ts";
import type { Wire } from "./wire.ts";
import type { Seen, Witness } from "./witness.ts";

/** Part of the time beside applications that ask for something all the time. */
const SHARE = 0.01;
/** The same once something differs: what else does is to be known before the secondary leaves, which is soon. */
const SHARE_DIFFERS = 0.3;
/** Bytes of content in one step: beside applications, and while they are silent. */
const STEP_ACTIVE = 128 * 1024;
const STEP_SILENT = 1024 * 1024;
/** How often the id reached is written down. */
const SAVE_MS = 30_000;
/** Whether it is time for one that nobody asked for is looked at so often: steps come with each request. */
const DUE_MS = 1000;
/** Differences that come back as often are not made good by comparing. */
const REPAIRS_MAX = 5;
/** So long the secondary may take to say what it has of what this node's disk has lost. */
const GOOD_MS = 60_000;

/** Told one by one, of what a pass leaves as it is; more say nothing new, and a dying disk has millions. */
const LEFT_MAX = 100;

const UNREADABLE = "the disk does not give it, and nobody noted what it was";
const LOST_ON_BOTH = "the disk does not give it, and the other node has not what both had; restore it";

/** What goes through the objects. */
export type Comparing = Pick<
  VerifySource,
  "reached" | "said" | "counters" | "rotten" | "settle" | "recheck" | "onAsk" | "step" | "close"
>;

/** What {@link Verification} needs. */
export interface VerificationOptions {
  readonly copy: Copy;
  readonly makeSource: (
    wire: Wire,
    range: Pick<VerifySourceOptions, "from" | "until" | "saidBefore" | "onUnreadable">,
    witness: Witness | null,
  ) => Comparing;
  readonly witness: Witness;
  /** Looks at a file as the witness does. */
  readonly see: (held: Held) => Seen | null;
  /** Writes back what this node's disk has lost. */
  readonly mend: (rotten: Rotten, content: Uint8Array) => Mended;
  readonly onRotten: (place: Place, result: Mended) => void;
  /** Requests of applications served so far. */
  readonly requests: () => number;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** A verification begins by itself when the last one is so old; null: none does. */
  readonly scrubMs: number | null;
  readonly onVerified: (result: Verified & { readonly tookMs: number; readonly complete: boolean }) => void;
}

/** See the file's head. */
export class Verification {
  readonly #options: VerificationOptions;
  readonly #pace = new Pace(SHARE);
  readonly #startedAt: number;
  #pass: Verifying | null;
  #source: Comparing | null = null;
  #wire: Wire | null = null;
  /** The secondary understands what the witness tells. */
  #witnessed = false;
  /** What the secondary has told of in this pass. */
  readonly #differing = new Set<number>();
  /** When what has rotted began to wait for the secondary; 0: nothing does. */
  #rottenAt = 0;
  /** Frames of passes that have ended in this session. */
  #saidBefore = 0;
  #waiting = false;
  #savedAt = 0;
  /** When it was last looked at whether one is due. */
  #dueAt = -DUE_MS;
  /** Where to go back to: the id reached when the first difference was told. */
  #back: number | null = null;

  constructor(options: VerificationOptions) {
    this.#options = options;
    this.#startedAt = options.wall();
    this.#pass = options.copy.meta.value.verifying;
  }

  /** A person asks for one, or it is time. One that was interrupted goes on. */
  begin(): void {
    if (this.#pass !== null) return;
    const { copy, wall } = this.#options;
    const zero = { next: 1, objects: 0, bytes: 0, differences: 0, rotten: 0, mended: 0, repairs: 0 };
    this.#pass = { began: wall(), until: copy.nextId, ...zero };
    this.#save();
    this.#open();
  }

  /** The secondary has everything and hears by this wire. `witnessed`: it understands what the witness tells. */
  attach(wire: Wire, witnessed: boolean): void {
    this.#wire = wire;
    this.#witnessed = witnessed;
    this.#open();
  }

  /** The session is over. */
  detach(): void {
    this.#wire = null;
    this.#saidBefore = 0;
    if (this.#source === null || this.#pass === null) return;
    const { objects, bytes } = this.#source.counters;
    const back = this.#back;
    this.#pass = {
      ...this.#pass,
      next: back ?? this.#source.reached,
      objects: this.#pass.objects + objects,
      bytes: this.#pass.bytes + bytes,
      repairs: this.#pass.repairs + (back === null ? 0 : 1),
    };
    this.#source.close();
    this.#source = null;
    this.#back = null;
    this.#rottenAt = 0;
    this.#options.witness.flush();
    this.#save();
  }

  /** Takes what the secondary says. */
  onAsk(ask: Ask): void {
    this.#waiting = false;
    this.#source?.onAsk(ask);
  }

  /**
   * What a block was before the disk here has lost it; null: it has not, or nobody knows. Of what can be read only where the
   * secondary is about to be given it anew for differing elsewhere: the pass then comes to that block, and writes it back.
   *
   * @param hash of what is there; null: it cannot be read.
   */
  lost(held: Held, block: number, hash: Uint8Array | null): Uint8Array | null {
    if (hash !== null && !this.#isGivenAnew(held.id)) return null;
    const seen = this.#options.see(held);
    const known = seen === null ? null : this.#options.witness.recall(seen, block);
    return known === null || hash !== null && sameBytes(known, hash) ? null : known;
  }

  /** It tells not of all that differs: of a name it tells for the directory, and of so many only. */
  #isGivenAnew(id: number): boolean {
    if (this.#pass === null || !this.#witnessed) return false;
    return this.#differing.has(id) || this.#differing.size > 0 && id >= (this.#back ?? this.#pass.next);
  }

  /** The secondary has told of a difference. */
  onDifference(id: number): void {
    if (this.#pass === null || this.#source === null) return;
    this.#differing.add(id);
    this.#back ??= this.#source.reached;
    this.#pace.share = SHARE_DIFFERS;
    this.#pass = { ...this.#pass, differences: this.#pass.differences + 1 };
  }

  /** The secondary has told what it has of what this node's disk has lost; nothing: not what both had. */
  onGood(id: number, block: number, content: Uint8Array): void {
    this.#waiting = false;
    const rotten = this.#source?.settle(id, block);
    // It answers: the others wait for their turn.
    if (rotten !== undefined) this.#rottenAt = 0;
    if (rotten === undefined) return;
    if (content.length === 0) {
      // Where the secondary has something else again, it has told of a difference, or has what is here; unless nothing is here.
      if (rotten.actual === null) this.#tell(rotten, { outcome: "left", why: LOST_ON_BOTH });
      return;
    }
    const result = this.#options.mend(rotten, content);
    if (result.outcome !== "left") this.#source?.recheck(rotten);
    this.#tell(rotten, result);
  }

  #tell(place: Place, result: Mended): void {
    const { outcome } = result;
    if (this.#pass !== null) {
      const { rotten: left, mended } = this.#pass;
      const counted = outcome === "left" ? { rotten: left + 1 } : { mended: mended + 1 };
      this.#pass = { ...this.#pass, ...counted };
    }
    if (outcome !== "left" || (this.#pass?.rotten ?? 0) <= LEFT_MAX) this.#options.onRotten(place, result);
  }

  /** A secondary that does not answer holds no pass up for ever. */
  #watchRotten(source: Comparing): void {
    const waiting = source.rotten;
    if (waiting.length === 0) {
      this.#rottenAt = 0;
      return;
    }
    const now = this.#options.now();
    if (this.#rottenAt === 0) this.#rottenAt = now;
    else if (now - this.#rottenAt >= GOOD_MS) {
      this.#rottenAt = 0;
      this.#waiting = false;
      for (const rotten of waiting) {
        source.settle(rotten.id, rotten.block);
        this.#tell(rotten, { outcome: "left", why: "the other node did not say what it has" });
      }
    }
  }

  /** All copies were compared just now, by a resync of everything. */
  compared(result: { readonly objects: number; readonly bytes: number }): void {
    const nothing = { differences: 0, rotten: 0, mended: 0 };
    this.#options.copy.meta.update({ verified: { at: this.#options.wall(), ...nothing, ...result } });
  }

  /** Whether a step could be taken at once. */
  get busy(): boolean {
    return this.#source !== null && !this.#waiting &&
      this.#pace.allows(this.#options.now(), this.#options.requests());
  }

  /** A step could be taken soon. */
  get running(): boolean {
    return this.#source !== null && !this.#waiting;
  }

  /** One step. @throws {StreamError} when the secondary is gone, or something but content cannot be read. */
  step(): void {
    this.#begin();
    const source = this.#source;
    if (source === null) {
      this.#rottenAt = 0;
      return;
    }
    this.#watchRotten(source);
    if (!this.busy) return;
    const began = this.#options.now();
    const result = source.step(this.#pace.active(began) ? STEP_ACTIVE : STEP_SILENT);
    const now = this.#options.now();
    this.#pace.took(began, now);
    this.#waiting = result === "waiting";
    // With differences the secondary is about to leave.
    if (result === "done" && this.#back === null) this.#end(true);
    else if (result === "done") this.#waiting = true;
    else if (now - this.#savedAt >= SAVE_MS) this.#save();
  }

  /** For `status`. */
  status(): Readonly<Record<string, unknown>> {
    const pass = this.#pass;
    if (pass === null) return { verified: this.#options.copy.meta.value.verified, verifying: null };
    const { objects = 0, bytes = 0 } = this.#source?.counters ?? {};
    const next = this.#source?.reached ?? pass.next;
    return {
      verified: this.#options.copy.meta.value.verified,
      verifying: {
        began: pass.began,
        objects: pass.objects + objects,
        bytes: pass.bytes + bytes,
        differences: pass.differences,
        rotten: pass.rotten,
        mended: pass.mended,
        part: pass.until <= 1 ? 1 : Math.min(1, (next - 1) / (pass.until - 1)),
        waiting: this.#source === null,
      },
    };
  }

  #begin(): void {
    const { copy, scrubMs, wall } = this.#options;
    if (this.#pass !== null || scrubMs === null || this.#wire === null) return;
    const now = this.#options.now();
    if (now - this.#dueAt < DUE_MS) return;
    this.#dueAt = now;
    if (wall() - (copy.meta.value.verified?.at ?? this.#startedAt) >= scrubMs) this.begin();
  }

  #open(): void {
    const pass = this.#pass;
    if (pass === null || this.#wire === null || this.#source !== null) return;
    if (pass.repairs > REPAIRS_MAX) return this.#end(false);
    this.#waiting = false;
    this.#pace.share = SHARE;
    this.#source = this.#options.makeSource(this.#wire, {
      from: pass.next,
      until: pass.until,
      saidBefore: this.#saidBefore,
      onUnreadable: (place) => this.#tell(place, { outcome: "left", why: UNREADABLE }),
    }, this.#witnessed ? this.#options.witness : null);
  }

  #end(complete: boolean): void {
    const { copy, wall, onVerified } = this.#options;
    const pass = this.#pass;
    if (pass === null) return;
    const { objects = 0, bytes = 0 } = this.#source?.counters ?? {};
    const verified: Verified = {
      at: wall(),
      objects: pass.objects + objects,
      bytes: pass.bytes + bytes,
      differences: pass.differences,
      rotten: pass.rotten,
      mended: pass.mended,
    };
    this.#source?.close();
    this.#saidBefore += this.#source?.said ?? 0;
    this.#source = null;
    this.#pass = null;
    this.#differing.clear();
    copy.meta.update(complete ? { verified, verifying: null } : { verifying: null });
    if (complete) this.#options.witness.finish();
    if (complete) this.#wire?.json(CONTROL.verified, verified);
    onVerified({ ...verified, tookMs: wall() - pass.began, complete });
  }

  #save(): void {
    this.#savedAt = this.#options.now();
    const pass = this.#pass;
    if (pass === null) return;
    const { objects = 0, bytes = 0 } = this.#source?.counters ?? {};
    this.#options.copy.meta.update({
      verifying: {
        ...pass,
        next: this.#back ?? this.#source?.reached ?? pass.next,
        objects: pass.objects + objects,
        bytes: pass.bytes + bytes,
      },
    });
  }
}
