import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { parseCluster } from "./cluster.ts";
import { overlaps, parseModule } from "./module.ts";
import type { ModuleConfig } from "./types.ts";
import { ConfigError } from "./yaml.ts";

const cluster = parseCluster(`
cluster: plant
nodes:
  - { name: node1, addresses: { lan: 10.0.0.11, direct: 192.168.7.1 } }
  - { name: node2, addresses: { lan: 10.0.0.12, direct: 192.168.7.2 } }
`);

const BMS = `module: bms
kind: service
network: direct
replicate:
  - path: /srv/bms
    exclude: []
virtual_ips:
  - { address: 10.0.0.100, prefix: 24 }
service:
  start: /etc/binome/bms/start
  stop: ["/usr/bin/pg_ctlcluster", "15", "main", "stop"]
  stop_timeout: 30s
log_budget: 64MiB
encryption: off
`;

function parse(text: string, others: readonly ModuleConfig[] = []): ModuleConfig {
  return parseModule(text, { file: "bms.yaml", cluster, others });
}

function refused(text: string, others: readonly ModuleConfig[] = []): string[] {
  return assertThrows(() => parse(text, others), ConfigError).message.split("\n");
}

Deno.test("parseModule() gives every value, units in the names", () => {
  assertEquals(parse(BMS), {
    name: "bms",
    kind: "service",
    nodes: ["node1", "node2"],
    network: "direct",
    port: 9020,
    replicate: [{ path: "/srv/bms", durability: "fsync", require: null, exclude: [] }],
    virtualIps: [{ address: "10.0.0.100", prefix: 24, interface: null }],
    service: {
      start: ["/etc/binome/bms/start"],
      stop: ["/usr/bin/pg_ctlcluster", "15", "main", "stop"],
      unit: null,
      user: null,
      startTimeoutMs: 60_000,
      stopTimeoutMs: 30_000,
      environment: {},
    },
    failover: { automatic: true, prefer: null },
    networkReturnMs: 30_000,
    peerTimeoutMs: 3000,
    logBudgetBytes: 64 * 1024 * 1024,
    resyncBandwidth: null,
    wayBackBytes: null,
    scrubMs: 604_800_000,
    encryption: false,
    onDivergence: "wait",
  });
});

Deno.test("parseModule() needs three keys for a directory", () => {
  const bms = parse("module: bms\nkind: directory\nreplicate: [{ path: /srv/bms }]\n");
  assertEquals([bms.network, bms.encryption, bms.service], ["lan", true, null]);
});

Deno.test("parseModule() names file, line, key, value and what was expected", () => {
  assertEquals(
    refused(`module: bms
kind: directory
replicate:
  - path: /srv/bms
    durability: fast
  - path: srv/../x
peer_timeout: 3 seconds
log_budget: 12
failovr: {}
`),
    [
      'bms.yaml:5: replicate[0].durability: "fast" is not one of each-write, fsync, relaxed (expected each-write or fsync or relaxed)',
      'bms.yaml:6: replicate[1].path: "srv/../x" is not valid (expected the absolute path of the directory: starting with "/", without "//", "." or "..", not ending in "/")',
      'bms.yaml:7: peer_timeout: "3 seconds" is not valid (expected a time from 100ms to 1m, such as 250ms, 5s or 1m)',
      "bms.yaml:8: log_budget: 12 is not valid (expected a size from 1 MiB to 1 TiB, such as 64MiB or 2GiB)",
      "bms.yaml:9: failovr: unknown key (expected one of module, kind, nodes, network, port, replicate, virtual_ips, service, failover, network_return, peer_timeout, log_budget, resync_bandwidth, way_back, scrub, encryption, on_divergence)",
    ],
  );
});

Deno.test("parseModule() takes a size, off or all for way_back, and says so", () => {
  assertEquals(parse(`${BMS}\nway_back: 10GiB`).wayBackBytes, 10 * 1024 ** 3);
  assertEquals(parse(`${BMS}\nway_back: off`).wayBackBytes, 0);
  assertEquals(parse(`${BMS}\nway_back: all`).wayBackBytes, null);
  const [line = ""] = refused(`${BMS}\nway_back: some`);
  assertMatch(line, /off, all, or how much it may take/);
});

Deno.test("parseModule() takes bytes a second or off for resync_bandwidth, and says so", () => {
  assertEquals(parse(`${BMS}\nresync_bandwidth: 50MB/s`).resyncBandwidth, 50_000_000);
  assertEquals(parse(`${BMS}\nresync_bandwidth: 1.5GiB/s`).resyncBandwidth, 1.5 * 1024 ** 3);
  for (const wrong of ["50", "50MB", "1KB/s", "fast"]) {
    const [line = ""] = refused(`${BMS}\nresync_bandwidth: ${wrong}`);
    assert(line.includes("off, or how much in a second, such as 50MB/s"), line);
  }
});

Deno.test("parseModule() takes a time or off for scrub, and says so", () => {
  assertEquals(parse(`${BMS}\nscrub: 12h`).scrubMs, 43_200_000);
  assertEquals(parse(`${BMS}\nscrub: "off"`).scrubMs, null);
  const [line = ""] = refused(`${BMS}\nscrub: weekly`);
  assert(line.includes("off, or how long between two verifications, such as 7d"), line);
});

Deno.test("parseModule() says which kinds are not there yet", () => {
  assertEquals(refused("module: bms\nkind: vm\nreplicate: [{ path: /srv/bms }]\n"), [
    'bms.yaml:2: kind: "vm" is not supported yet (expected directory or service)',
  ]);
  assertEquals(refused("module: bms\nkind: cloud\nreplicate: [{ path: /srv/bms }]\n"), [
    'bms.yaml:2: kind: "cloud" is not one of directory, service (expected directory or service)',
  ]);
});

Deno.test("parseModule() names what is missing, at the nearest line", () => {
  assertEquals(refused("module: bms\nkind: directory\n"), [
    "bms.yaml:1: replicate: missing (expected a list of directories, each with a path)",
  ]);
});

Deno.test("parseModule() refuses names that collide with files of ours", () => {
  assertEquals(refused(BMS.replace("module: bms", "module: keeper")).length, 1);
  assertEquals(refused(BMS.replace("module: bms", "module: ../x")).length, 1);
});

Deno.test("parseModule() refuses directories that contain each other", () => {
  const other = parse(BMS.replace("module: bms", "module: other"));
  const faults = refused(
    `module: bms
kind: directory
port: 9021
replicate:
  - path: /srv/bms/inner
  - path: /data
  - path: /data/sub
  - path: /proc/1
`,
    [other],
  );
  assertEquals(faults, [
    'bms.yaml:5: replicate[0].path: "/srv/bms/inner" overlaps "/srv/bms" of module other (expected directories that do not contain each other)',
    'bms.yaml:7: replicate[2].path: "/data/sub" overlaps "/data" of replicate[1] (expected directories that do not contain each other)',
    'bms.yaml:8: replicate[3].path: "/proc/1" overlaps "/proc" of the system (expected directories that do not contain each other)',
  ]);
});

Deno.test("parseModule() proposes a free port and refuses taken addresses", () => {
  const other = parse(BMS.replace("module: bms", "module: other").replace("/srv/bms", "/srv/other"));
  assertEquals(refused(BMS, [other]), [
    "bms.yaml:1: port: 9020 is the port of module other (expected a free one, for example 9021)",
    'bms.yaml:8: virtual_ips[0].address: "10.0.0.100" is an address of module other (expected an address of its own)',
  ]);
  assertEquals(refused(BMS.replace("10.0.0.100", "10.0.0.12")), [
    'bms.yaml:8: virtual_ips[0].address: "10.0.0.12" is an address of node node2 (expected an address of its own)',
  ]);
});

Deno.test("parseModule() does not compare a module with its own earlier version", () => {
  assertEquals(parse(BMS, [parse(BMS)]).name, "bms");
});

Deno.test("parseModule() refuses nodes and networks the cluster does not have", () => {
  assertEquals(
    refused(
      BMS.replace("network: direct", "network: wan\nnodes: [node1, node2]\nfailover: { prefer: node3 }"),
    ),
    [
      'bms.yaml:3: network: "wan" is not a network both nodes have an address on (expected lan or direct)',
      'bms.yaml:5: failover.prefer: "node3" is no node of this module (expected node1 or node2)',
    ],
  );
  assertEquals(refused(BMS.replace("network: direct", "nodes: [node1, node9]")), [
    'bms.yaml:3: nodes[1]: "node9" is no node of cluster plant (expected node1 or node2)',
  ]);
  assertEquals(refused(BMS.replace("network: direct", "nodes: [node1, node1]")), [
    'bms.yaml:3: nodes[1]: "node1" is there twice (expected two different nodes)',
  ]);
});

Deno.test("parseModule() wants a service exactly where the kind says so", () => {
  assertEquals(refused("module: a\nkind: service\nreplicate: [{ path: /srv/a }]\n"), [
    "bms.yaml:1: service: missing (expected a map with start or unit, since kind is service)",
  ]);
  assertEquals(refused(BMS.replace("kind: service", "kind: directory")), [
    "bms.yaml:9: service: not for kind directory (expected kind: service)",
  ]);
  assertEquals(refused(BMS.replace("  stop: [", "  unit: a.service\n  stop: [")), [
    "bms.yaml:9: service: both start and unit (expected one of start, unit)",
  ]);
});

Deno.test("parseModule() wants commands by path, arguments in a list", () => {
  assertEquals(refused(BMS.replace("/etc/binome/bms/start", "systemctl start x")), [
    'bms.yaml:10: service.start: "systemctl start x" is not valid (expected the absolute path of a script, or a list ["/path/of/program", "argument", …])',
  ]);
});

Deno.test("overlaps() compares whole names, not letters", () => {
  assertEquals(overlaps("/srv/a", "/srv/ab"), false);
  assertEquals(overlaps("/srv/a", "/srv/a/b"), true);
  assertEquals(overlaps("/srv/a/b", "/srv/a"), true);
  assertEquals(overlaps("/srv/a", "/srv/a"), true);
});

Deno.test("parseModule() takes patterns of what stays on the node, and says what is wrong with one", () => {
  const text = (pattern: string) =>
    `module: bms\nkind: directory\nreplicate:\n  - { path: /srv/bms, exclude: ['${pattern}'] }\n`;
  assertEquals(parse(text("*.tmp")).replicate[0]?.exclude, ["*.tmp"]);
  assertMatch(refused(text("/cache"))[0] ?? "", /^bms\.yaml:4: .*"\/cache" is no pattern: it begins with \//);
  assertMatch(refused(text("a/**/b"))[0] ?? "", /\*\* may only stand alone and at the end/);
});

Deno.test("parseModule() takes a required file within the directory, and no other", () => {
  const text = (require: string) => BMS.replace("exclude: []", `require: ${require}`);
  assertEquals(parse(text(".mounted")).replicate[0]?.require, ".mounted");
  for (const wrong of ["/etc/passwd", "../x", "a//b", "''"]) {
    assertMatch(refused(text(wrong))[0] ?? "", /replicate\[0\]\.require: .*expected/);
  }
});
