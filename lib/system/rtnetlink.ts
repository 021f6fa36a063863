/**
 * IPv4 addresses of the host's interfaces, by rtnetlink (rtnetlink(7)); iproute2 need not be installed.
 *
 * The kernel answers within the call: nothing here waits longer than {@link ANSWER_MS}.
 *
 * @module
 */

import { errno, libc, openLibrary } from "./libc.ts";
import { check, ERRNO, SystemError } from "./system_error.ts";

const c = openLibrary("libc.so.6", {
  /** `int socket(int domain, int type, int protocol)` */
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  /** `int setsockopt(int, int level, int name, const void *, socklen_t)` */
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  /** `ssize_t send(int, const void *, size_t, int flags)` */
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i64" },
  /** `ssize_t recv(int, void *, size_t, int flags)` */
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i64" },
});

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const ANSWER_MS = 1_000;

/** Message types, flags and attributes (`linux/rtnetlink.h`, `linux/if_addr.h`, `linux/if_link.h`). */
const NLMSG = { ERROR: 2, DONE: 3 } as const;
const RTM = { GETLINK: 18, NEWLINK: 16, NEWADDR: 20, DELADDR: 21, GETADDR: 22 } as const;
const FLAG = { REQUEST: 1, ACK: 4, DUMP: 0x300, EXCL: 0x200, CREATE: 0x400 } as const;
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const;
const IFLA = { ADDRESS: 1, IFNAME: 3 } as const;
const IFF_UP = 1;
const HEADER = 16;
const AF_INET = 2;

/** A network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** Six bytes on Ethernet; other kinds have other lengths. */
  readonly mac: Uint8Array;
  readonly up: boolean;
}

/** An IPv4 address of an interface. */
export interface InterfaceAddress {
  readonly index: number;
  readonly address: string;
  readonly prefix: number;
}

/** All interfaces of this network namespace. */
export function listLinks(): Link[] {
  const request = new Uint8Array(16); // struct ifinfomsg, any family
  return exchange(RTM.GETLINK, FLAG.DUMP, request, "list the network interfaces")
    .filter(({ type }) => type === RTM.NEWLINK)
    .map(({ body }) => {
      const view = new DataView(body.buffer, body.byteOffset);
      const attributes = readAttributes(body.subarray(16));
      const name = attributes.get(IFLA.IFNAME) ?? new Uint8Array();
      return {
        index: view.getInt32(4, true),
        name: new TextDecoder().decode(name).replace(/\0.*$/, ""),
        mac: attributes.get(IFLA.ADDRESS) ?? new Uint8Array(),
        up: (view.getUint32(8, true) & IFF_UP) !== 0,
      };
    });
}

/** All IPv4 addresses of this network namespace. */
export function listAddresses(): InterfaceAddress[] {
  const request = new Uint8Array(8); // struct ifaddrmsg
  request[0] = AF_INET;
  return exchange(RTM.GETADDR, FLAG.DUMP, request, "list the network addresses")
    .filter(({ type, body }) => type === RTM.NEWADDR && body[0] === AF_INET)
    .map(({ body }) => {
      const attributes = readAttributes(body.subarray(8));
      const address = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS) ?? new Uint8Array(4);
      return {
        index: new DataView(body.buffer, body.byteOffset).getUint32(4, true),
        address: address.join("."),
        prefix: body[1] ?? 0,
      };
    });
}

/** Gives an address to an interface. False: it has it already. */
export function addAddress(where: InterfaceAddress): boolean {
  return changed(RTM.NEWADDR, FLAG.CREATE | FLAG.EXCL, where, "add", ERRNO.EEXIST);
}

/** Takes an address from an interface. False: it does not have it. */
export function removeAddress(where: InterfaceAddress): boolean {
  return changed(RTM.DELADDR, 0, where, "remove", ERRNO.EADDRNOTAVAIL);
}

function changed(
  type: number,
  flags: number,
  where: InterfaceAddress,
  verb: string,
  already: number,
): boolean {
  const bytes = Uint8Array.from(where.address.split("."), Number);
  const request = new Uint8Array(8 + 3 * 8);
  const view = new DataView(request.buffer);
  request.set([AF_INET, where.prefix, 0, 0]);
  view.setUint32(4, where.index, true);
  const broadcast = broadcastOf(bytes, where.prefix);
  [[IFA.LOCAL, bytes], [IFA.ADDRESS, bytes], [IFA.BROADCAST, broadcast]].forEach(([kind, value], at) => {
    view.setUint16(8 + at * 8, 8, true);
    view.setUint16(10 + at * 8, kind as number, true);
    request.set(value as Uint8Array, 12 + at * 8);
  });
  try {
    // Broadcast of a host address (prefix 31, 32) is none: leave the attribute out.
    const length = where.prefix > 30 ? 24 : request.length;
    exchange(
      type,
      flags | FLAG.ACK,
      request.subarray(0, length),
      `${verb} address ${where.address}/${where.prefix}`,
    );
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.errno === already) return false;
    throw error;
  }
}

function broadcastOf(address: Uint8Array, prefix: number): Uint8Array {
  return address.map((byte, index) => byte | 0xff >> Math.min(8, Math.max(0, prefix - index * 8)));
}

interface Message {
  readonly type: number;
  /** Header not included. */
  readonly body: Uint8Array;
}

/** One request, and its whole answer. `struct nlmsghdr`: length 4, type 2, flags 2, sequence 4, port 4. */
function exchange(type: number, flags: number, body: Uint8Array, action: string): Message[] {
  const request = new Uint8Array(HEADER + body.length);
  const view = new DataView(request.buffer);
  view.setUint32(0, request.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags | FLAG.REQUEST, true);
  view.setUint32(8, 1, true);
  request.set(body, HEADER);
  const fd = check(c.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, 0), action);
  try {
    const timeout = new Uint8Array(new BigInt64Array([BigInt(ANSWER_MS / 1000), 0n]).buffer);
    check(c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length), action);
    check(c.send(fd, request, request.length, 0), action);
    return receive(fd, action);
  } finally {
    libc.close(fd);
  }
}

function receive(fd: number, action: string): Message[] {
  const messages: Message[] = [];
  const buffer = new Uint8Array(64 << 10);
  for (;;) {
    const got = Number(c.recv(fd, buffer, buffer.length, 0));
    if (got < 0 && errno() === ERRNO.EINTR) continue;
    check(got, action);
    for (const message of readMessages(buffer.slice(0, got))) {
      if (message.type === NLMSG.DONE) return messages;
      if (message.type === NLMSG.ERROR) {
        const code = new DataView(message.body.buffer, message.body.byteOffset).getInt32(0, true);
        if (code !== 0) throw new SystemError(action, -code);
        return messages;
      }
      messages.push(message);
    }
  }
}

/** Cuts a datagram into messages. Both they and attributes are aligned to four bytes. */
export function readMessages(bytes: Uint8Array<ArrayBuffer>): { type: number; body: Uint8Array }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const messages: Message[] = [];
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < HEADER || at + length > bytes.length) break;
    messages.push({ type: view.getUint16(at + 4, true), body: bytes.subarray(at + HEADER, at + length) });
    at += (length + 3) & ~3;
  }
  return messages;
}

function readAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const attributes = new Map<number, Uint8Array>();
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    attributes.set(view.getUint16(at + 2, true), bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return attributes;
}
