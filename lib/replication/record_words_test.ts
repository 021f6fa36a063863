import { assertEquals, assertThrows } from "@std/assert";
import { encodeHeader, HEADER_BYTES, OP, RecordView } from "../journal/record.ts";
import { RecordError } from "./mutation.ts";
import { escaped, recordLine, recordWords, timeText } from "./record_words.ts";

const text = (value: string) => new TextEncoder().encode(value);

/** The line of a record with these fields. */
function line(
  op: number,
  fields: { id?: number; a?: number; b?: number | bigint; c?: number },
  names: Uint8Array = new Uint8Array(0),
): string {
  const bytes = new Uint8Array(HEADER_BYTES + names.length);
  const view = new DataView(bytes.buffer);
  const common = { op, sequence: 1, epoch: 1, generation: 1n, unique: 0, id: 7, a: 0, b: 0, c: 0 };
  encodeHeader(view, 0, { ...common, ...fields }, { flags: 0, namesLength: names.length, payloadLength: 0 });
  bytes.set(names, HEADER_BYTES);
  return recordLine(recordWords(new RecordView().point(bytes, view, 0)));
}

Deno.test("recordLine() says what each operation does", () => {
  const owner = 5n + (6n << 32n);
  const attributes = new Uint8Array(40);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, 0o644, true);
  view.setBigUint64(16, 99n, true);
  view.setBigInt64(32, 1_500_000_000n, true);
  const eight = (value: number) => new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
  const cases: [string, string][] = [
    [
      line(OP.create, { a: 0o100644, b: owner, c: 1 }, text("f\0")),
      'create 7 "f" in 1 mode 0100644 uid 5 gid 6',
    ],
    [line(OP.mkdir, { a: 0o40755, b: owner, c: 1 }, text("d\0")), 'mkdir 7 "d" in 1 mode 040755 uid 5 gid 6'],
    [
      line(OP.mknod, { a: 0o20600 + 0x10000 * 259, b: owner, c: 1 }, text("n\0")),
      'mknod 7 "n" in 1 mode 020600 rdev 259 uid 5 gid 6',
    ],
    [line(OP.symlink, { b: owner, c: 1 }, text("s\0../t\0")), 'symlink 7 "s" in 1 -> "../t" uid 5 gid 6'],
    [line(OP.link, { c: 2 }, text("l\0")), 'link 7 "l" in 2'],
    [line(OP.unlink, { a: 1, c: 2 }, text("l\0")), 'unlink 7 "l" in 2 (still open)'],
    [line(OP.rmdir, { c: 2 }, text("d\0")), 'rmdir 7 "d" in 2'],
    [
      line(OP.rename, { a: 3, b: 8 + 2, c: 2 }, new Uint8Array([...text("a\0b\0"), ...eight(9)])),
      'rename 7 "a" in 2 to "b" in 3 over 9 flags 2 (displaced still open)',
    ],
    [
      line(OP.setattr, { a: 1 + 8 + 32 }, attributes),
      "setattr 7 mode 0644 size 99 mtime 1970-01-01T00:00:01.500000000Z",
    ],
    [line(OP.fallocate, { a: 1, b: 2, c: 3 }), "fallocate 7 offset 1 length 2 flags 3"],
    [line(OP.copy, { a: 1, b: 2, c: 8 }, eight(4)), "copy 7 offset 1 length 2 from 8 source offset 4"],
    [line(OP.removexattr, {}, text("user.x\0")), 'removexattr 7 "user.x"'],
    [line(OP.fsync, { a: 1, c: 1 }), "fsync 7 (data only, no name)"],
    [line(OP.release, {}), "release 7"],
    [line(OP.reserve, { id: 0, a: 2048 }), "reserve ids below 2048"],
  ];
  for (const [found, expected] of cases) assertEquals(found, expected);
});

Deno.test("recordWords() refuses names that do not fit the operation", () => {
  assertThrows(() => line(OP.create, { c: 1 }), RecordError, "has no name");
  assertThrows(() => line(OP.create, { c: 1 }, text("../x\0")), RecordError, "is no name");
});

Deno.test("escaped() keeps every byte to be told, and shows what can be seen", () => {
  const cases: [Uint8Array, string][] = [
    [text("plain é 漢 😀\0"), "plain é 漢 😀"],
    [text('a"b\\c\0'), "a\\x22b\\x5cc"],
    [text("line\nbreak\x1b[2J\0"), "line\\x0abreak\\x1b[2J"],
    [text("\u202egnp.exe\0"), "\\xe2\\x80\\xaegnp.exe"],
    [Uint8Array.of(0xff, 0x61, 0xc3, 0), "\\xffa\\xc3"],
    [Uint8Array.of(0xed, 0xa0, 0x80, 0), "\\xed\\xa0\\x80"],
    [text("e\u0301\0"), "e\u0301"],
  ];
  for (const [name, shown] of cases) assertEquals(escaped(name), shown);
});

Deno.test("timeText() is exact to the nanosecond, before 1970 and past what a calendar holds", () => {
  assertEquals(timeText(-1n), "1969-12-31T23:59:59.999999999Z");
  assertEquals(timeText(1n), "1970-01-01T00:00:00.000000001Z");
  assertEquals(timeText(2n ** 63n - 1n), "2262-04-11T23:47:16.854775807Z");
});
