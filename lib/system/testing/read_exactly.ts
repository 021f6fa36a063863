/** Reads all of it; for tests. */

import { type Stream, StreamError } from "../../replication/stream.ts";

/** Reads `length` bytes to `address`. Throws {@link StreamError} `"timeout"` when a receive timeout passes first. */
export function readExactly(stream: Stream, address: number, length: number): void {
  for (let done = 0; done < length;) {
    const got = stream.readSome(address + done, length - done);
    if (got === 0) throw new StreamError("timeout", `Cannot read from ${stream.label}: nothing came in time`);
    done += got;
  }
}
