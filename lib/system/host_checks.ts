/** What only this machine can say of a module: are the directories there, can the commands be run. */
import { overlaps } from "../config/module.ts";
import type { ModuleConfig } from "../config/types.ts";
import type { HostChecks } from "../http/control_types.ts";
import { FUSE_TYPE, readMounts } from "./mount.ts";
import type { Mount } from "./mountinfo.ts";
import { objectionToOwners } from "./owners.ts";

/**
 * Checks against the real machine. No replicated path is opened: a lookup on a mount of ours that hangs would hang the
 * agent, so a path that is covered or mounted by Binome already counts as good.
 *
 * @param folders directories of our own that must not be replicated.
 */
export function openHostChecks(folders: readonly string[]): HostChecks {
  return {
    async check(config) {
      const mounts = readMounts();
      const faults: string[] = [];
      for (const { path } of config.replicate) {
        faults.push(...await checkDirectory(path, { mounts, folders }));
      }
      for (const argv of [config.service?.start, config.service?.stop]) {
        if (argv?.[0] !== undefined) faults.push(...await checkProgram(argv[0], config));
      }
      const user = config.service?.user;
      if (typeof user === "string") faults.push(...await checkUser(user));
      return faults;
    },
  };
}

async function checkDirectory(
  path: string,
  at: { readonly mounts: readonly Mount[]; readonly folders: readonly string[] },
): Promise<string[]> {
  const faults: string[] = [];
  const own = at.folders.find((folder) => overlaps(folder, path));
  if (own !== undefined) {
    faults.push(`${path} overlaps Binome's own directory ${own}: choose another directory`);
  }
  const nested = at.mounts.filter(({ point }) => point.startsWith(`${path}/`)).map(({ point }) => point);
  if (nested.length > 0) {
    faults.push(
      `${
        nested.join(", ")
      } is mounted inside ${path}: a directory and what is mounted in it cannot be one copy; unmount it, or replicate it as a directory of its own`,
    );
  }
  const owners = objectionToOwners(path, at.mounts);
  if (owners !== null) faults.push(`${path} cannot be replicated: ${owners}`);
  const mounted = at.mounts.findLast(({ point }) => point === path);
  if (mounted?.type === FUSE_TYPE) return faults;
  try {
    const info = await Deno.lstat(path);
    if (info.isSymlink) {
      faults.push(`${path} is a symbolic link: name the directory it leads to, ${await Deno.realPath(path)}`);
    } else if (!info.isDirectory) {
      faults.push(`${path} is not a directory`);
    } else {
      const real = await Deno.realPath(path);
      if (real !== path) faults.push(`${path} leads through a symbolic link: write ${real}`);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      faults.push(
        `directory ${path} does not exist: create it (mkdir -p ${path}), empty on a node without data`,
      );
    } else faults.push(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
  return faults;
}

async function checkProgram(path: string, config: ModuleConfig): Promise<string[]> {
  if (config.replicate.some((directory) => overlaps(directory.path, path))) {
    return [
      `${path} lies in a replicated directory: a hung mount could keep it from being stopped; move it out`,
    ];
  }
  try {
    const info = await Deno.stat(path);
    if (!info.isFile) return [`${path} is not a file`];
    if (((info.mode ?? 0) & 0o111) === 0) return [`${path} is not executable: chmod +x ${path}`];
    return [];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return [`${path} does not exist: copy the script to this node too`];
    }
    return [`${path} cannot be read: ${error instanceof Error ? error.message : error}`];
  }
}

async function checkUser(user: string): Promise<string[]> {
  const passwd = await Deno.readTextFile("/etc/passwd");
  if (passwd.split("\n").some((line) => line.startsWith(`${user}:`))) return [];
  return [`user ${user} does not exist in /etc/passwd: create it, with the same number on both nodes`];
}
