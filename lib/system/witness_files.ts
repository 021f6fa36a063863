/**
 * The two files of {@link "../replication/witness.ts"} in the state folder of a module. Nothing is synced, see there.
 *
 * @module
 */

import type { WitnessFiles } from "../replication/witness.ts";

/** Opens `DIRECTORY/witness` and `DIRECTORY/witness.new` as they are needed. */
export function openWitnessFiles(directory: string): WitnessFiles {
  const path = { kept: `${directory}/witness`, growing: `${directory}/witness.new` };
  const open: { kept: Deno.FsFile | null; growing: Deno.FsFile | null } = { kept: null, growing: null };
  const close = (which: "kept" | "growing"): void => {
    open[which]?.close();
    open[which] = null;
  };
  const growing = (): Deno.FsFile =>
    open.growing ??= Deno.openSync(path.growing, { read: true, write: true, create: true, mode: 0o600 });
  return {
    read: (which, at, length) => {
      const file = open[which] ??= existing(path[which]);
      return file === null ? new Uint8Array(0) : readAt(file, at, length);
    },
    cut: (length) => growing().truncateSync(length),
    append: (bytes) => {
      const file = growing();
      file.seekSync(0, Deno.SeekMode.End);
      for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    },
    publish: () => {
      close("kept");
      close("growing");
      Deno.renameSync(path.growing, path.kept);
    },
    close: () => {
      close("kept");
      close("growing");
    },
  };
}

function existing(path: string): Deno.FsFile | null {
  try {
    return Deno.openSync(path, { read: true, write: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

function readAt(file: Deno.FsFile, at: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  file.seekSync(at, Deno.SeekMode.Start);
  let done = 0;
  for (let got = 1; got > 0 && done < length; done += got) got = file.readSync(bytes.subarray(done)) ?? 0;
  return bytes.slice(0, done);
}
