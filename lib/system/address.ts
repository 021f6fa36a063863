/**
 * Where a buffer lies in memory. Apart from the C library, so that what merely computes with addresses can be imported
 * where nothing may be opened.
 *
 * @module
 */

/**
 * The address of a buffer, as a number. Keep a reference to the array as long as the address is used: V8 frees what
 * only its address remembers.
 */
export function addressOf(bytes: ArrayBufferView<ArrayBufferLike>): number {
  // By its buffer: V8 keeps the bytes of arrays up to 64 long on its own heap, and moves them, until the buffer is asked for.
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer) {
    return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer))) + bytes.byteOffset;
  }
  // Shared memory is taken by its view alone; it never moves.
  return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes as Uint8Array<ArrayBuffer>)));
}
