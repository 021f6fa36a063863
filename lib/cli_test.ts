import { assert, assertEquals } from "@std/assert";
import { EXIT, QUIET_STATUS, runCli, type World } from "./cli.ts";
import { QUIET_ERROR } from "./cli/world.ts";
import { saveModule } from "./config/store.ts";
import { createApp, PeerUnreachable } from "./http/mod.ts";
import { FakeControl, fakeInstance, fakeModule } from "./http/fake_control.ts";
import { importClusterKey, loadIdentity } from "./identity/mod.ts";
import { memoryFiles } from "./identity/memory_files.ts";
import { HttpsError } from "./system/https.ts";

const INIT = ["init", "--cluster", "plant", "--node", "node1=10.0.0.11", "--node", "node2=10.0.0.12"];
const BMS = "module: bms\nkind: directory\nreplicate: [{ path: /srv/bms }]\n";

/** A machine: its state in memory, its network the other machines by address. */
class Machine implements World {
  readonly state = "/state";
  readonly version = "1.2.3";
  readonly files = memoryFiles();
  readonly out: string[] = [];
  readonly err: string[] = [];
  readonly inputs = new Map<string, string>();
  at = Date.UTC(2026, 0, 1);
  readonly ambient = {
    now: () => this.at,
    randomBytes: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
  };
  readonly #address: string;
  readonly #net: Map<string, (request: Request) => Response | Promise<Response>>;

  constructor(address: string, net: Map<string, (request: Request) => Response | Promise<Response>>) {
    this.#address = address;
    this.#net = net;
  }

  hostname = () => "host";
  addresses = () => ["127.0.0.1", this.#address];
  print = (line: string) => void this.out.push(line);
  complain = (line: string) => void this.err.push(line);
  readFile = (path: string) => {
    const text = this.inputs.get(path);
    return text === undefined
      ? Promise.reject(new Error(`Cannot read ${path}: there is no such file`))
      : Promise.resolve(text);
  };
  readLine = () => Promise.resolve(this.inputs.get("-") ?? "");
  sleep = (millis: number) => {
    this.at += millis;
    return Promise.resolve();
  };
  readonly covered: string[] = [];
  cover = (path: string) => {
    if (path === "/srv/gone") return Promise.reject(new Error(`Cannot cover "${path}": it does not exist`));
    const news = !this.covered.includes(path);
    if (news) this.covered.push(path);
    return Promise.resolve(news);
  };
  openLog = () => ({ list: () => [], open: () => null });
  upgrade = () => Promise.reject(new Error("Cannot upgrade: not here"));
  connect = () => ({
    send: async (
      url: string,
      request: { method: string; headers?: Readonly<Record<string, string>>; body?: string },
    ) => {
      const host = new URL(url).hostname;
      const server = this.#net.get(host === "127.0.0.1" ? this.#address : host);
      if (server === undefined) throw new HttpsError("refused", "nothing listens there", undefined);
      const { method, headers = {}, body } = request;
      const answer = await server(
        new Request(url, { method, headers, ...(body === undefined ? {} : { body }) }),
      );
      return { status: answer.status, contentType: "", body: await answer.text() };
    },
    [Symbol.dispose]: () => {},
  });

  /** Runs a command; the lines it printed since. */
  async run(...args: readonly string[]): Promise<{ exit: number; out: string; err: string }> {
    this.out.length = 0;
    this.err.length = 0;
    const exit = await runCli(args, this);
    return { exit, out: this.out.join("\n"), err: this.err.join("\n") };
  }
}

function plant() {
  const net = new Map<string, (request: Request) => Response | Promise<Response>>();
  return { net, node1: new Machine("10.0.0.11", net), node2: new Machine("10.0.0.12", net) };
}

/** node1 of a cluster, its agent answering. */
async function running() {
  const { net, node1, node2 } = plant();
  await node1.run(...INIT);
  const identity = await loadIdentity(node1.files);
  const control = new FakeControl("node1");
  const app = createApp(control, {
    identity,
    files: node1.files,
    ambient: node1.ambient,
    clusterKey: await importClusterKey(identity.clusterKey),
    host: { check: () => Promise.resolve([]) },
    peers: { request: () => Promise.reject(new PeerUnreachable("10.0.0.12: nothing listens there")) },
    version: "1.2.3",
  });
  net.set("10.0.0.11", (request) => app.fetch(request));
  return { node1, node2, control, net };
}

Deno.test("runCli() makes a cluster and finds out which node this is", async () => {
  const { node1 } = plant();
  const { exit, out } = await node1.run(...INIT, "--witness", "10.0.0.1");
  assertEquals(exit, EXIT.ok);
  assert(out.startsWith("cluster plant made; this is node1, its state is in /state"));
  const { cluster } = await loadIdentity(node1.files);
  assertEquals(cluster.arbiter, { kind: "ping", address: "10.0.0.1", mode: "strict" });
});

Deno.test("runCli() takes several networks of a node", async () => {
  const { node1 } = plant();
  await node1.run("init", "--cluster", "c", "--node", "a=lan:10.0.0.11,direct:192.168.7.1", "--json");
  assertEquals((await loadIdentity(node1.files)).cluster.networks, ["lan", "direct"]);
});

Deno.test("runCli() names what is wrong with the nodes of a cluster", async () => {
  const { node1 } = plant();
  assertEquals((await node1.run("init", "--cluster", "c", "--node", "node1")).exit, EXIT.usage);
  assertEquals(
    (await node1.run("init", "--cluster", "c", "--node", "a=10.0.0.99")).err.split("\n")[0],
    "Cannot tell which node this is: this machine has none of the addresses; add --name with one of a",
  );
  assert(
    (await node1.run("init", "--cluster", "c", "--node", "a=10.0.0.999")).err.includes(
      '"10.0.0.999" is not valid',
    ),
  );
});

Deno.test("runCli() joins a second machine by one line, which is good once", async () => {
  const { node1, node2, net } = await running();
  node1.inputs.set("bms.yaml", BMS);
  await node1.run("apply", "bms.yaml");
  const { out: token } = await node1.run("join-token");
  const joined = await node2.run("join", token);
  assertEquals(joined.err, "");
  assert(joined.out.startsWith("joined cluster plant as node2, with 1 module"));
  assertEquals((await loadIdentity(node2.files)).clusterKey, (await loadIdentity(node1.files)).clusterKey);
  assert((await node2.run("join", token)).err.startsWith("Cannot join: this machine is already node node2"));
  const third = new Machine("10.0.0.13", net);
  assert((await third.run("join", token)).err.includes("used before"));
  assertEquals([...third.files.content.keys()], []);
});

Deno.test("runCli() joins by a line of standard input, which no other user sees", async () => {
  const { node1, node2 } = await running();
  const { out: token } = await node1.run("join-token");
  node2.inputs.set("-", token);
  assert((await node2.run("join")).out.startsWith("joined cluster plant as node2"));
});

Deno.test("runCli() says that the agent of the other node does not answer a join", async () => {
  const { node1, node2, net } = await running();
  const { out: token } = await node1.run("join-token");
  net.clear();
  const { exit, err } = await node2.run("join", token);
  assertEquals(exit, EXIT.failed);
  assert(err.startsWith("Cannot join by 10.0.0.11:9010: nothing listens there\n  try: "));
});

Deno.test("runCli() answers with 3 and a remedy when the agent does not run", async () => {
  const { node1 } = plant();
  await node1.run(...INIT);
  for (const args of [["status"], ["start", "bms"], ["events"]]) {
    const { exit, err } = await node1.run(...args);
    assertEquals(exit, EXIT.noAgent);
    assert(err.includes("it is not running\n  try: systemctl start binome-keeper binome-agent"));
  }
  assertEquals((await node1.run("status", "-q", "bms")).exit, QUIET_ERROR + EXIT.noAgent);
});

Deno.test("runCli() tells a machine outside any cluster what to do first", async () => {
  const { node1 } = plant();
  const { exit, err } = await node1.run("status");
  assertEquals(exit, EXIT.failed);
  assert(err.includes('run "binome init" on the first node, "binome join" on the others'));
});

Deno.test("runCli() shows every fault of a file", async () => {
  const { node1 } = await running();
  node1.inputs.set("bms.yaml", `${BMS}sped: 3\nport: many\n`);
  const { exit, err } = await node1.run("apply", "bms.yaml");
  assertEquals(exit, EXIT.failed);
  assertEquals(err.split("\n").map((line) => line.split(": ").slice(0, 2).join(": ")), [
    "bms.yaml:5: port",
    "bms.yaml:4: sped",
    "  try: correct the lines named and apply again",
  ]);
  node1.inputs.set("none.yaml", "- a\n");
  assert((await node1.run("apply", "none.yaml")).err.startsWith("none.yaml:1: module: missing"));
});

Deno.test("runCli() waits until a started module is at rest", async () => {
  const { node1, control } = await running();
  control.modules = [fakeModule("bms")];
  let polls = 0;
  const status = control.status.bind(control);
  control.status = () => {
    if (++polls === 5) {
      const nodes = [fakeInstance("node1", { state: "alone", readiness: "ready", role: "primary" })];
      control.modules = [fakeModule("bms", { nodes })];
    }
    return status();
  };
  control.onCommand = () => {
    control.modules = [
      fakeModule("bms", { nodes: [fakeInstance("node1", { state: "waiting", readiness: "transient" })] }),
    ];
  };
  const { exit, out } = await node1.run("start", "bms", "--as", "primary");
  assertEquals([exit, out], [EXIT.ok, "bms on node1: alone, ready"]);
  assertEquals(control.commands.map(({ verb }) => verb), ["start-primary"]);
});

Deno.test("runCli() gives up waiting in time and shows where it stands", async () => {
  const { node1, control } = await running();
  const nodes = [
    fakeInstance("node1", { state: "waiting", readiness: "transient", reason: "the peer is starting" }),
  ];
  control.modules = [fakeModule("bms", { nodes })];
  const { exit, err } = await node1.run("start", "bms", "--wait", "3");
  assertEquals(exit, EXIT.failed);
  assert(
    err.startsWith("Cannot wait longer: after 3 s, bms on node1: waiting, transient: the peer is starting"),
  );
});

Deno.test("runCli() has one exit code a state", async () => {
  const { node1, control } = await running();
  for (const state of ["stopped", "waiting", "alone", "primary", "secondary"] as const) {
    control.modules = [fakeModule("bms", { nodes: [fakeInstance("node1", { state })] })];
    assertEquals((await node1.run("status", "-q", "bms")).exit, QUIET_STATUS[state]);
  }
  assertEquals((await node1.run("status", "-q", "other")).exit, QUIET_ERROR + EXIT.failed);
});

Deno.test("runCli() shows state, reason and resync in a small table", async () => {
  const { node1, control } = await running();
  control.modules = [fakeModule("bms", {
    nodes: [
      fakeInstance("node1", {
        state: "alone",
        readiness: "ready",
        role: "primary",
        epoch: 3,
        sequence: "1023",
      }),
      fakeInstance("node2", {
        state: "secondary",
        readiness: "transient",
        copy: "inconsistent",
        epoch: 3,
        reason: "resync",
      }),
    ],
    vip: { addresses: ["10.0.0.100"], set: true },
    resync: {
      phase: "replay",
      bytes: 1_048_576,
      sent: 262_144,
      files: 3,
      compared: 2_097_152,
      filesTotal: 9,
      bytesPerSecond: 524_288,
      filesPerSecond: 2,
      secondsLeft: 3,
      why: "node2 was away",
    },
  })];
  assertEquals((await node1.run("status")).out.split("\n"), [
    "cluster plant, seen from node1, arbiter none",
    "node2 heard (lan 12 ms ago)",
    "",
    "MODULE  NODE   STATE                 COPY          EPOCH  SEQUENCE  VIP         SERVICE",
    "bms     node1  alone      ready      uptodate      3      1023      10.0.0.100",
    "        node2  secondary  transient  inconsistent  3      0",
    "",
    "bms on node2: resync",
    "bms: resync replay: 3 of 9 records, 1 MiB of content moved as 256 KiB, 2 MiB compared, 2 records/s, 512 KiB/s, about 3 s left (node2 was away)",
  ]);
  assertEquals(JSON.parse((await node1.run("status", "bms", "--json")).out).resync.phase, "replay");
});

Deno.test("runCli() verify asks the primary, waits, and says as of when the copies are identical", async () => {
  const { node1, control } = await running();
  const module = (verified: string | null, running: boolean, rotten = 0) =>
    fakeModule("bms", {
      nodes: [fakeInstance("node1", { role: "primary" }), fakeInstance("node2")],
      verification: {
        verified,
        differences: 2,
        rotten,
        mended: 0,
        objects: 7,
        bytes: 1024,
        running: running ? { part: 0.5, objects: 3, bytes: 512, differences: 0, waiting: false } : null,
      },
    });
  control.modules = [module("2026-01-01T14:03:22.123Z", true)];
  assertEquals((await node1.run("status")).out.split("\n").slice(-2), [
    "bms: identical as of 2026-01-01 14:03:22, 2 differences, repaired (7 objects, 1 KiB)",
    "bms: verifying: 50.0 %, 3 objects, 512 B, 0 differences",
  ]);
  control.verify = () => {
    control.modules = [module("2026-01-02T14:03:22.123Z", false)];
    return Promise.resolve(control.answer);
  };
  assertEquals(
    (await node1.run("verify", "bms")).out,
    "bms: identical as of 2026-01-02 14:03:22, 2 differences, repaired (7 objects, 1 KiB)",
  );
  control.verify = () => {
    control.modules = [module("2026-01-03T14:03:22.123Z", false, 1)];
    return Promise.resolve(control.answer);
  };
  const lost = await node1.run("verify", "bms");
  assertEquals(lost.exit, EXIT.failed);
  assert(lost.out.startsWith("bms: not identical as of 2026-01-03 14:03:22"), lost.out);
  assert(
    lost.err.includes("the disk of node1 has lost content") && lost.err.includes("switchover bms"),
    lost.err,
  );
  control.verify = () => Promise.resolve(control.answer);
  const { exit, err } = await node1.run("verify", "bms");
  assertEquals(exit, EXIT.failed);
  assert(err.includes("the verification was given up"), err);
  assertEquals((await node1.run("verify", "no")).exit, EXIT.failed);
});

Deno.test("runCli() follows usage errors with the command's own line", async () => {
  const { node1 } = plant();
  const { exit, err } = await node1.run("start", "--frob", "bms");
  assertEquals(exit, EXIT.usage);
  assert(err.endsWith("usage: binome start MODULE [--as primary|secondary]"));
  assertEquals((await node1.run("frobnicate")).exit, EXIT.usage);
  assertEquals((await node1.run("events", "--since", "x")).exit, EXIT.usage);
  assertEquals((await node1.run("help")).exit, EXIT.ok);
});

Deno.test("runCli() shows the last events, however many there are", async () => {
  const { node1, control } = await running();
  const count = 1234;
  control.events = (since, limit) =>
    Array.from({ length: count }, (_, at) => ({
      id: at + 1,
      time: "2026-01-01T00:00:00.000Z",
      node: "node1",
      module: "bms",
      epoch: 1,
      level: "info" as const,
      what: `event ${at + 1}`,
      why: "",
    })).filter(({ id }) => id > since).slice(0, limit);
  const { out } = await node1.run("events", "--limit", "2");
  assertEquals(out.split("\n").map((line) => line.split("  ").at(-1)), ["event 1233", "event 1234"]);
  assertEquals((await node1.run("events", "--since", "1233", "--json")).out.includes('"id":1234'), true);
});

Deno.test("runCli() opens and covers the directories of a module by its agent", async () => {
  const { node1, control } = await running();
  control.modules = [fakeModule("bms")];
  control.answer = { ok: true, code: "accepted", message: "bms can be edited" };
  assertEquals((await node1.run("uncover", "bms")).out, "bms can be edited");
  await node1.run("cover", "bms");
  assertEquals(control.covers, [{ module: "bms", covered: false }, { module: "bms", covered: true }]);
  control.answer = { ok: false, code: "refused", message: 'Cannot uncover "bms": it runs on node1' };
  const { exit, err } = await node1.run("uncover", "bms");
  assertEquals([exit, err], [EXIT.failed, 'Cannot uncover "bms": it runs on node1']);
});

Deno.test("runCli() covers at boot what was ever replicated here, and all it can, without an agent", async () => {
  const { node1 } = plant();
  assertEquals((await node1.run("cover", "--all")).exit, EXIT.ok);
  await node1.run(...INIT);
  const module = (name: string, port: number) =>
    `module: ${name}\nkind: directory\nport: ${port}\nreplicate: [{ path: /srv/${name} }]\n`;
  for (const [index, name] of ["bms", "fresh", "gone", "mail"].entries()) {
    await saveModule(node1.files, { name, generation: 1, text: module(name, 9020 + index) });
    if (name === "fresh") continue;
    await node1.files.write(`modules/${name}/log/meta.json`, new Uint8Array(0), 0o600);
  }
  const { exit, err } = await node1.run("cover", "--all");
  assertEquals(node1.covered, ["/srv/bms", "/srv/mail"]);
  assertEquals([exit, err], [EXIT.failed, 'gone: Cannot cover "/srv/gone": it does not exist']);
});
