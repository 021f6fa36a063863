/**
 * `scripts/bench resync`: what it costs to bring a copy back, and what the application notices of it.
 *
 * Both nodes, their disks and the load share this machine: each byte is read, hashed and written twice by the same
 * processors. Times are from the command that starts the secondary to both copies being equal; bytes moved are what
 * left the primary's network interface.
 *
 * @module
 */
import { beside } from "./bench_beside.ts";
import { BENEATH, Cluster, DATA, FORGET, MODULE, NODES } from "./cluster.ts";
import type { NodeName } from "./lab.ts";

const HELP = `scripts/bench resync [--json FILE] [--mib N] [--files N] [--seconds N]

  --json FILE   also writes {rows} as JSON
  --mib N       of the large file (default 1024)
  --files N     of 1 KiB each (default 20000; 1000000 takes a quarter of an hour and 12 GB of disk)
  --seconds N   of each run of the application (default 5)
`;
const FILES_PER_DIRECTORY = 1000;
const CHANGED = 1000;
const LIMIT_MS = 3_600_000;
const PREFIX = Deno.env.get("BINOME_BENCH_PREFIX") ?? "lt-resync";
/** How often an application is looked at with and without a comparison beside it. */
const ROUNDS = 3;
/** A line that is slower than the compressor. */
const SLOW_MBIT = 200;
const SLOW_MIB = 160;

interface Options {
  readonly json: string | null;
  readonly mib: number;
  readonly files: number;
  readonly seconds: number;
}

/** One line of the table, and of the JSON. */
interface Row {
  readonly case: string;
  readonly seconds: number;
  readonly figure: number;
  readonly unit: string;
  /** Bytes that left the primary; null where that says nothing. */
  readonly moved: number | null;
}

function readOptions(argv: readonly string[]): Options {
  const given = new Map<string, string>();
  for (let i = 0; i < argv.length; i += 2) {
    const [name = "", value] = [argv[i], argv[i + 1]];
    if (!["--json", "--mib", "--files", "--seconds"].includes(name) || value === undefined) {
      throw new TypeError(`Cannot take "${name}": expected an option and its value`);
    }
    given.set(name, value);
  }
  const count = (name: string, fallback: number): number => {
    const value = Number(given.get(name) ?? fallback);
    if (Number.isSafeInteger(value) && value > 0) return value;
    throw new TypeError(`Cannot take ${name} ${given.get(name)}: expected a number above 0`);
  };
  return {
    json: given.get("--json") ?? null,
    mib: count("--mib", 1024),
    files: count("--files", 20_000),
    seconds: count("--seconds", 5),
  };
}

class Bench {
  readonly rows: Row[] = [];
  readonly #cluster: Cluster;
  readonly #options: Options;

  constructor(cluster: Cluster, options: Options) {
    this.#cluster = cluster;
    this.#options = options;
  }

  async large(): Promise<void> {
    const { mib, seconds } = this.#options;
    const { lab } = this.#cluster;
    await lab.sh(
      "node1",
      `dd if=/dev/urandom of=${DATA}/large bs=1M count=${mib} status=none; sync -f ${DATA}`,
      {
        timeoutMs: LIMIT_MS,
      },
    );
    await this.#cluster.must("node1", ["start", MODULE, "--as", "primary"]);
    await this.#cluster.waitState("node1", "alone");
    const mb = mib * 1.048576;
    await this.#comeBack("first copy of one file", (s) => [mb / s, "MB/s"]);
    await this.#application("application alone with a live secondary", seconds, async () => {});
    await this.#leave();
    await lab.sh("node2", FORGET);
    await this.#comeBack("comparison, nothing to send", (s) => [mb / s, "MB/s"]);
    await this.#leave();
    await lab.sh("node2", FORGET);
    await this.#cold(mb);
    await this.#comeBack("comparison from cold disks, nothing to send", (s) => [mb / s, "MB/s"]);
    await this.#leave();
    await this.#beside(mb);
    await this.#comeBack("comparison after that, nothing to send", (s) => [mb / s, "MB/s"]);
    const verifySeconds = await this.#timed(() =>
      this.#cluster.must("node1", ["verify", MODULE, "--wait", "3600"], LIMIT_MS)
    );
    this.#put({
      case: "verify",
      seconds: verifySeconds,
      figure: mb / verifySeconds,
      unit: "MB/s",
      moved: null,
    });
  }

  async small(): Promise<void> {
    const { files } = this.#options;
    const { lab } = this.#cluster;
    const rate = (s: number): [number, string] => [files / s, "files/s"];
    // Before the module's first start, as what is there already on a server that is made safe.
    await this.#makeFiles();
    await this.#cluster.must("node1", ["start", MODULE, "--as", "primary"]);
    await this.#cluster.waitState("node1", "alone");
    await this.#comeBack(`first copy of ${files} files`, rate);
    await this.#leave();
    await lab.sh("node2", FORGET);
    await this.#comeBack(`comparison of ${files} files, nothing to send`, rate);
    await this.#leave();
    await lab.sh(
      "node1",
      `cd ${DATA} && i=0; for f in $(find . -type f | head -n ${CHANGED}); do echo changed > $f; done`,
      { timeoutMs: LIMIT_MS },
    );
    print(
      `  ${(await this.#cluster.must("node1", ["diff", MODULE], LIMIT_MS)).trim().replaceAll("\n", "\n  ")}`,
    );
    await this.#comeBack(
      `resync after an absence, ${CHANGED} files changed`,
      (s) => [CHANGED / s, "files/s"],
    );
    const verified = await this.#timed(() =>
      this.#cluster.must("node1", ["verify", MODULE, "--wait", "3600"], LIMIT_MS)
    );
    this.#put({
      case: `verify of ${files} files`,
      seconds: verified,
      figure: files / verified,
      unit: "files/s",
      moved: null,
    });
    const differences = await this.#cluster.differences(LIMIT_MS);
    if (differences.length > 0) throw new Error(`The copies differ: ${differences.slice(0, 5).join("; ")}`);
  }

  /** Memory forgets what the disks have. Both nodes' disks are files of one: what it gives two readers at once bounds a comparison. */
  async #cold(mb: number): Promise<void> {
    const { lab } = this.#cluster;
    const forget = (): Promise<unknown> => lab.sh("node1", "sync; echo 3 > /proc/sys/vm/drop_caches");
    await forget();
    const read = (node: NodeName): Promise<unknown> =>
      lab.sh(node, `dd if=${BENEATH}/large of=/dev/null bs=1M status=none`, { timeoutMs: LIMIT_MS });
    const seconds = await this.#timed(() => Promise.all(NODES.map(read)));
    this.#put({
      case: "dd of both copies at once, cold",
      seconds,
      figure: mb / seconds,
      unit: "MB/s each",
      moved: null,
    });
    await forget();
  }

  /** What travels packed where the line is slow: programs and texts of this machine, which are as usual as any. */
  async slowLine(): Promise<void> {
    const { lab } = this.#cluster;
    const bytes = SLOW_MIB * 1024 * 1024;
    // head ends tar early: that is no failure.
    await lab.sh(
      "node1",
      `tar -C / -cf - usr 2>/dev/null | head -c ${bytes} > ${DATA}/large; sync -f ${DATA}`,
      {
        timeoutMs: LIMIT_MS,
      },
    );
    await lab.sh(
      "node1",
      `tc qdisc add dev e0 root tbf rate ${SLOW_MBIT}mbit burst 256k latency 100ms`,
    );
    await this.#cluster.must("node1", ["start", MODULE, "--as", "primary"]);
    await this.#cluster.waitState("node1", "alone");
    const plain = bytes * 8 / (SLOW_MBIT * 1e6);
    await this.#comeBack(
      `first copy of ${SLOW_MIB} MiB over ${SLOW_MBIT} Mbit/s, which plain is ${plain.toFixed(1)} s`,
      (s) => [bytes / 1e6 / s, "MB/s"],
    );
  }

  async #makeFiles(): Promise<void> {
    const script = `import os
for i in range(${this.#options.files}):
    d = "${DATA}/d%d" % (i // ${FILES_PER_DIRECTORY})
    if i % ${FILES_PER_DIRECTORY} == 0: os.mkdir(d)
    with open("%s/f%d" % (d, i), "wb") as f: f.write((b"%08d" % i) * 128)
`;
    await this.#cluster.lab.write("node1", "/run/lab/shared/make.py", script);
    await this.#cluster.lab.sh("node1", "python3 /run/lab/shared/make.py", { timeoutMs: LIMIT_MS });
  }

  async #leave(): Promise<void> {
    await this.#cluster.must("node2", ["stop", MODULE]);
    await this.#cluster.waitState("node1", "alone");
  }

  /** Starts the secondary and waits until it is one. */
  async #comeBack(what: string, figureOf: (seconds: number) => [number, string]): Promise<void> {
    const before = await this.#moved();
    const mark = await this.#cluster.mark("node1");
    await this.#cluster.must("node2", ["start", MODULE, "--no-wait"]);
    const began = performance.now();
    await this.#cluster.waitEvent("node1", /^Is paired/, mark, LIMIT_MS);
    const seconds = (performance.now() - began) / 1000;
    const [figure, unit] = figureOf(seconds);
    this.#put({ case: what, seconds, figure, unit, moved: await this.#moved() - before });
    for (const event of await this.#cluster.events("node1", mark)) {
      if (event.what.startsWith("Has copied")) print(`  ${event.why}`);
    }
    await this.#cluster.waitPair("node1", LIMIT_MS);
  }

  /** 4 KiB writes, one after the other, while something else happens; answers their p99 in microseconds. */
  async #application(what: string, seconds: number, meanwhile: () => Promise<void>): Promise<number> {
    const fio = this.#cluster.lab.exec("node1", [
      "fio",
      "--name=app",
      `--filename=${DATA}/app`,
      "--size=64m",
      "--rw=randwrite",
      "--bs=4k",
      "--direct=0",
      "--ioengine=psync",
      "--time_based",
      `--runtime=${seconds}`,
      "--output-format=json",
    ], { timeoutMs: LIMIT_MS });
    await meanwhile();
    const { stdout } = await fio;
    const report = JSON.parse(stdout.slice(stdout.indexOf("{")));
    const { clat_ns: latency, iops } = report.jobs[0].write;
    const p99 = latency.percentile["99.000000"] / 1000;
    this.#put({
      case: `${what}: p99`,
      seconds,
      figure: p99,
      unit: `us at ${iops.toFixed(0)} IOPS`,
      moved: null,
    });
    return p99;
  }

  /** The application with and without a comparison of everything beside it. */
  async #beside(mb: number): Promise<void> {
    const { during, alone, paired, took } = await beside(this.#cluster, this.#options.seconds, ROUNDS);
    const line = (what: string, figure: number, unit: string): void =>
      this.#put({ case: what, seconds: 0, figure, unit, moved: null });
    const seconds = took.reduce((sum, one) => sum + one, 0) / took.length;
    this.#put({
      case: "comparison beside the application",
      seconds,
      figure: mb / seconds,
      unit: "MB/s",
      moved: null,
    });
    const application = {
      "during a comparison": during,
      "without a secondary": alone,
      "with a live one": paired,
    };
    for (const [when, { p50, p99, writes }] of Object.entries(application)) {
      line(`application ${when}, ${writes} writes: p50`, p50, "us");
      line(`application ${when}: p99`, p99, "us");
    }
    line("p99 during / without a secondary", during.p99 / alone.p99, "x");
    line("p99 during / with a live one", during.p99 / paired.p99, "x");
  }

  async #timed(work: () => Promise<unknown>): Promise<number> {
    const began = performance.now();
    await work();
    return (performance.now() - began) / 1000;
  }

  /** Bytes that left the primary's interfaces since its boot. */
  async #moved(): Promise<number> {
    const text = await this.#cluster.lab.sh("node1", "cat /proc/net/dev");
    return text.split("\n").filter((line) => line.includes(":") && !line.includes("lo:"))
      .reduce((sum, line) => sum + Number(line.split(":")[1]?.trim().split(/\s+/)[8] ?? 0), 0);
  }

  #put(row: Row): void {
    this.rows.push(row);
    const moved = row.moved === null ? "" : `, ${(row.moved / 1e6).toFixed(1)} MB moved`;
    const took = row.seconds === 0 ? "" : ` in ${row.seconds.toFixed(2)} s`;
    print(`${row.case}: ${row.figure.toFixed(row.figure < 100 ? 2 : 0)} ${row.unit}${took}${moved}`);
  }
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

if (Deno.args.includes("--help") || Deno.args.includes("-h")) {
  print(HELP);
} else {
  const options = readOptions(Deno.args);
  const module = "peer_timeout: 15s\nlog_budget: 256MiB";
  const rows: Row[] = [];
  {
    const lab = { storeMiB: Math.max(2048, options.mib * 2 + 512) };
    await using cluster = await Cluster.up({ prefix: PREFIX, lab, module });
    const bench = new Bench(cluster, options);
    await bench.large();
    rows.push(...bench.rows);
  }
  {
    // ext4 makes an inode for each 16 KiB.
    const lab = { storeMiB: Math.max(2048, Math.ceil(options.files * 17 / 1024) + 1024) };
    await using cluster = await Cluster.up({ prefix: PREFIX, lab, module });
    const bench = new Bench(cluster, options);
    await bench.small();
    rows.push(...bench.rows);
  }
  {
    await using cluster = await Cluster.up({ prefix: PREFIX, lab: { storeMiB: 2048 }, module });
    const bench = new Bench(cluster, options);
    await bench.slowLine();
    rows.push(...bench.rows);
  }
  if (options.json !== null) Deno.writeTextFileSync(options.json, JSON.stringify({ rows }, null, 1));
}
