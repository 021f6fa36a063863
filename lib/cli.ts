/**
 * The command line: one table of commands, one exit code each.
 *
 * @module
 */
import type { ClusterStatus, EventRow } from "./agent_control.ts";
import { type AgentClient, openAgent } from "./cli/agent_client.ts";
import { Arguments } from "./cli/arguments.ts";
import { showApply, showEvents, showStatus } from "./cli/show.ts";
import { halt, verb } from "./cli/verbs.ts";
import { verify } from "./cli/verify.ts";
import { CliError, EXIT, QUIET_ERROR, QUIET_STATUS, usage, type World } from "./cli/world.ts";
import { ConfigError, jsonSchema } from "./config.ts";
import { moduleNameIn } from "./config/yaml.ts";
import type { ApplyResult } from "./http/mod.ts";
import { PROTOCOL } from "./protocol.ts";

export { EXIT, QUIET_STATUS, type World };

const FOLLOW_MS = 500;
/** Events of one request. */
const EVENTS_PAGE = 500;

/** Certificates are a third of the program: loaded for the commands that make some. */
const membership = () => import("./cli/membership.ts");

interface Command {
  readonly usage: string;
  readonly summary: string;
  run(args: readonly string[], world: World): Promise<number | void> | number | void;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  "init": {
    usage: "init --cluster NAME --node NAME=ADDRESS… [--witness ADDRESS] [--name NODE]",
    summary: "make a cluster, this machine its first node",
    run: async (args, world) => await (await membership()).init(args, world),
  },
  "join-token": {
    usage: "join-token [NODE]",
    summary: "print the line that lets a node in",
    run: async (args, world) => await (await membership()).joinToken(args, world),
  },
  "join": {
    usage: "join [TOKEN]",
    summary: "make this machine the node the token is for",
    run: async (args, world) => await (await membership()).join(args, world),
  },
  "apply": {
    usage: "apply FILE [--force]",
    summary: "check a module, take it into use on its nodes",
    run: apply,
  },
  "remove": { usage: "remove MODULE", summary: "forget a stopped module; its data stays", run: remove },
  "start": {
    usage: "start MODULE [--as primary|secondary]",
    summary: "start; --as primary once, where the data is",
    run: (args, world) => verb("start", args, world),
  },
  ...Object.fromEntries(
    ([
      ["stop", "stop", "stop; a secondary takes over at once"],
      ["restart", "restart", "stop and start the service, no failover"],
      ["switchover", "switchover", "exchange the roles"],
      ["failback", "failback", "give the role back to the preferred node"],
      ["force-primary", "force-primary", "serve from a copy that may be behind"],
    ] as const).map(([word, verbWord, summary]) => [word, {
      usage: `${word} MODULE`,
      summary,
      run: (args: readonly string[], world: World) => verb(verbWord, args, world),
    }]),
  ),
  "halt": {
    usage: "halt",
    summary: "stop all modules here until the machine's next boot",
    run: halt,
  },
  "maintenance": {
    usage: "maintenance on|off MODULE",
    summary: "suspend automatic decisions",
    run: (args, world) => verb("maintenance", args, world),
  },
  "verify": {
    usage: "verify MODULE [--wait SECONDS]",
    summary: "compare both copies, repair what differs",
    run: verify,
  },
  "diff": {
    usage: "diff MODULE",
    summary: "what a resync would move, and how long it takes",
    run: async (args, world) => await (await import("./cli/diff.ts")).diff(args, world),
  },
  "status": { usage: "status [MODULE] [-q] [--node NODE]", summary: "what runs where, and why", run: status },
  "events": {
    usage: "events [--since N] [--limit N] [--follow]",
    summary: "what was decided, and why",
    run: events,
  },
  "schema": { usage: "schema [module|cluster]", summary: "JSON Schema for editors", run: schema },
  "uncover": {
    usage: "uncover MODULE",
    summary: "open a stopped module's directories for editing",
    run: async (args, world) => await (await import("./cli/cover.ts")).cover("uncover", args, world),
  },
  "cover": {
    usage: "cover MODULE | --all",
    summary: "make them read-only again; --all: at boot",
    run: async (args, world) => await (await import("./cli/cover.ts")).cover("cover", args, world),
  },
  "journal": {
    usage: "journal inspect MODULE|FOLDER [--from N] [--to N] [--payload]",
    summary: "print a module's log; reads only",
    run: async (args, world) => await (await import("./cli/journal.ts")).journal(args, world),
  },
  "upgrade": {
    usage: "upgrade FILE | --back [--program PATH]",
    summary: "replace this node's program, while it works",
    run: async (args, world) => await (await import("./cli/upgrade.ts")).upgrade(args, world),
  },
  "version": {
    usage: "version",
    summary: "print the version",
    run: (args, world) => {
      const given = new Arguments(args, { flag: ["json"] });
      given.expect();
      world.print(
        given.flag("json")
          ? JSON.stringify({ version: world.version, protocol: PROTOCOL })
          : `binome ${world.version}`,
      );
    },
  },
  "help": { usage: "help", summary: "this page", run: (_args, world) => world.print(helpText()) },
};

/** Roles that `main.ts` starts itself: in the help, not in the table. */
const ROLES = [
  ["agent", "decide, heartbeat, API (by systemd)"],
  ["keeper", "hold the mounts (by systemd)"],
  ["replicator MODULE", "the data road (by the keeper)"],
] as const;

/** Runs one command. Returns the exit code; whatever is thrown is a mistake of ours. */
export async function runCli(args: readonly string[], world: World): Promise<number> {
  const [word = "help", ...rest] = args;
  const quiet = word === "status" && rest.some((arg) => arg === "-q" || arg === "--quiet") ? QUIET_ERROR : 0;
  try {
    const name = word === "--help" || word === "-h" ? "help" : word === "--version" ? "version" : word;
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (command === undefined) {
      throw usage(`Cannot understand ${JSON.stringify(word)}: "binome help" lists the commands`);
    }
    if (rest.includes("--help") || rest.includes("-h")) {
      world.print(`usage: binome ${command.usage}\n  ${command.summary}`);
      return EXIT.ok;
    }
    return await command.run(rest, world) ?? EXIT.ok;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    world.complain(error.message);
    const exit = error instanceof CliError ? error.exit : EXIT.failed;
    if (exit === EXIT.usage && COMMANDS[word] !== undefined) {
      world.complain(`usage: binome ${COMMANDS[word].usage}`);
    }
    return exit + quiet;
  }
}

/** The page `binome help` prints. */
export function helpText(): string {
  const rows = [...Object.values(COMMANDS).map(({ usage, summary }) => [usage, summary] as const), ...ROLES];
  const lines = rows.map(([usage, summary]) =>
    usage.length > 40 ? `  ${usage}\n${" ".repeat(44)}${summary}` : `  ${usage.padEnd(42)}${summary}`
  );
  return [
    "usage: binome COMMAND",
    "",
    ...lines,
    "",
    "Every command takes --json. Verbs take --node NAME or --all, and wait until the module is at rest:",
    `--wait SECONDS (default 120), --no-wait.`,
    "",
    `exit codes: ${EXIT.ok} done, ${EXIT.failed} failed, ${EXIT.usage} wrong command line, ${EXIT.noAgent} agent not running`,
    `status -q MODULE: ${
      Object.entries(QUIET_STATUS).map(([state, code]) => `${code} ${state}`).join(", ")
    }; errors 11, 12, 13`,
    "",
    "BINOME_STATE (default /var/lib/binome) and BINOME_RUN (default /run/binome) name the directories.",
  ].join("\n");
}

async function apply(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { flag: ["json", "force"] });
  const [file = ""] = given.expect("FILE");
  const text = await world.readFile(file);
  const name = moduleNameIn(text);
  if (name === undefined) {
    throw new ConfigError([{
      file,
      line: 1,
      key: "module",
      problem: "missing, or no text, or the file is no YAML",
      expected: "the name of the module",
    }]);
  }
  using agent = await openAgent(world);
  const query = new URLSearchParams({ file, ...(given.flag("force") ? { force: "1" } : {}) });
  const path = `/modules/${encodeURIComponent(name)}?${query}`;
  const result = await agent.ask({ method: "PUT", path, body: text }) as ApplyResult;
  if (given.flag("json")) return world.print(JSON.stringify(result));
  for (const line of showApply(result)) world.print(line);
}

async function remove(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { flag: ["json"] });
  const [name = ""] = given.expect("MODULE");
  using agent = await openAgent(world);
  const result = await agent.ask({ method: "DELETE", path: `/modules/${encodeURIComponent(name)}` });
  world.print(
    given.flag("json") ? JSON.stringify(result) : `module ${name} removed; its directories keep their data`,
  );
}

async function status(args: readonly string[], world: World): Promise<number | void> {
  const given = new Arguments(args, { text: ["node"], flag: ["json", "quiet"] });
  const name = given.words.length === 0 && !given.flag("quiet") ? undefined : given.expect("MODULE")[0];
  using agent = await openAgent(world);
  const whole = await agent.ask({
    method: "GET",
    path: "/status",
    node: given.text("node"),
  }) as ClusterStatus;
  const module = whole.modules.find(({ module }) => module === name);
  if (name !== undefined && module === undefined) {
    const known = whole.modules.map(({ module }) => module).join(", ") || "none yet";
    throw new CliError(EXIT.failed, `Cannot find module ${JSON.stringify(name)}: applied are ${known}`);
  }
  if (given.flag("quiet")) {
    const own = module?.nodes.find(({ node }) => node === whole.node);
    if (own === undefined) throw new CliError(EXIT.failed, `Cannot say: ${name} is not on ${whole.node}`);
    return QUIET_STATUS[own.state];
  }
  if (given.flag("json")) return world.print(JSON.stringify(module ?? whole));
  for (const line of showStatus(whole, name)) world.print(line);
}

/** The last events: a person wants to know what happened just now, not when the cluster was made. */
async function events(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { text: ["since", "limit"], flag: ["json", "follow"] });
  given.expect();
  let since = given.count("since", 0);
  const limit = given.count("limit", 100);
  using agent = await openAgent(world);
  while (true) {
    const rows = await eventsAfter(agent, since, limit);
    const lines = given.flag("json") ? rows.map((row) => JSON.stringify(row)) : showEvents(rows);
    for (const line of lines) world.print(line);
    since = rows.at(-1)?.id ?? since;
    if (!given.flag("follow")) return;
    await world.sleep(FOLLOW_MS);
  }
}

/** The last `limit` events after `since`. Page by page, so that the agent is never kept from its heartbeats. */
async function eventsAfter(agent: AgentClient, since: number, limit: number): Promise<readonly EventRow[]> {
  let rows: EventRow[] = [];
  while (true) {
    const after = rows.at(-1)?.id ?? since;
    const answer = await agent.ask({ method: "GET", path: `/events?since=${after}&limit=${EVENTS_PAGE}` });
    const page = (answer as { events: EventRow[] }).events;
    rows = [...rows, ...page].slice(-Math.max(limit, 1));
    if (page.length < EVENTS_PAGE) return limit === 0 ? [] : rows;
  }
}

function schema(args: readonly string[], world: World): void {
  const given = new Arguments(args, { flag: ["json"] });
  const [of = "module"] = given.words;
  if (of !== "module" && of !== "cluster") {
    throw usage(`Cannot print schema ${of}: there are module and cluster`);
  }
  world.print(JSON.stringify(jsonSchema(of), null, 2));
}
