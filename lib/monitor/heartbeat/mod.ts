/**
 * Heartbeats: the datagram and the state of one peer's. Pure.
 *
 * @module
 */

export {
  BODY_MAX,
  DATAGRAM_MAX,
  decodeHeartbeat,
  encodeHeartbeat,
  type Envelope,
  type Heartbeat,
  type Refused,
  type Sign,
  splitModules,
} from "./codec.ts";
export { PeerLink, type Received } from "./link.ts";
