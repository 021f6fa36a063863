/**
 * What `scripts/bench` measures and how it is judged: the cases, the systems, the medians, the ratios and the table.
 *
 * @module
 */

/**
 * `binome` has `each-write` and is encrypted; `binome-plain` has `encryption: off`; `binome-fsync` is the default.
 * `gluster` is a volume of GlusterFS with a replica on each node, as Debian's package makes it.
 */
export const SYSTEMS = ["native", "bindfs", "gluster", "binome", "binome-plain", "binome-fsync"] as const;
/** A file system that is measured. */
export type System = typeof SYSTEMS[number];
/** Beside the systems: the wire between the nodes. */
export type Measured = System | "network";

/** What fio does. */
export const FIO_CASES = [
  "write_4k_d1",
  "write_4k_d16",
  "write_fsync_4k",
  "seq_write_1m",
  "read_4k",
] as const;
/** One of {@link FIO_CASES}. */
export type FioCase = typeof FIO_CASES[number];
/** Both are measured together, as `files`. */
export const FILE_CASES = ["create", "unlink"] as const;
/** Applications: an insert, a transaction, a file of the tree is one operation. */
export const APP_CASES = ["sqlite", "pgbench", "checkout"] as const;
/** One of {@link APP_CASES}. */
export type AppCase = typeof APP_CASES[number];
/** What can be measured alone. */
export const CHOICES = [...FIO_CASES, "files", ...APP_CASES] as const;
/** One of {@link CHOICES}. */
export type Choice = typeof CHOICES[number];

const CASES = [...FIO_CASES, "round_trip", ...FILE_CASES, ...APP_CASES] as const;
/** `round_trip`: of two plain programs over the same network. */
export type Case = typeof CASES[number];

/** One run. A figure that a case does not have is 0. */
export interface Sample {
  readonly iops: number;
  readonly mbPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** One line of the table, and of the JSON. */
export interface Row {
  readonly case: Case;
  readonly system: Measured;
  readonly iops: number;
  readonly "mb_s": number;
  readonly "p50_us": number;
  readonly "p99_us": number;
}

/** What was measured, round by round. */
export class Samples {
  readonly #samples = new Map<string, Sample[]>();

  /** One more round of a case. */
  keep(name: Case, system: Measured, sample: Sample): void {
    const key = `${name} ${system}`;
    this.#samples.set(key, [...this.#samples.get(key) ?? [], sample]);
  }

  /** The medians, in the order of the cases. */
  rows(): Row[] {
    const rows: Row[] = [];
    for (const name of CASES) {
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
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  const value = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
  return Math.round(value * 10) / 10;
}

/** Ratio of operations a second: name → case, our system, the one beside it. */
const RATIOS: Readonly<Record<string, readonly [Case, System, System]>> = {
  "each_write_4k_d1_vs_bindfs": ["write_4k_d1", "binome", "bindfs"],
  "each_write_4k_d1_vs_gluster": ["write_4k_d1", "binome", "gluster"],
  "fsync_buffered_vs_bindfs": ["write_4k_d1", "binome-fsync", "bindfs"],
  "fsync_rate_vs_native": ["write_fsync_4k", "binome", "native"],
  "fsync_rate_vs_gluster": ["write_fsync_4k", "binome", "gluster"],
  "fsync_mode_fsync_rate_vs_native": ["write_fsync_4k", "binome-fsync", "native"],
  "seq_write_vs_native": ["seq_write_1m", "binome", "native"],
  "fsync_mode_seq_write_vs_native": ["seq_write_1m", "binome-fsync", "native"],
  "create_vs_bindfs": ["create", "binome", "bindfs"],
  "create_vs_gluster": ["create", "binome", "gluster"],
  "fsync_mode_create_vs_bindfs": ["create", "binome-fsync", "bindfs"],
  "fsync_mode_create_vs_gluster": ["create", "binome-fsync", "gluster"],
  "reads_vs_native": ["read_4k", "binome", "native"],
  "fsync_mode_reads_vs_native": ["read_4k", "binome-fsync", "native"],
  "pgbench_vs_native": ["pgbench", "binome-fsync", "native"],
  "pgbench_vs_gluster": ["pgbench", "binome-fsync", "gluster"],
  "each_write_pgbench_vs_native": ["pgbench", "binome", "native"],
  "sqlite_vs_native": ["sqlite", "binome-fsync", "native"],
  "sqlite_vs_gluster": ["sqlite", "binome-fsync", "gluster"],
  "checkout_vs_native": ["checkout", "binome-fsync", "native"],
  "checkout_vs_bindfs": ["checkout", "binome-fsync", "bindfs"],
  "checkout_vs_gluster": ["checkout", "binome-fsync", "gluster"],
};

/** The figures by which Binome is judged; null where the case was not run or the other system is not there. */
export function ratiosOf(rows: readonly Row[]): Record<string, number | null> {
  const rowOf = (name: Case, system: Measured): Row | undefined =>
    rows.find((row) => row.case === name && row.system === system);
  const ratios: Record<string, number | null> = {};
  for (const [name, [of, system, beside]] of Object.entries(RATIOS)) {
    const [ours, theirs] = [rowOf(of, system)?.iops, rowOf(of, beside)?.iops];
    ratios[name] = ours === undefined || theirs === undefined || theirs === 0
      ? null
      : thousandths(ours / theirs);
  }
  // FUSE's round trip (bindfs) and the network's, one after the other, with nothing done in between.
  const [fuse, wire, ours] = [
    rowOf("write_4k_d1", "bindfs"),
    rowOf("round_trip", "network"),
    rowOf("write_4k_d1", "binome"),
  ];
  ratios["each_write_4k_d1_vs_limit"] = fuse === undefined || wire === undefined || ours === undefined
    ? null
    : thousandths((fuse["p50_us"] + wire["p50_us"]) / ours["p50_us"]);
  // What a write could be beside bindfs if nothing but those two round trips took time.
  ratios["limit_4k_d1_vs_bindfs"] = fuse === undefined || wire === undefined
    ? null
    : thousandths(fuse["p50_us"] / (fuse["p50_us"] + wire["p50_us"]));
  return ratios;
}

function thousandths(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The rows for a person; a figure that a case does not have stays empty. */
export function table(rows: readonly Row[]): string {
  const head = ["case", "system", "ops/s", "MB/s", "p50 us", "p99 us"];
  const figure = (value: number): string => value === 0 ? "" : value.toFixed(1);
  const lines = rows.map((row) => [
    row.case,
    row.system,
    String(Math.round(row.iops)),
    figure(row["mb_s"]),
    figure(row["p50_us"]),
    figure(row["p99_us"]),
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
