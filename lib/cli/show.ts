/** Status and events for people. */
import type { ApplyResult } from "../http/mod.ts";
import type {
  ClusterStatus,
  EventRow,
  ModuleStatus,
  NodeModuleStatus,
  ResyncStatus,
} from "../agent_control.ts";
import { formatSize } from "../config/units.ts";
import { spanInWords } from "../failover/mod.ts";
import { fieldsOf, wayBackInWords } from "../agent/replicator_status.ts";
import { table } from "./table.ts";
import { showRunning, showVerified } from "./verify.ts";

/** The whole cluster: one table of modules, then what needs words. */
export function showStatus(status: ClusterStatus, only?: string): string[] {
  const modules = status.modules.filter(({ module }) => only === undefined || module === only);
  const lines = [`cluster ${status.cluster}, seen from ${status.node}, arbiter ${status.arbiter}`];
  for (const peer of status.peers) {
    const networks = Object.entries(peer.networks).map(([name, age]) =>
      age === null ? `${name} silent` : `${name} ${age} ms ago`
    );
    lines.push(
      `${peer.node} ${peer.heard ? "heard" : "NOT HEARD"}${
        networks.length > 0 ? ` (${networks.join(", ")})` : ""
      }`,
    );
  }
  lines.push("");
  if (modules.length === 0) {
    return [...lines, "no modules; apply one with: binome apply FILE", ...warnings(status)];
  }
  const rows = modules.flatMap((module) => module.nodes.map((node, at) => row(module, node, at === 0)));
  lines.push(
    ...table([["MODULE", "NODE", "STATE", "", "COPY", "EPOCH", "SEQUENCE", "VIP", "SERVICE"], ...rows]),
  );
  for (const module of modules) lines.push(...remarks(module));
  return [...lines, ...warnings(status)];
}

function row(module: ModuleStatus, node: NodeModuleStatus, own: boolean): string[] {
  // Address and service are this node's own: what the other has, it says itself.
  const vip = own && module.vip.set ? module.vip.addresses.join(",") : "";
  const service = own && module.service.configured ? module.service.state : "";
  return [
    own ? module.module : "",
    node.node,
    node.state,
    node.heard ? node.readiness : "NOT HEARD",
    node.copy,
    String(node.epoch),
    node.sequence,
    vip,
    service,
  ];
}

function remarks(module: ModuleStatus): string[] {
  const lines: string[] = [];
  for (const node of module.nodes) {
    if (node.reason !== "") lines.push(`${module.module} on ${node.node}: ${node.reason}`);
  }
  const { resync, network } = module;
  if (network.used !== null && network.used !== network.preferred) {
    lines.push(`${module.module}: replicates over ${network.used} instead of ${network.preferred}`);
  }
  if (resync !== null) {
    lines.push(`${module.module}: ${showResync(resync)}`);
  }
  const wayBack = showWayBack(module.replicator?.["wayBack"]);
  if (wayBack !== "") lines.push(`${module.module}: ${wayBack}`);
  const { verification } = module;
  if (verification !== null && verification.verified !== null) {
    lines.push(`${module.module}: ${showVerified(verification)}`);
  }
  if (verification !== null && verification.running !== null) {
    lines.push(`${module.module}: ${showRunning(verification)}`);
  }
  const behind = module.replicator?.["behind"];
  if (typeof behind === "number" && behind > 0) {
    lines.push(`${module.module}: ${behind} records are under way to the secondary`);
  }
  const log = showLog(module.replicator?.["log"]);
  if (log !== "") lines.push(`${module.module}: ${log}`);
  if (module.maintenance) lines.push(`${module.module}: maintenance is on: nothing is decided automatically`);
  return lines.length === 0 ? [] : ["", ...lines];
}

/** What this copy can go back to while it is part of a resync; empty when it is not. */
function showWayBack(value: unknown): string {
  const of = fieldsOf(value);
  const { state, restoring, reason, bytes } = of;
  if (state === "given-up") return `no way back out of the resync is kept: ${String(reason)}`;
  if (state !== "kept" && state !== "sweeping") return "";
  const takes = formatSize(typeof bytes === "number" ? bytes : 0);
  if (restoring === null || restoring === undefined) {
    return `\`force-primary\` would serve it ${wayBackInWords(of)} (kept in ${takes})`;
  }
  const { objects, names, bytes: done } = fieldsOf(restoring);
  return `goes back to what it was ${wayBackInWords(of)}: ${String(names)} names, ${
    formatSize(Number(done))
  }, ${String(objects)} objects so far`;
}

/** What of the log can be replayed to a peer that was away; empty when a replicator of before does not say. */
function showLog(log: unknown): string {
  if (typeof log !== "object" || log === null) return "";
  const of = log as Readonly<Record<string, unknown>>;
  const [first, last, bytes, payload, budget] = ["first", "last", "bytes", "payloadBytes", "payloadBudget"]
    .map((name) => of[name]);
  if (typeof first !== "number" || typeof last !== "number" || typeof bytes !== "number") return "";
  if (typeof payload !== "number" || typeof budget !== "number") return "";
  const what = last < first ? "no records" : `records ${first} to ${last}`;
  return `the log here holds ${what}, ${formatSize(bytes)}; payload ${formatSize(payload)} of ${
    formatSize(budget)
  }`;
}

function warnings(status: ClusterStatus): string[] {
  return status.warnings.length === 0 ? [] : ["", ...status.warnings.map((warning) => `warning: ${warning}`)];
}

/** `bms on node1: waiting, not-ready: …` */
export function showInstance(module: string, instance: NodeModuleStatus): string {
  const reason = instance.reason === "" ? "" : `: ${instance.reason}`;
  return `${module} on ${instance.node}: ${instance.state}, ${instance.readiness}${reason}`;
}

/** One line an event, oldest first. */
export function showEvents(events: readonly EventRow[]): string[] {
  return table(events.map((event) => [
    event.time.replace("T", " ").replace("Z", ""),
    event.node,
    event.module === "" ? "-" : event.module,
    `epoch ${event.epoch}`,
    event.level === "info" ? "" : event.level.toUpperCase(),
    event.why === "" ? event.what : `${event.what}: ${event.why}`,
  ]));
}

/** What an apply did, node by node. */
export function showApply(result: ApplyResult): string[] {
  const first = result.changed
    ? `module ${result.module}: generation ${result.generation} applied`
    : `module ${result.module}: generation ${result.generation} is in use already`;
  const nodes = Object.entries(result.nodes).map(([node, outcome]) => [`  ${node}`, outcome]);
  return [first, ...table(nodes), ...result.warnings.map((warning) => `warning: ${warning}`)];
}

/** How far a resync is, how fast it goes, how long it will still take, and why it is not done. */
function showResync(resync: ResyncStatus): string {
  const { phase, files, filesTotal, bytes, sent, compared, bytesPerSecond, filesPerSecond, secondsLeft } =
    resync;
  const unit = phase === "replay" ? "records" : "objects";
  const parts = [
    `${files}${filesTotal === null ? "" : ` of ${filesTotal}`} ${unit}`,
    sent === 0 ? `${formatSize(bytes)} sent` : `${formatSize(bytes)} of content moved as ${formatSize(sent)}`,
    ...(compared > 0 ? [`${formatSize(compared)} compared`] : []),
    ...(filesPerSecond === null ? [] : [`${Math.round(filesPerSecond)} ${unit}/s`]),
    ...(bytesPerSecond === null ? [] : [`${formatSize(Math.round(bytesPerSecond))}/s`]),
    ...(secondsLeft === null ? [] : [`about ${spanInWords(secondsLeft * 1000)} left`]),
  ];
  return `resync ${phase}: ${parts.join(", ")} (${resync.why})`;
}
