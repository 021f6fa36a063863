/**
 * A stream that only takes.
 *
 * @module
 */
import type { Stream } from "../../lib/replication/stream.ts";

/** For what a test says is never called. */
export function unused(): never {
  throw new Error("not used");
}

/** What is written to it goes to `writeAll`. */
export function oneWay(writeAll: Stream["writeAll"]): Stream {
  return {
    fd: -1,
    label: "memory",
    writeAll,
    readSome: unused,
    pending: () => 0,
    keepUpTo: () => {},
    kept: 0,
    sendKept: () => {},
    setTimeouts: () => {},
    close: () => {},
  };
}
