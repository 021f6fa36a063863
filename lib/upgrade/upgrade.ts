/**
 * `binome upgrade`: checks a program, puts it in place of the installed one, and restarts what runs.
 *
 * @module
 */

import type { ClusterStatus } from "../agent_control.ts";
import { PROTOCOL } from "../protocol.ts";
import {
  objectionsToVersion,
  objectionToFile,
  type PeerVersion,
  type ProgramVersion,
  readVersion,
} from "./candidate.ts";
import { RestartError, restartNode, type RestartWorld } from "./restart.ts";

/** Files of programs. What fails throws an error that names the file. */
export interface Programs {
  /** The file that the supervisor starts, as it follows from what runs. */
  installed(): Promise<string>;
  /** Where the program that an upgrade replaces is kept. */
  previous(program: string): string;
  /** Size and first bytes of a file. */
  look(path: string): Promise<{ readonly size: number; readonly head: Uint8Array }>;
  /** First bytes of the program that runs this. */
  ownHead(): Promise<Uint8Array>;
  /** Copies a file beside a program, executable, on the disk when this returns. Answers the copy. */
  stage(file: string, program: string): Promise<string>;
  /** Removes a copy. */
  discard(staged: string): Promise<void>;
  /** What it prints on `version --json`; bounded in time. */
  versionOf(path: string): Promise<string>;
  /**
   * Puts a copy in the place of a program and keeps that one as {@link previous}. At every moment, and after a power cut,
   * the program is the one or the other, whole.
   */
  replace(program: string, staged: string): Promise<void>;
}

/** Everything an upgrade touches. */
export interface UpgradeWorld extends RestartWorld {
  readonly root: boolean;
  readonly programs: Programs;
  /** Modules whose copy on this node is part of a resync that it can still be taken back out of. */
  waysBack(): Promise<readonly string[]>;
}

/** What is asked for. */
export interface UpgradeOrder {
  /** The new program; null: back to the one before. */
  readonly file: string | null;
  /** The installed program, where it is not the one that runs. */
  readonly program: string | undefined;
  /** Of the program that runs this. */
  readonly version: string;
  /** The cluster as the agent of this node sees it; null: it does not answer. */
  readonly status: ClusterStatus | null;
}

/** What was done. */
export interface Upgraded {
  readonly program: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Upgrades this node.
 *
 * @throws {Error} whose message is the whole sentence. Before anything was changed, or with what is to be done.
 */
export async function upgradeNode(world: UpgradeWorld, order: UpgradeOrder): Promise<Upgraded> {
  if (!world.root) {
    throw new Error("Cannot upgrade: it replaces a program and ends processes; run it as root");
  }
  const { programs, say } = world;
  mustRest(order.status);
  if (order.file === null) await mustKnowItsWay(world);
  const program = order.program ?? await programs.installed();
  const file = order.file ?? programs.previous(program);
  const cannot = `Cannot upgrade to ${file}: `;
  const objection = objectionToFile(await programs.look(file), await programs.ownHead());
  if (objection !== null) throw new Error(cannot + objection);
  const running: ProgramVersion = { version: order.version, protocol: PROTOCOL };
  const peers = order.status?.peers ?? [];
  // The copy is what is tried and what is taken: the file may be somebody's to change.
  const staged = await programs.stage(file, program);
  let next: ProgramVersion;
  try {
    next = readVersion(await programs.versionOf(staged));
    const objections = objectionsToVersion(next, { running, peers });
    if (objections.length > 0) throw new Error(objections.join("; "));
  } catch (error) {
    await programs.discard(staged);
    throw new Error(cannot + (error instanceof Error ? error.message : error), { cause: error });
  }
  for (const { node } of peers.filter(unheard)) {
    say(`${node} has not been heard: whether it understands ${next.version} is not known`);
  }
  await programs.replace(program, staged);
  say(`${program} is ${next.version} now; the one before is ${programs.previous(program)}`);
  await restart(world, program);
  return { program, from: order.version, to: next.version };
}

/** A process in the middle of a change would lose the time that a restart takes. */
function mustRest(status: ClusterStatus | null): void {
  for (const { module, nodes } of status?.modules ?? []) {
    const own = nodes.find(({ node }) => node === status?.node);
    if (own?.readiness !== "transient") continue;
    throw new Error(
      `Cannot upgrade: module ${module} is on its way to ${own.state}; wait until it is at rest (binome status ${module})`,
    );
  }
}

/** The program before may not know of ways back: it would serve a copy that is half one state and half another. */
async function mustKnowItsWay(world: UpgradeWorld): Promise<void> {
  const modules = await world.waysBack();
  if (modules.length === 0) return;
  throw new Error(
    `Cannot upgrade: the copy of ${
      modules.join(", ")
    } is in the middle of a resync, or of going back to what was before it, ` +
      "which the former program may not understand; let it end first (start the other node, or `force-primary` here)",
  );
}

function unheard({ protocol }: PeerVersion): boolean {
  return protocol === null;
}

async function restart(world: UpgradeWorld, program: string): Promise<void> {
  const { programs } = world;
  try {
    await restartNode(world);
  } catch (error) {
    if (!(error instanceof RestartError)) throw error;
    if (error.role !== "keeper") throw new Error(`${error.message}\n  or go back: binome upgrade --back`);
    // Without a keeper nothing guards this node: whoever starts one must start the one that worked.
    await programs.replace(program, await programs.stage(programs.previous(program), program));
    throw new Error(`${error.message}\n  ${program} is the former program again`, { cause: error });
  }
}
