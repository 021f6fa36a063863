/**
 * What the frames that were received, but not worked off, are about to change: noted in advance, so that one sync is made for
 * all of them.
 *
 * Only a guess, that costs no proof: what it misses is noted by the call that changes it, with a sync of its own; what it
 * notes needlessly takes room.
 *
 * @module
 */

import { OFFSET, OP } from "../../journal/record.ts";
import type { Backing } from "../../system/backing.ts";
import { Dirents } from "../../system/dirents.ts";
import { O, S_IF } from "../../system/linux.ts";
import { Statx } from "../../system/statx.ts";
import { u64 } from "../bytes.ts";
import { CONTROL_FIRST, FRAME_HEADER, type FrameReader } from "../frame.ts";
import { CONTROL, decodeMutation, Mutation, RecordError, SETATTR, SETATTR_BITS } from "../mutation.ts";
import { nameKey } from "../limbo.ts";
import { decodeObject, type Entry, type ObjectFrame, PART } from "../object_frame.ts";
import type { Held, Objects } from "../objects.ts";
import { StreamError } from "../stream.ts";
import type { WayBack } from "./way_back.ts";

/** Readings of a directory, some hundred names each. */
const BATCHES_MAX = 32;
const TO_END = Number.MAX_SAFE_INTEGER;

/** What {@link Foresight} needs. */
export interface ForesightOptions {
  readonly way: WayBack;
  readonly backing: Backing;
  readonly objects: Objects;
}

/** Looks ahead. */
export class Foresight {
  readonly #way: WayBack;
  readonly #backing: Backing;
  readonly #objects: Objects;
  readonly #stat = new Statx();
  readonly #mutation = new Mutation();
  readonly #entries = new Dirents(32_768);

  constructor({ way, backing, objects }: ForesightOptions) {
    this.#way = way;
    this.#backing = backing;
    this.#objects = objects;
  }

  /** Looks at every frame that is here whole. The current one is not worked off yet, either. */
  look(reader: Pick<FrameReader, "bytes" | "view" | "offset" | "length" | "ahead">): void {
    if (!this.#way.recording) return;
    this.#frame(reader, reader.offset, reader.length);
    reader.ahead((offset, length) => this.#frame(reader, offset, length));
  }

  /** Ranges of a file that were asked for. */
  asked(id: number, ranges: readonly { readonly offset: number; readonly length: number }[]): void {
    if (!this.#way.recording) return;
    const held = this.#objects.get(id);
    if (held === undefined) return;
    for (const { offset, length } of ranges) this.#way.content(held.path, offset, length);
    this.#way.foreseen();
  }

  #frame({ bytes, view }: Pick<FrameReader, "bytes" | "view">, offset: number, length: number): void {
    const op = view.getUint8(offset + OFFSET.op);
    try {
      if (op < CONTROL_FIRST) {
        decodeMutation(bytes, view, offset, 0, this.#mutation);
        this.#record(this.#mutation);
      } else if (op === CONTROL.object) this.#object(decodeObject(bytes, view, offset, length));
      else if (op === CONTROL.data && length > FRAME_HEADER) this.#data(view, offset);
    } catch (error) {
      // Whoever works it off says so.
      if (!(error instanceof RecordError || error instanceof StreamError)) throw error;
    }
    this.#way.foreseen();
  }

  #data(view: DataView, offset: number): void {
    const held = this.#objects.get(u64(view, offset + OFFSET.id));
    if (held === undefined) return;
    this.#way.content(held.path, u64(view, offset + OFFSET.a), u64(view, offset + OFFSET.b));
  }

  #object({ parts, state, entries, content }: ObjectFrame): void {
    const held = this.#objects.get(state.id);
    if (held === undefined || (parts & PART.gone) !== 0) return;
    this.#way.object(held.path);
    for (const { name } of entries) this.#newName(held, name);
    const listed = PART.begin | PART.end;
    if (held.type === S_IF.DIR && (parts & listed) === listed) this.#others(held, entries);
    if (held.type !== S_IF.REG || this.#backing.statx(held.path, this.#stat) < 0) return;
    const { size, mtime } = this.#stat;
    if (size > state.size) this.#way.content(held.path, state.size, TO_END - state.size);
    const differs = size !== state.size || mtime !== state.mtime;
    if ((parts & PART.content) !== 0 && differs) this.#way.content(held.path, 0, content.length);
  }

  #newName(parent: Held, name: Uint8Array): void {
    if (parent.type !== S_IF.DIR || this.#backing.statxAt(parent.path, name, this.#stat) >= 0) return;
    this.#way.name(parent.path, name);
  }

  /** Names that a directory has and the source has not: they will lead nowhere. */
  #others(held: Held, entries: readonly Entry[]): void {
    const kept = new Set(entries.map(({ name }) => nameKey(name)));
    const fd = this.#backing.reopen(held.path, O.RDONLY | O.DIRECTORY);
    if (fd < 0) return;
    try {
      for (let batch = 0; batch < BATCHES_MAX && this.#backing.getdents(fd, this.#entries) > 0; batch++) {
        while (this.#entries.next()) {
          const { isDot, name } = this.#entries;
          if (!isDot && !kept.has(nameKey(name))) this.#way.name(held.path, name);
        }
      }
    } finally {
      this.#backing.close(fd);
    }
  }

  #record(mutation: Mutation): void {
    const { op, id, a, b, c } = mutation;
    if (op >= OP.create && op <= OP.rename) {
      this.#name(c, mutation.name);
      if (op === OP.rename) this.#name(a, mutation.other);
      return;
    }
    const held = this.#objects.get(id);
    if (held === undefined || op === OP.release || op === OP.fsync || op === OP.reserve) return;
    if (op === OP.write || op === OP.fallocate || op === OP.copy) return this.#way.content(held.path, a, b);
    this.#way.object(held.path);
    if (op !== OP.setattr || (a & SETATTR_BITS.size) === 0) return;
    const { buffer, byteOffset, byteLength } = mutation.name;
    const size = u64(new DataView(buffer, byteOffset, byteLength), SETATTR.size);
    this.#way.content(held.path, size, TO_END - size);
  }

  #name(directory: number, name: Uint8Array): void {
    const held = this.#objects.get(directory);
    if (held?.type === S_IF.DIR) this.#way.name(held.path, name);
  }
}
