/**
 * The file this process was started from, for starting others of the same.
 *
 * A program of ours holds its own code behind the runtime and finds it by its name: what was removed or replaced since
 * cannot be started by a descriptor (`/proc/self/fd/N`), because its name, `/usr/local/bin/binome (deleted)`, leads
 * nowhere. The bytes are still there, so they get another name.
 *
 * @module
 */

import { removeFile } from "./remove_file.ts";
import { bootId } from "./boot_id.ts";

/** Whose program, and where a copy of it may be kept. */
export interface ProgramPlace {
  /** A copy lies in its folder `program`. */
  readonly state: string;
  readonly run: string;
  /** A link to the program's file; `/proc/self/exe` unless a test says otherwise. */
  readonly link?: string;
}

/**
 * A path to the program this process runs, whatever has happened to its file. One that was renamed is found under its new
 * name, one that was upgraded where it was kept; of one that is gone a copy is made, once.
 *
 * @throws when there is no room for a copy.
 */
export function ownProgram(place: ProgramPlace): string {
  const { state, run, link = "/proc/self/exe" } = place;
  const name = Deno.readLinkSync(link);
  const running = Deno.statSync(link);
  if (isFile(name, running)) return name;
  const kept = previousOf(installedName(name));
  if (isFile(kept, running)) return kept;
  // Not synced, so it counts until the power goes only: the boot's id is part of its name.
  const folder = `${state}/program/${bootId(run)}-${running.dev}-${running.ino}`;
  const copy = `${folder}/binome`;
  if (isSize(copy, running.size)) return copy;
  Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const mine = `${copy}.${Deno.pid}`;
  try {
    Deno.copyFileSync(link, mine);
    Deno.chmodSync(mine, 0o700);
    Deno.renameSync(mine, copy);
  } catch (error) {
    removeFile(mine);
    const why = error instanceof Error ? error.message : error;
    throw new Error(`Cannot start this program again: its file is gone, and no copy can be made: ${why}`);
  }
  return copy;
}

/** Where an upgrade keeps the program it replaced. */
export function previousOf(program: string): string {
  return `${program}.previous`;
}

/** The name under which a program is installed, by the name the kernel gives for a process that runs it. */
export function installedName(link: string): string {
  return link.replace(/ \(deleted\)$/, "").replace(/\.previous$/, "");
}

/** Removes copies that an earlier boot or program made; what runs from them goes on. */
export function sweepPrograms({ state, run, link = "/proc/self/exe" }: ProgramPlace): void {
  const running = Deno.statSync(link);
  const own = [
    `${bootId(run)}-${running.dev}-${running.ino}`,
    // This process may itself run from a copy.
    Deno.readLinkSync(link).split("/").at(-2),
  ];
  const folder = `${state}/program`;
  for (const name of entries(folder)) {
    if (!own.includes(name)) Deno.removeSync(`${folder}/${name}`, { recursive: true });
  }
}

function isFile(path: string, file: Deno.FileInfo): boolean {
  const found = look(path);
  return found !== null && found.dev === file.dev && found.ino === file.ino;
}

/** Renamed into place when whole: of the right size, it is the program. */
function isSize(path: string, size: number): boolean {
  return look(path)?.size === size;
}

function look(path: string): Deno.FileInfo | null {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

function entries(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
