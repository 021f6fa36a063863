/**
 * `binome diff`: what a resync of the secondary would move, before it is started.
 *
 * The log is read by this process: however long it is, no application waits for that.
 *
 * @module
 */
import type { ClusterStatus, ModuleStatus } from "../agent_control.ts";
import { formatSize } from "../config/units.ts";
import { spanInWords } from "../failover/mod.ts";
import { compareHistories, decodeGenerations, type History, inspect, OP, STATE } from "../journal/mod.ts";
import { type AgentClient, openAgent } from "./agent_client.ts";
import { Arguments } from "./arguments.ts";
import { CliError, EXIT, type World } from "./world.ts";

/** For a writer to finish the record it is at. */
const PAUSE_MS = 50;
/** What two cores do, each node having one; measured by `scripts/bench resync`. */
const RATES = { records: 5000, moved: 100e6, objects: 8000, compared: 300e6 } as const;

type Fields = Readonly<Record<string, unknown>>;

/** How a resync would go. */
export interface Forecast {
  readonly mode: "nothing" | "replay" | "named" | "everything";
  readonly why: string;
  /** Of the log: the first record the secondary lacks, or that names what is compared; 0: the log does not matter. */
  readonly from: number;
}

/** What the log holds from there on. */
interface Volume {
  readonly records: number;
  readonly objects: number;
  readonly bytes: number;
}

/** What the command needs of the world. */
export type DiffWorld = World;

/** `binome diff MODULE`. On the node that serves. */
export async function diff(args: readonly string[], world: DiffWorld): Promise<void> {
  const given = new Arguments(args, { flag: ["json"] });
  const [name = ""] = given.expect("MODULE");
  using agent = await openAgent(world);
  const status = await agent.ask({ method: "GET", path: "/status" }) as ClusterStatus;
  const module = moduleOf(status, name);
  const serving = module.nodes.find(({ role }) => role === "primary")?.node;
  if (serving !== status.node || module.replicator === null) {
    const advice = serving === undefined ? `binome start ${name} --as primary` : `binome diff on ${serving}`;
    throw new CliError(
      EXIT.failed,
      `Cannot tell what a resync of ${name} would move: ${status.node} does not serve it, and its log says nothing of that\n` +
        `  try: ${advice}`,
    );
  }
  const peer = module.nodes.find(({ node }) => node !== status.node)?.node ?? "the secondary";
  const forecast = forecastOf(module.replicator, await positionOf(agent, peer, name), peer);
  const volume = forecast.from === 0
    ? everything(module)
    : await measure(`${world.state}/modules/${name}/log`, forecast.from, world);
  const seconds = secondsFor(forecast, volume);
  if (given.flag("json")) {
    return world.print(JSON.stringify({ module: name, peer, ...forecast, ...volume, seconds }));
  }
  for (const line of words({ forecast, volume, seconds, peer })) world.print(`${name}: ${line}`);
}

/** Which way a resync would take. `peer`: what its replicator says of itself; null: it does not run. */
export function forecastOf(own: Fields, peer: Fields | null, name: string): Forecast {
  const source = historyOf(own);
  const first = numberOf(own["firstLogged"]);
  const all = (why: string): Forecast => ({ mode: "everything", why, from: 0 });
  if (own["connected"] === true && own["caughtUp"] === true) {
    return { mode: "nothing", why: `${name} has everything`, from: source.last + 1 };
  }
  if (peer === null) {
    const from = source.generations.at(-1)?.first ?? 1;
    return from < first
      ? all(`the log begins at record ${first}, ${name} lacks what came since ${from}`)
      : { mode: "replay", why: `${name} does not say where it stands; if it was stopped in order`, from };
  }
  if (peer["fresh"] === true) return all(`${name} has no copy yet`);
  if (peer["copy"] === "inconsistent") return all(`${name} is part of a comparison that was cut short`);
  const { kind, common } = compareHistories(source, historyOf(peer));
  if (kind === "new" || kind === "foreign") return all(`${name} has data of another history`);
  const since = peer["crashed"] === true ? Math.min(common, numberOf(peer["checkpoint"])) : common;
  if (since + 1 < first) {
    return all(`the log begins at record ${first}, ${name} lacks what came since ${since + 1}`);
  }
  if (kind === "diverged") {
    return { mode: "named", why: `both were written apart: a person must decide first`, from: since + 1 };
  }
  if (peer["crashed"] === true) {
    return { mode: "named", why: `${name} lost power: what it touched last is compared`, from: since + 1 };
  }
  if (kind === "target-ahead-unacknowledged") {
    return { mode: "named", why: `${name} has records that were never acknowledged`, from: since + 1 };
  }
  return source.last === common
    ? { mode: "nothing", why: `${name} stands where this node does`, from: common + 1 }
    : { mode: "replay", why: `${name} stands at record ${common}`, from: common + 1 };
}

async function positionOf(agent: AgentClient, node: string, name: string): Promise<Fields | null> {
  try {
    const there = await agent.ask({ method: "GET", path: "/status", node }) as ClusterStatus;
    return there.modules.find(({ module }) => module === name)?.replicator ?? null;
  } catch (error) {
    // It is away: that is when one wants to know.
    if (error instanceof CliError) return null;
    throw error;
  }
}

function moduleOf(status: ClusterStatus, name: string): ModuleStatus {
  const module = status.modules.find(({ module }) => module === name);
  if (module !== undefined) return module;
  const known = status.modules.map(({ module }) => module).join(", ") || "none yet";
  throw new CliError(EXIT.failed, `Cannot find module ${JSON.stringify(name)}: applied are ${known}`);
}

async function measure(folder: string, from: number, world: DiffWorld): Promise<Volume> {
  const objects = new Set<number>();
  let records = 0;
  let bytes = 0;
  for (const found of inspect({ folder: world.openLog(folder), from })) {
    if (found.kind === "pause") await world.sleep(PAUSE_MS);
    if (found.kind !== "record") continue;
    const { record } = found;
    if (record.state === STATE.void || record.op === OP.reserve) continue;
    records++;
    objects.add(record.id);
    if (record.op === OP.write || record.op === OP.copy) bytes += record.b;
  }
  return { records, objects: objects.size, bytes };
}

/** Of a comparison of everything only a former one knows how much that is. */
function everything({ verification }: ModuleStatus): Volume {
  return { records: 0, objects: verification?.objects ?? 0, bytes: verification?.bytes ?? 0 };
}

/** Null: it cannot be told. */
function secondsFor({ mode }: Forecast, { records, objects, bytes }: Volume): number | null {
  switch (mode) {
    case "nothing":
      return 0;
    case "replay":
      return records / RATES.records + bytes / RATES.moved;
    case "named":
      return objects / RATES.objects + bytes / RATES.moved;
    case "everything":
      return objects === 0 ? null : objects / RATES.objects + bytes / RATES.compared;
  }
}

function words(
  of: {
    readonly forecast: Forecast;
    readonly volume: Volume;
    readonly seconds: number | null;
    readonly peer: string;
  },
): string[] {
  const { forecast: { mode, why }, volume: { records, objects, bytes }, seconds, peer } = of;
  const time = seconds === null ? "" : `, about ${spanInWords(seconds * 1000)}`;
  const logged = `${records} records of ${objects} object${objects === 1 ? "" : "s"}, ${
    formatSize(bytes)
  } written`;
  switch (mode) {
    case "nothing":
      return [`nothing to move (${why})`];
    case "replay":
      return [`${peer} lacks ${logged}`, `a resync replays the log${time} (${why})`];
    case "named":
      return [
        `the log names ${logged}, and ${peer} what it touched by itself`,
        `these are compared${time} (${why})`,
      ];
    case "everything":
      return [
        `everything is compared (${why}); what is equal is not sent`,
        objects === 0
          ? "how much that is, is known once it was compared or verified"
          : `${objects} objects, ${
            formatSize(bytes)
          } of content when last compared${time} where all of it is equal`,
      ];
  }
}

function historyOf(status: Fields): History {
  return { generations: decodeGenerations(status["history"]), last: numberOf(status["sequence"]) };
}

function numberOf(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
