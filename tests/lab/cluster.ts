/**
 * Binome on a lab: two nodes made a cluster by the commands an operator types, and one module on them.
 *
 * Everything is done through the compiled program's command line. The replicated directory is {@link DATA}, the virtual
 * address {@link VIP}, the module {@link MODULE}.
 *
 * @module
 */
import type {
  ClusterStatus,
  EventRow,
  ModuleStatus,
  NodeModuleStatus,
  StateName,
} from "../../lib/agent_control.ts";
import { CommandError, type ExecResult, Lab, type LabOptions, type NodeName, until } from "./lab.ts";

/** The module of a cluster. */
export const MODULE = "files";
/** The replicated directory, on both nodes. */
export const DATA = "/srv/data";
/** The same directory without Binome's mounts: what is on the node's own disk. */
export const BENEATH = "/run/lab/disk/srv/data";
/** The virtual address, on the lab's `lan`. */
export const VIP = "10.77.0.100";
/** Both nodes. */
export const NODES = ["node1", "node2"] as const;

/**
 * What runs on the replicated directory. `http`: `service/server.py`, reached at `http://VIP:8080`. `postgresql`: Debian's,
 * by the scripts of `config/postgresql`, its data directory is {@link DATA}. Both have the virtual address.
 */
export type Service = "none" | "http" | "postgresql";

/** How a cluster is made. */
export interface ClusterOptions {
  /** Name of the lab. */
  readonly prefix: string;
  readonly lab?: Partial<Omit<LabOptions, "prefix">>;
  /** Default none: a module of kind `directory`. */
  readonly service?: Service;
  /** Whether a module without a service has the virtual address. */
  readonly vip?: boolean;
  /** Default on. */
  readonly encryption?: boolean;
  /** For keeper, agent and replicators, as `NAME=value`. */
  readonly environment?: readonly string[];
  /** Default `fsync` for a database, `each-write` where a test goes by each write. */
  readonly durability?: "each-write" | "fsync" | "relaxed";
  /** Default `auto`. */
  readonly mode?: "auto" | "strict";
  /** More lines of the module's YAML. */
  readonly module?: string;
  /**
   * For tests that are about neither takeovers nor a peer that is slow: a busy machine, or its disk, holds a heartbeat or an
   * answer back for seconds, and the membership would change under a test that does not expect it.
   */
  readonly patient?: boolean;
  /** False: the module is not applied. */
  readonly apply?: boolean;
}

// They bound a hang; on a slow machine that does other things too, what they wait for takes several times its usual time.
const READY_MS = 90_000;
const STATE_MS = 120_000;
const COMMAND_MS = 90_000;

/** Lab timings: a takeover is decided 3.53 s after the last heartbeat. */
const QUICK = "heartbeat: 200ms, dead: 1s, witness: 1s, watchdog: 1s, peer: 3s";
/** For {@link ClusterOptions.patient}. */
const PATIENT = "heartbeat: 200ms, dead: 5s, witness: 2s, watchdog: 3s, peer: 3s";
/** Line of a module's YAML, for {@link ClusterOptions.patient}. */
export const PATIENT_MODULE = "peer_timeout: 15s";
/** For `start` where it waits for a copy to be made: its own limit is that of a person at a terminal. */
export const PATIENTLY = ["--wait", "400"];
/** What a node knows of its copy: without it everything is compared, and what is equal is not sent. */
export const FORGET = `rm -rf /var/lib/binome/modules/${MODULE}/log`;

/** The other node. */
export function other(node: NodeName): NodeName {
  return node === "node1" ? "node2" : "node1";
}

/** Two nodes that run Binome. */
export class Cluster implements AsyncDisposable {
  readonly lab: Lab;
  readonly options: ClusterOptions;

  private constructor(lab: Lab, options: ClusterOptions) {
    this.lab = lab;
    this.options = options;
  }

  /** Brings a lab up, makes the cluster and applies the module. Nothing is started yet. */
  static async up(options: ClusterOptions): Promise<Cluster> {
    // Another build than dist/binome: a broken one that a test must catch, or one of a person who is trying something.
    const binary = Deno.env.get("BINOME_LAB_BINARY");
    const lab = await Lab.up({
      prefix: options.prefix,
      storeMiB: 1024,
      ...(binary === undefined ? {} : { binary }),
      ...options.lab,
    });
    const cluster = new Cluster(lab, options);
    try {
      await cluster.found();
      if (options.apply !== false) {
        await cluster.prepare();
        await cluster.apply(cluster.moduleYaml());
      }
      return cluster;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  /** A cluster on a lab that another process has brought up by {@link up}. */
  static open(prefix: string, options: Omit<ClusterOptions, "prefix"> = {}): Cluster {
    return new Cluster(Lab.open(prefix), { ...options, prefix });
  }

  /** {@link Lab.down}, for `await using`; where `BINOME_LAB_LOGS` names a folder, the nodes' logs are kept there. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const folder = Deno.env.get("BINOME_LAB_LOGS");
      if (folder !== undefined) await this.#keepLogs(folder);
    } finally {
      await this.lab.down();
    }
  }

  /** The cluster's file. */
  clusterYaml(): string {
    const repl = this.lab.options.repl === true;
    const nodes = NODES.map((node) => {
      const second = repl ? `, repl: ${this.lab.address(node, "repl")}` : "";
      return `  - name: ${node}\n    addresses: { lan: ${this.lab.address(node)}${second} }`;
    });
    return [
      "cluster: lab",
      "nodes:",
      ...nodes,
      `networks: [lan${repl ? ", repl" : ""}]`,
      `arbiter: { kind: ping, address: ${this.lab.address("witness")}, mode: ${
        this.options.mode ?? "auto"
      } }`,
      `timings: { ${this.options.patient === true ? PATIENT : QUICK} }`,
      "",
    ].join("\n");
  }

  /** The module's file. */
  moduleYaml(): string {
    const { service = "none", vip, encryption = true, module } = this.options;
    const { durability = service === "postgresql" ? "fsync" : "each-write" } = this.options;
    const lines = [`module: ${MODULE}`, `kind: ${service === "none" ? "directory" : "service"}`];
    if (this.options.patient === true) lines.push(PATIENT_MODULE);
    if (this.lab.options.repl === true) lines.push("network: repl");
    lines.push(
      "replicate:",
      `  - path: ${DATA}`,
      `    durability: ${durability}`,
      `encryption: ${encryption ? "on" : "off"}`,
    );
    if (vip ?? service !== "none") lines.push("virtual_ips:", `  - { address: ${VIP}, prefix: 24 }`);
    if (service === "http") {
      lines.push(
        "service:",
        "  start: /run/lab/tests/service/start",
        "  stop: /run/lab/tests/service/stop",
        `  environment: { DATA: ${DATA} }`,
      );
    }
    if (service === "postgresql") {
      lines.push(
        "service:",
        "  start: /etc/binome/postgresql/start",
        "  stop: /etc/binome/postgresql/stop",
        "  user: postgres",
        `  environment: { PGDATA: ${DATA} }`,
      );
    }
    return [...lines, ...(module === undefined ? [] : [module]), ""].join("\n");
  }

  /** `init` on node1, `join` on node2 by the token, both agents running and heard. */
  async found(): Promise<void> {
    const { lab } = this;
    const environment = this.options.environment ?? [];
    for (const node of NODES) await lab.write(node, "/etc/binome/environment", `${environment.join("\n")}\n`);
    await lab.write("node1", "/etc/binome/cluster.yaml", this.clusterYaml());
    await this.must("node1", ["init", "--config", "/etc/binome/cluster.yaml", "--name", "node1"]);
    await lab.startBinome("node1");
    await this.agentReady("node1");
    const token = (await this.must("node1", ["join-token"])).trim();
    await this.must("node2", ["join", token]);
    await lab.startBinome("node2");
    await this.agentReady("node2");
    for (const node of NODES) {
      await until(
        `${node} to hear its peer`,
        async () => (await this.cluster(node)).peers.every(({ heard }) => heard),
        { timeoutMs: READY_MS, everyMs: 50 },
      );
    }
  }

  /** Makes the directories, and what the service needs on the nodes. */
  async prepare(): Promise<void> {
    const { lab, options: { service } } = this;
    for (const node of NODES) await lab.sh(node, `mkdir -p ${DATA}; sync -f /srv`);
    if (service !== "postgresql") return;
    for (const name of ["start", "stop"]) {
      const text = Deno.readTextFileSync(new URL(`../../config/postgresql/${name}`, import.meta.url));
      for (const node of NODES) await lab.write(node, `/etc/binome/postgresql/${name}`, text, "755");
    }
    for (const node of NODES) await lab.sh(node, `chown postgres: ${DATA}; chmod 700 ${DATA}`);
    await lab.sh(
      "node1",
      `$(ls -d /usr/lib/postgresql/*/bin)/initdb -A trust -D ${DATA} >/dev/null
      echo "host all all 10.77.0.0/24 trust" >> ${DATA}/pg_hba.conf; sync -f ${DATA}`,
      { user: "postgres", timeoutMs: 60_000 },
    );
  }

  /** Applies a module from a file on node1. */
  async apply(yaml: string): Promise<string> {
    await this.lab.write("node1", "/etc/binome/module.yaml", yaml);
    return await this.must("node1", ["apply", "/etc/binome/module.yaml"]);
  }

  /** Starts node1 as primary, then node2 as its secondary, and waits until both copies are equal. */
  async startBoth(): Promise<void> {
    await this.must("node1", ["start", MODULE, "--as", "primary", ...PATIENTLY], 150_000);
    await this.must("node2", ["start", MODULE, ...PATIENTLY], 150_000);
    await this.waitPair("node1");
  }

  /** Waits until one node serves and the other has everything. */
  async waitPair(primary: NodeName, timeoutMs = STATE_MS): Promise<void> {
    await this.waitState(primary, "primary", timeoutMs);
    await this.waitState(other(primary), "secondary", timeoutMs);
  }

  /** Runs the program on a node. */
  async binome(node: NodeName, args: readonly string[], timeoutMs = COMMAND_MS): Promise<ExecResult> {
    return await this.lab.exec(node, ["/usr/local/bin/binome", ...args], { timeoutMs });
  }

  /** {@link binome}, which must succeed; answers what it printed. */
  async must(node: NodeName, args: readonly string[], timeoutMs = COMMAND_MS): Promise<string> {
    const result = await this.binome(node, args, timeoutMs);
    if (result.code !== 0 || result.timedOut) {
      throw new CommandError(`${node}: binome ${args.join(" ")}`, result);
    }
    return result.stdout;
  }

  /**
   * Asks a node's agent by `curl`, as README.md shows: a test asks many times a second, and a program of this size takes
   * half a second to start on a busy machine.
   */
  async api(node: NodeName, path: string): Promise<ExecResult> {
    const state = "/var/lib/binome";
    const script = `exec curl -sS --fail-with-body --max-time 30 --cacert ${state}/ca.crt \
      -H "Authorization: Bearer $(cat ${state}/token)" "https://${this.lab.address(node)}:9010/api/v1$1"`;
    return await this.lab.exec(node, ["sh", "-c", script, "sh", path]);
  }

  /** The cluster as a node sees it; the module's own node first. */
  async cluster(node: NodeName): Promise<ClusterStatus> {
    return JSON.parse(await this.#mustApi(node, "/status"));
  }

  /** The module as a node sees it. */
  async status(node: NodeName): Promise<ModuleStatus> {
    return moduleOf(await this.cluster(node));
  }

  /** What a node says of itself. */
  async own(node: NodeName): Promise<NodeModuleStatus> {
    return ownOf(await this.cluster(node));
  }

  /** `state readiness`, such as `primary ready`. */
  async state(node: NodeName): Promise<string> {
    const { state, readiness } = await this.own(node);
    return `${state} ${readiness}`;
  }

  /** Waits for a state and for rest: `ready`, or, where a node waits for something or is stopped, `not-ready`. */
  async waitState(node: NodeName, state: StateName, timeoutMs = STATE_MS): Promise<NodeModuleStatus> {
    const resting = state === "waiting" || state === "stopped" ? "not-ready" : "ready";
    return await this.waitOwn(
      node,
      `${state} ${resting}`,
      (own) => own.state === state && own.readiness === resting,
      timeoutMs,
    );
  }

  /** Waits until what a node says of itself is as wanted; an agent that does not answer is asked again. */
  async waitOwn(
    node: NodeName,
    what: string,
    matches: (own: NodeModuleStatus) => boolean,
    timeoutMs = STATE_MS,
  ): Promise<NodeModuleStatus> {
    let last: NodeModuleStatus | undefined;
    let answer = "";
    await until(`${node} to be ${what}`, async () => {
      const { code, stdout, stderr } = await this.api(node, "/status");
      answer = stdout + stderr;
      if (code !== 0) return false;
      last = ownOf(JSON.parse(stdout));
      answer = JSON.stringify(last);
      return matches(last);
    }, { timeoutMs, everyMs: 20 }).catch((cause) => this.#inVain(node, cause, `it answers ${answer}`));
    if (last === undefined) throw new Error("unreachable: a status has matched");
    return last;
  }

  /** The events of a node, oldest first; the newest 1000 at most. */
  async events(node: NodeName, since = 0): Promise<readonly EventRow[]> {
    const text = await this.#mustApi(node, `/events?since=${since}&limit=1000`);
    return (JSON.parse(text) as { events: EventRow[] }).events;
  }

  /** Number of a node's newest event, for {@link events}. */
  async mark(node: NodeName): Promise<number> {
    return (await this.events(node)).at(-1)?.id ?? 0;
  }

  /** Waits for an event whose `what: why` matches; answers it. An agent that does not answer is asked again. */
  async waitEvent(node: NodeName, matches: RegExp, since = 0, timeoutMs = STATE_MS): Promise<EventRow> {
    let found: EventRow | undefined;
    await until(`an event ${matches} on ${node}`, async () => {
      const { code, stdout } = await this.api(node, `/events?since=${since}&limit=1000`);
      if (code !== 0) return false;
      const { events } = JSON.parse(stdout) as { events: EventRow[] };
      found = events.find(({ what, why }) => matches.test(`${what}: ${why}`));
      return found !== undefined;
    }, { timeoutMs, everyMs: 50 }).catch((cause) => this.#inVain(node, cause, "its last"));
    if (found === undefined) throw new Error("unreachable: an event has matched");
    return found;
  }

  /** Nodes that have the virtual address on an interface. */
  async vipOwners(): Promise<NodeName[]> {
    const owners: NodeName[] = [];
    for (const node of NODES) {
      if (this.lab.isOn(node) && (await this.lab.sh(node, "ip -4 -o addr")).includes(` ${VIP}/`)) {
        owners.push(node);
      }
    }
    return owners;
  }

  /** Differences between both nodes' disks, below Binome. Objects' ids are part of it: they are the same on both. */
  async differences(timeoutMs = 120_000): Promise<string[]> {
    const [one, other] = NODES.map((node) => ({ node, path: BENEATH }));
    if (one === undefined || other === undefined) throw new Error("unreachable: a cluster has two nodes");
    return await this.lab.compare(one, other, { timeoutMs });
  }

  /** Both nodes' disks hold the same, or the first differences are what is wrong. */
  async mustBeEqual(): Promise<void> {
    const found = await this.differences();
    if (found.length > 0) {
      throw new Error(`The copies differ in ${found.length}: ${found.slice(0, 5).join("; ")}`);
    }
  }

  /** The program's processes on a node, by number inside it; of the agent the one that serves. */
  async pid(node: NodeName, role: "agent" | "keeper" | "replicator"): Promise<number> {
    if (role === "agent") {
      return Number((await this.lab.sh(node, "cat /run/binome/agent.turn")).split(" ")[0]);
    }
    const pattern = `^[^ ]*binome ${role}${role === "replicator" ? ` ${MODULE}` : ""}$`;
    const result = await this.lab.exec(node, ["pgrep", "-o", "-f", pattern]);
    if (result.code !== 0) throw new Error(`Cannot find the ${role} of ${node}: is it running?`);
    return Number(result.stdout);
  }

  /** Waits until the agent of a node answers. */
  async agentReady(node: NodeName): Promise<void> {
    await until(`the agent of ${node}`, async () => (await this.api(node, "/status")).code === 0, {
      timeoutMs: READY_MS,
      everyMs: 20,
    });
  }

  async #mustApi(node: NodeName, path: string): Promise<string> {
    const result = await this.api(node, path);
    if (result.code !== 0) throw new CommandError(`${node}: GET ${path}`, result);
    return result.stdout;
  }

  async #keepLogs(folder: string): Promise<void> {
    for (const node of NODES) {
      if (!this.lab.isOn(node)) continue;
      const name = `${folder}/${this.options.prefix}-${node}`;
      const { stdout } = await this.api(node, "/events?since=0&limit=1000");
      Deno.writeTextFileSync(`${name}.events`, stdout.replaceAll('{"id"', '\n{"id"'));
      Deno.writeTextFileSync(`${name}.log`, await this.lab.sh(node, "tail -n 500 /var/log/binome/*.log"));
    }
  }

  /** It was waited for in vain: what a person who reads why wants to know. */
  async #inVain(node: NodeName, cause: Error, state: string): Promise<never> {
    throw new Error(`${cause.message}; ${state}${await this.#lastEvents(node)}`, { cause });
  }

  /** For a person who reads why a test failed. */
  async #lastEvents(node: NodeName): Promise<string> {
    const { code, stdout } = await this.api(node, "/events?since=0&limit=1000");
    if (code !== 0) return "";
    const { events } = JSON.parse(stdout) as { events: EventRow[] };
    return events.slice(-12).map(({ time, what, why }) => `\n  ${time.slice(11)} ${what}: ${why}`).join("");
  }
}

/** The steps of one story, for `Deno.test`: where one fails, those after it would only tell of that again. */
export function story(t: Deno.TestContext): (name: string, step: () => Promise<void>) => Promise<void> {
  return async (name, step) => {
    if (!await t.step(name, step)) throw new Error(`Cannot go on after a failed step: ${name}`);
  };
}

function moduleOf({ modules }: ClusterStatus): ModuleStatus {
  const module = modules.find(({ module }) => module === MODULE);
  if (module === undefined) throw new Error(`Cannot find module ${MODULE}: it is not applied`);
  return module;
}

function ownOf(status: ClusterStatus): NodeModuleStatus {
  const { nodes: [own] } = moduleOf(status);
  if (own === undefined) throw new Error(`Cannot find ${status.node} in its own status`);
  return own;
}
