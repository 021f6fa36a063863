/** Adopts a stream and sends back what it reads; for tests. */

import { readExactly } from "./read_exactly.ts";
import type { StreamHandle } from "../../replication/stream.ts";
import { addressOf } from "../libc.ts";
import { openStream } from "../stream.ts";

interface Command {
  readonly handle: StreamHandle;
  readonly length: number;
}

addEventListener("message", (event) => {
  const { handle, length } = (event as MessageEvent<Command>).data;
  const stream = openStream(handle);
  const bytes = new Uint8Array(length);
  readExactly(stream, addressOf(bytes), length);
  stream.writeAll(addressOf(bytes), length);
  stream.close();
  (globalThis as unknown as { postMessage(message: unknown): void }).postMessage(
    bytes.length === length ? "done" : "",
  );
});
