/** Files beneath `STATE` on the real disk. */
import { dirname } from "@std/path";
import type { StateFiles } from "../identity/state_files.ts";

/** Larger files are not ours: refused instead of read. */
const FILE_MAX = 4 * 1024 * 1024;

/**
 * Opens the state directory.
 *
 * @param root absolute path; made with mode 0700 by the first write.
 */
export function openStateFiles(root: string): StateFiles {
  return {
    async read(name) {
      try {
        const { size } = await Deno.stat(`${root}/${name}`);
        if (size > FILE_MAX) throw new Error(`Cannot read ${root}/${name}: it has ${size} bytes`);
        return await Deno.readFile(`${root}/${name}`);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return null;
        if (error instanceof Deno.errors.PermissionDenied) {
          throw new Error(`Cannot read ${root}/${name}: permission denied; run as root`, { cause: error });
        }
        throw error;
      }
    },
    async write(name, bytes, mode) {
      const path = `${root}/${name}`;
      const folder = dirname(path);
      await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
      const temporary = `${folder}/.new-${crypto.randomUUID()}`;
      try {
        using file = await Deno.open(temporary, { write: true, createNew: true, mode });
        for (let at = 0; at < bytes.byteLength;) at += await file.write(bytes.subarray(at));
        await file.sync();
        await Deno.chmod(temporary, mode); // whatever the umask was
        await Deno.rename(temporary, path);
      } catch (error) {
        await Deno.remove(temporary).catch(() => {}); // the first error is the one to tell
        throw new Error(`Cannot write ${path}: ${error instanceof Error ? error.message : error}`, {
          cause: error,
        });
      }
      await syncFolder(folder);
    },
    async list(folder) {
      const names: string[] = [];
      try {
        for await (const entry of Deno.readDir(`${root}/${folder}`)) {
          if (!entry.name.startsWith(".new-")) names.push(entry.name);
        }
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
      return names.sort();
    },
    async remove(name) {
      try {
        await Deno.remove(`${root}/${name}`);
        await syncFolder(dirname(`${root}/${name}`));
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    },
  };
}

/** A rename is on disk when the folder is. */
async function syncFolder(folder: string): Promise<void> {
  using handle = await Deno.open(folder, { read: true });
  await handle.sync();
}
