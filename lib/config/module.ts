/** `NAME.yaml`: one thing made highly available. */
import { z } from "zod";
import {
  absolutePath,
  address,
  duration,
  moduleName,
  name,
  pathOr,
  port,
  rate,
  size,
  strict,
} from "./fields.ts";
import { faultOf } from "../replication/border.ts";
import type { ClusterConfig, ModuleConfig, ServiceConfig } from "./types.ts";
import { type Fault, parseYaml, quote } from "./yaml.ts";

/** Replication port of a module that names none. */
export const PORT_DEFAULT = 9020;

const DAY_MS = 86_400_000;

const KINDS_PLANNED = ["vm", "farm"];

const kind = z.string({ error: "directory or service" }).transform((value, context) => {
  if (value === "directory" || value === "service") return value;
  const problem = KINDS_PLANNED.includes(value)
    ? `${quote(value)} is not supported yet`
    : `${quote(value)} is not one of directory, service`;
  context.addIssue({ code: "custom", message: "directory or service", params: { problem } });
  return z.NEVER;
}).meta({ enum: ["directory", "service"] });

const excludeExpected = 'a pattern of a name, such as "*.tmp", or of a path beneath, such as "cache/**"';
const exclude = z.string({ error: excludeExpected }).min(1, { error: excludeExpected })
  .max(256, { error: "a pattern of at most 256 characters" })
  .superRefine((pattern, context) => {
    const fault = faultOf(pattern);
    if (fault === undefined) return;
    const params = { problem: `${quote(pattern)} is no pattern: ${fault}` };
    context.addIssue({ code: "custom", message: excludeExpected, params });
  });

const require = z.string({ error: 'the name of a file in the directory, such as ".mounted"' }).min(1).max(255)
  .refine((file) => file.split("/").every((part) => part !== "" && part !== "." && part !== ".."), {
    error: 'a name relative to the directory, such as ".mounted" or "base/.mounted"',
  });

const replicate = strict({
  path: absolutePath("the absolute path of the directory"),
  durability: z.enum(["each-write", "fsync", "relaxed"]).default("fsync"),
  require: require.optional(),
  exclude: z.array(exclude, { error: "a list of patterns" }).max(64, { error: "at most 64 patterns" })
    .default([]),
}, "a map with path");

const prefixError = "the length of the subnet's prefix, 1 to 32";
const virtualIp = strict({
  address: address("the virtual IPv4 address"),
  prefix: z.int({ error: prefixError }).min(1, { error: prefixError }).max(32, { error: prefixError }),
  interface: z.string({ error: "the name of a network interface, such as eth0" }).regex(/^[^\s/]{1,15}$/, {
    error: "the name of a network interface, such as eth0",
  }).optional(),
}, "a map with address and prefix");

const commandError = 'the absolute path of a script, or a list ["/path/of/program", "argument", …]';
const command = z.union([
  pathOr(commandError),
  z.array(z.string().max(4096)).min(1).max(64).refine((argv) => argv[0]?.startsWith("/") === true),
], { error: commandError }).transform((value) => typeof value === "string" ? [value] : value);

const seconds = { minMs: 100, maxMs: 3_600_000 };
const service = strict({
  start: command.optional(),
  stop: command.optional(),
  unit: z.string({ error: "the name of a systemd unit" }).regex(/^[A-Za-z0-9:_.@\\-]{1,255}$/, {
    error: "the name of a systemd unit, such as postgresql@15-main.service",
  }).optional(),
  user: z.string({ error: "the name of a user" }).regex(/^[a-z_][a-z0-9_-]{0,31}$/, {
    error: "the name of a user of this system",
  }).optional(),
  start_timeout: duration(seconds).default(60_000),
  stop_timeout: duration(seconds).default(60_000),
  environment: z.record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "the name of an environment variable" }),
    z.string({ error: "text (put numbers in quotes)" }).max(4096, { error: "at most 4096 characters" }),
    { error: "a map of variable to text" },
  ).default({}),
}, "a map with start or unit");

const failover = strict({
  automatic: z.boolean({ error: "true or false" }).default(true),
  prefer: name("the name of one of the module's nodes").optional(),
});

/** Schema of a module. */
export const moduleSchema = strict({
  module: moduleName(),
  kind,
  nodes: z.array(name("the name of a node"), { error: "a list of two nodes" }).length(2, {
    error: "a list of two nodes of the cluster",
  }).optional(),
  network: name("the name of a network").optional(),
  port: port().default(PORT_DEFAULT),
  replicate: z.array(replicate, { error: "a list of directories, each with a path" })
    .min(1, { error: "at least one directory" }).max(16, { error: "at most 16 directories" }),
  virtual_ips: z.array(virtualIp, { error: "a list of addresses" }).max(16, { error: "at most 16 addresses" })
    .default([]),
  service: service.optional(),
  failover: failover.prefault({}),
  network_return: duration({ minMs: 1000, maxMs: 3_600_000 }).default(30_000),
  peer_timeout: duration({ minMs: 100, maxMs: 60_000 }).optional(),
  log_budget: size({ minBytes: 1024 ** 2, maxBytes: 1024 ** 4 }).default(1024 ** 3),
  resync_bandwidth: z.union([z.literal("off"), rate({ min: 1_000_000 })], {
    error: "off, or how much in a second, such as 50MB/s or 1GiB/s, at least 1MB/s",
  }).default("off" as const),
  way_back: z.union(
    [z.literal("off"), z.literal("all"), size({ minBytes: 1024 ** 2, maxBytes: 1024 ** 5 })],
    {
      error: "off, all, or how much it may take, such as 10GiB, at least 1MiB",
    },
  ).default("all" as const),
  scrub: z.union([z.literal("off"), duration({ minMs: 60_000, maxMs: 366 * DAY_MS })], {
    error: "off, or how long between two verifications, such as 7d, from 1m to 366d",
  }).default(7 * DAY_MS),
  encryption: z.enum(["on", "off"]).default("on"),
  on_divergence: z.enum(["wait"]).default("wait"),
});

type Raw = z.output<typeof moduleSchema>;

/**
 * Reads a module.
 *
 * @param options.file the name shown in faults.
 * @param options.cluster the cluster it is meant for: gives the defaults of `nodes`, `network` and `peer_timeout`.
 * @param options.others the cluster's other modules, of which none may own the same directory, port or address.
 * @throws {ConfigError} with every fault.
 */
export function parseModule(
  text: string,
  options: {
    readonly file: string;
    readonly cluster: ClusterConfig;
    readonly others?: readonly ModuleConfig[];
  },
): ModuleConfig {
  const { cluster } = options;
  const parsed = parseYaml<Raw>(text, options.file, moduleSchema as z.ZodType<Raw>);
  const raw = parsed.value;
  const names = raw.nodes ?? cluster.nodes.map(({ name }) => name);
  const [first, second] = names;
  if (first === undefined || second === undefined || names.length !== 2) {
    parsed.refuse([{
      path: ["nodes"],
      problem: `missing, and the cluster has ${names.length} node${names.length === 1 ? "" : "s"}`,
      expected: "a list of two nodes of the cluster",
    }]);
    throw new TypeError("unreachable: a fault was refused");
  }
  const shared = cluster.networks.filter((network) =>
    [first, second].every((name) => addressOf(cluster, name, network) !== undefined)
  );
  const network = raw.network ?? shared[0];
  const others = (options.others ?? []).filter((other) => other.name !== raw.module);
  parsed.refuse([
    ...nodeFaults(raw, { cluster, names: [first, second], shared }),
    ...pathFaults(raw, others),
    ...portFaults(raw, { cluster, others }),
    ...addressFaults(raw, { cluster, others }),
    ...serviceFaults(raw),
  ]);
  return {
    name: raw.module,
    kind: raw.kind,
    nodes: [first, second],
    network: network ?? "",
    networkReturnMs: raw.network_return,
    port: raw.port,
    replicate: raw.replicate.map((directory) => ({ ...directory, require: directory.require ?? null })),
    virtualIps: raw.virtual_ips.map((vip) => ({ ...vip, interface: vip.interface ?? null })),
    service: raw.service === undefined ? null : serviceOf(raw.service),
    failover: { automatic: raw.failover.automatic, prefer: raw.failover.prefer ?? null },
    peerTimeoutMs: raw.peer_timeout ?? cluster.timings.peerMs,
    logBudgetBytes: raw.log_budget,
    resyncBandwidth: raw.resync_bandwidth === "off" ? null : raw.resync_bandwidth,
    wayBackBytes: raw.way_back === "off" ? 0 : raw.way_back === "all" ? null : raw.way_back,
    scrubMs: raw.scrub === "off" ? null : raw.scrub,
    encryption: raw.encryption === "on",
    onDivergence: raw.on_divergence,
  };
}

function serviceOf(raw: NonNullable<Raw["service"]>): ServiceConfig {
  return {
    start: raw.start ?? null,
    stop: raw.stop ?? null,
    unit: raw.unit ?? null,
    user: raw.user ?? null,
    startTimeoutMs: raw.start_timeout,
    stopTimeoutMs: raw.stop_timeout,
    environment: raw.environment,
  };
}

function addressOf(cluster: ClusterConfig, node: string, network: string): string | undefined {
  return cluster.nodes.find(({ name }) => name === node)?.addresses[network];
}

/** True when one of the two is the other or contains it. */
export function overlaps(left: string, right: string): boolean {
  return left === right || left.startsWith(`${right}/`) || right.startsWith(`${left}/`);
}

function nodeFaults(
  raw: Raw,
  at: {
    readonly cluster: ClusterConfig;
    readonly names: readonly [string, string];
    readonly shared: string[];
  },
): Fault[] {
  const faults: Fault[] = [];
  const known = at.cluster.nodes.map(({ name }) => name);
  const strangers = at.names.filter((name) => !known.includes(name));
  for (const stranger of strangers) {
    faults.push({
      path: ["nodes", at.names.indexOf(stranger)],
      problem: `${quote(stranger)} is no node of cluster ${at.cluster.cluster}`,
      expected: known.join(" or "),
    });
  }
  if (at.names[0] === at.names[1]) {
    faults.push({
      path: ["nodes", 1],
      problem: `${quote(at.names[1])} is there twice`,
      expected: "two different nodes",
    });
  }
  const { network } = raw;
  if (
    strangers.length === 0 && (network === undefined ? at.shared.length === 0 : !at.shared.includes(network))
  ) {
    faults.push({
      path: ["network"],
      problem: network === undefined
        ? "the two nodes share no network"
        : `${quote(network)} is not a network both nodes have an address on`,
      expected: at.shared.join(" or ") || "a network with an address of both nodes in cluster.yaml",
    });
  }
  const { prefer } = raw.failover;
  if (prefer !== undefined && !at.names.includes(prefer)) {
    faults.push({
      path: ["failover", "prefer"],
      problem: `${quote(prefer)} is no node of this module`,
      expected: at.names.join(" or "),
    });
  }
  return faults;
}

/** One directory under two mounts would be written by two sequencers: no order, no replica. */
function pathFaults(raw: Raw, others: readonly ModuleConfig[]): Fault[] {
  const faults: Fault[] = [];
  for (const [at, { path }] of raw.replicate.entries()) {
    const clash = (with_: string, owner: string) =>
      faults.push({
        path: ["replicate", at, "path"],
        problem: `${quote(path)} overlaps ${quote(with_)} of ${owner}`,
        expected: "directories that do not contain each other",
      });
    for (const [before, earlier] of raw.replicate.slice(0, at).entries()) {
      if (overlaps(path, earlier.path)) clash(earlier.path, `replicate[${before}]`);
    }
    for (const other of others) {
      for (const { path: taken } of other.replicate) {
        if (overlaps(path, taken)) clash(taken, `module ${other.name}`);
      }
    }
    for (const reserved of ["/proc", "/sys", "/dev", "/run"]) {
      if (overlaps(path, reserved)) clash(reserved, "the system");
    }
  }
  return faults;
}

function portFaults(
  raw: Raw,
  at: { readonly cluster: ClusterConfig; readonly others: readonly ModuleConfig[] },
): Fault[] {
  const taken = new Map<number, string>([[at.cluster.ports.api, "the API"]]);
  for (const other of at.others) taken.set(other.port, `module ${other.name}`);
  const owner = taken.get(raw.port);
  if (owner === undefined) return [];
  let free = PORT_DEFAULT;
  while (taken.has(free)) free++;
  return [{
    path: ["port"],
    problem: `${raw.port} is the port of ${owner}`,
    expected: `a free one, for example ${free}`,
  }];
}

function addressFaults(
  raw: Raw,
  at: { readonly cluster: ClusterConfig; readonly others: readonly ModuleConfig[] },
): Fault[] {
  const taken = new Map<string, string>();
  for (const { name, addresses } of at.cluster.nodes) {
    for (const address of Object.values(addresses)) taken.set(address, `node ${name}`);
  }
  if (at.cluster.arbiter.kind === "ping") taken.set(at.cluster.arbiter.address, "the arbiter");
  for (const other of at.others) {
    for (const { address } of other.virtualIps) taken.set(address, `module ${other.name}`);
  }
  const faults: Fault[] = [];
  for (const [index, { address }] of raw.virtual_ips.entries()) {
    const owner = taken.get(address);
    if (owner !== undefined) {
      faults.push({
        path: ["virtual_ips", index, "address"],
        problem: `${quote(address)} is an address of ${owner}`,
        expected: "an address of its own",
      });
    }
    taken.set(address, `virtual_ips[${index}]`);
  }
  return faults;
}

function serviceFaults(raw: Raw): Fault[] {
  const { service } = raw;
  if (service === undefined) {
    if (raw.kind !== "service") return [];
    return [{
      path: ["service"],
      problem: "missing",
      expected: "a map with start or unit, since kind is service",
    }];
  }
  if (raw.kind !== "service") {
    return [{ path: ["service"], problem: `not for kind ${raw.kind}`, expected: "kind: service" }];
  }
  if ((service.start === undefined) === (service.unit === undefined)) {
    return [{
      path: ["service"],
      problem: service.unit === undefined ? "neither start nor unit" : "both start and unit",
      expected: "one of start, unit",
    }];
  }
  if (service.unit !== undefined && (service.stop !== undefined || service.user !== undefined)) {
    return [{
      path: ["service", "unit"],
      problem: "stop and user are for commands",
      expected: "unit alone, or start with stop and user",
    }];
  }
  return [];
}
