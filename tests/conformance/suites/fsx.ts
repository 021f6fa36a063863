/**
 * One fsx at work on a file of the mount.
 *
 * fsx makes the same operations from the same seed, whatever it works on: a second one on a plain directory tells what the file
 * must be after any number of them. That is how a file is judged whose fsx was cut off by a power cut.
 *
 * @module
 */
import { DATA } from "../../lab/cluster.ts";
import type { HostProcess, Lab, NodeName } from "../../lab/lab.ts";

/** Longest file; fsx's own default, said because {@link Fsx.goOn} makes the file as long. */
const LENGTH = 262_144;
/**
 * What not every file system has is left out on all, so that operations come in the same order: collapse, insert, unshare,
 * clone, dedupe, exchange, atomic writes.
 */
const COMMON = ["-C", "-I", "-u", "-J", "-B", "-0", "-a", "-l", `${LENGTH}`];
const PLAIN = "/run/lab/disk/plain";

/** fsx with one seed. */
export class Fsx {
  readonly #lab: Lab;
  readonly #program: string;
  readonly #seed: number;
  readonly #file: string;

  /** @param program its path in a host. */
  constructor(lab: Lab, program: string, seed: number) {
    this.#lab = lab;
    this.#program = program;
    this.#seed = seed;
    this.#file = `${DATA}/fsx-${seed}`;
  }

  /** From the beginning to the end. Answers its last words; throws when it found something. */
  async whole(node: NodeName, operations: number, timeoutMs: number): Promise<string> {
    return await this.#run(node, ["-q", "-S", `${this.#seed}`, "-N", `${operations}`], timeoutMs);
  }

  /** Starts it; each operation that changes the file or looks at it is named before it is done, and each write is synced. */
  async start(node: NodeName): Promise<HostProcess> {
    const process = this.#lab.spawn(
      node,
      this.#command(["-y", "-p", "1", "-S", `${this.#seed}`], this.#file),
    );
    await process.line((line) => operation(line) > 0, 60_000);
    return process;
  }

  /**
   * The file on `node` is what it was after the last operation but one, or after the last one that was named, or, where that was in
   * its middle, byte by byte one of them. Answers that in words.
   */
  async compare(process: HostProcess, node: NodeName): Promise<string> {
    // Where it ended by itself, since its mount went away, it has told a long story after its last operation.
    const last = process.lines.reduce((last, line) => Math.max(last, operation(line)), 0);
    if (!(last > 1)) {
      throw new Error(`fsx with seed ${this.#seed} named no operation: ${process.lines.at(-1)}`);
    }
    const [before, after] = [await this.#image(node, last - 1), await this.#image(node, last)];
    const found = await this.#read(node, this.#file);
    const which = judge(found, before, after);
    const about = `seed ${this.#seed}: cut off in operation ${last}`;
    if (which === undefined) {
      const at = found.findIndex((byte, at) => byte !== before[at] && byte !== after[at]);
      throw new Error(
        `${about}: the file has ${found.length} bytes, expected ${before.length} or ${after.length}; first wrong byte: ${at}\n` +
          process.lines.slice(-12).join("\n"),
      );
    }
    return `${about}, the file is that ${which} it`;
  }

  /** Goes on with another seed, from the file as it is. */
  async goOn(node: NodeName, operations: number, timeoutMs: number): Promise<string> {
    // With -k the file's length is the longest it may get.
    await this.#lab.sh(node, `truncate -s ${LENGTH} ${this.#file}`);
    return await this.#run(
      node,
      ["-q", "-k", "-S", `${this.#seed + 100_000}`, "-N", `${operations}`],
      timeoutMs,
    );
  }

  #command(args: readonly string[], file: string): string[] {
    return [this.#program, ...COMMON, "-P", "/tmp", ...args, file];
  }

  async #run(node: NodeName, args: readonly string[], timeoutMs: number): Promise<string> {
    const { code, stdout, stderr, timedOut } = await this.#lab.exec(node, this.#command(args, this.#file), {
      timeoutMs,
    });
    const words = stdout.trim().split("\n").at(-1) ?? "";
    if (code === 0 && words.includes("A-OK")) return `seed ${this.#seed}: ${words}`;
    const how = timedOut ? "did not end" : `ended with ${code}`;
    // Its log of the last operations is long; what went wrong stands before it, what it did last after it.
    const lines = `${stdout}\n${stderr}`.split("\n");
    throw new Error(
      `fsx with seed ${this.#seed} ${how}:\n${[...lines.slice(0, 40), "…", ...lines.slice(-40)].join("\n")}`,
    );
  }

  /** What the file is after so many operations, made on a plain directory. */
  async #image(node: NodeName, operations: number): Promise<Uint8Array> {
    const file = `${PLAIN}/image`;
    await this.#lab.sh(node, `mkdir -p ${PLAIN}; rm -f ${PLAIN}/*`);
    const args = ["-q", "-S", `${this.#seed}`, "-N", `${operations}`];
    const { code, stdout } = await this.#lab.exec(node, this.#command(args, file), { timeoutMs: 600_000 });
    if (code !== 0) throw new Error(`Cannot make the image of seed ${this.#seed}: ${stdout.slice(0, 1000)}`);
    return await this.#read(node, file);
  }

  async #read(node: NodeName, file: string): Promise<Uint8Array> {
    return await Deno.readFile(`/proc/${this.#lab.init(node)}/root${file}`);
  }
}

/** Number of the operation a line names, else 0. */
export function operation(line: string): number {
  return Number(
    /^(\d+) (?:read|write|mapread|mapwrite|trunc|falloc|punch|zero|copy)/.exec(line)?.[1] ?? 0,
  );
}

/** Whether `found` is `before`, or `after`, or on the way from one to the other; undefined: none of these. */
export function judge(
  found: Uint8Array,
  before: Uint8Array,
  after: Uint8Array,
): "before" | "after" | "in the middle of" | undefined {
  const same = (other: Uint8Array): boolean =>
    found.length === other.length && found.every((byte, at) => byte === other[at]);
  if (same(after)) return "after";
  if (same(before)) return "before";
  const length = found.length === before.length || found.length === after.length ||
    (found.length - before.length) * (found.length - after.length) < 0;
  // What a write past the end has not reached yet reads as zeros.
  const mixed = found.every((byte, at) =>
    byte === before[at] || byte === after[at] || byte === 0 && at >= before.length
  );
  return length && mixed ? "in the middle of" : undefined;
}
