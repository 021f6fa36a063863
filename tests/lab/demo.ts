/**
 * `scripts/demo`: what Binome does, shown on two servers with a PostgreSQL, in words for someone who never saw it.
 *
 * @module
 */
import { Cluster, NODES, other, VIP } from "./cluster.ts";
import { initdb, whileFrozen } from "./database.ts";
import { type HostProcess, type Lab, type NodeName, until } from "./lab.ts";
import { type Account, Ledger, listed } from "./ledger.ts";

const PREFIX = "demo";
const MODULE = "postgresql";
const DATA = "/srv/postgresql";
const BENEATH = "/run/lab/disk/srv/postgresql";
const WAIT_MS = 60_000;

const YAML = `module: ${MODULE}
kind: service
network: repl
replicate:
  - path: ${DATA}
virtual_ips:
  - { address: ${VIP}, prefix: 24 }
service:
  start: /etc/binome/postgresql/start
  stop: /etc/binome/postgresql/stop
  user: postgres
  environment: { PGDATA: ${DATA} }
`;

/** Milliseconds since 1970: the lab's hosts share this machine's clock. */
type Moment = number;

/** What happened where. */
interface Happening {
  readonly at: Moment;
  readonly node: string;
  readonly text: string;
}

/** What a takeover took. */
interface Takeover {
  readonly from: NodeName;
  readonly decidedMs: number;
  readonly addressMs: number;
  readonly rowMs: number;
}

/** What bringing a node back took. */
interface Resync {
  readonly bytes: number;
  readonly tookMs: number;
}

/** What a planned switchover took. */
interface Switchover {
  readonly pauseMs: number;
  readonly serviceMs: number;
}

function print(text = ""): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

function indent(text: string): void {
  for (const line of text.trimEnd().split("\n")) print(`   ${line}`.trimEnd());
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function size(bytes: number): string {
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/** Commands, as they are typed, with what they answer. */
class Demo {
  readonly lab: Lab;
  #step = 0;

  constructor(readonly cluster: Cluster, readonly ledger: Ledger) {
    this.lab = cluster.lab;
  }

  head(title: string, words = ""): void {
    const line = `${++this.#step}. ${title}`;
    print(`\n${line}\n${"-".repeat(line.length)}`);
    if (words !== "") print(words);
  }

  /** Runs the program on a node, and shows command and answer. */
  async show(node: NodeName, ...args: string[]): Promise<void> {
    print(`\n   ${node}# binome ${args.join(" ")}`);
    indent(await this.cluster.must(node, args, WAIT_MS));
  }

  /** Waits until both copies are equal, `primary` serving. */
  async paired(primary: NodeName): Promise<void> {
    for (const [node, state] of [[primary, "primary"], [other(primary), "secondary"]] as const) {
      await until(`${node} to be ${state}`, async () => {
        // An agent that has just been started does not answer yet.
        if ((await this.cluster.api(node, "/status")).code !== 0) return false;
        const own = (await this.cluster.cluster(node)).modules[0]?.nodes[0];
        return own?.state === state && own.readiness === "ready";
      }, { timeoutMs: WAIT_MS, everyMs: 50 });
    }
  }

  /** What the agents of the nodes that are on wrote down since a moment, in the order it happened. */
  async timeline(since: Moment): Promise<Happening[]> {
    const rows: Happening[] = [];
    for (const node of NODES) {
      if (!this.lab.isOn(node)) continue;
      for (const { time, what, why } of await this.cluster.events(node)) {
        const at = Date.parse(time);
        // What the program's parts say of each other is for whoever looks for a fault.
        if (at >= since && !what.startsWith("Keeper ")) {
          rows.push({ at, node, text: why === "" ? what : `${what}: ${why}` });
        }
      }
    }
    return rows.sort((a, b) => a.at - b.at);
  }

  /** Cuts the power of the node that serves, and watches the other one take over. */
  async powerOff(node: NodeName): Promise<Takeover> {
    const survivor = other(node);
    await using ping = this.lab.spawn("client", ["ping", "-D", "-n", "-i", "0.05", "-W", "0.05", VIP]);
    await ping.line((line) => line.includes("bytes from"), WAIT_MS);
    const off: Moment = Date.now();
    await this.lab.powerOff(node);
    print(`   + 0.00 s  ${node}: wire cut, disk gone, every process dead`);
    // Until the wire was cut a row was still acknowledged, and a ping answered.
    const dark: Moment = Date.now();
    const row = await this.ledger.acknowledgedAfter(dark, WAIT_MS);
    const address = await answered(ping, dark);
    const events = await this.timeline(off);
    const decided = events.find((event) =>
      event.node === survivor && event.text.startsWith("Becomes primary")
    );
    if (decided === undefined) {
      throw new Error(`Cannot find when ${survivor} decided to take over in its events`);
    }
    const rows = [
      ...events.filter((event) => event.at <= row),
      { at: address, node: "client", text: `${VIP} answers again` },
      { at: row, node: "client", text: "a row is acknowledged again" },
    ];
    this.#tell(rows.sort((a, b) => a.at - b.at), off);
    return { from: node, decidedMs: decided.at - off, addressMs: address - off, rowMs: row - off };
  }

  /** Powers a node on; it becomes the secondary. What it receives is counted on its network card. */
  async powerOn(node: NodeName): Promise<Resync> {
    const on = Date.now();
    await this.lab.powerOn(node);
    await this.paired(other(node));
    const tookMs = Date.now() - on;
    const bytes = Number(await this.lab.sh(node, "cat /sys/class/net/e1/statistics/rx_bytes"));
    this.#tell(await this.timeline(on), on);
    const whole = Number((await this.lab.sh(node, `du -sb ${BENEATH}`)).split("\t")[0]);
    print(
      `   ${node} is in step after ${seconds(tookMs)}: ${
        size(bytes)
      } came over the wire, the load's own rows among\n` +
        `   them; the directory has ${size(whole)}`,
    );
    return { bytes, tookMs };
  }

  /** Hands over on request. */
  async switchover(from: NodeName): Promise<Switchover> {
    const began = Date.now();
    await this.show(from, "switchover", MODULE);
    await this.paired(other(from));
    await this.ledger.acknowledgedAfter(Date.now(), WAIT_MS);
    const events = await this.timeline(began);
    // Its scripts, as long as they ran: that much any change of servers costs.
    const serviceMs = events.reduce((sum, { text }) => {
      const took = /^Service (?:stopped|started): .* took (\d+) ms$/.exec(text);
      return sum + Number(took?.[1] ?? 0);
    }, 0);
    const pauseMs = longestPause([...this.ledger.acknowledged.values()], began);
    print();
    this.#tell(events, began);
    print(
      `   Clients waited ${seconds(pauseMs)}; of these PostgreSQL's own stop and start took ${
        seconds(serviceMs)
      }.`,
    );
    return { pauseMs, serviceMs };
  }

  #tell(events: readonly Happening[], since: Moment): void {
    for (const { at, node, text } of events) {
      print(`   +${seconds(at - since).padStart(7)}  ${node}: ${text}`);
    }
  }
}

/** When the address answered first after a moment, by the client's ping. */
async function answered(ping: HostProcess, since: Moment): Promise<Moment> {
  const at = (line: string): Moment => {
    const match = /^\[(\d+\.\d+)\] .*bytes from/.exec(line);
    return match === null ? 0 : Number(match[1]) * 1000;
  };
  return at(await ping.line((line) => at(line) > since, WAIT_MS));
}

/** The longest time without an acknowledged row since a moment. */
function longestPause(rows: readonly Moment[], since: Moment): number {
  let [last, longest] = [since, 0];
  for (const at of rows.filter((row) => row > since).sort((a, b) => a - b)) {
    longest = Math.max(longest, at - last);
    last = at;
  }
  return longest;
}

async function prepare(cluster: Cluster): Promise<void> {
  const { lab } = cluster;
  for (const node of NODES) {
    for (const name of ["start", "stop"]) {
      const text = await Deno.readTextFile(new URL(`../../config/postgresql/${name}`, import.meta.url));
      await lab.write(node, `/etc/binome/postgresql/${name}`, text, "755");
    }
    await lab.write(node, `/root/${MODULE}.yaml`, YAML);
    await lab.sh(node, `mkdir -p ${DATA}; chown postgres: ${DATA}; sync -f /srv; sync -f /etc/binome`);
  }
  await lab.sh("node1", `${initdb(DATA)}; sync -f ${DATA}`, { timeoutMs: WAIT_MS });
}

/** What is true at the end, as a table; the answer is whether all of it is as promised. */
function report(found: {
  readonly account: Account;
  readonly lost: number;
  readonly takeovers: readonly Takeover[];
  readonly resyncs: readonly Resync[];
  readonly switchover: Switchover;
  readonly differences: readonly string[];
}): boolean {
  const { account, takeovers, switchover, differences } = found;
  const own = switchover.pauseMs - switchover.serviceMs;
  const rows: [string, string][] = [
    ["rows acknowledged", `${account.acknowledged}`],
    ["of them found", `${account.acknowledged - account.missing.length}`],
    ["missing", listed(account.missing)],
    [
      "more rows found",
      `${account.extra.length} of ${found.lost} whose answer was cut off: ${listed(account.extra)}`,
    ],
    ...takeovers.map(({ from, decidedMs, addressMs, rowMs }): [string, string] => [
      `takeover from ${from}`,
      `decided ${seconds(decidedMs)}, address ${seconds(addressMs)}, first row ${
        seconds(rowMs)
      } after the power cut`,
    ]),
    ["switchover", `${seconds(switchover.pauseMs)}, ${seconds(own)} without PostgreSQL's own stop and start`],
    ...found.resyncs.map(({ bytes, tookMs }): [string, string] => [
      "resync",
      `${size(bytes)} received, in step after ${seconds(tookMs)}`,
    ]),
    [
      "both copies equal",
      differences.length === 0 ? "yes (content, mode, owner, mtime, xattr, links)" : "NO",
    ],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, value] of rows) print(`   ${name.padEnd(width)}  ${value}`);
  for (const difference of differences.slice(0, 20)) print(`   differs: ${difference}`);
  for (const wrong of account.wrong) print(`   wrong: ${wrong}`);
  return account.missing.length === 0 && account.wrong.length === 0 && differences.length === 0;
}

function tryIt(): void {
  const lab = `scripts/lab --prefix ${PREFIX}`;
  const curl =
    'curl -s --cacert /var/lib/binome/ca.crt -H "Authorization: Bearer $(cat /var/lib/binome/token)"';
  print(`
The servers go on running. Try:

   ${lab} run node1 binome status
   ${lab} run node1 binome events
   ${lab} run client psql -h ${VIP} -U postgres -c "SELECT count(*) FROM ledger"
   ${lab} run node1 sh -c '${curl} https://10.77.0.1:9010/api/v1/modules/${MODULE}'
   ${lab} off node1        # a power cut; ${lab} on node1
   ${lab} help             # cables, lost packets, freezing a server

End it with:

   ${lab} down`);
}

async function play(cluster: Cluster): Promise<boolean> {
  await prepare(cluster);
  await using ledger = Ledger.start(cluster.lab, VIP, { sessions: 4, pauseMs: 5 });
  const demo = new Demo(cluster, ledger);

  demo.head(
    "Two servers become one cluster",
    `node1 (10.77.0.1) and node2 (10.77.0.2), each with a disk of its own; the router 10.77.0.3 is asked before a
takeover; a client. They are namespaces of this machine, with the program of dist/binome. What was typed:

   node1# binome init --config cluster.yaml     (a takeover is decided 3.53 s after the last sign of life)
   node1# binome join-token
   node2# binome join binome1.…`,
  );

  demo.head(
    "A PostgreSQL that exists on node1 gets a second home",
    `Its data directory stays where it is. ${MODULE}.yaml says which directory, which address, which scripts:\n`,
  );
  indent(YAML);
  await demo.show("node1", "apply", `/root/${MODULE}.yaml`);
  await demo.show("node1", "start", MODULE, "--as", "primary");
  await demo.show("node2", "start", MODULE);
  await demo.paired("node1");
  await demo.show("node1", "status");

  demo.head(
    "A client inserts rows",
    `Four sessions through ${VIP}. A row counts once its COMMIT is answered; the client's list is the truth below.\n`,
  );
  await ledger.acknowledgedAfter(Date.now(), WAIT_MS);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  ledger.read();
  for (const [row, at] of [...ledger.acknowledged].slice(-5)) {
    print(`   row ${row} acknowledged at ${new Date(at).toISOString().slice(11, 23)}`);
  }
  print(`   … ${ledger.count} rows so far; it goes on through all that follows.`);

  demo.head("node1 loses its power, in the middle of it", "What was not synced on its disk is gone.\n");
  const first = await demo.powerOff("node1");

  demo.head(
    "node1 comes back",
    "It must not serve what it has: it gets what it missed, and becomes the secondary.\n",
  );
  const resyncs = [await demo.powerOn("node1")];

  demo.head("A planned switchover, back to node1");
  const switchover = await demo.switchover("node2");

  demo.head("node1 loses its power again, and comes back");
  const second = await demo.powerOff("node1");
  print("\n   Power on:");
  resyncs.push(await demo.powerOn("node1"));

  demo.head(
    "What is left",
    "The client stops; its list is compared with the table, and both disks with each other.\n",
  );
  await ledger.stop();
  const account = await ledger.account();
  let differences: string[] = [];
  await whileFrozen(cluster.lab, { node: "node2", module: MODULE }, async () => {
    differences = await cluster.lab.compare({ node: "node1", path: BENEATH }, {
      node: "node2",
      path: BENEATH,
    });
  });
  return report({
    account,
    lost: ledger.lost.size,
    takeovers: [first, second],
    resyncs,
    switchover,
    differences,
  });
}

/** Where each node stands, for whoever looks into what went wrong. */
async function tell(cluster: Cluster): Promise<void> {
  const log = `/var/lib/binome/log/replicator-${MODULE}.log`;
  for (const node of NODES) {
    if (!cluster.lab.isOn(node)) continue;
    const script = `binome status; binome events --limit 25; tail -n 25 ${log}`;
    const { stdout, stderr } = await cluster.lab.exec(node, ["sh", "-c", script]);
    print(`\n${node}# ${script}\n${stdout}${stderr}`);
  }
}

async function main(): Promise<void> {
  const keep = Deno.args.includes("--keep");
  const began = performance.now();
  print(
    "Binome: two servers, one PostgreSQL, and power cuts\n===================================================",
  );
  const cluster = await Cluster.up({
    prefix: PREFIX,
    lab: { repl: true, detached: keep },
    apply: false,
  });
  try {
    const good = await play(cluster);
    print(
      `\n${good ? "Nothing acknowledged was lost." : "THIS IS NOT AS PROMISED, see above."} ${
        seconds(performance.now() - began)
      } in all.`,
    );
    if (!good) Deno.exitCode = 1;
  } catch (error) {
    await tell(cluster);
    print(`\n${error instanceof Error ? error.message : error}`);
    Deno.exitCode = 1;
  } finally {
    if (keep) tryIt();
    else await cluster.lab.down();
  }
}

if (import.meta.main) await main();
