/** `binome cover MODULE | --all`, `binome uncover MODULE` */
import type { CommandResult } from "../agent_control.ts";
import { loadModules } from "../config/store.ts";
import { loadIdentity } from "../identity/mod.ts";
import { openAgent } from "./agent_client.ts";
import { Arguments } from "./arguments.ts";
import { CliError, EXIT, type World } from "./world.ts";

/** Asks the agent to open a stopped module's directories, or to cover them again; `cover --all` is for the boot. */
export async function cover(word: "cover" | "uncover", args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, {
    text: ["node"],
    flag: ["json", ...(word === "cover" ? ["all"] : [])],
  });
  if (given.flag("all")) {
    given.expect();
    return await coverAll(world);
  }
  const [module = ""] = given.expect("MODULE");
  using agent = await openAgent(world);
  const answer = await agent.ask({
    method: "POST",
    path: `/modules/${encodeURIComponent(module)}/${word}`,
    node: given.text("node"),
    body: "{}",
  }) as CommandResult;
  world.print(given.flag("json") ? JSON.stringify(answer) : answer.message);
}

/**
 * What the boot does before any service of the machine starts, without agent and keeper: every directory that was ever
 * replicated here becomes read-only, so that nothing writes past the replication. The others are their owners'.
 */
async function coverAll(world: World): Promise<void> {
  if (await world.files.read("node") === null) return world.print("this machine is in no cluster");
  const { node, cluster } = await loadIdentity(world.files);
  const { modules, broken } = await loadModules(world.files, cluster);
  const failures = broken.map(({ message }) => message);
  for (const { name, config } of modules.filter(({ config }) => config.nodes.includes(node))) {
    if (await world.files.read(`modules/${name}/log/meta.json`) === null) continue;
    for (const { path } of config.replicate) {
      try {
        const done = await world.cover(path);
        world.print(
          `${name}: ${path} ${done ? "is read-only until the module is started" : "is covered already"}`,
        );
      } catch (error) {
        failures.push(`${name}: ${error instanceof Error ? error.message : error}`);
      }
    }
  }
  // All that can be covered is: one broken module must not leave the others open.
  if (failures.length > 0) throw new CliError(EXIT.failed, failures.join("\n"));
}
