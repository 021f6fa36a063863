import { assertEquals, assertThrows } from "@std/assert";
import { MemoryStorage } from "../../journal/memory_storage.ts";
import { type Header, HEADER_NAME, readHeader, writeHeader } from "./header.ts";

const HEADER: Header = {
  state: "kept",
  reason: "",
  began: 2,
  asOf: 1,
  exact: true,
  edited: false,
  history: [{ generation: "0000000000000001", epoch: 1, first: 1 }],
  last: 7,
  checkpoint: 5,
};

Deno.test("readHeader() reads what writeHeader() wrote, and null where there is none", () => {
  const storage = new MemoryStorage();
  assertEquals(readHeader(storage), null);
  writeHeader(storage, HEADER);
  assertEquals(readHeader(storage), HEADER);
});

Deno.test("readHeader() refuses each damaged byte", () => {
  const storage = new MemoryStorage();
  writeHeader(storage, HEADER);
  // The last one ends the line.
  for (let at = 0; at < (storage.size(HEADER_NAME) ?? 0) - 1; at++) {
    const damaged = storage.killed();
    const byte = storage.readAll(HEADER_NAME)?.[at] ?? 0;
    damaged.damage(HEADER_NAME, at, Uint8Array.of(byte ^ 1));
    assertThrows(() => readHeader(damaged), Error, "Cannot read");
  }
});
