/**
 * ARP for IPv4 on Ethernet (RFC 826), as announcements and probes (RFC 5227). Knows no sockets.
 *
 * | offset | size | field          | meaning                                |
 * |      0 |    2 | hardware       | 1: Ethernet                            |
 * |      2 |    2 | protocol       | 0x0800: IPv4                           |
 * |      4 |    2 | lengths        | 6 and 4                                |
 * |      6 |    2 | operation      | 1: request, 2: reply                   |
 * |      8 |    6 | senderHardware | MAC of who speaks                      |
 * |     14 |    4 | senderAddress  | its IPv4 address; 0.0.0.0 in a probe   |
 * |     18 |    6 | targetHardware |                                        |
 * |     24 |    4 | targetAddress  | the address that is spoken of          |
 *
 * Numbers are in network order.
 *
 * @module
 */

/** Bytes of a packet, without its Ethernet header. */
export const ARP_SIZE = 28;

const OFFSET = {
  hardware: 0,
  protocol: 2,
  lengths: 4,
  operation: 6,
  senderHardware: 8,
  senderAddress: 14,
  targetHardware: 18,
  targetAddress: 24,
} as const;

const ETHERNET = 1;
const IPV4 = 0x0800;
const LENGTHS = 0x0604;
const REQUEST = 1;
const REPLY = 2;

/**
 * Gratuitous ARP in both forms: some hosts update their cache from requests only, some from replies only.
 *
 * @param mac six bytes.
 */
export function announcements(address: string, mac: Uint8Array): [request: Packet, reply: Packet] {
  const bytes = addressBytes(address);
  return [
    encode({ operation: REQUEST, mac, sender: bytes, targetMac: new Uint8Array(6), target: bytes }),
    encode({ operation: REPLY, mac, sender: bytes, targetMac: new Uint8Array(6).fill(0xff), target: bytes }),
  ];
}

/** Asks who has an address, without telling anybody who asks: no cache is changed by it. */
export function probe(address: string, mac: Uint8Array): Packet {
  return encode({
    operation: REQUEST,
    mac,
    sender: new Uint8Array(4),
    targetMac: new Uint8Array(6),
    target: addressBytes(address),
  });
}

/**
 * Who claims an address in a received packet: `02:00:00:77:00:01`, or null when the packet speaks of something else,
 * comes from `mac` (ourselves), or is no ARP at all.
 *
 * A question is no claim, though RFC 5227, 2.1.1 takes a probe for one: there only those probe who want the address, here
 * a secondary asks whether anybody has it. Its question must not make a primary that asks at the same time believe in a rival.
 */
export function claimant(packet: Uint8Array, address: string, mac: Uint8Array): string | null {
  if (packet.length < ARP_SIZE) return null;
  const view = new DataView(packet.buffer, packet.byteOffset);
  const arp = view.getUint16(OFFSET.hardware) === ETHERNET && view.getUint16(OFFSET.protocol) === IPV4 &&
    view.getUint16(OFFSET.lengths) === LENGTHS;
  if (!arp) return null;
  const hardware = packet.subarray(OFFSET.senderHardware, OFFSET.senderAddress);
  if (same(hardware, mac)) return null;
  const wanted = addressBytes(address);
  const sender = packet.subarray(OFFSET.senderAddress, OFFSET.targetHardware);
  return same(sender, wanted) ? formatMac(hardware) : null;
}

/** Four bytes of a dotted IPv4 address. */
export function addressBytes(address: string): Uint8Array {
  const parts = address.split(".").map((part) => /^\d{1,3}$/.test(part) ? Number(part) : 256);
  if (parts.length === 4 && parts.every((part) => part < 256)) return Uint8Array.from(parts);
  throw new TypeError(`Cannot use address "${address}": expected four numbers of 0 to 255, as 10.0.0.100`);
}

/** `02:00:00:77:00:01` */
export function formatMac(mac: Uint8Array): string {
  return [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The bytes of one packet. */
export type Packet = Uint8Array<ArrayBuffer>;

interface Fields {
  readonly operation: number;
  readonly mac: Uint8Array;
  readonly sender: Uint8Array;
  readonly targetMac: Uint8Array;
  readonly target: Uint8Array;
}

function encode({ operation, mac, sender, targetMac, target }: Fields): Packet {
  const packet = new Uint8Array(ARP_SIZE);
  const view = new DataView(packet.buffer);
  view.setUint16(OFFSET.hardware, ETHERNET);
  view.setUint16(OFFSET.protocol, IPV4);
  view.setUint16(OFFSET.lengths, LENGTHS);
  view.setUint16(OFFSET.operation, operation);
  packet.set(mac.subarray(0, 6), OFFSET.senderHardware);
  packet.set(sender, OFFSET.senderAddress);
  packet.set(targetMac, OFFSET.targetHardware);
  packet.set(target, OFFSET.targetAddress);
  return packet;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
