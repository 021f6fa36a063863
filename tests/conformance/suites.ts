/**
 * A public suite on a mount that replicates, on a lab of its own; afterwards both disks are compared.
 *
 *     deno run -A tests/conformance/suites.ts pjdfstest|fsx|fsstress --program PATH [--durability each-write|fsync]
 *         [--seeds 1-8] [--jobs 2] [--operations N] [--during nothing|kills|switchover|failover] [--prefix NAME]
 *
 * PATH is what was built elsewhere (README.md beside this): pjdfstest's folder, the program `fsx` or `fsstress`. `kills`: a
 * replicator is killed every few seconds, mostly the primary's. `switchover`, `failover`: fsx is at work when the roles change, and
 * afterwards its file on the other node must be what fsx had made of it, by a second fsx that works on a plain directory.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Cluster, DATA, MODULE, NODES } from "../lab/cluster.ts";
import { connected, kill } from "../lab/kills.ts";
import { must, type NodeName } from "../lab/lab.ts";
import { Fsx } from "./suites/fsx.ts";

const SUITES = ["pjdfstest", "fsx", "fsstress"] as const;
const DURING = ["nothing", "kills", "switchover", "failover"] as const;
const USAGE = `name a suite (${
  SUITES.join(", ")
}) and what was built of it: suites.ts fsx --program PATH; its head names the rest`;
/** Bounds a hang: a million operations of several processes take the better part of an hour on a busy machine. */
const SUITE_MS = 2 * 3_600_000;
const COMPARE_MS = 900_000;
const KILL_EVERY_MS = 3000;
/** fsx works for so long before the roles change. */
const MID_RUN_MS = 8000;

interface Run {
  readonly cluster: Cluster;
  /** The program's path in a host. */
  readonly program: string;
  readonly seeds: readonly number[];
  readonly jobs: number;
  readonly operations: number;
  readonly during: typeof DURING[number];
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** `3` or `1-8`. */
function numbers(text: string): number[] {
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  const count = Number(last) - Number(first) + 1;
  if (!(count >= 1 && count <= 1000)) throw new Error(`Cannot read the seeds ${text}: 1-8, or one number`);
  return Array.from({ length: count }, (_, at) => Number(first) + at);
}

function oneOf<T extends string>(what: string, text: string, all: readonly T[]): T {
  const found = all.find((one) => one === text);
  if (found === undefined) throw new Error(`Cannot run with ${what} ${text}: ${all.join(", ")} are known`);
  return found;
}

/** Takes `items` by so many at a time. */
async function several<T>(
  items: readonly T[],
  jobs: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

/** Kills replicators until `work` is done: four of five times the primary's. Answers how often. */
async function killing(cluster: Cluster, primary: NodeName, work: Promise<void>): Promise<number> {
  let done = false;
  const end = (): void => void (done = true);
  work.then(end, end);
  let kills = 0;
  while (!done) {
    await sleep(KILL_EVERY_MS);
    if (done) break;
    const node = NODES.find((node) => (node === primary) === (kills % 5 !== 4)) ?? primary;
    await kill(cluster, node, "replicator");
    kills++;
    await connected(cluster);
  }
  await work;
  return kills;
}

async function withKills(run: Run, work: Promise<void>): Promise<void> {
  if (run.during !== "kills") return await work;
  say(`    ${await killing(run.cluster, "node1", work)} kills of replicators meanwhile`);
}

async function pjdfstest({ cluster, program }: Run): Promise<void> {
  await cluster.lab.sh("node1", `mkdir ${DATA}/pjd`);
  const { code, stdout, stderr } = await cluster.lab.exec("node1", ["prove", "-rQ", `${program}/tests`], {
    cwd: `${DATA}/pjd`,
    timeoutMs: SUITE_MS,
  });
  say(stdout.trim());
  if (code !== 0) throw new Error(`pjdfstest failed, status ${code}\n${stderr}`);
}

async function fsstress(run: Run): Promise<void> {
  const { cluster, program, seeds, jobs, operations } = run;
  const one = async (seed: number): Promise<void> => {
    const folder = `${DATA}/fsstress-${seed}`;
    const [n, p, s] = [`${operations}`, `${jobs}`, `${seed}`];
    await cluster.lab.sh("node1", `mkdir ${folder}; ${program} -d ${folder} -n ${n} -p ${p} -s ${s}`, {
      timeoutMs: SUITE_MS,
    });
    say(`    seed ${seed}: ended`);
  };
  await withKills(run, several(seeds, 1, one));
}

async function fsx(run: Run): Promise<void> {
  const { cluster, program, seeds, jobs, operations, during } = run;
  if (during === "switchover" || during === "failover") {
    let primary: NodeName = "node1";
    for (const seed of seeds) primary = await changeRoles(run, seed, primary);
    return;
  }
  const one = async (seed: number): Promise<void> => {
    say(`    ${await new Fsx(cluster.lab, program, seed).whole("node1", operations, SUITE_MS)}`);
  };
  await withKills(run, several(seeds, jobs, one));
}

/** fsx at work when the roles change; answers who is primary then. */
async function changeRoles(run: Run, seed: number, primary: NodeName): Promise<NodeName> {
  const { cluster, during, operations } = run;
  const next: NodeName = primary === "node1" ? "node2" : "node1";
  const work = new Fsx(cluster.lab, run.program, seed);
  await using running = await work.start(primary);
  await sleep(MID_RUN_MS);
  if (during === "failover") {
    await cluster.lab.powerOff(primary);
    await cluster.waitState(next, "alone");
  } else {
    await cluster.must(primary, ["switchover", MODULE], 150_000);
    await cluster.waitPair(next);
  }
  await running.kill();
  say(`    ${await work.compare(running, next)}`);
  say(`    ${await work.goOn(next, operations, SUITE_MS)}`);
  if (during === "failover") {
    await cluster.lab.powerOn(primary);
    await cluster.waitPair(next);
  }
  await report(cluster);
  return next;
}

/** Both disks, compared. */
async function report(cluster: Cluster): Promise<void> {
  const differences = await cluster.differences(COMPARE_MS);
  if (differences.length > 0) throw new Error(`The trees differ:\n${differences.slice(0, 40).join("\n")}`);
  say("    both trees are equal");
}

async function main(args: string[]): Promise<void> {
  const { values: options, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      program: { type: "string" },
      prefix: { type: "string" },
      durability: { type: "string", default: "each-write" },
      seeds: { type: "string", default: "1-8" },
      jobs: { type: "string", default: "2" },
      operations: { type: "string", default: "1000000" },
      during: { type: "string", default: "nothing" },
    },
  });
  const suite = oneOf("the suite", positionals[0] ?? "none", SUITES);
  const { program } = options;
  if (program === undefined) throw new Error(`Cannot run ${suite}: ${USAGE}`);
  const durability = oneOf("durability", options.durability, ["each-write", "fsync"]);
  const during = oneOf("--during", options.during, DURING);
  const seeds = numbers(options.seeds);
  await using cluster = await Cluster.up({
    prefix: options.prefix ?? `suite-${suite}`,
    durability,
    // A take-over, and the comparison of what a suite left, are not about a peer that is slow.
    patient: true,
    lab: { storeMiB: 8192 },
  });
  await must(["cp", "-a", program, `${cluster.lab.folder}/shared/suite`]);
  await cluster.startBoth();
  const began = performance.now();
  say(`${suite}, ${durability}, seeds ${options.seeds}, during: ${during}`);
  const run: Run = {
    cluster,
    program: "/run/lab/shared/suite",
    seeds,
    jobs: Number(options.jobs),
    operations: Number(options.operations),
    during,
  };
  await { pjdfstest, fsx, fsstress }[suite](run);
  await report(cluster);
  say(`    ${((performance.now() - began) / 1000).toFixed(0)} s`);
}

try {
  await main([...Deno.args]);
} catch (error) {
  say(`FAILED  ${error instanceof Error ? error.message : error}`);
  Deno.exit(1);
}
