/**
 * The applications of `scripts/bench`: SQLite, PostgreSQL and a checkout by git, as a person would run them.
 *
 * @module
 */
import type { AppCase, Sample, System } from "./bench_report.ts";
import { FOLDER, type Systems } from "./bench_systems.ts";
import { CommandError } from "./lab.ts";
import { must } from "./process.ts";

/** Encryption is on for an application; that it can be off is measured by the plain loads. */
export function runsApps(system: System): boolean {
  return system !== "binome-plain";
}

const PG_BIN = "bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)";
const PG_TEMPLATE = "/srv/pgbench-template";
/** Of 100,000 accounts, 15 MB, each. */
const PG_SCALE = 5;
const PG_CLIENTS = 4;
/** A socket alone, and checkpoints as rare as on a server: the rest is what Debian's package has. */
const PG_OPTIONS = "-c listen_addresses= -c unix_socket_directories=/tmp -c max_wal_size=512MB -p 5601";
const TREE = "/run/lab/shared/tree.git";

/** One run. */
export interface AppRun {
  readonly name: AppCase;
  readonly system: System;
  readonly seconds: number;
}

/** What the cases need before their first run: a database that is initialised once and copied, a repository. */
export async function prepareApps(
  systems: Systems,
  how: { readonly cases: readonly AppCase[]; readonly files: number },
): Promise<void> {
  const { lab } = systems.cluster;
  if (how.cases.includes("pgbench")) {
    await lab.sh("node1", `install -d -o postgres -g postgres -m 700 ${PG_TEMPLATE}`);
    await lab.sh(
      "node1",
      `${PG_BIN}
      $bin/initdb -A trust -N -D ${PG_TEMPLATE} >/dev/null
      $bin/pg_ctl -D ${PG_TEMPLATE} -s -w -l /tmp/pg.log -o "${PG_OPTIONS} -c fsync=off" start
      $bin/pgbench -h /tmp -p 5601 -i -q -s ${PG_SCALE} postgres 2>/tmp/pgbench.log
      $bin/pg_ctl -D ${PG_TEMPLATE} -s -w -m fast stop`,
      { user: "postgres", cwd: "/tmp", timeoutMs: 180_000 },
    );
    for (const system of systems.present.filter(runsApps)) {
      await lab.sh("node1", `cp -a ${PG_TEMPLATE} ${FOLDER[system]}/pg`, { timeoutMs: 180_000 });
    }
  }
  if (how.cases.includes("checkout")) {
    const repository = `${lab.folder}/shared/tree.git`;
    const make = new URL("git_tree.py", import.meta.url).pathname;
    await must([
      "sh",
      "-euc",
      'git init -q --bare -b main "$1"; python3 "$2" "$3" | git -C "$1" fast-import --quiet',
      "sh",
      repository,
      make,
      `${how.files}`,
    ]);
  }
}

/** One run of an application on one system. */
export async function app(systems: Systems, run: AppRun): Promise<Sample> {
  await systems.settle();
  switch (run.name) {
    case "sqlite":
      return await sqlite(systems, run);
    case "pgbench":
      return await pgbench(systems, run);
    case "checkout":
      return await checkout(systems, run);
  }
}

/** One insert a transaction, one connection. */
async function sqlite({ cluster: { lab } }: Systems, { system, seconds }: AppRun): Promise<Sample> {
  const file = `${FOLDER[system]}/inserts.db`;
  const text = await lab.sh(
    "node1",
    `python3 /run/lab/tests/sqlite_inserts.py ${file} ${seconds}; rm -f ${file}*`,
    {
      timeoutMs: (seconds + 60) * 1000,
    },
  );
  return numbers(text, "sqlite");
}

/** TPC-B by four clients. The first second brings what all have into memory, and is not counted. */
async function pgbench({ cluster: { lab } }: Systems, { system, seconds }: AppRun): Promise<Sample> {
  const data = `${FOLDER[system]}/pg`;
  const load = `$bin/pgbench -h /tmp -p 5601 -n -c ${PG_CLIENTS} -j 2`;
  const script = `${PG_BIN}
    rm -rf /tmp/pgbench; mkdir /tmp/pgbench; cd /tmp/pgbench
    $bin/pg_ctl -D ${data} -s -w -l /tmp/pgbench/server.log -o "${PG_OPTIONS}" start
    ${load} -T 1 postgres >warm.log 2>&1
    ${load} -T ${seconds} -l --log-prefix=run postgres >run.txt 2>run.log
    $bin/pg_ctl -D ${data} -s -w -m fast stop
    sed -n 's/^tps = \\([0-9.]*\\) .*/\\1/p' run.txt
    cut -d ' ' -f 3 run.[0-9]* | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)], v[int((NR * 99 + 99) / 100)]}'`;
  const result = await lab.exec("node1", ["sh", "-euc", script], {
    user: "postgres",
    timeoutMs: (seconds + 120) * 1000,
  });
  if (result.code !== 0) {
    const log = await lab.exec("node1", ["sh", "-c", "tail -n 5 /tmp/pgbench/*"]);
    throw new CommandError(`node1: pgbench on ${data}`, {
      ...result,
      stderr: `${log.stdout}${result.stderr}`,
    });
  }
  return numbers(result.stdout, "pgbench");
}

/** All files of a commit, from a repository whose objects lie elsewhere: it is the work tree that is measured. */
async function checkout({ cluster: { lab } }: Systems, { system }: AppRun): Promise<Sample> {
  const folder = `${FOLDER[system]}/tree`;
  await lab.sh("node1", `git clone -q --no-checkout --shared ${TREE} ${folder}; sync -f ${folder}`, {
    timeoutMs: 60_000,
  });
  const text = await lab.sh(
    "node1",
    `cd ${folder}
    began=$(date +%s%N); git checkout -q main; ended=$(date +%s%N)
    git ls-files | wc -l; echo $((ended - began))
    git status --porcelain | sed 's/^/differs: /'`,
    { timeoutMs: 300_000 },
  );
  const [files = 0, nanoseconds = 0, ...rest] = text.trim().split("\n").map(Number);
  if (rest.length > 0) throw new Error(`Cannot check a tree out on ${system}: ${text}`);
  await lab.sh("node1", `rm -rf ${folder}`, { timeoutMs: 180_000 });
  return { iops: files / (nanoseconds / 1e9), mbPerSecond: 0, p50Us: 0, p99Us: 0 };
}

/** Operations a second, median and slowest hundredth in microseconds. */
function numbers(text: string, name: AppCase): Sample {
  const [iops = NaN, p50Us = NaN, p99Us = NaN] = text.trim().split(/\s+/).map(Number);
  if (![iops, p50Us, p99Us].every(Number.isFinite)) {
    throw new Error(`Cannot read what ${name} printed: ${text}`);
  }
  return { iops, mbPerSecond: 0, p50Us, p99Us };
}
