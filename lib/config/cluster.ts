/** `cluster.yaml`: the nodes, their networks, the arbiter. */
import { z } from "zod";
import { address, duration, name, port, strict } from "./fields.ts";
import type { ClusterConfig } from "./types.ts";
import { type Fault, parseYaml, quote } from "./yaml.ts";

/** Most nodes a cluster may have. */
export const NODES_MAX = 16;

const node = strict({
  name: name("the name of the node"),
  addresses: z.record(name("the name of a network"), address("the node's IPv4 address on that network"), {
    error: "a map of network name to IPv4 address, at least one",
  }).refine((addresses) => Object.keys(addresses).length > 0, {
    error: "a map of network name to IPv4 address, at least one",
  }),
}, "a map with name and addresses");

const arbiter = z.discriminatedUnion("kind", [
  strict({
    kind: z.literal("ping"),
    address: address("the IPv4 address of a router that both nodes reach"),
    mode: z.enum(["strict", "auto"]).default("strict"),
  }),
  strict({ kind: z.literal("none") }),
], { error: "kind: ping (with address) or kind: none" });

const bounds = { minMs: 100, maxMs: 60_000 };
const timings = strict({
  heartbeat: duration({ minMs: 50, maxMs: 5000 }).default(250),
  dead: duration({ minMs: 300, maxMs: 60_000 }).default(2000),
  witness: duration(bounds).default(3000),
  watchdog: duration(bounds).default(5000),
  peer: duration(bounds).default(3000),
});

const ports = strict({ api: port().default(9010), heartbeat: port().default(9011) });

/** Schema of `cluster.yaml`. */
export const clusterSchema = strict({
  cluster: name("the name of the cluster"),
  nodes: z.array(node, { error: `a list of 1 to ${NODES_MAX} nodes` })
    .min(1, { error: `a list of 1 to ${NODES_MAX} nodes` }).max(NODES_MAX, {
      error: `a list of 1 to ${NODES_MAX} nodes`,
    }),
  networks: z.array(name("the name of a network"), { error: "a list of network names" }).min(1, {
    error: "a list of network names, at least one",
  }).optional(),
  arbiter: arbiter.default({ kind: "none" }),
  timings: timings.prefault({}),
  ports: ports.prefault({}),
});

type Raw = z.output<typeof clusterSchema>;

/**
 * Reads `cluster.yaml`.
 *
 * @param file the name shown in faults.
 * @throws {ConfigError} with every fault.
 */
export function parseCluster(text: string, file = "cluster.yaml"): ClusterConfig {
  const parsed = parseYaml<Raw>(text, file, clusterSchema as z.ZodType<Raw>);
  const raw = parsed.value;
  parsed.refuse([...nodeFaults(raw), ...arbiterFaults(raw), ...timingFaults(raw)]);
  const { timings } = raw;
  return {
    cluster: raw.cluster,
    nodes: raw.nodes,
    networks: raw.networks ?? [...new Set(raw.nodes.flatMap(({ addresses }) => Object.keys(addresses)))],
    arbiter: raw.arbiter,
    timings: {
      heartbeatMs: timings.heartbeat,
      deadMs: timings.dead,
      witnessMs: timings.witness,
      watchdogMs: timings.watchdog,
      peerMs: timings.peer,
    },
    ports: raw.ports,
  };
}

function nodeFaults(raw: Raw): Fault[] {
  const faults: Fault[] = [];
  const names = new Map<string, number>();
  const taken = new Map<string, string>();
  for (const [at, { name, addresses }] of raw.nodes.entries()) {
    const first = names.get(name);
    if (first !== undefined) {
      faults.push({
        path: ["nodes", at, "name"],
        problem: `${quote(name)} is also nodes[${first}]`,
        expected: "a name of its own for each node",
      });
    }
    names.set(name, first ?? at);
    for (const [network, value] of Object.entries(addresses)) {
      const path = ["nodes", at, "addresses", network];
      const owner = taken.get(value);
      if (owner !== undefined) {
        faults.push({
          path,
          problem: `${quote(value)} is also ${owner}`,
          expected: "an address nothing else has",
        });
      }
      taken.set(value, `an address of node ${name} on ${network}`);
      if (raw.networks !== undefined && !raw.networks.includes(network)) {
        faults.push({
          path,
          problem: `network ${quote(network)} is not in networks`,
          expected: raw.networks.join(" or "),
        });
      }
    }
  }
  return faults;
}

function arbiterFaults(raw: Raw): Fault[] {
  if (raw.arbiter.kind !== "ping") return [];
  const { address } = raw.arbiter;
  const owner = raw.nodes.find(({ addresses }) => Object.values(addresses).includes(address));
  if (owner === undefined) return [];
  // A node that asks itself always gets an answer: no third opinion at all.
  return [{
    path: ["arbiter", "address"],
    problem: `${quote(address)} is an address of node ${owner.name}`,
    expected: "a third machine, usually the router",
  }];
}

function timingFaults(raw: Raw): Fault[] {
  const { heartbeat, dead } = raw.timings;
  if (dead >= heartbeat * 3) return [];
  return [{
    path: ["timings", "dead"],
    problem: `${dead}ms is less than three heartbeats of ${heartbeat}ms`,
    expected: `at least ${heartbeat * 3}ms, since one lost datagram must not count as a death`,
  }];
}
