/**
 * `scripts/bench`: what Binome costs, beside the plain file system and beside a pass-through that replicates nothing.
 *
 * All systems lie on one store of node1, a loop-mounted ext4, and are measured in turn, round by round: what disturbs
 * the machine disturbs all of them. Each figure is the median of its rounds. Both nodes, the load and the load generator
 * share the processors of this machine: on two servers the secondary's share is not taken from the primary.
 *
 * @module
 */
import { Cluster, DATA, MODULE, NODES } from "./cluster.ts";
import { must } from "./process.ts";

const SYSTEMS = ["native", "bindfs", "binome", "binome-plain", "binome-fsync"] as const;
type System = typeof SYSTEMS[number];
/** Beside the systems: the wire between the nodes. */
type Measured = System | "network";

const FIO_CASES = [
  "write_4k_d1",
  "write_4k_d16",
  "write_fsync_4k",
  "seq_write_1m",
  "read_4k",
] as const;
type FioCase = typeof FIO_CASES[number];
const FILE_CASES = ["create", "unlink"] as const;
/** `round_trip`: of two plain programs over the same network. */
type Case = FioCase | typeof FILE_CASES[number] | "round_trip";

/** A 4 KiB write with its header. */
const RTT_BYTES = 4192;
const RTT_PORT = 7777;
const RTT_TIMES = 10_000;
const FILE = "bench.bin";
const FILE_MIB = 128;
/** The kernel lets one writer at a time into a file: as many writers, as many files. */
const DEPTH = 16;

/** What each fio case adds to the common options. FUSE writes are synchronous: depth is a number of writers. */
const FIO: Readonly<Record<FioCase, readonly string[]>> = {
  "write_4k_d1": ["--rw=randwrite", "--bs=4k"],
  "write_4k_d16": ["--rw=randwrite", "--bs=4k", `--numjobs=${DEPTH}`, "--thread"],
  "write_fsync_4k": ["--rw=randwrite", "--bs=4k", "--fsync=1"],
  "seq_write_1m": ["--rw=write", "--bs=1m"],
  "read_4k": ["--rw=randread", "--bs=4k"],
};

const BINARY = new URL("../../dist/binome", import.meta.url).pathname;
/** Beside the module of the lab: name → what its file says. */
const MODULES: Readonly<
  Record<string, { readonly folder: string; readonly port: number; readonly how: string }>
> = {
  plain: { folder: "/srv/plain", port: 9021, how: "encryption: off\n" },
  fsync: { folder: "/srv/fsync", port: 9022, how: "" },
};
/** `binome` has `each-write` and is encrypted; `binome-plain` has `encryption: off`; `binome-fsync` is the default. */
const FOLDER: Readonly<Record<System, string>> = {
  native: "/srv/native",
  bindfs: "/srv/bindfs",
  binome: DATA,
  "binome-plain": "/srv/plain",
  "binome-fsync": "/srv/fsync",
};
const BINDFS_BENEATH = "/srv/bindfs-beneath";
/** Over all rounds. */
const FILES = 10_000;
const HELP = `scripts/bench [--json FILE] [--seconds N] [--rounds N] [--only CASE]

  --json FILE   also writes {rows, ratios} as JSON
  --seconds N   of each fio run (default 1)
  --rounds N    each figure is the median of N rounds (default 3)
  --only CASE   one of ${FIO_CASES.join(", ")}, files
`;

interface Options {
  readonly json: string | null;
  readonly seconds: number;
  readonly rounds: number;
  readonly only: FioCase | "files" | null;
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Sample {
  readonly iops: number;
  readonly mbPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** One line of the table, and of the JSON. */
interface Row {
  readonly case: Case;
  readonly system: Measured;
  readonly iops: number;
  readonly "mb_s": number;
  readonly "p50_us": number;
  readonly "p99_us": number;
}

function readOptions(argv: readonly string[]): Options {
  const given = new Map<string, string>();
  for (let i = 0; i < argv.length; i += 2) {
    const [name = "", value] = [argv[i], argv[i + 1]];
    if (!["--json", "--seconds", "--rounds", "--only"].includes(name)) {
      throw new UsageError(`Cannot understand ${name}: scripts/bench --help lists the options`);
    }
    if (value === undefined) throw new UsageError(`Cannot understand ${name}: its value is missing`);
    given.set(name, value);
  }
  const only = given.get("--only") ?? null;
  if (only !== null && only !== "files" && !FIO_CASES.includes(only as FioCase)) {
    throw new UsageError(`Cannot measure ${only}: expected one of ${FIO_CASES.join(", ")}, files`);
  }
  return {
    json: given.get("--json") ?? null,
    seconds: count("--seconds", given.get("--seconds") ?? "1", 600),
    rounds: count("--rounds", given.get("--rounds") ?? "3", 100),
    only: only as FioCase | "files" | null,
  };
}

function count(name: string, text: string, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new UsageError(`Cannot understand ${name} ${text}: expected a whole number from 1 to ${max}`);
}

/** The benches of all systems on one running cluster. */
class Bench {
  readonly #cluster: Cluster;
  readonly #options: Options;
  readonly #samples = new Map<string, Sample[]>();
  /** Of each module, once its secondary was there: a secondary that was dropped and came back has raised it. */
  readonly #epochs = new Map<string, number>();

  constructor(cluster: Cluster, options: Options) {
    this.#cluster = cluster;
    this.#options = options;
  }

  /** Both modules with a live secondary, bindfs mounted, the files in place. */
  async prepare(): Promise<void> {
    const { lab } = this.#cluster;
    await this.#cluster.startBoth();
    for (const [name, { folder, port, how }] of Object.entries(MODULES)) {
      const durability = name === "fsync" ? "fsync" : "each-write";
      for (const node of NODES) await lab.sh(node, `mkdir -p ${folder}`);
      await this.#cluster.apply(
        `module: ${name}\nkind: directory\nport: ${port}\n${how}` +
          `replicate:\n  - path: ${folder}\n    durability: ${durability}\n`,
      );
      await this.#cluster.must("node1", ["start", name, "--as", "primary"], 60_000);
      await this.#cluster.must("node2", ["start", name], 60_000);
    }
    await this.waitForSecondaries();
    for (const helper of ["files", "rtt"]) {
      const source = new URL(`${helper}.c`, import.meta.url).pathname;
      await must(["gcc", "-O2", "-o", `${lab.folder}/shared/${helper}`, source]);
    }
    await lab.sh("node1", `mkdir -p ${FOLDER.native} ${FOLDER.bindfs} ${BINDFS_BENEATH}`);
    await lab.sh("node1", `bindfs ${BINDFS_BENEATH} ${FOLDER.bindfs}`);
    for (const system of SYSTEMS) {
      const fill = `dd if=/dev/zero of=${
        FOLDER[system]
      }/${FILE} bs=1M count=${FILE_MIB} conv=fsync status=none`;
      await lab.sh("node1", fill, { timeoutMs: 120_000 });
      const parts =
        `for i in $(seq 0 ${DEPTH - 1}); do dd if=/dev/zero of=${FOLDER[system]}/bench.$i bs=1M ` +
        `count=${FILE_MIB / DEPTH} conv=fsync status=none; done`;
      await lab.sh("node1", parts, { timeoutMs: 120_000 });
    }
  }

  /**
   * Waits until both secondaries are there and have everything. Answers the modules whose secondary was away since the
   * last call: what was measured meanwhile is not of a pair.
   */
  async waitForSecondaries(): Promise<string[]> {
    const away: string[] = [];
    for (const module of [MODULE, ...Object.keys(MODULES)]) {
      const end = performance.now() + 30_000;
      for (;;) {
        const text = await this.#cluster.must("node2", ["status", module, "--json"]);
        const own = JSON.parse(text).nodes[0];
        if (own.state === "secondary" && own.readiness === "ready") {
          if ((this.#epochs.get(module) ?? own.epoch) !== own.epoch) away.push(module);
          this.#epochs.set(module, own.epoch);
          break;
        }
        if (performance.now() > end) {
          throw new Error(`Cannot measure ${module}: its secondary is ${own.state} ${own.readiness}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
    return away;
  }

  /** Each case, each system, in turn. */
  async run(tell: (line: string) => void): Promise<void> {
    const { only, rounds } = this.#options;
    for (let round = 1; round <= rounds; round++) {
      for (const name of FIO_CASES) {
        if (only !== null && only !== name) continue;
        for (const system of SYSTEMS) this.#keep(name, system, await this.#fio(name, system));
      }
      if (only === null || only === "write_4k_d1") {
        this.#keep("round_trip", "network", await this.#roundTrip());
      }
      if (only === null || only === "files") {
        for (const system of SYSTEMS) await this.#files(system);
      }
      tell(`round ${round} of ${rounds} done, load ${Deno.loadavg()[0]?.toFixed(2)}`);
      for (const module of await this.waitForSecondaries()) {
        tell(`module ${module} was without its secondary for a part of this round: its figures are too good`);
      }
    }
  }

  /** The medians. */
  rows(): Row[] {
    const rows: Row[] = [];
    for (const name of [...FIO_CASES, "round_trip", ...FILE_CASES] as const) {
      for (const system of [...SYSTEMS, "network"] as const) {
        const samples = this.#samples.get(`${name} ${system}`);
        if (samples === undefined) continue;
        rows.push({
          case: name,
          system,
          iops: median(samples.map(({ iops }) => iops)),
          "mb_s": median(samples.map(({ mbPerSecond }) => mbPerSecond)),
          "p50_us": median(samples.map(({ p50Us }) => p50Us)),
          "p99_us": median(samples.map(({ p99Us }) => p99Us)),
        });
      }
    }
    return rows;
  }

  #keep(name: Case, system: Measured, sample: Sample): void {
    const key = `${name} ${system}`;
    this.#samples.set(key, [...this.#samples.get(key) ?? [], sample]);
  }

  /** What the run before left to be written back must not slow this one. */
  async #settle(): Promise<void> {
    await Promise.all(NODES.map((node) => this.#cluster.lab.sh(node, "sync -f /srv", { timeoutMs: 60_000 })));
  }

  async #fio(name: FioCase, system: System): Promise<Sample> {
    const { seconds } = this.#options;
    await this.#settle();
    const command = [
      "fio",
      "--output-format=json",
      "--name=bench",
      ...(name === "write_4k_d16"
        ? [
          `--directory=${FOLDER[system]}`,
          "--filename_format=bench.\\$jobnum",
          `--size=${FILE_MIB / DEPTH}m`,
        ]
        : [`--filename=${FOLDER[system]}/${FILE}`, `--size=${FILE_MIB}m`]),
      "--ioengine=psync",
      "--overwrite=1",
      "--time_based",
      `--runtime=${seconds}`,
      "--ramp_time=300ms",
      "--randrepeat=0",
      "--norandommap",
      "--group_reporting",
      "--percentile_list=50:99",
      ...FIO[name],
    ];
    const { lab } = this.#cluster;
    const text = await lab.sh("node1", command.join(" "), { timeoutMs: (seconds + 60) * 1000, cwd: "/tmp" });
    return sampleOf(text, name);
  }

  /** A write's bytes one way and an acknowledgement's the other, between two C programs on the nodes. */
  async #roundTrip(): Promise<Sample> {
    const { lab } = this.#cluster;
    await using server = lab.spawn("node2", ["/run/lab/shared/rtt", "serve", `${RTT_PORT}`, `${RTT_BYTES}`]);
    await server.line((line) => line === "ready", 10_000);
    const ask = `/run/lab/shared/rtt ask ${lab.address("node2")} ${RTT_PORT} ${RTT_BYTES} ${RTT_TIMES}`;
    const [p50Us = 0, p99Us = 0] = (await lab.sh("node1", ask, { timeoutMs: 60_000 })).split(" ").map(Number);
    return { iops: 1e6 / p50Us, mbPerSecond: 0, p50Us, p99Us };
  }

  async #files(system: System): Promise<void> {
    const { lab } = this.#cluster;
    const folder = `${FOLDER[system]}/many`;
    await lab.sh("node1", `mkdir ${folder}`);
    for (const name of FILE_CASES) {
      await this.#settle();
      const files = Math.ceil(FILES / this.#options.rounds);
      const text = await lab.sh("node1", `/run/lab/shared/files ${folder} ${name} ${files}`, {
        timeoutMs: 180_000,
      });
      const [iops = 0, p50Us = 0, p99Us = 0] = text.trim().split(" ").map(Number);
      this.#keep(name, system, { iops, mbPerSecond: 0, p50Us, p99Us });
    }
    await lab.sh("node1", `rmdir ${folder}`);
  }
}

interface FioLatency {
  readonly percentile?: { readonly "50.000000": number; readonly "99.000000": number };
}
interface FioReport {
  readonly jobs: readonly {
    readonly read: { readonly iops: number; readonly bw_bytes: number; readonly clat_ns: FioLatency };
    readonly write: { readonly iops: number; readonly bw_bytes: number; readonly clat_ns: FioLatency };
    readonly sync: { readonly lat_ns: FioLatency };
  }[];
}

/** fio tells the times of write and fsync apart; an application waits for both. */
function sampleOf(text: string, name: FioCase): Sample {
  // A note of fio's own may stand before the report.
  const report = JSON.parse(text.slice(text.indexOf("{"))) as FioReport;
  const [job] = report.jobs;
  const side = name === "read_4k" ? job?.read : job?.write;
  const write = side?.clat_ns.percentile;
  if (job === undefined || side === undefined || write === undefined) {
    throw new Error(`Cannot read fio's report of ${name}: ${text}`);
  }
  const sync = name === "write_fsync_4k" ? job.sync.lat_ns.percentile : undefined;
  return {
    iops: side.iops,
    mbPerSecond: side.bw_bytes / 1e6,
    p50Us: (write["50.000000"] + (sync?.["50.000000"] ?? 0)) / 1000,
    p99Us: (write["99.000000"] + (sync?.["99.000000"] ?? 0)) / 1000,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  const value = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
  return Math.round(value * 10) / 10;
}

/** The figures by which Binome is judged; null where the case was not run. */
function ratiosOf(rows: readonly Row[]): Record<string, number | null> {
  const rowOf = (name: Case, system: Measured): Row | undefined =>
    rows.find((row) => row.case === name && row.system === system);
  const iops = (name: Case, system: System): number | undefined => rowOf(name, system)?.iops;
  /** FUSE's round trip (bindfs) and the network's, one after the other, with nothing done in between. */
  const limit = (): number | null => {
    const [fuse, wire, ours] = [
      rowOf("write_4k_d1", "bindfs"),
      rowOf("round_trip", "network"),
      rowOf("write_4k_d1", "binome"),
    ];
    if (fuse === undefined || wire === undefined || ours === undefined) return null;
    return Math.round((fuse["p50_us"] + wire["p50_us"]) / ours["p50_us"] * 1000) / 1000;
  };
  const ratio = (name: Case, beside: System, system: System = "binome"): number | null => {
    const [ours, theirs] = [iops(name, system), iops(name, beside)];
    return ours === undefined || theirs === undefined ? null : Math.round(ours / theirs * 1000) / 1000;
  };
  return {
    "each_write_4k_d1_vs_bindfs": ratio("write_4k_d1", "bindfs"),
    "fsync_rate_vs_native": ratio("write_fsync_4k", "native"),
    "seq_write_vs_native": ratio("seq_write_1m", "native"),
    "create_vs_bindfs": ratio("create", "bindfs"),
    "fsync_buffered_vs_bindfs": ratio("write_4k_d1", "bindfs", "binome-fsync"),
    "fsync_mode_fsync_rate_vs_native": ratio("write_fsync_4k", "native", "binome-fsync"),
    "fsync_mode_seq_write_vs_native": ratio("seq_write_1m", "native", "binome-fsync"),
    "fsync_mode_create_vs_bindfs": ratio("create", "bindfs", "binome-fsync"),
    "read_4k_vs_native": ratio("read_4k", "native"),
    "each_write_4k_d1_vs_limit": limit(),
  };
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

function table(rows: readonly Row[]): string {
  const head = ["case", "system", "ops/s", "MB/s", "p50 us", "p99 us"];
  const lines = rows.map((row) => [
    row.case,
    row.system,
    String(Math.round(row.iops)),
    row["mb_s"] === 0 ? "" : row["mb_s"].toFixed(1),
    row["p50_us"].toFixed(1),
    row["p99_us"].toFixed(1),
  ]);
  const widths = head.map((word, i) => Math.max(word.length, ...lines.map((line) => (line[i] ?? "").length)));
  const show = (line: readonly string[]): string =>
    line.map((word, i) => i < 2 ? word.padEnd(widths[i] ?? 0) : word.padStart(widths[i] ?? 0)).join("  ")
      .trimEnd();
  let last = "";
  const body = lines.map((line) => {
    const gap = last !== "" && line[0] !== last ? "\n" : "";
    last = line[0] ?? "";
    return gap + show(line);
  });
  return [show(head), ...body, ""].join("\n");
}

async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes("--help")) return print(HELP);
  const options = readOptions(argv);
  const began = performance.now();
  const tell = (line: string): void =>
    print(`${String(Math.round((performance.now() - began) / 1000)).padStart(4)} s  ${line}\n`);
  tell(
    `load before: ${
      Deno.loadavg().map((load) => load.toFixed(2)).join(" ")
    }, ${navigator.hardwareConcurrency} processors`,
  );
  // A copy: a build that replaces dist/binome meanwhile would leave the nodes a program that cannot be started again.
  const binary = await Deno.makeTempFile({ dir: "/var/tmp", prefix: "binome-bench-" });
  try {
    await Deno.copyFile(Deno.env.get("BINOME_LAB_BINARY") ?? BINARY, binary);
    await Deno.chmod(binary, 0o755);
    await measure(binary, options, tell);
  } finally {
    await Deno.remove(binary);
  }
}

async function measure(binary: string, options: Options, tell: (line: string) => void): Promise<void> {
  await using cluster = await Cluster.up({ prefix: "bench", lab: { storeMiB: 4096, binary } });
  const bench = new Bench(cluster, options);
  await bench.prepare();
  tell("two nodes, two modules with a live secondary each");
  await bench.run(tell);
  const rows = bench.rows();
  const ratios = ratiosOf(rows);
  print(`\n${table(rows)}\n`);
  for (const [name, value] of Object.entries(ratios)) {
    if (value !== null) print(`${name.padEnd(28)} ${value}\n`);
  }
  if (options.json !== null) {
    await Deno.writeTextFile(options.json, JSON.stringify({ rows, ratios }, null, 2) + "\n");
  }
}

try {
  await main(Deno.args);
} catch (error) {
  if (!(error instanceof Error)) throw error;
  Deno.stderr.writeSync(new TextEncoder().encode(`bench: ${error.message}\n`));
  Deno.exit(error instanceof UsageError ? 2 : 1);
}
