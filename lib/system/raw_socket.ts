/**
 * Sockets below TCP: ARP packets of one interface (packet(7)), ICMP of one host (raw(7)). Never blocking.
 *
 * @module
 */

import type { RawSocket } from "../monitor/probe.ts";
import { addressBytes } from "../effects/arp.ts";
import { errno, libc, openLibrary } from "./libc.ts";
import { check, ERRNO } from "./system_error.ts";

const c = openLibrary("libc.so.6", {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int bind(int, const struct sockaddr *, socklen_t)` */
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** `ssize_t sendto(int, const void *, size_t, int flags, const struct sockaddr *, socklen_t)` */
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "i64" },
  /** `ssize_t recv(int, void *, size_t, int flags)` */
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i64" },
});

const AF_INET = 2;
const AF_PACKET = 17;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const FLAGS = 0o2004000; // SOCK_NONBLOCK | SOCK_CLOEXEC
const IPPROTO_ICMP = 1;
const ETH_P_ARP = 0x0806;
/** Longer packets are cut; what we look at is at their beginning. */
const PACKET_MAX = 2048;

/** ARP packets on one interface, without Ethernet header; sent as broadcast. */
export function openArpSocket(index: number): RawSocket {
  // The protocol argument is in network order.
  const protocol = (ETH_P_ARP & 0xff) << 8 | ETH_P_ARP >> 8;
  const fd = check(
    c.socket(AF_PACKET, SOCK_DGRAM | FLAGS, protocol),
    "open an ARP socket; it needs CAP_NET_RAW",
  );
  const address = linkAddress(index);
  return rawSocket(
    fd,
    address,
    () => check(c.bind(fd, address, address.length), `hear ARP on interface ${index}`),
  );
}

/** ICMP to one host, and from everybody: packets come with their IPv4 header. */
export function openIcmpSocket(host: string): RawSocket {
  const address = new Uint8Array(16); // struct sockaddr_in
  new DataView(address.buffer).setUint16(0, AF_INET, true);
  address.set(addressBytes(host), 4);
  const fd = check(
    c.socket(AF_INET, SOCK_RAW | FLAGS, IPPROTO_ICMP),
    "open an ICMP socket; it needs CAP_NET_RAW",
  );
  return rawSocket(fd, address, () => {});
}

/** `struct sockaddr_ll`: family 2, protocol 2 (network order), index 4, hardware 2, type 1, length 1, address 8. */
function linkAddress(index: number): Uint8Array<ArrayBuffer> {
  const address = new Uint8Array(20);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ETH_P_ARP);
  view.setInt32(4, index, true);
  view.setUint8(11, 6);
  address.fill(0xff, 12, 18);
  return address;
}

function rawSocket(fd: number, to: Uint8Array<ArrayBuffer>, prepare: () => void): RawSocket {
  try {
    prepare();
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  const buffer = new Uint8Array(PACKET_MAX);
  return {
    send(packet) {
      const sent = Number(c.sendto(fd, packet, packet.length, 0, to, to.length));
      // A full queue, or a link or route that is gone, loses a packet as the wire may: silence is the answer.
      if (sent < 0 && !LOSSES.includes(errno())) check(sent, "send a packet");
    },
    receive() {
      const got = Number(c.recv(fd, buffer, buffer.length, 0));
      return got < 0 ? null : buffer.slice(0, got);
    },
    close: () => void libc.close(fd),
  };
}

/** `EAGAIN`, `ENXIO`, `ENETDOWN`, `ENETUNREACH`, `ENOBUFS`, `EHOSTDOWN`, `EHOSTUNREACH` */
const LOSSES: readonly number[] = [ERRNO.EAGAIN, 6, 100, 101, 105, 112, 113];
