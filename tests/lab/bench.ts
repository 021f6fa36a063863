/**
 * `scripts/bench`: what Binome costs, beside the plain file system, a pass-through that replicates nothing, and GlusterFS.
 *
 * All systems are measured in turn, round by round, and each figure is the median of its rounds. Both nodes, the load
 * and the load generator share the processors of this machine: on two servers the secondary's share is not taken from
 * the primary. What is measured is in `bench_load.ts` and `bench_apps.ts`, how it is judged in `bench_report.ts`.
 *
 * @module
 */
import { app, prepareApps, runsApps } from "./bench_apps.ts";
import { chart } from "./bench_chart.ts";
import { fio, manyFiles, prepareLoads, roundTrip } from "./bench_load.ts";
import {
  APP_CASES,
  type Choice,
  CHOICES,
  FIO_CASES,
  ratiosOf,
  type Row,
  Samples,
  SYSTEMS,
  table,
} from "./bench_report.ts";
import { Systems } from "./bench_systems.ts";

const BINARY = new URL("../../dist/binome", import.meta.url).pathname;
const COPY_FOLDER = "/var/tmp";
const COPY_PREFIX = "binome-bench-";
/** Over all rounds. */
const FILES = 10_000;
const TREE_FILES = 5000;
/** Of a quick run: the figures are rough, and all of them are there. */
const QUICK = { rounds: "1", seconds: "1", files: 2000, treeFiles: 1000 } as const;
/** Longer than a run of fio: transactions wait for the disk, so there are fewer of them in a second. */
const APP_SECONDS = 3;
const HELP =
  `scripts/bench [--json FILE] [--svg FILE] [--seconds N] [--rounds N] [--only CASE] [--quick] [--no-gluster]

  --json FILE    also writes {rows, ratios} as JSON
  --svg FILE     also draws the rows
  --seconds N    of each fio run (default 1); SQLite and pgbench run ${APP_SECONDS} times as long
  --rounds N     each figure is the median of N rounds (default 3)
  --only CASE    one of ${CHOICES.join(", ")}
  --quick        one round, of a second each, with fewer files
  --no-gluster   leaves GlusterFS out, and does not install it

Systems: ${SYSTEMS.join(", ")}
(binome: each-write, encrypted; binome-plain: not encrypted; binome-fsync: the default, durable at fsync).
`;

interface Options {
  readonly json: string | null;
  readonly svg: string | null;
  readonly seconds: number;
  readonly rounds: number;
  readonly only: Choice | null;
  readonly quick: boolean;
  readonly gluster: boolean;
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

function readOptions(argv: readonly string[]): Options {
  const given = new Map<string, string>();
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] ?? "";
    if (name === "--quick" || name === "--no-gluster") {
      given.set(name, "yes");
      continue;
    }
    if (!["--json", "--svg", "--seconds", "--rounds", "--only"].includes(name)) {
      throw new UsageError(`Cannot understand ${name}: scripts/bench --help lists the options`);
    }
    const value = argv[++i];
    if (value === undefined) throw new UsageError(`Cannot understand ${name}: its value is missing`);
    given.set(name, value);
  }
  const only = given.get("--only") ?? null;
  const choice = CHOICES.find((one) => one === only) ?? null;
  if (only !== null && choice === null) {
    throw new UsageError(`Cannot measure ${only}: expected one of ${CHOICES.join(", ")}`);
  }
  const quick = given.has("--quick");
  return {
    json: given.get("--json") ?? null,
    svg: given.get("--svg") ?? null,
    seconds: count("--seconds", given.get("--seconds") ?? (quick ? QUICK.seconds : "1"), 600),
    rounds: count("--rounds", given.get("--rounds") ?? (quick ? QUICK.rounds : "3"), 100),
    only: choice,
    quick,
    gluster: !given.has("--no-gluster"),
  };
}

function count(name: string, text: string, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new UsageError(`Cannot understand ${name} ${text}: expected a whole number from 1 to ${max}`);
}

/** Each case, each system, in turn. */
async function measure(systems: Systems, options: Options, tell: (line: string) => void): Promise<Row[]> {
  const { only, rounds, seconds, quick } = options;
  const wanted = <One extends Choice>(cases: readonly One[]): One[] =>
    cases.filter((one) => only === null || only === one);
  const apps = wanted(APP_CASES);
  await prepareLoads(systems, wanted(FIO_CASES).length > 0);
  await prepareApps(systems, { cases: apps, files: quick ? QUICK.treeFiles : TREE_FILES });
  tell(`two nodes, every module with a live secondary; systems: ${systems.present.join(", ")}`);
  const files = Math.ceil((quick ? QUICK.files : FILES) / rounds);
  const samples = new Samples();
  for (let round = 1; round <= rounds; round++) {
    for (const name of wanted(FIO_CASES)) {
      for (const system of systems.present) {
        samples.keep(name, system, await fio(systems, { name, system, seconds }));
      }
    }
    if (only === null || only === "write_4k_d1") {
      samples.keep("round_trip", "network", await roundTrip(systems));
    }
    if (only === null || only === "files") {
      for (const system of systems.present) await manyFiles(systems, { system, files, samples });
    }
    for (const name of apps) {
      for (const system of systems.present.filter(runsApps)) {
        samples.keep(name, system, await app(systems, { name, system, seconds: seconds * APP_SECONDS }));
      }
    }
    tell(`round ${round} of ${rounds} done, load ${Deno.loadavg()[0]?.toFixed(2)}`);
    for (const who of await systems.waitForPairs()) {
      tell(`${who} was without its second copy for a part of this round: its figures are too good`);
    }
  }
  return samples.rows();
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

/** What a bench that was killed has left: the lab is swept by its warden, the copy of the program only here. */
function sweepCopies(): void {
  for (const { name } of Deno.readDirSync(COPY_FOLDER)) {
    const [, pid] = /^binome-bench-(\d+)$/.exec(name) ?? [];
    if (pid === undefined) continue;
    try {
      Deno.lstatSync(`/proc/${pid}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      Deno.removeSync(`${COPY_FOLDER}/${name}`);
    }
  }
}

async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) return print(HELP);
  const options = readOptions(argv);
  const began = performance.now();
  const tell = (line: string): void =>
    print(`${String(Math.round((performance.now() - began) / 1000)).padStart(4)} s  ${line}\n`);
  const load = Deno.loadavg().map((one) => one.toFixed(2)).join(" ");
  tell(`load before: ${load}, ${navigator.hardwareConcurrency} processors`);
  if (!options.gluster) tell("GlusterFS is left out");
  sweepCopies();
  // A copy: a build that replaces dist/binome meanwhile would leave the nodes a program that cannot be started again.
  const binary = `${COPY_FOLDER}/${COPY_PREFIX}${Deno.pid}`;
  try {
    await Deno.copyFile(Deno.env.get("BINOME_LAB_BINARY") ?? BINARY, binary);
    await Deno.chmod(binary, 0o755);
    await using systems = await Systems.up({ binary, gluster: options.gluster });
    const rows = await measure(systems, options, tell);
    await report(
      rows,
      options,
      `load before ${load}, ${navigator.hardwareConcurrency} processors for both nodes`,
    );
  } finally {
    await Deno.remove(binary);
  }
}

async function report(rows: readonly Row[], options: Options, machine: string): Promise<void> {
  const ratios = ratiosOf(rows);
  print(`\n${table(rows)}\n`);
  for (const [name, value] of Object.entries(ratios)) {
    if (value !== null) print(`${name.padEnd(32)} ${value}\n`);
  }
  if (options.json !== null) {
    await Deno.writeTextFile(options.json, JSON.stringify({ rows, ratios }, null, 2) + "\n");
  }
  if (options.svg !== null) {
    const { rounds, seconds } = options;
    await Deno.writeTextFile(
      options.svg,
      chart(rows, `Medians of ${rounds} round(s), ${seconds} s of fio each; ${machine}.`),
    );
  }
}

try {
  await main(Deno.args);
} catch (error) {
  if (!(error instanceof Error)) throw error;
  Deno.stderr.writeSync(new TextEncoder().encode(`bench: ${error.message}\n`));
  Deno.exit(error instanceof UsageError ? 2 : 1);
}
