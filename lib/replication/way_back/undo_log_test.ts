import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "../../journal/memory_storage.ts";
import { UndoLog } from "./undo_log.ts";
import { bytesOf, decodeLine, encodeLine, textOf, type UndoLine } from "./undo_record.ts";

const NAME: UndoLine = { what: "name", directory: "0:2", name: "caf\xe9\n\xff", leads: "0:7" };
const OBJECT: UndoLine = {
  what: "object",
  key: "0:7",
  handle: { type: 1, bytes: "\x00\x01\xfe" },
  id: 20,
  mode: 0o100644,
  uid: 0,
  gid: 5,
  size: 3,
  mtime: "-1",
  xattrs: [["user.a\x00", "\x00\xff"]],
};

Deno.test("encodeLine() writes what decodeLine() reads, and these bytes", () => {
  for (const line of [NAME, OBJECT]) assertEquals(decodeLine(encodeLine(line).slice(0, -1)), line);
  assertEquals(encodeLine({ what: "made", key: "0:9" }), `${MADE}\n`);
});

const MADE = '757ca586{"what":"made","key":"0:9"}';

Deno.test("decodeLine() refuses a line of which any character was changed", () => {
  const text = encodeLine(NAME).slice(0, -1);
  for (let at = 0; at < text.length; at++) {
    const other = String.fromCharCode(text.charCodeAt(at) ^ 1);
    assertEquals(decodeLine(text.slice(0, at) + other + text.slice(at + 1)), null);
  }
});

Deno.test("textOf() and bytesOf() keep every byte", () => {
  const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i & 255);
  assertEquals(bytesOf(textOf(bytes)), bytes);
});

Deno.test("UndoLog reads what was flushed, and nothing that was not, after a power cut", () => {
  const storage = new MemoryStorage();
  const log = new UndoLog(storage);
  log.add(OBJECT);
  log.addBlock("0:7", 4096, Uint8Array.of(1, 2, 3));
  log.flush();
  log.add(NAME);
  const after = new UndoLog(storage.crash(() => 0));
  const lines = [...after.lines()];
  assertEquals(lines.map(({ what }) => what), ["object", "content"]);
  const content = lines[1];
  if (content?.what !== "content") throw new Error("no content");
  assertEquals(after.block(content), Uint8Array.of(1, 2, 3));
});

Deno.test("UndoLog cuts a torn end and goes on behind it in a file of its own", () => {
  const storage = new MemoryStorage();
  const log = new UndoLog(storage);
  log.add(OBJECT);
  log.add(NAME);
  log.flush();
  const size = storage.size("lines-000000") ?? 0;
  for (let cut = 1; cut < encodeLine(NAME).length; cut++) {
    const torn = storage.killed();
    torn.cut("lines-000000", size - cut);
    const next = new UndoLog(torn);
    next.add(NAME);
    next.flush();
    assertEquals([...next.lines()], [OBJECT, NAME]);
  }
});

Deno.test("UndoLog.block() refuses damaged bytes", () => {
  const storage = new MemoryStorage();
  const log = new UndoLog(storage);
  log.addBlock("0:7", 0, Uint8Array.of(1, 2, 3));
  log.flush();
  storage.damage("blocks-000000", 1, Uint8Array.of(9));
  const [line] = log.lines();
  if (line?.what !== "content") throw new Error("no content");
  assertThrows(() => log.block(line), Error, "is damaged");
});

Deno.test("UndoLog.clear() leaves nothing", () => {
  const storage = new MemoryStorage();
  const log = new UndoLog(storage);
  log.addBlock("0:7", 0, Uint8Array.of(1));
  log.flush();
  log.clear();
  assertEquals([storage.list(), log.bytes, [...log.lines()]], [[], 0, []]);
});
