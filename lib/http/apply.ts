/**
 * Takes a module's configuration into use on all its nodes: checked everywhere first, then kept as a generation here,
 * then pushed. A node that does not answer fetches it when it is back ({@link catchUp}).
 */
import type { AgentControl } from "../agent_control.ts";
import { parseModule } from "../config/module.ts";
import { forgetModule, loadModules, saveModule, type StoredModule } from "../config/store.ts";
import type { ModuleConfig } from "../config/types.ts";
import { ConfigError } from "../config/yaml.ts";
import type { AppOptions, PeerAnswer } from "./control_types.ts";
import { PeerUnreachable } from "./control_types.ts";
import { ApiError } from "./errors.ts";

/** Header that says: this generation was accepted by another node, keep it. */
export const GENERATION_HEADER = "binome-generation";

/** Outcome of an apply, for a person and for programs. */
export interface ApplyResult {
  readonly module: string;
  readonly generation: number;
  /** False: the text is the one in use, nothing was done. */
  readonly changed: boolean;
  /** Node → what happened there. */
  readonly nodes: Readonly<Record<string, "applied" | "unreachable">>;
  readonly warnings: readonly string[];
}

/** A text that fits, and what this node has of the same module. */
export interface ModuleReading {
  readonly config: ModuleConfig;
  /** Undefined: none, or one that the cluster does not fit any more. */
  readonly stored: StoredModule | undefined;
  /** Highest generation on this node, 0 for none. */
  readonly generation: number;
}

type Options = Pick<AppOptions, "identity" | "files" | "peers" | "host">;

/**
 * Reads a module's text against the cluster and its other modules.
 *
 * @throws {ApiError} with every fault of the file.
 */
export async function readModule(
  options: Options,
  request: { readonly name: string; readonly text: string; readonly file: string },
): Promise<ModuleReading> {
  const { modules, broken } = await loadModules(options.files, options.identity.cluster);
  const others = modules.map(({ config }) => config);
  let config: ModuleConfig;
  try {
    config = parseModule(request.text, { file: request.file, cluster: options.identity.cluster, others });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ApiError({
      status: 400,
      code: "bad-config",
      message: error.message,
      hint: "correct the lines named and apply again",
      cause: error,
    });
  }
  if (config.name !== request.name) {
    throw new ApiError({
      status: 400,
      code: "bad-config",
      message: `Cannot apply module ${request.name}: the file describes module ${config.name}`,
    });
  }
  const stored = modules.find(({ name }) => name === request.name);
  const generation = (stored ?? broken.find(({ name }) => name === request.name))?.generation ?? 0;
  return { config, stored, generation };
}

/**
 * Applies a text a person sent to this node.
 *
 * @param request.force go on although a node of a module that ran before is not heard.
 * @throws {ApiError} when any node that answers has an objection: nothing is changed then.
 */
export async function applyModule(
  control: AgentControl,
  options: Options,
  request: { readonly name: string; readonly text: string; readonly file: string; readonly force: boolean },
): Promise<ApplyResult> {
  const { identity } = options;
  const { config, stored, generation: own } = await readModule(options, request);
  if (stored?.text !== request.text) refuseRunning(control, { config, stored, force: request.force });
  const faults = config.nodes.includes(identity.node)
    ? named(identity.node, await options.host.check(config))
    : [];
  const generations = [own];
  const unreachable = new Set<string>();
  // All at once: a node that is off costs its time limit, and a cluster may have fifteen of them.
  const checks = await Promise.all(
    otherNodes(options).map(async (node) => {
      const answer = await askPeer(options, node, {
        method: "POST",
        path: `/api/v1/modules/${config.name}/check?file=${encodeURIComponent(request.file)}`,
        body: request.text,
      });
      return { node, check: answer === undefined ? undefined : readCheck(node, answer) };
    }),
  );
  for (const { node, check } of checks) {
    if (check === undefined) {
      unreachable.add(node);
      continue;
    }
    faults.push(...named(node, check.faults));
    generations.push(check.generation);
  }
  if (faults.length > 0) {
    throw new ApiError({
      status: 400,
      code: "host-not-ready",
      message: faults.map((fault) => `Cannot apply ${config.name}: ${fault}`).join("\n"),
      hint: "prepare the nodes named and apply again",
    });
  }
  const highest = Math.max(...generations);
  const changed = stored?.text !== request.text || stored.generation !== highest;
  const generation = changed ? highest + 1 : highest;
  if (changed) await keep(control, options, { config, generation, text: request.text });
  const pushed = await Promise.all(
    otherNodes(options).map(async (node) => {
      const answer = unreachable.has(node) ? undefined : await askPeer(options, node, {
        method: "PUT",
        path: `/api/v1/modules/${config.name}`,
        body: request.text,
        headers: { [GENERATION_HEADER]: String(generation) },
      });
      if (answer !== undefined && answer.status >= 300) throw fromPeer(node, answer);
      return [node, answer === undefined ? "unreachable" : "applied"] as const;
    }),
  );
  const nodes = Object.fromEntries([[identity.node, "applied"] as const, ...pushed]);
  const warnings = Object.entries(nodes).filter(([, outcome]) => outcome === "unreachable")
    .map(([node]) => `${node} does not answer; it takes generation ${generation} when it is back`);
  return { module: config.name, generation, changed, nodes, warnings };
}

/** Keeps a generation another node has accepted. An older one is ignored. */
export async function acceptModule(
  control: AgentControl,
  options: Options,
  request: { readonly name: string; readonly text: string; readonly generation: number },
): Promise<void> {
  const { config, generation } = await readModule(options, { ...request, file: `${request.name}.yaml` });
  if (generation >= request.generation) return;
  await keep(control, options, { config, generation: request.generation, text: request.text });
}

/**
 * Fetches what other nodes have of a higher generation.
 *
 * @returns a sentence per module taken, or that could not be.
 */
export async function catchUp(control: AgentControl, options: Options): Promise<readonly string[]> {
  const said: string[] = [];
  for (const node of otherNodes(options)) {
    const answer = await askPeer(options, node, { method: "GET", path: "/api/v1/configs" });
    if (answer === undefined || answer.status !== 200) continue;
    const { configs } = JSON.parse(answer.body) as {
      configs: { name: string; generation: number; text: string }[];
    };
    const { modules, broken } = await loadModules(options.files, options.identity.cluster);
    for (const offer of configs) {
      const own = [...modules, ...broken].find(({ name }) => name === offer.name)?.generation ?? 0;
      if (offer.generation <= own) continue;
      try {
        await acceptModule(control, options, offer);
        said.push(`module ${offer.name}: generation ${offer.generation} taken from ${node}`);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        said.push(`module ${offer.name}: generation ${offer.generation} of ${node} was not taken: ${why}`);
      }
    }
  }
  return said;
}

/**
 * Forgets a module on every node.
 *
 * @throws {ApiError} when a node does not answer: it would bring the module back.
 */
export async function removeModule(control: AgentControl, options: Options, name: string): Promise<void> {
  await removeHere(control, options, name);
  for (const node of otherNodes(options)) {
    const answer = await askPeer(options, node, { method: "DELETE", path: `/api/v1/modules/${name}?here=1` });
    if (answer === undefined) {
      throw new ApiError({
        status: 502,
        code: "peer-unreachable",
        message: `Cannot remove ${name} from ${node}: it does not answer; it is removed here`,
        hint: `run the same command on ${node} when it is back`,
      });
    }
    if (answer.status >= 300 && answer.status !== 404) throw fromPeer(node, answer);
  }
}

/** Forgets a module on this node. */
export async function removeHere(control: AgentControl, options: Options, name: string): Promise<void> {
  const { modules, broken } = await loadModules(options.files, options.identity.cluster);
  const module = modules.find((module) => module.name === name);
  if (module === undefined && !broken.some((module) => module.name === name)) throw unknownModule(name);
  if (module?.config.nodes.includes(options.identity.node)) {
    const result = await control.removeModule(name);
    if (!result.ok && result.code !== "unknown-module") {
      throw new ApiError({ status: 409, code: result.code, message: result.message });
    }
  }
  await forgetModule(options.files, name);
}

/** The answer for a name nothing is known under. */
export function unknownModule(name: string): ApiError {
  return new ApiError({
    status: 404,
    code: "unknown-module",
    message: `Cannot find module ${JSON.stringify(name)}: it is not applied on this node`,
    hint: 'list the modules with "binome status", or apply its file with "binome apply FILE"',
  });
}

async function keep(
  control: AgentControl,
  options: Options,
  version: { readonly config: ModuleConfig; readonly generation: number; readonly text: string },
): Promise<void> {
  const { config, generation, text } = version;
  await saveModule(options.files, { name: config.name, generation, text });
  if (!config.nodes.includes(options.identity.node)) return;
  const result = await control.applyModule(config, generation);
  if (result.ok) return;
  throw new ApiError({
    status: 409,
    code: result.code,
    message: `Cannot use ${config.name} as applied (kept as generation ${generation}): ${result.message}`,
    hint: `stop ${config.name} on both nodes, then apply again`,
  });
}

/** A change under a running module would give its two nodes two ideas of it. */
function refuseRunning(
  control: AgentControl,
  request: {
    readonly config: ModuleConfig;
    readonly stored: StoredModule | undefined;
    readonly force: boolean;
  },
): void {
  const { config, stored, force } = request;
  if (stored === undefined) return;
  const status = control.status().modules.find(({ module }) => module === config.name);
  for (const instance of status?.nodes ?? []) {
    if (instance.heard && instance.state !== "stopped") {
      throw new ApiError({
        status: 409,
        code: "module-runs",
        message: `Cannot apply ${config.name}: it is ${instance.state} on ${instance.node}`,
        hint: `stop it on both nodes first: binome stop ${config.name} --all`,
      });
    }
    if (!instance.heard && !force) {
      throw new ApiError({
        status: 409,
        code: "peer-unheard",
        message: `Cannot apply ${config.name}: ${instance.node} is not heard, it may be running it`,
        hint: `bring ${instance.node} back, or add --force when it is certainly off`,
      });
    }
  }
}

function otherNodes(options: Options): readonly string[] {
  const { cluster, node } = options.identity;
  return cluster.nodes.map(({ name }) => name).filter((name) => name !== node);
}

async function askPeer(
  options: Options,
  node: string,
  request: Parameters<AppOptions["peers"]["request"]>[1],
): Promise<PeerAnswer | undefined> {
  try {
    return await options.peers.request(node, request);
  } catch (error) {
    if (error instanceof PeerUnreachable) return undefined;
    throw error;
  }
}

function readCheck(node: string, answer: PeerAnswer): { faults: readonly string[]; generation: number } {
  if (answer.status >= 300) throw fromPeer(node, answer);
  return JSON.parse(answer.body) as { faults: string[]; generation: number };
}

/** Another node's refusal, with its name before it. */
function fromPeer(node: string, answer: PeerAnswer): ApiError {
  let message = `HTTP ${answer.status}`;
  let hint = "";
  let code = "peer-refused";
  try {
    const { error } = JSON.parse(answer.body) as { error: { code: string; message: string; hint: string } };
    ({ code, message, hint } = error);
  } catch {
    hint = `is that node's API of the same version? It answered ${JSON.stringify(answer.body.slice(0, 80))}`;
  }
  return new ApiError({
    status: answer.status === 401 ? 502 : 409,
    code,
    message: `${node}: ${message}`,
    hint,
  });
}

function named(node: string, faults: readonly string[]): string[] {
  return faults.map((fault) => `on ${node}, ${fault}`);
}
