/**
 * The plain loads of `scripts/bench`: fio on files that are there, many small files, and the network by itself.
 *
 * @module
 */
import { FILE_CASES, type FioCase, type Sample, type Samples, type System } from "./bench_report.ts";
import { FOLDER, type Systems } from "./bench_systems.ts";
import { must } from "./process.ts";

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

/** Compiles the helpers and, where fio is to run, fills the files it works on. */
export async function prepareLoads(systems: Systems, fio: boolean): Promise<void> {
  const { lab } = systems.cluster;
  for (const helper of ["files", "rtt"]) {
    const source = new URL(`${helper}.c`, import.meta.url).pathname;
    await must(["gcc", "-O2", "-o", `${lab.folder}/shared/${helper}`, source]);
  }
  if (!fio) return;
  for (const system of systems.present) {
    const fill = (name: string, mib: number): string =>
      `dd if=/dev/zero of=${FOLDER[system]}/${name} bs=1M count=${mib} conv=fsync status=none`;
    await lab.sh("node1", fill(FILE, FILE_MIB), { timeoutMs: 120_000 });
    const parts = `for i in $(seq 0 ${DEPTH - 1}); do ${fill("bench.$i", FILE_MIB / DEPTH)}; done`;
    await lab.sh("node1", parts, { timeoutMs: 120_000 });
  }
}

/** One run of fio. */
export async function fio(
  systems: Systems,
  run: { readonly name: FioCase; readonly system: System; readonly seconds: number },
): Promise<Sample> {
  const { name, system, seconds } = run;
  await systems.settle();
  const command = [
    "fio",
    "--output-format=json",
    "--name=bench",
    ...(name === "write_4k_d16"
      ? [`--directory=${FOLDER[system]}`, "--filename_format=bench.\\$jobnum", `--size=${FILE_MIB / DEPTH}m`]
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
  const { lab } = systems.cluster;
  const text = await lab.sh("node1", command.join(" "), { timeoutMs: (seconds + 60) * 1000, cwd: "/tmp" });
  return sampleOf(text, name);
}

/** A write's bytes one way and an acknowledgement's the other, between two C programs on the nodes. */
export async function roundTrip({ cluster: { lab } }: Systems): Promise<Sample> {
  await using server = lab.spawn("node2", ["/run/lab/shared/rtt", "serve", `${RTT_PORT}`, `${RTT_BYTES}`]);
  await server.line((line) => line === "ready", 10_000);
  const ask = `/run/lab/shared/rtt ask ${lab.address("node2")} ${RTT_PORT} ${RTT_BYTES} ${RTT_TIMES}`;
  const [p50Us = 0, p99Us = 0] = (await lab.sh("node1", ask, { timeoutMs: 60_000 })).split(" ").map(Number);
  return { iops: 1e6 / p50Us, mbPerSecond: 0, p50Us, p99Us };
}

/** Creates small files one after the other, then takes them away. */
export async function manyFiles(
  systems: Systems,
  run: { readonly system: System; readonly files: number; readonly samples: Samples },
): Promise<void> {
  const { lab } = systems.cluster;
  const { system, files, samples } = run;
  const folder = `${FOLDER[system]}/many`;
  await lab.sh("node1", `mkdir ${folder}`);
  for (const name of FILE_CASES) {
    await systems.settle();
    const text = await lab.sh("node1", `/run/lab/shared/files ${folder} ${name} ${files}`, {
      timeoutMs: 180_000,
    });
    const [iops = 0, p50Us = 0, p99Us = 0] = text.trim().split(" ").map(Number);
    samples.keep(name, system, { iops, mbPerSecond: 0, p50Us, p99Us });
  }
  await lab.sh("node1", `rmdir ${folder}`);
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
