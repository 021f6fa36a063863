/**
 * `RUN/NAME.authority`: until when, and as which epoch, this node may answer its application.
 *
 * | offset | size | field    | meaning                                                |
 * | -----: | ---: | -------- | ------------------------------------------------------ |
 * |      0 |    8 | deadline | `CLOCK_BOOTTIME` nanoseconds, little-endian; 0: none   |
 * |      8 |    8 | epoch    | little-endian                                          |
 *
 * The file lies on a tmpfs and is mapped by replicator and keeper: it is written in place, never replaced.
 *
 * @module
 */

/** The one writer of a module's authority. */
export class AuthorityFile {
  readonly #file: Deno.FsFile;
  readonly #bytes = new Uint8Array(16);
  readonly #view: DataView = new DataView(this.#bytes.buffer);

  /** Opens or creates; what it says is kept: an agent that was killed had granted it. */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { create: true, read: true, write: true, mode: 0o600 });
    // Whole from the first moment: a mapping beyond the end of a file is a SIGBUS.
    if (this.#file.statSync().size < 16) this.#file.truncateSync(16);
  }

  /** `untilMs` 0 withdraws. */
  write(untilMs: number, epoch: number): void {
    this.#view.setBigUint64(0, BigInt(untilMs) * 1_000_000n, true);
    this.#view.setBigUint64(8, BigInt(epoch), true);
    this.#file.seekSync(0, Deno.SeekMode.Start);
    this.#file.writeSync(this.#bytes);
  }

  close(): void {
    this.#file.close();
  }
}
