/**
 * The life that `log_v1.ts` is the record of: told here as calls, there as bytes.
 *
 * @module
 */

import { Journal, KEEP } from "../journal.ts";
import type { MemoryStorage } from "../memory_storage.ts";
import { OP, STATE } from "../record.ts";
import { segmentName } from "../segment.ts";

/** Whose log it is. */
export const GOLDEN_IDENTITY = { cluster: "f00dface-plant", module: "bms-ü" } as const;

/** Every byte of a number is another, so that none may change its place. */
export const GOLDEN_GENERATION = 0xfedcba9876543210n;

/** No field has the same bytes from both ends. */
export const GOLDEN_FIRST = 0x01_0203_0405;

/** Bytes of the sealed segment's longest record: it fills what is left. */
const FILLING = 3100;

const text = (value: string) => new TextEncoder().encode(value);

/** Writes the log: a sealed segment, one with records of each state and kind, one made ahead. */
export function writeLife(storage: MemoryStorage): Journal {
  const journal = Journal.open({
    storage,
    identity: GOLDEN_IDENTITY,
    scan: "all",
    segmentBytes: 8192,
    segmentsMax: 8,
    first: GOLDEN_FIRST,
  });
  const add = (
    op: number,
    fields: { id: number; a?: number | bigint; b?: number | bigint; c?: number },
    names: Uint8Array | null = null,
    payload: Uint8Array | null = null,
    keep: 0 | 1 | 2 = KEEP.always,
  ) => {
    const sequence = journal.last + 1;
    const common = { sequence, epoch: 0x0a0b0c, generation: GOLDEN_GENERATION, unique: sequence * 2 + 6 };
    return journal.append({ op, ...common, a: 0, b: 0, c: 0, ...fields }, names, payload, keep);
  };
  const applied = (position: number, mtimeNs: bigint) => journal.settle(position, STATE.applied, mtimeNs);

  applied(
    add(OP.create, { id: 513, a: 0o100640, b: 0x0000001a_0000001an, c: 1 }, text("données\xa0.db\0")),
    0x0102030405060708n,
  );
  applied(
    add(OP.write, { id: 513, a: 4096, b: FILLING }, null, pattern(FILLING)),
    1_700_000_000_123_456_789n,
  );
  applied(add(OP.setxattr, { id: 513 }, text("user.color\0"), text("blue")), -5n);
  // The next does not fit: this segment is sealed.
  applied(
    add(OP.write, { id: 513, a: 0x010203040506, b: 700 }, null, pattern(700)),
    1_700_000_001_000_000_000n,
  );
  applied(
    add(OP.write, { id: 513, a: 65536, b: 1_048_576, c: 1 }, null, pattern(9), KEEP.no),
    1_700_000_002_000_000_000n,
  );
  journal.settle(add(OP.unlink, { id: 600, c: 1 }, text("gone\0")), STATE.void, 0n);
  applied(
    add(
      OP.rename,
      { id: 513, a: 1, b: 0, c: 1 },
      new Uint8Array([...text("old"), 0xff, 0x0a, 0, ...text("new\0"), 0x58, 2, 0, 0, 0, 0, 0, 0]),
    ),
    1_700_000_003_000_000_001n,
  );
  add(OP.write, { id: 513, a: 5, b: 11 }, null, text("hello world"));
  return journal;
}

/** The same, and the process killed while it wrote the last record: its payload is there, its header is not whole. */
export function writeTornLife(storage: MemoryStorage): void {
  const journal = writeLife(storage);
  const position = journal.positionOf(journal.last) ?? 0;
  const at = position % 8192;
  storage.damage(segmentName(1), at + 40, new Uint8Array(56));
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
}
