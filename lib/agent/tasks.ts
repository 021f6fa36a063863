/**
 * The core's tasks, done: calls to keeper and replicator, addresses and services.
 *
 * Every task is idempotent: an agent that was killed in the middle does it again.
 *
 * @module
 */

import type { ModuleConfig } from "../config/types.ts";
import type { PlacedVip, ServiceEffects, ServiceSpec, VipEffects } from "../effects/types.ts";
import type { Task } from "../failover/types.ts";
import { unreachable } from "../failover/view.ts";
import type { LocalLink } from "./local_link.ts";
import { fieldsOf, positionOf } from "./replicator_status.ts";

/** Quick calls: they touch memory and a descriptor. */
const CALL_MS = 10_000;
/** Draining and syncing a loaded disk takes its time. */
const DRAIN_MS = 60_000;
/** A copy that is forced out of a resync goes back first: as long as it takes to write what was changed once more. */
const RESTORE_MS = 12 * 3_600_000;
/** A replicator that starts reads its log first. */
const REPLICATOR_START_MS = 30_000;

/** A node as the replicator reaches it. */
export interface Endpoint {
  readonly name: string;
  /** Preferred network first. */
  readonly addresses: readonly string[];
}

/** What the tasks of one module act on. */
export interface TaskWorld {
  readonly config: ModuleConfig;
  readonly node: string;
  /** As it is reached now. */
  readonly peer: () => Endpoint;
  /** How long after the end of the authority the keeper takes the module down. */
  readonly graceMs: number;
  readonly keeper: LocalLink;
  readonly replicator: LocalLink;
  readonly vips: VipEffects;
  readonly services: ServiceEffects;
  readonly role: () => ServiceSpec["role"];
}

/** Does one task; answers the position it ended at, when it has one. */
export async function runTask(world: TaskWorld, task: Task, signal: AbortSignal): Promise<bigint | null> {
  const { config } = world;
  const module = config.name;
  const port = config.port;
  switch (task.do) {
    case "replicator-start":
      await world.keeper.call("replicator.start", { module }, CALL_MS);
      world.replicator.want(true);
      await world.replicator.ready(REPLICATOR_START_MS, signal);
      return null;
    case "replicator-stop":
      world.replicator.want(false);
      await world.keeper.call("replicator.stop", { module }, CALL_MS);
      return null;
    case "cover":
      await cover(world);
      return null;
    case "mount":
      for (const { path } of config.replicate) await world.keeper.call("mount", { module, path }, CALL_MS);
      await guard(world);
      return null;
    case "unmount":
      await unmount(world);
      return null;
    case "close":
      return await askReplicator(
        world,
        "close",
        { epoch: task.epoch, force: task.force },
        task.force ? RESTORE_MS : DRAIN_MS,
      );
    case "serve":
      return await askReplicator(world, "serve", {
        epoch: task.epoch,
        members: task.members,
        peer: world.peer(),
        port,
      }, CALL_MS);
    case "follow":
      return await askReplicator(world, "follow", {
        epoch: task.epoch,
        primary: world.peer(),
        port,
        overwrite: task.overwrite,
      }, CALL_MS);
    case "solo":
    case "pair":
      return await askReplicator(world, task.do, { epoch: task.epoch }, CALL_MS);
    case "demote":
      return await askReplicator(world, "demote", {}, DRAIN_MS);
    case "retire":
      return await retire(world);
    case "vip-add":
      for (const vip of config.virtualIps) await world.vips.add(vip);
      return null;
    case "vip-remove":
      for (const vip of config.virtualIps) await world.vips.remove(vip);
      return null;
    case "service-start":
      await startService(world);
      return null;
    case "service-stop":
      if (config.service !== null) await world.services.stop(serviceSpec(world, config.service));
      return null;
    default:
      return unreachable(task);
  }
}

async function askReplicator(
  world: TaskWorld,
  method: string,
  params: unknown,
  timeoutMs: number,
): Promise<bigint | null> {
  const result = fieldsOf(await world.replicator.call(method, params, timeoutMs));
  return positionOf(result["sequence"]);
}

/** From mounted, covered or plain. A replicator that still is primary drains first, so that nothing acknowledged is cut. */
async function cover(world: TaskWorld): Promise<void> {
  const module = world.config.name;
  if (world.replicator.connected) {
    const status = fieldsOf(await world.replicator.call("status", {}, CALL_MS));
    if (status["role"] === "primary") await askReplicator(world, "demote", {}, DRAIN_MS);
  }
  await unmount(world);
  for (const { path } of world.config.replicate) await world.keeper.call("cover", { module, path }, CALL_MS);
}

async function unmount(world: TaskWorld): Promise<void> {
  const module = world.config.name;
  for (const path of await mountedPaths(world)) await world.keeper.call("unmount", { module, path }, CALL_MS);
}

/** Paths of the module that are FUSE mounts now, as the keeper knows it. */
export async function mountedPaths(world: Pick<TaskWorld, "config" | "keeper">): Promise<readonly string[]> {
  const list = fieldsOf(await world.keeper.call("list", { module: world.config.name }, CALL_MS));
  const mounts = Array.isArray(list["mounts"]) ? list["mounts"].map(fieldsOf) : [];
  return mounts.filter((mount) => typeof mount["fuse"] === "number").map((mount) => String(mount["path"]));
}

/** Whether the keeper's dead man's switch has taken the module down since it was mounted. */
export async function wasFenced(world: Pick<TaskWorld, "config" | "keeper">): Promise<boolean> {
  const status = fieldsOf(await world.keeper.call("status", {}, CALL_MS));
  const modules = Array.isArray(status["modules"]) ? status["modules"].map(fieldsOf) : [];
  return modules.some((module) => module["module"] === world.config.name && module["fenced"] === true);
}

/** What the dead man's switch takes down when our authority lapses. */
export async function guard(world: TaskWorld): Promise<void> {
  const { config, services, vips, graceMs } = world;
  const placed: PlacedVip[] = config.virtualIps.map((vip) => vips.place(vip));
  const cgroup = config.service === null ? null : services.cgroup(config.name);
  const params = { module: config.name, vips: placed, cgroups: cgroup === null ? [] : [cgroup], graceMs };
  await world.keeper.call("guard", params, CALL_MS);
}

async function startService(world: TaskWorld): Promise<void> {
  const { service } = world.config;
  if (service === null) return;
  const spec = serviceSpec(world, service);
  // After the agent's own restart the service still runs; starting it twice would harm it.
  if (!await world.services.running(spec)) await world.services.start(spec);
}

async function retire(world: TaskWorld): Promise<bigint | null> {
  if (!world.replicator.connected) return null;
  return await askReplicator(world, "retire", {}, DRAIN_MS);
}

function serviceSpec(world: TaskWorld, config: ServiceSpec["config"]): ServiceSpec {
  const vips = world.config.virtualIps.map((vip) => vip.address);
  return { module: world.config.name, config, node: world.node, role: world.role(), vips };
}
