/** `init`, `join-token`, `join`: a cluster is made, a node is let in. */
import { parseCluster } from "../config/cluster.ts";
import { saveModule } from "../config/store.ts";
import type { ClusterConfig } from "../config/types.ts";
import {
  admissionFromJson,
  createIdentity,
  createJoinToken,
  createRequest,
  decodeJoinToken,
  fingerprint,
  loadIdentity,
  readText,
  refuseMember,
  saveAdmission,
  STATE_FILE,
} from "../identity/mod.ts";
import { HttpsError } from "../system/https.ts";
import { Arguments } from "./arguments.ts";
import { CliError, EXIT, usage, type World } from "./world.ts";

const JOIN_TIMEOUT_MS = 20_000;

/** `binome init --cluster plant --node node1=10.0.0.11 --node node2=10.0.0.12 [--witness ADDRESS] [--name node1]` */
export async function init(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, {
    text: ["cluster", "witness", "witness-mode", "name", "config"],
    many: ["node"],
    flag: ["json"],
  });
  given.expect();
  const file = given.text("config");
  const clusterText = file === undefined ? writeCluster(given) : await world.readFile(file);
  const name = file ?? "--node";
  const node = given.text("name") ?? thisNode(parseCluster(clusterText, name), world);
  const cluster = await createIdentity(world.files, { clusterText, node, file: name }, world.ambient);
  const print = await fingerprint(await readText(world.files, STATE_FILE.authority) ?? "");
  if (given.flag("json")) {
    return world.print(
      JSON.stringify({ cluster: cluster.cluster, node, state: world.state, authority: print }),
    );
  }
  world.print(`cluster ${cluster.cluster} made; this is ${node}, its state is in ${world.state}`);
  world.print(`authority SHA-256 ${print}`);
  const others = cluster.nodes.filter((other) => other.name !== node);
  world.print(
    `next: start the agent here${others.length > 0 ? ', then "binome join-token" for each other node' : ""}`,
  );
}

/** `binome join-token [NODE]`: prints one line to paste behind `binome join` on the other node. */
export async function joinToken(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { flag: ["json"] });
  const identity = await loadIdentity(world.files);
  const others = identity.cluster.nodes.map(({ name }) => name).filter((name) => name !== identity.node);
  const node = given.words[0] ?? (others.length === 1 ? others[0] : undefined);
  if (node === undefined || given.words.length > 1) {
    throw usage(
      `Cannot make a join token: say for which node, one of ${others.join(", ") || "(there is no other)"}`,
    );
  }
  const { line, expiresAt } = await createJoinToken(world.files, identity, node, world.ambient);
  const expires = new Date(expiresAt).toISOString();
  if (given.flag("json")) return world.print(JSON.stringify({ token: line, node, expires }));
  world.print(line);
  world.complain(`for ${node}, good once, until ${expires}; the agent must run here meanwhile`);
}

/**
 * `binome join [TOKEN]`: makes this machine the node the token is for. Without it the line is read from standard input:
 * every user of the machine can read a command line, and whoever redeems the token first has the cluster's keys.
 */
export async function join(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { flag: ["json"] });
  if (given.words.length === 0) world.complain("paste the line of binome join-token:");
  const [line = ""] = given.words.length === 0 ? [await world.readLine()] : given.expect("TOKEN");
  const token = decodeJoinToken(line);
  await refuseMember(world.files, "join");
  const { request, key } = await createRequest(token.node);
  using client = world.connect(token.authority);
  const body = JSON.stringify({ secret: token.secret, request });
  const url = `https://${token.address}/api/v1/join`;
  const answer = await client.send(url, { method: "POST", body, timeoutMs: JOIN_TIMEOUT_MS }).catch(
    (error) => {
      if (!(error instanceof HttpsError)) throw error;
      const hint = error.kind === "untrusted"
        ? "another cluster answers there; print a new token"
        : "the agent must run on that node, and its port be open in the firewall";
      throw new CliError(
        EXIT.failed,
        `Cannot join by ${token.address}: ${error.message}\n  try: ${hint}`,
        error,
      );
    },
  );
  const json = parseAnswer(answer.body);
  if (answer.status !== 200) {
    const { error } = json as { error?: { message?: string } };
    throw new CliError(
      EXIT.failed,
      error?.message ?? `Cannot join by ${token.address}: HTTP ${answer.status}`,
    );
  }
  const admission = admissionFromJson(json);
  const cluster = parseCluster(admission.clusterText, STATE_FILE.cluster);
  const { modules = [] } = json as { modules?: { name: string; generation: number; text: string }[] };
  // Before the identity: a power cut between the two leaves a machine that can simply join again.
  for (const module of modules) await saveModule(world.files, module);
  await saveAdmission(world.files, admission, key);
  if (given.flag("json")) {
    return world.print(JSON.stringify({ cluster: cluster.cluster, node: admission.node }));
  }
  const count = modules.length === 1 ? "1 module" : `${modules.length} modules`;
  world.print(
    `joined cluster ${cluster.cluster} as ${admission.node}, with ${count}; its state is in ${world.state}`,
  );
  world.print("next: start the agent here");
}

function writeCluster(given: Arguments): string {
  const cluster = given.text("cluster");
  const nodes = given.many("node");
  if (cluster === undefined || nodes.length === 0) {
    throw usage(
      "Cannot make a cluster: --cluster NAME and --node NAME=ADDRESS are needed (or --config FILE)",
    );
  }
  const lines = ["# Made by binome init. config/cluster.yaml of the distribution explains every key."];
  lines.push(`cluster: ${JSON.stringify(cluster)}`, "nodes:");
  for (const node of nodes) {
    const [name, addresses, ...rest] = node.split("=");
    if (name === undefined || addresses === undefined || rest.length > 0) {
      throw usage(
        `Cannot understand --node ${node}: expected NAME=ADDRESS or NAME=NETWORK:ADDRESS,NETWORK:ADDRESS`,
      );
    }
    const pairs = addresses.split(",").map((text) => {
      const [network, address] = text.includes(":") ? text.split(":", 2) : ["lan", text];
      return `${JSON.stringify(network)}: ${JSON.stringify(address)}`;
    });
    lines.push(`  - name: ${JSON.stringify(name)}`, `    addresses: { ${pairs.join(", ")} }`);
  }
  const witness = given.text("witness");
  const mode = given.text("witness-mode") ?? "strict";
  if (witness !== undefined) {
    lines.push(`arbiter: { kind: ping, address: ${JSON.stringify(witness)}, mode: ${JSON.stringify(mode)} }`);
  } else lines.push("arbiter: { kind: none }");
  return `${lines.join("\n")}\n`;
}

/** Which of the nodes runs this command: the one with an address of this machine, or its name. */
function thisNode(cluster: ClusterConfig, world: World): string {
  const own = world.addresses();
  const matches = cluster.nodes.filter(({ addresses }) =>
    Object.values(addresses).some((one) => own.includes(one))
  );
  const match = matches.length === 1
    ? matches[0]
    : cluster.nodes.find(({ name }) => name === world.hostname());
  if (match !== undefined) return match.name;
  const names = cluster.nodes.map(({ name }) => name).join(", ");
  throw usage(
    `Cannot tell which node this is: this machine has none of the addresses; add --name with one of ${names}`,
  );
}

function parseAnswer(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    throw new CliError(
      EXIT.failed,
      `Cannot join: the answer is not JSON: ${JSON.stringify(body.slice(0, 80))}`,
      cause,
    );
  }
}
