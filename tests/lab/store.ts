/**
 * The store of a node: an image file, and how the power is cut under it.
 *
 * `image`: a loop device over the file. A cut shuts the file system down, so what it had not sent to the disk is lost;
 * what it had sent is there. `volatile`: between them lies `volatile_disk.c`, a disk with a write cache. There a cut also
 * loses what no flush has covered, any sectors of it, so a file system or a program that forgets a flush is found out.
 *
 * @module
 */
import { must, until } from "./process.ts";

/** What a node's store lies on. */
export type StoreKind = "image" | "volatile";

const FILESYSTEM = "/run/lab/disk";
const DISK_PID = "/run/lab/disk.pid";

/** Makes an image with an empty file system; it grows by what is written. */
export async function makeStore(
  image: string,
  how: { readonly filesystem: "ext4" | "xfs"; readonly mib: number },
): Promise<void> {
  const file = await Deno.open(image, { create: true, write: true });
  await file.truncate(how.mib * 1024 * 1024);
  file.close();
  await must(
    how.filesystem === "xfs"
      ? ["mkfs.xfs", "-q", "-f", image]
      : ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", image],
  );
}

/** Compiles the program of a volatile disk, for `host.sh`. */
export async function compileDisk(program: string): Promise<void> {
  const source = new URL("volatile_disk.c", import.meta.url).pathname;
  await must(["gcc", "-O2", "-Wall", "-o", program, source]);
}

/**
 * From here on nothing reaches the disk of the host whose first process is `pid`.
 *
 * @param writeBack whether all that is not written is on its way to a volatile disk at that moment.
 */
export async function cutStore(pid: number, kind: StoreKind, writeBack: boolean): Promise<void> {
  const inside = ["nsenter", "-t", `${pid}`, "-m", "-r"];
  if (kind === "image") return void await must([...inside, "xfs_io", "-x", "-c", "shutdown", FILESYSTEM]);
  const sync = writeBack ? `sync -f ${FILESYSTEM} 2>/dev/null &` : "";
  // Its number is one of the host's own process numbers.
  await must([...inside, "-p", "sh", "-euc", `disk=$(cat ${DISK_PID})\n${sync}\nkill -USR1 "$disk"`]);
  const alive = ["-p", "sh", "-c", `kill -0 "$(cat ${DISK_PID})" 2>/dev/null && echo alive || true`];
  await until("the disk to lose its power", async () => await must([...inside, ...alive]) === "");
}

/** What cuts took from a volatile disk. */
export interface Loss {
  readonly cuts: number;
  /** Of the cuts, those that found something that was not flushed. */
  readonly cutsInWriting: number;
  /** Sectors that were not flushed, and those of them that did not reach the disk. */
  readonly sectors: number;
  readonly sectorsLost: number;
}

/** Adds up what `volatile_disk.c` says of its cuts, a line each. */
export function lossOf(log: string): Loss {
  let loss: Loss = { cuts: 0, cutsInWriting: 0, sectors: 0, sectorsLost: 0 };
  for (const line of log.split("\n").filter(Boolean)) {
    const [, kept, sectors] =
      /^cut: \d+ blocks were not flushed, (\d+) of their (\d+) sectors kept$/.exec(line) ?? [];
    if (kept === undefined || sectors === undefined) throw new Error(`Cannot understand the disk: ${line}`);
    loss = {
      cuts: loss.cuts + 1,
      cutsInWriting: loss.cutsInWriting + (sectors === "0" ? 0 : 1),
      sectors: loss.sectors + Number(sectors),
      sectorsLost: loss.sectorsLost + Number(sectors) - Number(kept),
    };
  }
  return loss;
}
