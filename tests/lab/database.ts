/**
 * A cluster under load: PostgreSQL and clients of the file system (`churn.py`, and `promises.py` in a directory of each
 * durability) under one order, a client of the database (`rows.py`) in front, and the checks that hold after whatever was
 * done to the nodes.
 *
 * @module
 */
import { BENEATH, Cluster, DATA, MODULE, NODES, VIP } from "./cluster.ts";
import { type Lab, type LabOptions, must, type NodeName, until } from "./lab.ts";
import { Ledger, listed } from "./ledger.ts";

/** How it is made. */
export interface DatabaseOptions {
  readonly prefix: string;
  readonly lab?: Partial<Omit<LabOptions, "prefix">>;
  /** Seed of the file system's clients. */
  readonly seed: number;
  /** Whether they are left out: their syncs have the disk write what PostgreSQL's should. Default no. */
  readonly rowsAlone?: boolean;
  /** Connections of the database's client. Default 4. */
  readonly sessions?: number;
}

/** What became of the promises of `promises.py`. */
export interface Kept {
  /** Changes that returned and were looked at, each as often as it was. */
  changes: number;
  /** Folders looked at of which every node that had them lost power. */
  lostRuns: number;
  /** The most that a `relaxed` directory was behind when its primary died: changes, milliseconds. */
  behind: number;
  behindMs: number;
}

/** What a node's activity set names: `hot.py`. */
export interface Hot {
  readonly objects: number;
  readonly bytes: number;
  /** Of all content, in bytes. */
  readonly all: number;
}

/** What a check found wrong. */
export class CheckError extends Error {
  override readonly name = "CheckError";
  /** @param check which one, in a word or two. */
  constructor(readonly check: string, readonly detail: string) {
    super(`${check}: ${detail}`);
  }
}

const NOTES = "/run/lab/shared/receipts";
const READY_MS = 120_000;
/** How often differences are looked at, with the service frozen, and what lies between two looks. */
const LOOKS = 3;
const SETTLE_MS = 2000;

/** Where `promises.py` works: outside and beneath the mount, and where it writes down what it was promised. */
const PROMISED = ([
  ["each-write", "/srv/each"],
  ["fsync", `${DATA}/promised`],
  ["relaxed", "/srv/relaxed"],
] as const).map(([durability, path]) => ({
  durability,
  path,
  beneath: `/run/lab/disk${path}`,
  journal: `/run/lab/shared/promises-${durability}`,
}));
/** Replicated beside {@link DATA}. */
const MORE = PROMISED.filter(({ path }) => !path.startsWith(DATA));

const PROMISES = "/run/lab/tests/promises.py";

/** The service: PostgreSQL as its own user, then the other clients, whose changes need root (owners, trusted.*). */
const START = `#!/bin/sh
set -eu
export PGDATA=${DATA}/postgresql
setpriv --reuid=postgres --regid=postgres --init-groups /etc/binome/postgresql/start
mkdir -p ${DATA}/files ${DATA}/promised
[ "$CLIENTS" = all ] || exit 0
setsid python3 /run/lab/tests/churn.py ${DATA}/files "$SEED" ${NOTES} </dev/null >>/var/log/churn.log 2>&1 &
${
  PROMISED.map(({ durability, path, journal }) =>
    `setsid python3 ${PROMISES} ${path} ${durability} "$SEED" ${journal} --pause-ms 20 </dev/null >>/var/log/churn.log 2>&1 &\n`
  ).join("")
}`;
const STOP = `#!/bin/sh
set -eu
export PGDATA=${DATA}/postgresql
exec setpriv --reuid=postgres --regid=postgres --init-groups /etc/binome/postgresql/stop
`;

/** The cluster, its load, and its checks. */
export class Database implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly ledger: Ledger;
  /** What the checks have looked at and found so far. */
  readonly kept: Kept = {
    changes: 0,
    lostRuns: 0,
    behind: 0,
    behindMs: 0,
  };

  private constructor(cluster: Cluster, ledger: Ledger) {
    this.cluster = cluster;
    this.ledger = ledger;
  }

  /** Brings everything up: answers once rows are acknowledged and both copies are equal members. */
  static async up(options: DatabaseOptions): Promise<Database> {
    const lab = { repl: true, ...options.lab };
    const cluster = await Cluster.up({ prefix: options.prefix, lab, apply: false });
    try {
      await prepare(cluster);
      await cluster.apply(moduleYaml(options));
      await cluster.startBoth();
      const ledger = Ledger.start(cluster.lab, VIP, { sessions: options.sessions ?? 4, pauseMs: 20 });
      await ledger.acknowledgedAfter(0, READY_MS);
      return new Database(cluster, ledger);
    } catch (error) {
      // A lab that outlives its owner is wanted for looking at.
      if (options.lab?.detached !== true) await cluster.lab.down();
      throw error;
    }
  }

  /** Ends the client and the lab. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.ledger[Symbol.asyncDispose]();
    } finally {
      await this.cluster.lab.down();
    }
  }

  /** The node that serves, if one does. */
  async primary(): Promise<NodeName | undefined> {
    for (const node of NODES) {
      if (!this.cluster.lab.isOn(node)) continue;
      // An agent that has just been started does not answer yet.
      if ((await this.cluster.api(node, "/status")).code !== 0) continue;
      const { role, readiness } = await this.cluster.own(node);
      if (role === "primary" && readiness === "ready") return node;
    }
    return undefined;
  }

  /** Waits until one node serves; answers which. */
  async served(timeoutMs = READY_MS): Promise<NodeName> {
    let primary: NodeName | undefined;
    await until("a node to serve", async () => (primary = await this.primary()) !== undefined, {
      timeoutMs,
      everyMs: 50,
    });
    return primary ?? "node1";
  }

  /** Waits until one node serves and the other has everything; answers the one that serves. */
  async paired(timeoutMs = READY_MS): Promise<NodeName> {
    const primary = await this.served(timeoutMs);
    await this.cluster.waitPair(primary, timeoutMs);
    return primary;
  }

  /**
   * What must hold whenever a pair is in step. The service is frozen for as long as trees are compared: what the
   * application waits for is answered, and nothing new comes.
   */
  async check(): Promise<void> {
    const primary = await this.paired();
    await this.ledger.acknowledgedAfter(Date.now(), READY_MS);
    await this.checkRows();
    await whileFrozen(this.cluster.lab, { node: primary, module: MODULE }, async () => {
      await this.#checkReceipts(primary);
      await all(PROMISED.map((promised) => this.#checkPromises(primary, promised)));
      await this.#checkTrees(primary);
    });
  }

  /** Every node that had the data has lost power: what was not synced is promised no more. Told before any is on again. */
  async allLostPower(): Promise<void> {
    await must([
      "sh",
      "-euc",
      `for j in ${this.cluster.lab.folder}/shared/promises-*; do echo '{"lost": true}' >>"$j"; done`,
    ]);
  }

  /** What would be compared, at most, if a node lost power now, but for what is changed before it is back. */
  async hot(node: NodeName): Promise<Hot> {
    const folders = [BENEATH, ...MORE.map(({ beneath }) => beneath)].join(" ");
    const activity = `/var/lib/binome/modules/${MODULE}/log/activity`;
    return JSON.parse(
      await this.cluster.lab.sh(node, `python3 /run/lab/tests/hot.py ${activity} ${folders}`),
    );
  }

  /**
   * Both copies are equal, with the service frozen. The kernel may still write pages out, and `relaxed` follows by a
   * moment: what differs is looked at again, and only what stays so is a difference.
   */
  async #checkTrees(primary: NodeName): Promise<void> {
    const { lab } = this.cluster;
    let differences: string[] = [];
    for (let looks = 0; looks < LOOKS; looks++) {
      for (const path of [DATA, ...MORE.map(({ path }) => path)]) await lab.sh(primary, `sync -f ${path}`);
      differences = (await all([this.cluster.differences(), ...MORE.map((one) => this.#compare(one))]))
        .flat();
      if (differences.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    }
    throw new CheckError("trees differ", `\n  ${differences.slice(0, 20).join("\n  ")}`);
  }

  async #compare({ path, beneath }: typeof PROMISED[number]): Promise<string[]> {
    const found = await this.cluster.lab.compare({ node: "node1", path: beneath }, {
      node: "node2",
      path: beneath,
    });
    return found.map((difference) => `${path}: ${difference}`);
  }

  /** What each change and each sync promised in a directory is there. */
  async #checkPromises(primary: NodeName, promised: typeof PROMISED[number]): Promise<void> {
    const { durability, beneath, journal } = promised;
    const argv = ["python3", PROMISES, beneath, durability, "--check", journal];
    const { code, stdout, stderr } = await this.cluster.lab.exec(primary, argv, { timeoutMs: 120_000 });
    const [about = "", ...wrong] = stdout.split("\n");
    if (code !== 0 && wrong.length === 0) throw new Error(`Cannot check the promises: ${stderr.trim()}`);
    if (wrong.length > 0 && wrong[0] !== "") {
      throw new CheckError(`promises of ${durability} are broken`, `\n  ${wrong.join("\n  ")}`);
    }
    const found = JSON.parse(about);
    this.kept.changes += found.changes;
    this.kept.lostRuns += found.lost_runs;
    this.kept.behind = Math.max(this.kept.behind, found.changes_behind);
    this.kept.behindMs = Math.max(this.kept.behindMs, found.ms_behind);
  }

  /** Every acknowledged row is in the database. */
  async checkRows(): Promise<void> {
    const account = await this.ledger.account();
    if (account.missing.length > 0) {
      throw new CheckError("acknowledged rows are missing", listed(account.missing));
    }
    if (account.wrong.length > 0) throw new CheckError("rows are wrong", listed(account.wrong));
  }

  /** Every receipt that was synced and noted is in the directory. */
  async #checkReceipts(primary: NodeName): Promise<void> {
    const { lab } = this.cluster;
    const argv = ["python3", "/run/lab/tests/churn.py", `${BENEATH}/files`, "--check", NOTES];
    const { code, stdout, stderr } = await lab.exec(primary, argv, { timeoutMs: 180_000 });
    if (code === 1 && stdout !== "") throw new CheckError("synced files are missing", `\n  ${stdout.trim()}`);
    if (code !== 0) throw new Error(`Cannot check the receipts: ${stderr.trim()}`);
    // A client that stopped at an error would leave nothing to check.
    const words = await lab.exec(primary, ["cat", "/var/log/churn.log"]);
    if (words.stdout !== "") {
      throw new CheckError("the file system's client failed", words.stdout.slice(-2000));
    }
  }
}

/**
 * Does something while the service of a module stands still: what it waits for is answered, and nothing new comes, so
 * that both copies can be compared.
 */
export async function whileFrozen(
  lab: Lab,
  where: { readonly node: NodeName; readonly module: string },
  work: () => Promise<void>,
): Promise<void> {
  const group = `/sys/fs/cgroup/binome/${where.module}`;
  await lab.sh(
    where.node,
    `echo 1 > ${group}/cgroup.freeze
    i=0; until grep -q 'frozen 1' ${group}/cgroup.events; do i=$((i+1)); [ $i -lt 500 ]; sleep 0.01; done`,
  );
  try {
    await work();
  } finally {
    await lab.sh(where.node, `echo 0 > ${group}/cgroup.freeze`);
  }
}

/** Waits for all of them, then throws the first failure: nothing may go on in a lab that is taken down. */
async function all<T>(works: readonly Promise<T>[]): Promise<T[]> {
  return (await Promise.allSettled(works)).map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

async function prepare(cluster: Cluster): Promise<void> {
  const { lab } = cluster;
  for (const node of NODES) {
    for (const name of ["start", "stop"]) {
      const text = await Deno.readTextFile(new URL(`../../config/postgresql/${name}`, import.meta.url));
      await lab.write(node, `/etc/binome/postgresql/${name}`, text, "755");
    }
    await lab.write(node, "/etc/binome/start", START, "755");
    await lab.write(node, "/etc/binome/stop", STOP, "755");
    const paths = [DATA, ...MORE.map(({ path }) => path)].join(" ");
    await lab.sh(node, `mkdir -p ${paths}; sync -f /srv; sync -f /etc/binome`);
  }
  await lab.sh("node1", `${initdb(`${DATA}/postgresql`)}; sync -f ${DATA}`, { timeoutMs: 180_000 });
}

/** Makes a database with the table of `rows.py` in a directory, as root; clients of the lab need no password. */
export function initdb(directory: string): string {
  return `
    mkdir -p ${directory}; chown postgres: ${directory}; chmod 700 ${directory}
    run() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
    bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    run "$bin/initdb" -A trust -N -D ${directory} >/dev/null
    echo "host all all 10.77.0.0/24 trust" >> ${directory}/pg_hba.conf
    echo "CREATE TABLE ledger (n bigint PRIMARY KEY, mark text NOT NULL)" |
      run "$bin/postgres" --single -D ${directory} postgres >/dev/null`;
}

function moduleYaml({ seed, rowsAlone }: DatabaseOptions): string {
  return `module: ${MODULE}
kind: service
network: repl
peer_timeout: 8s
replicate:
  - path: ${DATA}
${MORE.map(({ path, durability }) => `  - { path: ${path}, durability: ${durability} }`).join("\n")}
virtual_ips:
  - { address: ${VIP}, prefix: 24 }
service:
  start: /etc/binome/start
  stop: /etc/binome/stop
  environment: { SEED: "${seed}", CLIENTS: ${rowsAlone === true ? "none" : "all"} }
`;
}
