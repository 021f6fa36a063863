/**
 * Binome: one program, several roles. This file is the only one that knows them all.
 *
 * @module
 */
import settings from "./deno.json" with { type: "json" };
import { directories } from "./lib/system/directories.ts";
import { openRole } from "./lib/system/role.ts";

const VERSION: string = settings.version;

/** Runs one role, or one command. Returns the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const { state, run } = directories();
  const [role, module, ...rest] = args;
  switch (role) {
    // Imported where they are used: a command line must not pay for the data road.
    case "agent": {
      if (args[1] === "--end" && args.length === 2) {
        const { endAgent } = await import("./lib/system/agent_turn.ts");
        await endAgent(run);
        return 0;
      }
      await beFirst();
      const { AgentTurn } = await import("./lib/system/agent_turn.ts");
      const turn = await AgentTurn.announce({ run, spareOf: spareOf(args.slice(1)) });
      const { agentRole } = await import("./lib/system/agent_role.ts");
      const { runAgent } = await import("./lib/agent.ts");
      return await agentRole({ state, run, version: VERSION, turn, runAgent });
    }
    case "keeper": {
      await beFirst();
      const { runKeeper } = await import("./lib/keeper.ts");
      const watchdog = Deno.env.get("BINOME_WATCHDOG") || null;
      await runKeeper({ state, run, watchdog, ...await openRole(run) });
      return 0;
    }
    case "replicator": {
      if (module === undefined || rest.length > 0) {
        throw new Error("Cannot start a replicator: expected one MODULE");
      }
      await beFirst();
      const { runReplicator } = await import("./lib/replicator.ts");
      return await runReplicator({ module, state, run });
    }
    default: {
      const { runCli } = await import("./lib/cli.ts");
      const { openWorld } = await import("./lib/system/cli_world.ts");
      return await runCli(args, openWorld({ state, run, version: VERSION }));
    }
  }
}

/** Before anything else is loaded: on a busy machine loading takes seconds. */
async function beFirst(): Promise<void> {
  const { raisePriority } = await import("./lib/system/priority.ts");
  for (const warning of raisePriority()) await tell(warning);
}

/** `binome agent`, as systemd or a person writes it: null; `binome agent --spare PID`, as the agent does. */
function spareOf(options: readonly string[]): number | null {
  if (options.length === 0) return null;
  const [option, pid = ""] = options;
  if (option === "--spare" && /^[1-9][0-9]*$/.test(pid) && options.length === 2) return Number(pid);
  throw new Error("Cannot start the agent: it takes no arguments; write `binome agent`");
}

async function tell(text: string): Promise<void> {
  await Deno.stderr.write(new TextEncoder().encode(`binome: ${text}\n`));
}

if (import.meta.main) {
  let exit: number;
  try {
    exit = await main(Deno.args);
  } catch (error) {
    // What an operator can mend says so in its message; the rest is a mistake of ours, and its place helps.
    const known = error instanceof Error && error.message.startsWith("Cannot ");
    const text = known
      ? error.message
      : error instanceof Error
      ? error.stack ?? error.message
      : String(error);
    await tell(text);
    exit = 1;
  }
  Deno.exit(exit);
}
