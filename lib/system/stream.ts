/**
 * Makes a stream of the numbers another thread gave away.
 *
 * @module
 */

import type { Stream, StreamHandle } from "../replication/stream.ts";
import { PlainStream } from "./plain_stream.ts";
import { TlsStream } from "./tls.ts";

/** Adopts a stream of this process: from here the calling thread alone uses it, and closes it. */
export function openStream(handle: StreamHandle): Stream {
  return handle.kind === "plain"
    ? PlainStream.adopt(handle.fd, handle.label)
    : TlsStream.adopt(handle.ssl, handle.fd, handle.label);
}
