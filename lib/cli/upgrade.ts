/** `binome upgrade FILE | --back` */
import type { ClusterStatus } from "../agent_control.ts";
import { upgradeNode } from "../upgrade/upgrade.ts";
import { openAgent } from "./agent_client.ts";
import { Arguments } from "./arguments.ts";
import { CliError, EXIT, usage, type World } from "./world.ts";

/** Upgrades this node. Going back works without an agent: the new one may be what is wrong. */
export async function upgrade(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { text: ["program"], flag: ["back", "json"] });
  const back = given.flag("back");
  if (back && given.words.length > 0) throw usage("Cannot take both FILE and --back");
  const [file = null] = back ? [] : given.expect("FILE");
  const program = given.text("program");
  if (program !== undefined && !program.startsWith("/")) {
    throw usage(`Cannot use --program ${program}: expected an absolute path`);
  }
  const status = await statusOf(world).catch((error) => {
    if (back && error instanceof CliError && error.exit === EXIT.noAgent) return null;
    throw error;
  });
  const quiet = given.flag("json");
  const machine = await world.upgrade({
    program,
    say: (line) => quiet ? undefined : world.print(line),
    agentAnswers: () => statusOf(world).then(() => true, () => false),
  });
  const done = await upgradeNode(machine, { file, program, version: world.version, status });
  world.print(quiet ? JSON.stringify(done) : `upgraded from ${done.from} to ${done.to}`);
}

async function statusOf(world: World): Promise<ClusterStatus> {
  using agent = await openAgent(world);
  return await agent.ask({ method: "GET", path: "/status" }) as ClusterStatus;
}
