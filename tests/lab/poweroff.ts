/**
 * Power cuts in a row, under load, chosen by a seed.
 *
 *     deno run -A tests/lab/poweroff.ts [--seed N] [--cuts 30] [--prefix NAME] [--binary FILE] [--only KIND]
 *         [--store image|volatile] [--keep]
 *
 * `--store volatile` puts a disk with a write cache beneath each node (`volatile_disk.c`): what no flush has covered is
 * lost, sector by sector. After each: no acknowledged row is missing, what `churn.py` and `promises.py` were promised in
 * directories of each durability is kept, and both trees are equal by an independent comparer. Says what each rejoin has
 * moved, beside what the activity sets named.
 *
 * @module
 */
import { MODULE, other } from "./cluster.ts";
import { CheckError, Database } from "./database.ts";
import type { NodeName, StoreKind } from "./lab.ts";
import { listed } from "./ledger.ts";
import { lossOf } from "./store.ts";

/** What is cut, and how it comes back. */
export type Cut =
  /** The peer takes over. */
  | "primary"
  /** The same, but a moment before nothing passes between the nodes' disks: what is answered then must not be lost. */
  | "primary, its link first"
  /** The primary goes on alone. */
  | "secondary"
  /** Both at the same moment, then both powered on, the former primary first. */
  | "both, primary first"
  | "both, secondary first"
  /** Both at the same moment; one powered on alone must wait, since the other may have gone on. */
  | "both, primary alone waits"
  | "both, secondary alone waits"
  /** The secondary, then the primary that was alone: its copy is provably current, so it serves without the other. */
  | "secondary then primary, which serves"
  /** The same, but the copy that is behind is powered on first: it must wait. */
  | "secondary then primary, outdated waits"
  /** The secondary, and again while it catches up. */
  | "secondary twice"
  /** The secondary, then the primary while the other catches up: what is half a copy must not serve. */
  | "secondary, primary while it catches up";

/** Every kind of cut; the plain ones more often. */
export const CUTS: readonly Cut[] = [
  "primary",
  "primary",
  "primary, its link first",
  "secondary",
  "secondary",
  "both, primary first",
  "both, secondary first",
  "both, primary alone waits",
  "both, secondary alone waits",
  "secondary then primary, which serves",
  "secondary then primary, outdated waits",
  "secondary twice",
  "secondary, primary while it catches up",
];

/** A run of cuts. */
export interface CutsOptions {
  readonly prefix: string;
  readonly seed: number;
  readonly cuts: number;
  /** Default `dist/binome`. */
  readonly binary?: string;
  /** Only this kind. */
  readonly only?: Cut;
  /** Default `image`. */
  readonly store?: StoreKind;
  /** See {@link Database.up}. */
  readonly rowsAlone?: boolean;
  /** Leaves the lab as it is when something is wrong, to be looked at with `scripts/lab --prefix NAME`. */
  readonly keep?: boolean;
  /** Told what happens, a line at a time. */
  readonly say: (line: string) => void;
}

/** Longer than any takeover with the lab's timings: a node that does not serve by then is waiting. */
const WAITS_MS = 6000;
const SERVES_MS = 120_000;
/** Shorter than the peer's time-out: the primary has not yet asked whether it may go on alone. */
const LINK_MS = 1200;

/** A small generator (mulberry32): the same seed, the same cuts. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The cuts of a seed. The first are one of each sort, so that a short run is worth its time. */
export function cutsOf(seed: number, count: number): Cut[] {
  const random = chance(seed);
  const pick = (from: readonly Cut[]): Cut => from[Math.floor(random() * from.length)] ?? "primary";
  const first: Cut[] = [
    "primary",
    pick(CUTS.filter((cut) => cut.startsWith("both"))),
    "secondary",
    "primary, its link first",
    pick(CUTS.filter((cut) => cut.startsWith("secondary "))),
  ];
  return Array.from({ length: count }, (_, at) => first[at] ?? pick(CUTS));
}

/** Does the cuts, checks after each. Throws at the first that loses something, with the words to repeat it. */
export async function powerOffs(options: CutsOptions): Promise<void> {
  const { prefix, seed, cuts, binary, only, store = "image", rowsAlone = false, keep, say } = options;
  const again = `repeat with: deno run -A tests/lab/poweroff.ts --seed ${seed} --cuts ${cuts}${
    only === undefined ? "" : ` --only "${only}"`
  }${store === "image" ? "" : ` --store ${store}`}`;
  say(`seed ${seed}, ${cuts} power cuts; ${again}`);
  const lab = {
    store,
    ...(binary === undefined ? {} : { binary }),
    ...(keep === true ? { detached: true } : {}),
  };
  const database = await Database.up({ prefix, seed, rowsAlone, lab });
  // Only what went well is taken away when the lab is to be kept.
  await using ending = new AsyncDisposableStack();
  if (keep !== true) ending.use(database);
  await database.check();
  const random = chance(seed ^ 0x5eed);
  const order = only === undefined ? cutsOf(seed, cuts) : Array.from({ length: cuts }, () => only);
  let longest = 0;
  for (const [at, cut] of order.entries()) {
    const began = performance.now();
    const since = Date.now();
    const before = database.ledger.count;
    const cutter = new Cutter(database, random);
    try {
      await cutter.cut(cut);
      await database.check();
    } catch (error) {
      await tell(database, say);
      if (error instanceof CheckError) {
        throw new CheckError(error.check, `${error.detail}\nafter cut ${at + 1}, ${cut}; ${again}`);
      }
      throw new Error(`Cannot go on after cut ${at + 1}, ${cut}: ${error}\n${again}`, { cause: error });
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    longest = Math.max(longest, cutter.takeoverMs);
    const takeover = cutter.takeoverMs > 0
      ? `, taken over after ${(cutter.takeoverMs / 1000).toFixed(1)} s`
      : "";
    say(
      `cut ${at + 1}, ${cut}: in step after ${seconds} s${takeover}, ${
        database.ledger.count - before
      } rows meanwhile`,
    );
    const { behind, behindMs } = database.kept;
    const lag = `relaxed has lost at most ${behind} changes, of ${behindMs} ms, so far`;
    for (const line of [...cutter.hot, ...await rejoins(database, since), lag]) say(`  ${line}`);
  }
  await database.ledger.stop();
  const account = await database.ledger.account();
  say(
    `${account.acknowledged} rows acknowledged, ${account.found} found, missing: ${
      listed(account.missing)
    }; ` +
      `${account.extra.length} more of the ${database.ledger.lost.size} in flight when a connection ended`,
  );
  const { changes, lostRuns, behind, behindMs } = database.kept;
  say(
    `promises of changes looked at: ${changes}, none broken; ${lostRuns} times in a folder that every node lost; ` +
      `relaxed lost at most ${behind} changes, of ${behindMs} ms; ` +
      `longest takeover, to the first row: ${(longest / 1000).toFixed(1)} s`,
  );
  if (store === "volatile") {
    for (const node of ["node1", "node2"] as const) {
      const { cuts, cutsInWriting, sectors, sectorsLost } = lossOf(await database.cluster.lab.diskLog(node));
      say(
        `disk of ${node}: ${cuts} cuts, ${cutsInWriting} of them with sectors not flushed: ${sectorsLost} of ${sectors} lost`,
      );
    }
  }
  if (account.missing.length > 0) {
    throw new CheckError("acknowledged rows are missing", listed(account.missing));
  }
  if (account.wrong.length > 0) throw new CheckError("rows are wrong", listed(account.wrong));
  if (keep === true) await database[Symbol.asyncDispose]();
}

/** What was moved to bring copies back, as the node says that served. */
async function rejoins(database: Database, since: number): Promise<string[]> {
  const lines: string[] = [];
  for (const node of ["node1", "node2"] as const) {
    for (const { time, what, why } of await database.cluster.events(node)) {
      if (Date.parse(time) >= since && what.startsWith("Has copied what")) {
        lines.push(`${node} ${what.slice(0, 1).toLowerCase()}${what.slice(1)}: ${why}`);
      }
    }
  }
  return lines;
}

/** The last events of each node that is on: why it is where it is. */
async function tell(database: Database, say: (line: string) => void): Promise<void> {
  for (const node of ["node1", "node2"] as const) {
    if (!database.cluster.lab.isOn(node)) {
      say(`${node} is off`);
      continue;
    }
    const status = await database.cluster.binome(node, ["status", MODULE]);
    const events = await database.cluster.binome(node, ["events", "--limit", "25"]);
    const log = `/var/lib/binome/log/replicator-${MODULE}.log`;
    const replicator = await database.cluster.lab.exec(node, ["tail", "-n", "25", log]);
    say(
      [`--- ${node}`, ...[status, events, replicator].map(({ stdout, stderr }) => stdout + stderr)].join(
        "\n",
      ),
    );
  }
}

/** One cut on a pair that is in step. */
class Cutter {
  /** From the cut to the first row that the other node acknowledged; 0 where none took over. */
  takeoverMs = 0;
  /** What each node's activity set named just before. */
  readonly hot: string[] = [];

  constructor(readonly database: Database, readonly random: () => number) {}

  async cut(cut: Cut): Promise<void> {
    const { lab } = this.database.cluster;
    const primary = await this.database.paired();
    const secondary = other(primary);
    for (const node of [primary, secondary]) {
      const { objects, bytes, all } = await this.database.hot(node);
      this.hot.push(`${node}'s activity set names ${objects} objects, ${mib(bytes)} of ${mib(all)}`);
    }
    await this.load();
    switch (cut) {
      case "primary":
        await this.takenOver(primary, secondary);
        await this.load();
        return await lab.powerOn(primary);
      case "primary, its link first":
        // Heartbeats go on over the other network: nobody is dead yet, so nothing may be answered by one node alone.
        await lab.cut(primary, secondary, { network: "repl" });
        await this.pause(LINK_MS, LINK_MS / 4);
        await this.takenOver(primary, secondary, () => lab.heal());
        return await lab.powerOn(primary);
      case "secondary":
        await this.alone(primary, secondary);
        return await lab.powerOn(secondary);
      case "both, primary first":
      case "both, secondary first": {
        const [first, second] = cut === "both, primary first" ? [primary, secondary] : [secondary, primary];
        await lab.powerOff(primary, secondary);
        await this.database.allLostPower();
        await lab.powerOn(first);
        await this.pause(2000);
        return await lab.powerOn(second);
      }
      case "both, primary alone waits":
      case "both, secondary alone waits": {
        const [first, second] = cut === "both, primary alone waits"
          ? [primary, secondary]
          : [secondary, primary];
        await lab.powerOff(primary, secondary);
        await this.database.allLostPower();
        await lab.powerOn(first);
        await this.waits(first, "the other may have gone on without it");
        return await lab.powerOn(second);
      }
      case "secondary then primary, which serves":
        await this.alone(primary, secondary);
        await lab.powerOff(primary);
        await this.database.allLostPower();
        await lab.powerOn(primary);
        await this.serves(primary);
        return await lab.powerOn(secondary);
      case "secondary then primary, outdated waits":
        await this.alone(primary, secondary);
        await lab.powerOff(primary);
        await this.database.allLostPower();
        await lab.powerOn(secondary);
        await this.waits(secondary, "its copy is behind");
        return await lab.powerOn(primary);
      case "secondary twice":
        await this.alone(primary, secondary);
        await lab.powerOn(secondary);
        await this.pause(1500);
        await lab.powerOff(secondary);
        return await lab.powerOn(secondary);
      case "secondary, primary while it catches up":
        return await this.duringCatchUp(primary, secondary);
    }
  }

  /** Half of the times the secondary is a member again by then, and may take over: only rows and trees tell. */
  async duringCatchUp(primary: NodeName, secondary: NodeName): Promise<void> {
    const { lab } = this.database.cluster;
    await this.alone(primary, secondary);
    await lab.powerOn(secondary);
    await this.pause(1500);
    await lab.powerOff(primary);
    // Of the secondary nobody knows whether it had everything.
    await this.database.allLostPower();
    await this.pause(6000);
    await lab.powerOn(primary);
  }

  async alone(primary: NodeName, secondary: NodeName): Promise<void> {
    await this.database.cluster.lab.powerOff(secondary);
    await this.serves(primary);
    await this.load();
  }

  async takenOver(primary: NodeName, secondary: NodeName, then?: () => Promise<void>): Promise<void> {
    const off = Date.now();
    await this.database.cluster.lab.powerOff(primary);
    await then?.();
    this.takeoverMs = await this.serves(secondary) - off;
  }

  /** Rows are acknowledged again, which only this node can have done. Answers when the first was. */
  async serves(node: NodeName): Promise<number> {
    await this.database.cluster.waitState(node, "alone", SERVES_MS);
    return await this.database.ledger.acknowledgedAfter(Date.now(), SERVES_MS);
  }

  /** Nothing is served for as long as a takeover could take. */
  async waits(node: NodeName, why: string): Promise<void> {
    await this.database.cluster.agentReady(node);
    const end = performance.now() + WAITS_MS;
    while (performance.now() < end) {
      const { state, readiness } = await this.database.cluster.own(node);
      if (state === "primary" || state === "alone") {
        throw new CheckError("a node serves that must wait", `${node} is ${state} ${readiness}, but ${why}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** A while of load: cuts come at every moment of it. */
  async load(): Promise<void> {
    await this.pause(1500);
  }

  async pause(mostMs: number, leastMs = 0): Promise<void> {
    const wait = leastMs + Math.floor(this.random() * (mostMs - leastMs));
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

function read(argv: readonly string[]): CutsOptions {
  const given = new Map<string, string>();
  for (let at = 0; at < argv.length; at++) {
    if (argv[at] === "--keep") given.set("--keep", "yes");
    else given.set(argv[at] ?? "", argv[++at] ?? "");
  }
  const known = ["--seed", "--cuts", "--prefix", "--binary", "--only", "--store", "--keep"];
  const wrong = [...given.keys()].find((key) => !known.includes(key));
  if (wrong !== undefined) throw new Error(`Cannot understand ${wrong}: expected ${known.join(", ")}`);
  const number = (key: string, otherwise: number): number => {
    const value = Number(given.get(key) ?? otherwise);
    if (!Number.isInteger(value) || value < 0) {
      throw new Error(`Cannot understand ${key}: expected a whole number`);
    }
    return value;
  };
  const binary = given.get("--binary");
  const only = given.get("--only");
  const cut = CUTS.find((one) => one === only);
  if (only !== undefined && cut === undefined) {
    throw new Error(
      `Cannot cut ${JSON.stringify(only)}: expected one of\n  ${[...new Set(CUTS)].join("\n  ")}`,
    );
  }
  const store = given.get("--store") ?? "image";
  if (store !== "image" && store !== "volatile") {
    throw new Error(`Cannot lie on ${JSON.stringify(store)}: expected image or volatile`);
  }
  return {
    store,
    seed: number("--seed", crypto.getRandomValues(new Uint32Array(1))[0] ?? 1),
    cuts: number("--cuts", 30),
    prefix: given.get("--prefix") ?? "poweroff",
    ...(binary === undefined ? {} : { binary }),
    ...(cut === undefined ? {} : { only: cut }),
    keep: given.has("--keep"),
    say: (line) => Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`)),
  };
}

if (import.meta.main) {
  try {
    await powerOffs(read(Deno.args));
  } catch (error) {
    Deno.stderr.writeSync(new TextEncoder().encode(`${error instanceof Error ? error.message : error}\n`));
    Deno.exit(1);
  }
}
