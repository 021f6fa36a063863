/**
 * Applied configurations, kept as numbered generations.
 *
 * ```
 * modules/NAME/generations/000003.yaml   every version that was applied; the highest number counts
 * modules/NAME.yaml                      a copy of it, for people
 * ```
 *
 * The generation is written first: a power cut between the two leaves the copy behind, never ahead.
 */
import { PUBLIC_MODE, readText, type StateFiles } from "../identity/state_files.ts";
import { parseModule } from "./module.ts";
import type { ClusterConfig, ModuleConfig } from "./types.ts";

/** Versions kept of each module. */
export const GENERATIONS_KEPT = 20;

/** One applied configuration. */
export interface StoredModule {
  readonly name: string;
  /** From 1. The higher wins between nodes. */
  readonly generation: number;
  readonly text: string;
  readonly config: ModuleConfig;
}

/** A stored text that the current cluster does not fit any more. */
export interface BrokenModule {
  readonly name: string;
  /** A repaired text must be given a higher one. */
  readonly generation: number;
  readonly message: string;
}

/** Reads every module. A broken one is reported, and keeps no other from starting. */
export async function loadModules(
  files: StateFiles,
  cluster: ClusterConfig,
): Promise<{ readonly modules: readonly StoredModule[]; readonly broken: readonly BrokenModule[] }> {
  const modules: StoredModule[] = [];
  const broken: BrokenModule[] = [];
  for (const name of await files.list("modules")) {
    if (name.endsWith(".yaml")) continue;
    const generation = (await generationsOf(files, name)).at(-1);
    if (generation === undefined) continue;
    const text = await readText(files, pathOf(name, generation)) ?? "";
    try {
      const others = modules.map(({ config }) => config);
      modules.push({
        name,
        generation,
        text,
        config: parseModule(text, { file: `${name}.yaml`, cluster, others }),
      });
    } catch (error) {
      broken.push({ name, generation, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return { modules, broken };
}

/** Keeps a new generation. Returns when it survives a power cut. */
export async function saveModule(
  files: StateFiles,
  module: { readonly name: string; readonly generation: number; readonly text: string },
): Promise<void> {
  const bytes = new TextEncoder().encode(module.text);
  await files.write(pathOf(module.name, module.generation), bytes, PUBLIC_MODE);
  await files.write(`modules/${module.name}.yaml`, bytes, PUBLIC_MODE);
  const generations = await generationsOf(files, module.name);
  for (const old of generations.slice(0, -GENERATIONS_KEPT)) await files.remove(pathOf(module.name, old));
}

/** Forgets a module's configurations. Its log and data stay. */
export async function forgetModule(files: StateFiles, name: string): Promise<void> {
  await files.remove(`modules/${name}.yaml`);
  // from the oldest: a power cut on the way leaves the version that counts
  for (const generation of await generationsOf(files, name)) await files.remove(pathOf(name, generation));
}

async function generationsOf(files: StateFiles, name: string): Promise<readonly number[]> {
  const names = await files.list(`modules/${name}/generations`);
  return names.flatMap((file) => /^\d{6}\.yaml$/.test(file) ? [Number(file.slice(0, 6))] : []).sort((a, b) =>
    a - b
  );
}

function pathOf(name: string, generation: number): string {
  return `modules/${name}/generations/${String(generation).padStart(6, "0")}.yaml`;
}
