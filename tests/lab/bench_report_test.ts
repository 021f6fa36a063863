import { assertEquals, assertStringIncludes } from "@std/assert";
import { chart } from "./bench_chart.ts";
import { type Case, type Measured, ratiosOf, type Row, Samples, table } from "./bench_report.ts";

function row(name: Case, system: Measured, iops: number, p50Us = 0): Row {
  return { case: name, system, iops, "mb_s": 0, "p50_us": p50Us, "p99_us": 0 };
}

Deno.test("Samples.rows() answers the median of the rounds, cases and systems in their order", () => {
  const samples = new Samples();
  for (const iops of [10, 400, 30]) {
    samples.keep("pgbench", "native", { iops, mbPerSecond: 0, p50Us: iops * 2, p99Us: 1 });
  }
  for (const iops of [7, 8]) {
    samples.keep("write_4k_d1", "gluster", { iops, mbPerSecond: 1, p50Us: 0, p99Us: 0 });
  }
  assertEquals(samples.rows(), [
    { case: "write_4k_d1", system: "gluster", iops: 7.5, "mb_s": 1, "p50_us": 0, "p99_us": 0 },
    { case: "pgbench", system: "native", iops: 30, "mb_s": 0, "p50_us": 60, "p99_us": 1 },
  ]);
});

Deno.test("ratiosOf() sets each of our systems beside the one its name says", () => {
  const ratios = ratiosOf([
    row("write_4k_d1", "bindfs", 200, 30),
    row("write_4k_d1", "gluster", 40),
    row("write_4k_d1", "binome", 100, 100),
    row("write_4k_d1", "binome-fsync", 1000),
    row("round_trip", "network", 1, 20),
    row("pgbench", "native", 1000),
    row("pgbench", "binome-fsync", 700),
    row("pgbench", "binome", 300),
  ]);
  const known = Object.fromEntries(Object.entries(ratios).filter(([, value]) => value !== null));
  assertEquals(known, {
    "each_write_4k_d1_vs_bindfs": 0.5,
    "each_write_4k_d1_vs_gluster": 2.5,
    "fsync_buffered_vs_bindfs": 5,
    "pgbench_vs_native": 0.7,
    "each_write_pgbench_vs_native": 0.3,
    "each_write_4k_d1_vs_limit": 0.5,
    "limit_4k_d1_vs_bindfs": 0.6,
  });
});

Deno.test("ratiosOf() answers null for what was not measured", () => {
  const ratios = ratiosOf([row("create", "binome", 100), row("create", "bindfs", 200)]);
  assertEquals(ratios["create_vs_bindfs"], 0.5);
  assertEquals(ratios["create_vs_gluster"], null);
  assertEquals(ratios["each_write_4k_d1_vs_limit"], null);
  assertEquals(ratios["limit_4k_d1_vs_bindfs"], null);
});

Deno.test("table() leaves a figure that a case does not have empty", () => {
  const text = table([row("checkout", "native", 1234.4), row("sqlite", "binome", 5, 1.25)]);
  assertEquals(text.split("\n").map((line) => line.split(/ +/)), [
    ["case", "system", "ops/s", "MB/s", "p50", "us", "p99", "us"],
    ["checkout", "native", "1234"],
    [""],
    ["sqlite", "binome", "5", "1.3"],
    [""],
  ]);
});

Deno.test("chart() draws a panel a case with bars in proportion, and leaves the network out", () => {
  const svg = chart([
    row("create", "native", 20_000),
    row("create", "binome", 5000),
    row("round_trip", "network", 1),
  ], "a & b");
  const bars = [...svg.matchAll(/<rect x="\d+" y="\d+" width="([0-9.]+)"/g)].map(([, width]) =>
    Number(width)
  );
  assertEquals(bars.length, 2);
  assertEquals(bars[1], (bars[0] ?? 0) / 4);
  assertStringIncludes(svg, "20.0k</text>");
  assertStringIncludes(svg, "5000 0.25×</text>");
  assertStringIncludes(svg, "a &amp; b");
});
