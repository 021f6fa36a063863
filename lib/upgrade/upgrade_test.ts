import { assert, assertEquals, assertRejects } from "@std/assert";
import { FakeControl, fakeInstance, fakeModule } from "../http/fake_control.ts";
import { PROTOCOL } from "../protocol.ts";
import type { KeeperView } from "./restart.ts";
import { upgradeNode, type UpgradeOrder, type UpgradeWorld } from "./upgrade.ts";

const PATH = "/usr/local/bin/binome";
const HEAD = new Uint8Array(20).fill(0);
HEAD.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);

interface Process {
  readonly pid: number;
  /** Of the program it was started from. */
  readonly version: string;
}

/** A node whose processes are started again by whoever started them, from the file that is there then. */
class Machine implements UpgradeWorld {
  root = true;
  at = 0;
  readonly said: string[] = [];
  readonly done: string[] = [];
  readonly files = new Map<string, string>([[PATH, "1"], ["/tmp/binome", "2"]]);
  /** Nobody starts what ends. */
  unsupervised = false;
  connected = true;
  #pid = 100;
  #keeper: Process | null = this.#start();
  #replicator: Process = this.#start();
  #spare: Process | null = this.#start();
  #agent = { serves: this.#start(), waits: null as Process | null, supervised: null as Process | null };

  constructor() {
    this.#agent.supervised = this.#agent.serves;
    this.#agent.waits = this.#start();
  }

  now = () => this.at;
  say = (line: string) => void this.said.push(line);
  sleep = (ms: number) => {
    this.at += ms;
    const { serves, waits, supervised } = this.#agent;
    // One that serves and sees no other starts a spare itself.
    if (serves === supervised && waits === null) this.#agent.waits = this.#start();
    return Promise.resolve();
  };

  readonly programs: UpgradeWorld["programs"] = {
    installed: () => Promise.resolve(PATH),
    previous: (program) => `${program}.previous`,
    look: (path) =>
      this.files.has(path)
        ? Promise.resolve({ size: 112e6, head: HEAD })
        : Promise.reject(new Error(`Cannot upgrade to ${path}: there is no such file`)),
    ownHead: () => Promise.resolve(HEAD),
    stage: (file, program) => {
      this.files.set(`${program}.new`, this.files.get(file) ?? "");
      return Promise.resolve(`${program}.new`);
    },
    discard: (staged) => Promise.resolve(void this.files.delete(staged)),
    versionOf: (path) =>
      Promise.resolve(JSON.stringify({ version: this.files.get(path), protocol: this.protocol })),
    replace: (program, staged) => {
      this.files.set(`${program}.previous`, this.files.get(program) ?? "");
      this.files.set(program, this.files.get(staged) ?? "");
      this.files.delete(staged);
      return Promise.resolve();
    },
  };
  protocol = PROTOCOL;
  /** Modules that can be taken back out of a resync. */
  resyncs: string[] = [];
  waysBack = () => Promise.resolve(this.resyncs);

  readonly processes: UpgradeWorld["processes"] = {
    keeper: (): Promise<KeeperView | null> => {
      const keeper = this.#keeper;
      if (keeper === null) return Promise.resolve(null);
      const modules = [{ module: "m", replicator: this.#replicator.pid, taken: true }];
      return Promise.resolve({ pid: keeper.pid, modules });
    },
    replicator: () => Promise.resolve({ pid: this.#replicator.pid, connected: this.connected }),
    nextReplicator: () => this.#spare?.pid ?? null,
    agent: () => ({
      serves: this.#agent.serves.pid,
      waits: this.#agent.waits?.pid ?? null,
      supervised: this.#agent.supervised?.pid ?? null,
    }),
    agentAnswers: () => Promise.resolve(true),
    runsInstalled: (pid) => this.#all().find((one) => one.pid === pid)?.version === this.files.get(PATH),
    signal: (pid, kind) => this.#end(pid, kind),
  };

  versions(): Record<string, string | undefined> {
    const { serves, supervised } = this.#agent;
    return {
      keeper: this.#keeper?.version,
      replicator: this.#replicator.version,
      agent: serves.version,
      supervised: supervised?.version,
    };
  }

  #all(): Process[] {
    const { serves, waits, supervised } = this.#agent;
    return [this.#keeper, this.#replicator, this.#spare, serves, waits, supervised].filter((one) =>
      one !== null
    );
  }

  #start(): Process {
    return { pid: this.#pid++, version: this.files.get(PATH) ?? "" };
  }

  #end(pid: number, kind: "terminate" | "kill"): void {
    const next = this.unsupervised ? null : this.#start();
    const { serves, waits } = this.#agent;
    if (pid === this.#keeper?.pid) {
      this.done.push(`keeper ${kind}`);
      this.#keeper = next;
      // It dies with its keeper; the next keeper starts another.
      this.#spare = next === null ? null : this.#start();
    } else if (pid === this.#replicator.pid && this.#spare !== null) {
      this.done.push(`replicator ${kind}`);
      this.#replicator = this.#spare;
      this.#spare = this.#start();
    } else if (pid === serves.pid && waits !== null) {
      this.done.push(`agent ${kind}`);
      const supervised = this.#agent.supervised === serves ? next : this.#agent.supervised;
      this.#agent = { serves: waits, waits: supervised === waits ? null : supervised, supervised };
    }
  }
}

const order: UpgradeOrder = { file: "/tmp/binome", program: undefined, version: "1", status: null };

Deno.test("upgradeNode() replaces keeper, replicator and agent in this order, each after another waits", async () => {
  const machine = new Machine();
  const done = await upgradeNode(machine, order);
  assertEquals(done, { program: PATH, from: "1", to: "2" });
  assertEquals(machine.done, ["keeper terminate", "replicator kill", "agent kill", "agent terminate"]);
  assertEquals(machine.versions(), { keeper: "2", replicator: "2", agent: "2", supervised: "2" });
  assertEquals(machine.files.get(`${PATH}.previous`), "1");
});

Deno.test("upgradeNode() goes back to the program before", async () => {
  const machine = new Machine();
  await upgradeNode(machine, order);
  await upgradeNode(machine, { ...order, file: null });
  assertEquals(machine.versions(), { keeper: "1", replicator: "1", agent: "1", supervised: "1" });
});

Deno.test("upgradeNode() goes forward in the middle of a resync", async () => {
  const machine = new Machine();
  machine.resyncs = ["m"];
  assertEquals((await upgradeNode(machine, order)).to, "2");
});

Deno.test("upgradeNode() has nothing to end when it is asked again", async () => {
  const machine = new Machine();
  await upgradeNode(machine, order);
  machine.done.length = 0;
  await upgradeNode(machine, order);
  assertEquals(machine.done, []);
});

Deno.test("upgradeNode() puts the former program back when nobody starts a keeper", async () => {
  const machine = new Machine();
  machine.unsupervised = true;
  await assertRejects(() => upgradeNode(machine, order), Error, "is the former program again");
  assertEquals(machine.files.get(PATH), "1");
  assertEquals(machine.done, ["keeper terminate"]);
});

Deno.test("upgradeNode() refuses, and changes nothing", async () => {
  const control = new FakeControl("node1");
  const instance = fakeInstance("node1", { state: "secondary", readiness: "transient" });
  control.modules = [fakeModule("m", { nodes: [instance] })];
  const cases: readonly [string, Partial<UpgradeOrder>, (machine: Machine) => void][] = [
    ["run it as root", {}, (machine) => machine.root = false],
    ["there is no such file", { file: "/tmp/other" }, () => {}],
    ["there is no such file", { file: null }, () => {}],
    ["go by a version between", {}, (machine) => machine.protocol = { version: 99, versionMin: 98 }],
    ["the copy of m is in the middle of a resync", { file: null }, (machine) => machine.resyncs = ["m"]],
    ["module m is on its way to secondary", { status: control.status() }, () => {}],
  ];
  for (const [why, change, prepare] of cases) {
    const machine = new Machine();
    prepare(machine);
    const error = await assertRejects(() => upgradeNode(machine, { ...order, ...change }), Error, why);
    assert(error.message.startsWith("Cannot upgrade"), error.message);
    assertEquals([...machine.files.keys()], [PATH, "/tmp/binome"]);
    assertEquals(machine.done, []);
  }
});

Deno.test("upgradeNode() tells of a peer whose version is not known", async () => {
  const machine = new Machine();
  const status = new FakeControl("node1").status();
  const peers = [{ node: "node2", heard: false, protocol: null, networks: {} }];
  await upgradeNode(machine, { ...order, status: { ...status, peers } });
  assertEquals(machine.said[0], "node2 has not been heard: whether it understands 2 is not known");
});
