/**
 * Two ends of a local connection, and sealed streams over them without a handshake; for tests and measurements.
 *
 * @module
 */

import { openLibrary } from "../libc.ts";
import { SEAL_LIMITS, SEAL_SECRET, type SealLimits, SealSecrets } from "../seal.ts";
import { SealedStream } from "../sealed_stream.ts";

const { socketpair } = openLibrary("libc.so.6", {
  /** `int socketpair(int domain, int type, int protocol, int sv[2])` */
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
});
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

/** Two connected, blocking sockets. */
export function socketPair(): readonly [number, number] {
  const fds = new Int32Array(2);
  if (socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, fds) !== 0) throw new Error("Cannot make a socket pair");
  return [fds[0] ?? -1, fds[1] ?? -1];
}

/** What one end sends under, and the other: make-believe secrets. */
export const SECRETS: { readonly one: Uint8Array; readonly other: Uint8Array } = {
  one: new Uint8Array(SEAL_SECRET).fill(1),
  other: new Uint8Array(SEAL_SECRET).fill(2),
};

/** The handle of a sealed stream that sends under the one secret, and receives under the other. */
export function sealedHandle(
  fd: number,
  { send, receive }: { readonly send: Uint8Array; readonly receive: Uint8Array },
): { readonly kind: "sealed"; readonly fd: number; readonly secrets: number; readonly label: string } {
  const secrets = SealSecrets.allocate();
  secrets.send.set(send);
  secrets.receive.set(receive);
  return { kind: "sealed", fd, secrets: secrets.address, label: "peer" };
}

/** Both ends as sealed streams. */
export function sealedPair(
  limits: SealLimits = SEAL_LIMITS,
): { readonly one: SealedStream; readonly other: SealedStream } {
  const [first, second] = socketPair();
  return {
    one: SealedStream.adopt(sealedHandle(first, { send: SECRETS.one, receive: SECRETS.other }), limits),
    other: SealedStream.adopt(sealedHandle(second, { send: SECRETS.other, receive: SECRETS.one }), limits),
  };
}
