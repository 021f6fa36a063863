/**
 * `scripts/mutants`: a test that never fails proves nothing. Each mutant is the program with one promise removed; the
 * power-off test must find what was lost.
 *
 * @module
 */
import { build, type Replacement } from "./build.ts";
import { CheckError } from "./database.ts";
import type { StoreKind } from "./lab.ts";
import { type Cut, powerOffs } from "./poweroff.ts";

interface Mutant {
  readonly name: string;
  /** What it does wrong, for a person. */
  readonly sin: string;
  readonly replacements: readonly Replacement[];
  /** The cut that lays it bare, and how often it is tried. */
  readonly cut: Cut;
  readonly cuts: number;
  /** Default `image`. */
  readonly store?: StoreKind;
  /** Whether rows are all the load. */
  readonly rowsAlone?: boolean;
}

const MUTANTS: readonly Mutant[] = [
  {
    name: "no-fsync",
    sin: "answers fsync without carrying it to the disk, on both nodes",
    replacements: [{
      file: "lib/replication/disk_worker.ts",
      from: "fd < 0 ? 0 : flags & DISK_FLAG.dataOnly ? backing.fdatasync(fd) : backing.fsync(fd)",
      to: "0",
    }],
    // One disk that lies is no loss while the other node lives.
    cut: "both, primary first",
    cuts: 3,
  },
  {
    name: "early-answer",
    sin: "answers the application before the peer has it",
    replacements: [{
      file: "lib/replication/acker_worker.ts",
      from: "shared.replies.getFloat64(at + REPLY.sequence, true) > this.#acknowledged.applied",
      to: "false",
    }, {
      file: "lib/replication/acker_worker.ts",
      from: "=== 2 && sequence > this.#synced",
      to: "=== 2 && false",
    }],
    // On a wire this short the peer has everything at once: only where the link dies first is the answer too early.
    cut: "primary, its link first",
    cuts: 3,
  },
  {
    name: "no-flush",
    sin: "answers fdatasync once the data is sent to the disk, without having the disk write its cache",
    replacements: [{
      file: "lib/system/backing.ts",
      from: 'fdatasync: { parameters: ["i32"], result: "i32" }',
      to: 'fdatasync: { name: "sync_file_range", parameters: ["i32", "i64", "i64", "u32"], result: "i32" }',
    }, {
      file: "lib/system/backing.ts",
      from: "c.fdatasync(fd)",
      // Wait before, write, wait after, to the end of the file.
      to: "c.fdatasync(fd, 0n, 0n, 7)",
    }],
    // A file system that is shut down keeps what was sent: only a disk that loses its cache tells.
    cut: "both, primary first",
    cuts: 6,
    store: "volatile",
    // Each fsync of another client flushes the disk's whole cache, and what fdatasync left in it.
    rowsAlone: true,
  },
];

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

/** Whether the power-off test catches it. */
async function caught(mutant: Mutant): Promise<boolean> {
  print(`\n${mutant.name}: ${mutant.sin}`);
  const folder = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "binome-mutant-" });
  try {
    const binary = await build(folder, mutant.replacements);
    const { cut, cuts, store = "image", rowsAlone = false } = mutant;
    await powerOffs({
      prefix: "mutant",
      seed: 1,
      cuts,
      only: cut,
      store,
      rowsAlone,
      binary,
      // Where the nodes stand when data is missing is of no interest: that it is missing is what is wanted.
      say: (line) => line.startsWith("--- ") ? undefined : print(`  ${line}`),
    });
    print(`  SURVIVED: ${cuts} times "${cut}", and nothing was missed`);
    return false;
  } catch (error) {
    if (!(error instanceof CheckError)) throw error;
    print(`  caught by the check "${error.message.split("\n")[0]}"`);
    return true;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function main(): Promise<void> {
  const wanted = Deno.args.length === 0 ? MUTANTS : MUTANTS.filter(({ name }) => Deno.args.includes(name));
  const unknown = Deno.args.filter((word) => !MUTANTS.some(({ name }) => name === word));
  if (unknown.length > 0) {
    throw new Error(
      `Cannot find ${unknown.join(", ")}: there are ${MUTANTS.map(({ name }) => name).join(", ")}`,
    );
  }
  let survivors = 0;
  for (const mutant of wanted) if (!await caught(mutant)) survivors++;
  print(`\n${wanted.length - survivors} caught, ${survivors} survived`);
  if (survivors > 0) Deno.exitCode = 1;
}

if (import.meta.main) await main();
