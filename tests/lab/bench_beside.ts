/**
 * What an application notices of a resync: the latency of its writes with and without, in turns within one run, as the machine
 * is not equally fast from one minute to the next.
 *
 * @module
 */
import { type Cluster, DATA, FORGET, MODULE } from "./cluster.ts";

/** Where fio keeps its log: one line for each write. */
const LOG = "/run/lab/shared/beside";
const LIMIT_MS = 600_000;
/** What starting and stopping the secondary leaves behind on the processors is over by then. */
const SETTLE_MS = 500;

/** A span of time, milliseconds since 1970. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** Latencies in microseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly writes: number;
}

/** What was measured. */
export interface Beside {
  readonly during: Latency;
  /** The primary alone. */
  readonly alone: Latency;
  /** With a secondary that has everything: each write waits for it. */
  readonly paired: Latency;
  /** Of the comparisons, seconds each. */
  readonly took: readonly number[];
}

/** Writes 4 KiB after 4 KiB while everything is compared `rounds` times, with pauses of `seconds` in between. */
export async function beside(cluster: Cluster, seconds: number, rounds: number): Promise<Beside> {
  const { lab } = cluster;
  const command = [
    "fio --name=app",
    `--filename=${DATA}/app --size=64m --rw=randwrite --bs=4k --direct=0 --ioengine=psync`,
    `--time_based --runtime=3600 --write_lat_log=${LOG} --log_unix_epoch=1 --output=/dev/null`,
  ].join(" ");
  const app = lab.spawn("node1", ["sh", "-c", `rm -f ${LOG}*; exec ${command}`]);
  const spans: Record<"during" | "alone" | "paired", Span[]> = { during: [], alone: [], paired: [] };
  try {
    for (let round = 0; round < rounds; round++) {
      const { alone, compared, paired } = await once(cluster, seconds);
      spans.alone.push(alone);
      spans.during.push(compared);
      spans.paired.push(paired);
    }
  } finally {
    app.signal("SIGINT");
    await app.status();
  }
  const log = await lab.sh("node1", `cut -d, -f1,2 ${LOG}_clat.1.log`, { timeoutMs: LIMIT_MS });
  const writes = log.trim().split("\n").map((line) => line.split(",").map(Number));
  const within = (of: readonly Span[]): Latency => {
    const found = writes.filter(([at = 0]) => of.some(({ from, to }) => at >= from && at < to))
      .map(([, ns = 0]) => ns / 1000).sort((a, b) => a - b);
    return { p50: part(found, 0.5), p99: part(found, 0.99), writes: found.length };
  };
  return {
    during: within(spans.during),
    alone: within(spans.alone),
    paired: within(spans.paired),
    took: spans.during.map(({ from, to }) => (to - from) / 1000),
  };
}

/** A while without a secondary, a comparison of everything, a while with the secondary, which then leaves. */
async function once(
  cluster: Cluster,
  seconds: number,
): Promise<{ alone: Span; compared: Span; paired: Span }> {
  const { lab } = cluster;
  await lab.sh("node2", FORGET);
  await pause(SETTLE_MS);
  const alone = await span(seconds);
  const mark = await cluster.mark("node1");
  await cluster.must("node2", ["start", MODULE, "--no-wait"]);
  const { time, why } = await cluster.waitEvent("node1", /^Has copied/, mark, LIMIT_MS);
  const took = Number(/ in ([\d.]+) s/.exec(why)?.[1] ?? NaN) * 1000;
  if (!(took > 0)) throw new Error(`Cannot tell how long the comparison took: "${why}"`);
  const to = Date.parse(time);
  await cluster.waitPair("node1", LIMIT_MS);
  await pause(SETTLE_MS);
  const paired = await span(seconds);
  await cluster.must("node2", ["stop", MODULE]);
  await cluster.waitState("node1", "alone");
  return { alone, compared: { from: to - took, to }, paired };
}

async function span(seconds: number): Promise<Span> {
  const from = Date.now();
  await pause(seconds * 1000);
  return { from, to: Date.now() };
}

function part(sorted: readonly number[], share: number): number {
  const value = sorted[Math.floor(sorted.length * share)];
  if (value === undefined) throw new Error("Cannot tell a latency: nothing was written in that time");
  return value;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
