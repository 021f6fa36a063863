/**
 * What a file made in a directory with a default ACL gets, for files that are made elsewhere first: acl(5), "object creation
 * and default ACLs", as `posix_acl_create_masq` of the kernel does it.
 *
 * | offset | size | field of the xattr      |
 * |      0 |    4 | version, 2              |
 * |      4 |    8 | first entry, and so on: |
 * |     +0 |    2 | tag                     |
 * |     +2 |    2 | permissions             |
 * |     +4 |    4 | id of a user or group   |
 *
 * @module
 */

const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const TAG = { userObject: 1, groupObject: 4, mask: 16, other: 32 } as const;

/** Restricts a default ACL, in place, to `mode`: then it is the access ACL of a new file. False: it is no ACL. */
export function inheritAcl(acl: Uint8Array, mode: number): boolean {
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  if (acl.length < HEADER_BYTES || view.getUint32(0, true) !== 2) return false;
  if ((acl.length - HEADER_BYTES) % ENTRY_BYTES !== 0) return false;
  // With a mask, the mode's middle digit is the mask, and the owning group keeps what the ACL says.
  const group = places(view).some((at) => view.getUint16(at, true) === TAG.mask) ? TAG.mask : TAG.groupObject;
  for (const at of places(view)) {
    const tag = view.getUint16(at, true);
    const shift = tag === TAG.userObject ? 6 : tag === group ? 3 : tag === TAG.other ? 0 : -1;
    if (shift >= 0) view.setUint16(at + 2, view.getUint16(at + 2, true) & (mode >> shift) & 7, true);
  }
  return true;
}

function places(view: DataView): number[] {
  const count = (view.byteLength - HEADER_BYTES) / ENTRY_BYTES;
  return Array.from({ length: count }, (_, index) => HEADER_BYTES + index * ENTRY_BYTES);
}
