/**
 * What a killed process had read and not answered.
 *
 * @module
 */

import { addressOf } from "../system/address.ts";
import { writeFrom } from "../system/worker_io.ts";
import { NOTIFY } from "./opcode.ts";
import type { FuseServer } from "./server.ts";

/** The kernel gives it again (Linux 6.9), before anything new of that connection, where it agreed to. */
export function askAgain(servers: readonly FuseServer[], log: (message: string) => void): void {
  const notice = new Uint8Array(16);
  const view = new DataView(notice.buffer);
  view.setUint32(0, 16, true);
  view.setInt32(4, NOTIFY.RESEND, true);
  for (const server of servers) {
    if (server.granted?.resend !== true) continue;
    const result = writeFrom(server.fd, addressOf(notice), 16);
    if (result < 0) log(`Cannot ask for unanswered requests: errno ${-result}`);
  }
}
