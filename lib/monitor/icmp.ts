/**
 * ICMP echo (RFC 792). Knows no sockets.
 *
 * | offset | size | field      | meaning                       |
 * |      0 |    1 | type       | 8: echo, 0: its reply         |
 * |      1 |    1 | code       | 0                             |
 * |      2 |    2 | checksum   | RFC 1071, over all of it      |
 * |      4 |    2 | identifier | of who asks                   |
 * |      6 |    2 | sequence   |                               |
 *
 * Numbers are in network order.
 *
 * @module
 */

const OFFSET = { type: 0, code: 1, checksum: 2, identifier: 4, sequence: 6, data: 8 } as const;
const ECHO = 8;
const ECHO_REPLY = 0;
/** Enough to be like any other ping; some firewalls drop empty ones. */
const DATA_SIZE = 56;
const IPV4_HEADER_MIN = 20;

/** An echo request. */
export function encodeEcho(identifier: number, sequence: number): Uint8Array<ArrayBuffer> {
  const packet = new Uint8Array(OFFSET.data + DATA_SIZE);
  const view = new DataView(packet.buffer);
  packet[OFFSET.type] = ECHO;
  // Not zeros: cut off, they would leave the checksum true.
  for (let at = 0; at < DATA_SIZE; at++) packet[OFFSET.data + at] = at + 1;
  view.setUint16(OFFSET.identifier, identifier);
  view.setUint16(OFFSET.sequence, sequence);
  view.setUint16(OFFSET.checksum, checksum(packet));
  return packet;
}

/**
 * Whether a packet, as a raw socket gives it (with its IPv4 header), answers an echo of ours.
 *
 * @param address four bytes: an answer from elsewhere is none.
 */
export function isEchoReply(packet: Uint8Array, address: Uint8Array, identifier: number): boolean {
  const header = ((packet[0] ?? 0) & 0x0f) * 4;
  if (header < IPV4_HEADER_MIN || packet.length < header + OFFSET.data) return false;
  if (!address.every((byte, index) => packet[12 + index] === byte)) return false;
  const body = packet.subarray(header);
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  return view.getUint8(OFFSET.type) === ECHO_REPLY && view.getUint8(OFFSET.code) === 0 &&
    view.getUint16(OFFSET.identifier) === identifier && checksum(body) === 0;
}

/** The internet checksum; 0 over a packet that carries its own. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] ?? 0) << 8 | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
