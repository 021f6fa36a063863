/**
 * Small helpers over bytes.
 *
 * @module
 */

const encoder = new TextEncoder();

/** The UTF-8 bytes of a text and a NUL behind them. */
export function cbytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = encoder.encode(text);
  const terminated = new Uint8Array(bytes.length + 1);
  terminated.set(bytes);
  return terminated;
}

/** A name without the NUL behind it, whether there is one or not. */
export function withoutNul<T extends Uint8Array>(name: T): Uint8Array<T["buffer"]> {
  return (name.at(-1) === 0 ? name.subarray(0, -1) : name) as Uint8Array<T["buffer"]>;
}

/** Offset of the first NUL from `start`, or `end`. */
export function nulFrom(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== 0) at++;
  return at;
}

/** A name for messages: UTF-8 where it is, escaped where it is not. */
export function printable(name: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(name).replaceAll("\0", "")).slice(1, -1);
}

/** One name and nothing that would lead elsewhere: no "/", not "." or "..", one NUL at the end. */
export function isName(name: Uint8Array): boolean {
  const length = name.length - 1;
  if (length < 1 || length > 255 || name.indexOf(0) !== length || name.includes(0x2f)) return false;
  return !(name[0] === 0x2e && (length === 1 || (length === 2 && name[1] === 0x2e)));
}

/** Whether two runs of bytes are the same. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Unsigned 64 bits below 2^53, little-endian. */
export function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 0x1_0000_0000;
}

/** Writes an unsigned 64-bit number below 2^53, little-endian. */
export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}
