/**
 * The primary's disk does not say what is to be compared.
 *
 * @module
 */

import { StreamError } from "./stream.ts";

/** A session ends with it; whoever tells people of it can say where the object lies. */
export class SourceRefused extends StreamError {
  /** The object that could not be looked at. */
  readonly id: number;

  /**
   * @param doing "compare" or "verify".
   * @param what was tried, such as "read".
   * @param result −errno.
   */
  constructor(doing: "compare" | "verify", id: number, what: string, result: number) {
    super(
      "system",
      `Cannot ${doing} the copies: the primary's disk did not let us ${what} object ${id} (errno ${-result})`,
    );
    this.id = id;
  }
}
