/**
 * Makes a stream of the numbers another thread gave away.
 *
 * @module
 */

import type { Stream, StreamHandle } from "../replication/stream.ts";
import { PlainStream } from "./plain_stream.ts";
import { SealedStream } from "./sealed_stream.ts";

/** Adopts a stream of this process: from here the calling thread alone uses it, and closes it. */
export function openStream(handle: StreamHandle): Stream {
  return handle.kind === "plain" ? PlainStream.adopt(handle.fd, handle.label) : SealedStream.adopt(handle);
}
