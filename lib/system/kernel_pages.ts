/**
 * Has the kernel forget what it has of a file of a mount: what lies beneath was changed by no request.
 *
 * @module
 */

import { notifyInvalInode } from "../fuse/reply.ts";
import { NOTIFY } from "../fuse/opcode.ts";
import { openLibrary } from "./libc.ts";

const c = openLibrary("libc.so.6", {
  /**
   * `ssize_t write(int fd, const void *buf, size_t count)` on a thread of its own: the kernel first waits for the pages' requests,
   * which our threads answer.
   */
  write: { parameters: ["i32", "buffer", "usize"], result: "i64", nonblocking: true },
  /** `int close(int fd)` */
  close: { parameters: ["i32"], result: "i32" },
});

const HEADER_BYTES = 16;

/** Forgets a range of the file `nodeid`; what is dirty of it is written first. `fd` is closed. */
export async function forgetPages(
  fd: number,
  range: { readonly nodeid: number; readonly offset: number; readonly length: number },
): Promise<void> {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  const body = notifyInvalInode(view, HEADER_BYTES, range.nodeid, range.offset, range.length);
  view.setUint32(0, HEADER_BYTES + body, true);
  view.setInt32(4, NOTIFY.INVAL_INODE, true);
  // That it is refused says that the kernel knows no such file, or that the mount is gone.
  await c.write(fd, bytes, BigInt(HEADER_BYTES + body));
  c.close(fd);
}
