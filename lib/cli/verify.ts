/** `binome verify`: both copies of a module compared while applications go on. */
import type { ClusterStatus, ModuleStatus, VerificationStatus } from "../agent_control.ts";
import { formatSize } from "../config/units.ts";
import { type AgentClient, openAgent } from "./agent_client.ts";
import { Arguments } from "./arguments.ts";
import { CliError, EXIT, type World } from "./world.ts";

/** A pass over a large copy takes hours; whoever does not want to wait says so. */
const WAIT_SECONDS = 7 * 86_400;
const POLL_MS = 500;

/** `binome verify MODULE [--wait SECONDS | --no-wait]`. Asks the primary, from whichever node. */
export async function verify(args: readonly string[], world: World): Promise<void> {
  const given = new Arguments(args, { text: ["wait"], flag: ["json", "no-wait"] });
  const [name = ""] = given.expect("MODULE");
  const seconds = given.flag("no-wait") ? 0 : given.count("wait", WAIT_SECONDS);
  using agent = await openAgent(world);
  const before = await agent.ask({ method: "GET", path: "/status" }) as ClusterStatus;
  const primary = moduleOf(before, name).nodes.find(({ role }) => role === "primary")?.node;
  if (primary === undefined) {
    throw new CliError(
      EXIT.failed,
      `Cannot verify ${name}: no node serves it\n  try: binome start ${name}; binome status ${name}`,
    );
  }
  const node = primary === before.node ? undefined : primary;
  const path = `/modules/${encodeURIComponent(name)}/verify`;
  const there = await agent.ask({ method: "GET", path: "/status", node }) as ClusterStatus;
  const last = moduleOf(there, name).verification?.verified ?? null;
  const accepted = await agent.ask({ method: "POST", path, node, body: "{}" });
  if (seconds === 0) {
    return world.print(given.flag("json") ? JSON.stringify(accepted) : `${name}: is being verified`);
  }
  const result = await waitFor(agent, { name, node, seconds, last }, world);
  world.print(given.flag("json") ? JSON.stringify(result) : `${name}: ${showVerified(result)}`);
  if (result.rotten > 0) {
    throw new CliError(
      EXIT.failed,
      `Cannot call the copies identical: the disk of ${primary} has lost content, which the other node still has\n` +
        `  try: binome events, which names the files; binome switchover ${name}, then binome verify ${name} again: ` +
        `what the other node has is copied back`,
    );
  }
}

async function waitFor(
  agent: AgentClient,
  wait: {
    readonly name: string;
    readonly node: string | undefined;
    readonly seconds: number;
    /** When the one before ended. */
    readonly last: string | null;
  },
  world: World,
): Promise<VerificationStatus> {
  const { name, node, seconds, last } = wait;
  const asked = world.ambient.now();
  while (true) {
    await world.sleep(POLL_MS);
    const status = await agent.ask({ method: "GET", path: "/status", node }) as ClusterStatus;
    const { verification, nodes } = moduleOf(status, name);
    if (nodes[0]?.role !== "primary") {
      throw new CliError(
        EXIT.failed,
        `Cannot wait longer: ${
          nodes[0]?.node
        } is not primary any more; it goes on when both are again (binome status)`,
      );
    }
    if (verification !== null && verification.running === null) return ended(verification, last);
    if (world.ambient.now() - asked >= seconds * 1000) {
      const now = verification === null ? "nothing is known" : showRunning(verification);
      throw new CliError(
        EXIT.failed,
        `Cannot wait longer: after ${seconds} s, ${now}\n  try: binome status ${name}; or a longer --wait`,
      );
    }
  }
}

/** @throws {CliError} when what ended is not the one that was asked for: it was given up. */
function ended(verification: VerificationStatus, last: string | null): VerificationStatus {
  if (verification.verified !== last) return verification;
  throw new CliError(
    EXIT.failed,
    "Cannot tell that the copies are identical: the verification was given up\n  try: binome events",
  );
}

/** `identical as of 2026-01-01 14:03:22, 0 differences`. */
export function showVerified(status: VerificationStatus): string {
  // A node that is one version behind tells nothing of what disks have lost.
  const { verified, differences, rotten = 0, mended = 0, objects, bytes } = status;
  if (verified === null) return "never verified";
  const repaired = differences === 0 ? "" : ", repaired";
  const lost = [
    mended === 0 ? "" : `, ${mended} lost by the primary's disk, repaired`,
    rotten === 0 ? "" : `, ${rotten} lost by the primary's disk, LEFT AS THEY ARE`,
  ].join("");
  return `${rotten === 0 ? "identical" : "not identical"} as of ${
    verified.slice(0, 19).replace("T", " ")
  }, ${differences} difference${differences === 1 ? "" : "s"}${repaired}${lost} (${objects} objects, ${
    formatSize(bytes)
  })`;
}

/** How far the one that goes on is; empty when none does. */
export function showRunning({ running }: VerificationStatus): string {
  if (running === null) return "";
  const waits = running.waiting ? ", waits for the secondary" : "";
  return `verifying: ${(running.part * 100).toFixed(1)} %, ${running.objects} objects, ${
    formatSize(running.bytes)
  }, ${running.differences} differences${waits}`;
}

function moduleOf(status: ClusterStatus, name: string): ModuleStatus {
  const module = status.modules.find(({ module }) => module === name);
  if (module !== undefined) return module;
  const known = status.modules.map(({ module }) => module).join(", ") || "none yet";
  throw new CliError(EXIT.failed, `Cannot find module ${JSON.stringify(name)}: applied are ${known}`);
}
