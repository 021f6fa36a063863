/**
 * Addresses without memory of the C library: a number for each buffer, and the way back. What computes with addresses then
 * runs with no permission.
 *
 * @module
 */

interface Region {
  readonly start: number;
  readonly bytes: Uint8Array<ArrayBufferLike>;
}

/** A made-up address space. */
export class Memory {
  readonly #known = new WeakMap<ArrayBufferLike, Region>();
  readonly #regions: Region[] = [];
  #next = 0x10000;

  /** The address of a buffer. The same buffer has the same address, a view of it that plus its offset. */
  readonly addressOf = (bytes: ArrayBufferView<ArrayBufferLike>): number => {
    let region = this.#known.get(bytes.buffer);
    if (region === undefined) {
      region = { start: this.#next, bytes: new Uint8Array(bytes.buffer) };
      // A gap, so that running over the end of one buffer does not reach the next.
      this.#next += Math.ceil(bytes.buffer.byteLength / 4096) * 4096 + 4096;
      this.#known.set(bytes.buffer, region);
      this.#regions.push(region);
    }
    return region.start + bytes.byteOffset;
  };

  /** The bytes at an address. Throws where a real access would reach into nothing. */
  at(address: number, length: number): Uint8Array<ArrayBufferLike> {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#regions[middle]?.start ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    const region = this.#regions[low - 1];
    const from = address - (region?.start ?? 0);
    if (region === undefined || from + length > region.bytes.length) {
      throw new RangeError(`Cannot reach ${length} bytes at ${address}: no buffer is there`);
    }
    return region.bytes.subarray(from, from + length);
  }

  /** The bytes at an address up to the first NUL. */
  text(address: number): Uint8Array<ArrayBufferLike> {
    let length = 0;
    while (this.at(address + length, 1)[0] !== 0) length++;
    return this.at(address, length);
  }
}
