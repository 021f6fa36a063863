import { assertEquals, assertThrows } from "@std/assert";
import { parseCluster } from "./cluster.ts";
import { ConfigError } from "./yaml.ts";

const PLANT = `
cluster: plant
nodes:
  - name: node1
    addresses: { lan: 10.0.0.11, direct: 192.168.7.1 }
  - name: node2
    addresses: { lan: 10.0.0.12, direct: 192.168.7.2 }
arbiter: { kind: ping, address: 10.0.0.1, mode: auto }
timings: { dead: 1s, witness: 1s, watchdog: 1s }
`;

function refused(text: string): string {
  return assertThrows(() => parseCluster(text, "cluster.yaml"), ConfigError).message;
}

Deno.test("parseCluster() fills in what is not said", () => {
  const cluster = parseCluster(PLANT);
  assertEquals(cluster.networks, ["lan", "direct"]);
  assertEquals(cluster.timings, {
    heartbeatMs: 250,
    deadMs: 1000,
    witnessMs: 1000,
    watchdogMs: 1000,
    peerMs: 3000,
  });
  assertEquals(cluster.ports, { api: 9010, heartbeat: 9011 });
  assertEquals(cluster.arbiter, { kind: "ping", address: "10.0.0.1", mode: "auto" });
});

Deno.test("parseCluster() takes one node, and no more than sixteen", () => {
  const nodes = (count: number) =>
    `cluster: c\nnodes:\n` +
    Array.from({ length: count }, (_, at) => `  - { name: n${at}, addresses: { lan: 10.0.0.${at + 1} } }\n`)
      .join("");
  assertEquals(parseCluster(nodes(1)).nodes.length, 1);
  assertEquals(parseCluster(nodes(16)).nodes.length, 16);
  assertEquals(
    refused(nodes(17)),
    "cluster.yaml:2: nodes: a list is not valid (expected a list of 1 to 16 nodes)",
  );
});

Deno.test("parseCluster() names every fault at once, each with its line", () => {
  assertEquals(
    refused(`cluster: plant
nodes:
  - name: node1
    addresses: { lan: 10.0.0.300 }
    weight: 3
arbiter: { kind: vote }
timings:
  dead: 5
`).split("\n"),
    [
      'cluster.yaml:4: nodes[0].addresses.lan: "10.0.0.300" is not valid (expected the node\'s IPv4 address on that network, for example 10.0.0.11 (IPv6 is not supported yet))',
      "cluster.yaml:5: nodes[0].weight: unknown key (expected one of name, addresses)",
      'cluster.yaml:6: arbiter.kind: "vote" is not valid (expected kind: ping (with address) or kind: none)',
      "cluster.yaml:8: timings.dead: 5 is not valid (expected a time from 300ms to 1m, such as 250ms, 5s or 1m)",
    ],
  );
});

Deno.test("parseCluster() refuses two nodes of one name or one address", () => {
  assertEquals(
    refused(`cluster: c
nodes:
  - { name: a, addresses: { lan: 10.0.0.1 } }
  - { name: a, addresses: { lan: 10.0.0.1 } }
`).split("\n"),
    [
      'cluster.yaml:4: nodes[1].name: "a" is also nodes[0] (expected a name of its own for each node)',
      'cluster.yaml:4: nodes[1].addresses.lan: "10.0.0.1" is also an address of node a on lan (expected an address nothing else has)',
    ],
  );
});

Deno.test("parseCluster() refuses an arbiter that is one of the nodes", () => {
  assertEquals(
    refused(PLANT.replace("10.0.0.1,", "10.0.0.12,")),
    'cluster.yaml:8: arbiter.address: "10.0.0.12" is an address of node node2 (expected a third machine, usually the router)',
  );
});

Deno.test("parseCluster() refuses to count one lost heartbeat as a death", () => {
  assertEquals(
    refused(PLANT.replace("dead: 1s", "heartbeat: 500ms, dead: 1s")),
    "cluster.yaml:9: timings.dead: 1000ms is less than three heartbeats of 500ms (expected at least 1500ms, since one lost datagram must not count as a death)",
  );
});

Deno.test("parseCluster() says where the YAML is broken", () => {
  assertEquals(
    refused("cluster: plant\nnodes:\n  - name: [\n").startsWith("cluster.yaml:"),
    true,
  );
  assertEquals(
    refused("cluster: a\ncluster: b\nnodes: []\n").split("\n")[0],
    "cluster.yaml:2: not valid YAML: Map keys must be unique (expected each key once)",
  );
  assertEquals(refused("").split("\n")[0], "cluster.yaml:1: nothing is not valid (expected a map)");
});
