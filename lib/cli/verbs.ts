/** The verbs of a module: asked of one node or both, then waited for. */
import type { ClusterStatus, CommandResult, ModuleStatus, NodeModuleStatus } from "../agent_control.ts";
import type { AgentClient } from "./agent_client.ts";
import { openAgent } from "./agent_client.ts";
import { Arguments } from "./arguments.ts";
import { showInstance } from "./show.ts";
import { CliError, EXIT, usage, type World } from "./world.ts";

const WAIT_SECONDS = 120;
const POLL_MS = 100;

/** Words a person types; the agent's verbs are finer. */
export const VERB_WORDS = [
  "start",
  "stop",
  "restart",
  "switchover",
  "failback",
  "force-primary",
  "maintenance",
] as const;

/** One of {@link VERB_WORDS}. */
export type VerbWord = typeof VERB_WORDS[number];

interface Order {
  readonly word: VerbWord;
  readonly module: string;
  readonly body: { readonly as?: string; readonly on?: boolean; readonly force?: boolean };
}

/** `binome VERB MODULE [--node NAME | --all] [--wait SECONDS]` */
export async function verb(word: VerbWord, args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, {
    text: ["wait", "node", ...(word === "start" ? ["as"] : [])],
    flag: ["json", "all", "no-wait", ...(word === "force-primary" || word === "start" ? ["force"] : [])],
  });
  const order = readOrder(word, given);
  const seconds = given.flag("no-wait") ? 0 : given.count("wait", WAIT_SECONDS);
  if (given.flag("all") && given.text("node") !== undefined) throw usage("Cannot take both --all and --node");
  using agent = await openAgent(world);
  const before = await statusOf(agent);
  const nodes = given.flag("all")
    ? ordered(word, moduleOf(before, order.module))
    : [given.text("node") ?? before.node];
  for (const node of nodes) {
    const { module, body } = order;
    await agent.ask({
      method: "POST",
      path: `/modules/${encodeURIComponent(module)}/${word}`,
      node: node === before.node ? undefined : node,
      body: JSON.stringify(body),
    }) as CommandResult;
    // Each to its end: the second of two stops must find what the first left.
    if (seconds > 0) await waitFor(agent, { order, node, before, seconds }, world);
  }
  const after = await statusOf(agent);
  const module = moduleOf(after, order.module);
  if (given.flag("json")) return world.print(JSON.stringify(module));
  if (seconds === 0) return world.print(`${order.module}: ${word} accepted`);
  const shown = word === "switchover" || word === "failback" ? module.nodes.map(({ node }) => node) : nodes;
  for (const instance of module.nodes) {
    if (shown.includes(instance.node)) world.print(showInstance(order.module, instance));
  }
}

function readOrder(word: VerbWord, given: Arguments): Order {
  if (word === "maintenance") {
    const [first = "", second = ""] = given.expect("on|off", "MODULE");
    const [state, module] = first === "on" || first === "off" ? [first, second] : [second, first];
    if (state !== "on" && state !== "off") {
      throw usage("Cannot understand maintenance: expected on or off, and MODULE");
    }
    return { word, module, body: { on: state === "on" } };
  }
  const [module = ""] = given.expect("MODULE");
  const as = given.text("as");
  if (as !== undefined && as !== "primary" && as !== "secondary") {
    throw usage(`Cannot understand --as ${as}: expected primary or secondary`);
  }
  const force = given.flag("force") ? { force: true } : {};
  return { word, module, body: { ...(as === undefined ? {} : { as }), ...force } };
}

/** `binome halt [--wait SECONDS]`: every module of this node leaves service in order; they start again with the machine. */
export async function halt(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { text: ["wait"], flag: ["json"] });
  given.expect();
  const seconds = given.count("wait", WAIT_SECONDS);
  using agent = await openAgent(world);
  const before = await statusOf(agent);
  for (const { module } of before.modules) {
    await agent.ask({ method: "POST", path: `/modules/${encodeURIComponent(module)}/halt`, body: "{}" });
  }
  // All at once: a machine that goes down does not wait for one after the other.
  for (const { module } of before.modules) {
    const order: Order = { word: "stop", module, body: {} };
    await waitFor(agent, { order, node: before.node, before, seconds }, world);
  }
  const after = await statusOf(agent);
  if (given.flag("json")) return world.print(JSON.stringify(after));
  for (const { module, nodes } of after.modules) {
    for (const instance of nodes.filter(({ node }) => node === after.node)) {
      world.print(showInstance(module, instance));
    }
  }
}

/** Stop the secondary first, start the current copy first: neither makes a needless failover. */
function ordered(word: VerbWord, module: ModuleStatus): string[] {
  const serves = (node: NodeModuleStatus) => node.role === "primary" || node.copy === "uptodate" ? 0 : 1;
  const sorted = [...module.nodes].sort((a, b) =>
    serves(a) - serves(b) || Number(a.role === "secondary") - Number(b.role === "secondary")
  );
  const names = sorted.map(({ node }) => node);
  return word === "stop" ? names.reverse() : names;
}

async function waitFor(
  agent: AgentClient,
  wait: {
    readonly order: Order;
    readonly node: string;
    readonly before: ClusterStatus;
    readonly seconds: number;
  },
  world: World,
): Promise<void> {
  const { order, node, before, seconds } = wait;
  const until = world.ambient.now() + seconds * 1000;
  const first = moduleOf(before, order.module);
  while (true) {
    const module = moduleOf(await statusOf(agent), order.module);
    if (isReached(order, { module, node, before: first })) return;
    if (world.ambient.now() >= until) {
      const instance = module.nodes.find((one) => one.node === node);
      const now = instance === undefined ? `${node} says nothing` : showInstance(order.module, instance);
      throw new CliError(
        EXIT.failed,
        `Cannot wait longer: after ${seconds} s, ${now}\n  try: binome status ${order.module}; binome events; or a longer --wait`,
      );
    }
    await world.sleep(POLL_MS);
  }
}

/** Whether what was asked for has been reached, or come to rest elsewhere. */
export function isReached(
  order: Pick<Order, "word">,
  at: { readonly module: ModuleStatus; readonly node: string; readonly before: ModuleStatus },
): boolean {
  const instance = at.module.nodes.find(({ node }) => node === at.node);
  if (instance === undefined) return false;
  switch (order.word) {
    case "maintenance":
      return true;
    case "stop":
      return instance.state === "stopped" && instance.readiness !== "transient";
    case "switchover":
    case "failback": {
      const primary = (module: ModuleStatus) => module.nodes.find(({ role }) => role === "primary")?.node;
      const resting = at.module.nodes.every(({ readiness }) => readiness !== "transient");
      if (order.word === "failback") return resting;
      return resting && primary(at.module) !== undefined && primary(at.module) !== primary(at.before);
    }
    case "start":
    case "restart":
    case "force-primary":
      return instance.state !== "stopped" && instance.readiness !== "transient";
  }
}

async function statusOf(agent: AgentClient): Promise<ClusterStatus> {
  return await agent.ask({ method: "GET", path: "/status" }) as ClusterStatus;
}

function moduleOf(status: ClusterStatus, name: string): ModuleStatus {
  const module = status.modules.find(({ module }) => module === name);
  if (module !== undefined) return module;
  const known = status.modules.map(({ module }) => module).join(", ") || "none yet";
  throw new CliError(
    EXIT.failed,
    `Cannot find module ${JSON.stringify(name)}: applied are ${known}\n  try: binome apply FILE`,
  );
}
