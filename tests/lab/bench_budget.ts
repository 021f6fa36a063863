/**
 * `scripts/bench budget`: where the time of one write goes.
 *
 * One application writes 4 KiB at a time, each waits for the other node. Of every thread that such a write passes: the time it had a
 * processor and the time it waited for one (`/proc/PID/task/TID/schedstat`), how often it went to sleep, and, where the
 * machine counts them, its instructions (`perf stat`). What is left of a write's time is between the threads: waking,
 * and the network.
 *
 * @module
 */
import { Cluster, DATA, NODES } from "./cluster.ts";
import type { NodeName } from "./lab.ts";

const HELP = `scripts/bench budget [--seconds N] [--plain]

  --seconds N   of measuring (default 10)
  --plain       without encryption
`;
const WARM_SECONDS = 5;
/** The counters are read within the run, not at its ends. */
const MARGIN_MS = 1000;

/** What is counted of a thread, since its beginning. */
interface Counts {
  readonly onMs: number;
  readonly waitingMs: number;
  readonly userTicks: number;
  readonly systemTicks: number;
  readonly switches: number;
}

interface Thread {
  readonly node: NodeName;
  readonly tid: number;
  readonly name: string;
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function fioCommand(seconds: number): string[] {
  return [
    "fio",
    "--output-format=json",
    "--name=write",
    `--filename=${DATA}/budget`,
    "--size=64m",
    "--overwrite=1",
    "--ioengine=psync",
    "--rw=randwrite",
    "--bs=4k",
    "--time_based",
    "--randrepeat=0",
    "--norandommap",
    `--runtime=${seconds}`,
  ];
}

/** Threads of the replicators that are at work; a spare process has none of these names. */
async function threadsOf(cluster: Cluster): Promise<Thread[]> {
  const found: Thread[] = [];
  for (const node of NODES) {
    const pid = await cluster.pid(node, "replicator");
    const text = await cluster.lab.sh(
      node,
      `for t in /proc/${pid}/task/*; do echo "\${t##*/} $(cat $t/comm)"; done`,
    );
    for (const line of text.trim().split("\n")) {
      const [tid = "", name = ""] = line.split(" ");
      if (["road", "acker", "disk"].includes(name)) found.push({ node, tid: Number(tid), name });
    }
  }
  return found;
}

async function countsOf(cluster: Cluster, threads: readonly Thread[]): Promise<Counts[]> {
  return await Promise.all(threads.map(async ({ node, tid }) => {
    const text = await cluster.lab.sh(
      node,
      `cd /proc/${tid}/task/${tid}; cat schedstat; sed 's/.*) //' stat; awk '/ctxt_switches/ {n += $2} END {print n}' status`,
    );
    const [times = "", stat = "", switches = ""] = text.split("\n");
    const [on = 0, waiting = 0] = times.split(" ").map(Number);
    const fields = stat.split(" ").map(Number);
    // utime and stime are the 14th and 15th of all, and the state, where this begins, is the third.
    return {
      onMs: on / 1e6,
      waitingMs: waiting / 1e6,
      userTicks: fields[11] ?? 0,
      systemTicks: fields[12] ?? 0,
      switches: Number(switches),
    };
  }));
}

/** Instructions in user mode and in the kernel for each millisecond on a processor; null where they are not counted. */
async function instructions(
  cluster: Cluster,
  thread: Thread,
  ms: number,
): Promise<{ readonly user: number; readonly kernel: number } | null> {
  const { stderr } = await cluster.lab.exec(thread.node, [
    "perf",
    "stat",
    "-x,",
    "-e",
    "instructions:u,instructions:k,task-clock",
    "-t",
    `${thread.tid}`,
    "--timeout",
    `${ms}`,
  ], { timeoutMs: ms + 60_000 });
  const counted = (event: string): number =>
    Number(stderr.split("\n").find((line) => line.includes(`,${event},`))?.split(",")[0]);
  // It counts from a moment of its own on.
  const onMs = counted("task-clock");
  const [user, kernel] = [
    counted("instructions:u") / onMs,
    counted("instructions:k") / onMs,
  ];
  return Number.isFinite(user) && Number.isFinite(kernel) ? { user, kernel } : null;
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

async function budget(cluster: Cluster, seconds: number): Promise<void> {
  const { lab } = cluster;
  await cluster.startBoth();
  await lab.exec("node1", fioCommand(WARM_SECONDS), { timeoutMs: 120_000 });
  const threads = await threadsOf(cluster);
  const running = lab.exec("node1", fioCommand(seconds), { timeoutMs: seconds * 1000 + 120_000 });
  await sleep(MARGIN_MS);
  const measuredMs = seconds * 1000 - 2 * MARGIN_MS;
  const before = await countsOf(cluster, threads);
  const began = performance.now();
  const counted = await Promise.all(threads.map((thread) => instructions(cluster, thread, measuredMs)));
  const after = await countsOf(cluster, threads);
  const ms = performance.now() - began;
  const { stdout } = await running;
  const { iops, clat_ns: latency } = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs[0].write;
  const writes = iops * ms / 1000;
  const p50 = latency.percentile["50.000000"] / 1000;
  print(
    `4 KiB, one at a time, each-write: ${iops.toFixed(0)} writes/s, ${
      p50.toFixed(0)
    } us (p50). For one write:`,
  );
  print(
    "                     us on a processor   in user mode   waiting for one   switches   instructions user + kernel",
  );
  let sum = 0;
  threads.forEach((thread, at) => {
    const [a, b] = [before[at], after[at]];
    if (a === undefined || b === undefined) return;
    const on = (b.onMs - a.onMs) * 1000 / writes;
    sum += on;
    const user = b.userTicks - a.userTicks;
    const share = user / Math.max(1, user + b.systemTicks - a.systemTicks);
    const done = counted[at];
    const perWrite = (n: number): string => Math.round(n * on / 1000).toLocaleString("en");
    const row = [
      `${thread.node === "node1" ? "primary" : "secondary"}, ${thread.name}`.padEnd(20),
      on.toFixed(1).padStart(18),
      `${(share * 100).toFixed(0)} %`.padStart(15),
      ((b.waitingMs - a.waitingMs) * 1000 / writes).toFixed(1).padStart(18),
      ((b.switches - a.switches) / writes).toFixed(2).padStart(11),
      done === null || done === undefined
        ? "   not counted here"
        : `${perWrite(done.user).padStart(15)} + ${perWrite(done.kernel)}`,
    ];
    print(row.join(""));
  });
  print(`all                 ${sum.toFixed(1).padStart(18)}`);
}

/** The options, or null where help is asked for. */
function readOptions(argv: readonly string[]): { readonly seconds: number; readonly plain: boolean } | null {
  let [seconds, plain] = [10, false];
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === "--help" || argv[i] === "-h") return null;
    if (argv[i] === "--plain") plain = true;
    else if (argv[i] === "--seconds") seconds = Number(argv[++i]);
    else throw new TypeError(`Cannot take "${argv[i]}": --seconds N and --plain are known`);
  }
  if (!(seconds >= 4)) throw new TypeError("Cannot measure for so short a time: --seconds is 4 or more");
  return { seconds, plain };
}

const options = readOptions(Deno.args);
if (options === null) print(HELP);
else {
  await using cluster = await Cluster.up({
    prefix: Deno.env.get("BINOME_BENCH_PREFIX") ?? "lt-budget",
    encryption: !options.plain,
    patient: true,
  });
  await budget(cluster, options.seconds);
}
