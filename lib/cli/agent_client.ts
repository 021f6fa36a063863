/** The local agent, as a command asks it. */
import { parseCluster } from "../config/cluster.ts";
import { readText, STATE_FILE } from "../identity/state_files.ts";
import { HttpsError } from "../system/https.ts";
import { CliError, EXIT, type World } from "./world.ts";

/** An apply waits for other nodes that may not answer. */
const TIMEOUT_MS = 65_000;

/** Requests to the agent of this node. */
export interface AgentClient extends Disposable {
  /**
   * @param request.path below `/api/v1`.
   * @param request.node the node that shall answer; this one when not given.
   * @throws {CliError} when the agent does not run, or refuses.
   */
  ask(request: {
    readonly method: "GET" | "POST" | "PUT" | "DELETE";
    readonly path: string;
    readonly node?: string | undefined;
    readonly body?: string | undefined;
  }): Promise<unknown>;
}

/**
 * Prepares requests: address from `cluster.yaml`, trust from `ca.crt`, permission from `token`.
 *
 * @throws {CliError} when this machine is in no cluster, or its files cannot be read.
 */
export async function openAgent(world: World): Promise<AgentClient> {
  const need = async (name: string): Promise<string> => {
    const text = await readText(world.files, name).catch((cause) => {
      throw new CliError(EXIT.failed, cause instanceof Error ? cause.message : String(cause), cause);
    });
    if (text !== null) return text;
    throw new CliError(
      EXIT.failed,
      `Cannot ask the agent: ${world.state}/${name} does not exist; this machine is in no cluster yet: run "binome init" on the first node, "binome join" on the others`,
    );
  };
  const cluster = parseCluster(await need(STATE_FILE.cluster), `${world.state}/${STATE_FILE.cluster}`);
  const token = (await need(STATE_FILE.token)).trim();
  const base = `https://127.0.0.1:${cluster.ports.api}`;
  const client = world.connect(await need(STATE_FILE.authority));
  return {
    async ask({ method, path, node, body }) {
      const route = node === undefined ? "" : `/nodes/${encodeURIComponent(node)}`;
      const content = body === undefined ? {} : { body };
      const headers = { authorization: `Bearer ${token}` };
      try {
        const url = `${base}/api/v1${route}${path}`;
        const answer = await client.send(url, { method, headers, ...content, timeoutMs: TIMEOUT_MS });
        return read(answer);
      } catch (error) {
        if (error instanceof HttpsError) throw explain(error, base);
        throw error;
      }
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

function read(answer: { readonly status: number; readonly body: string }): unknown {
  let json: unknown;
  try {
    json = JSON.parse(answer.body);
  } catch (cause) {
    const start = JSON.stringify(answer.body.slice(0, 80));
    throw new CliError(EXIT.failed, `Cannot read the agent's answer: HTTP ${answer.status} ${start}`, cause);
  }
  if (answer.status < 300) return json;
  const { error } = json as { error?: { message?: string; hint?: string } };
  const hint = error?.hint === undefined || error.hint === "" ? "" : `\n  try: ${error.hint}`;
  throw new CliError(EXIT.failed, `${error?.message ?? `HTTP ${answer.status}`}${hint}`);
}

function explain(error: HttpsError, base: string): CliError {
  if (error.kind === "refused") {
    return new CliError(
      EXIT.noAgent,
      `Cannot reach the agent at ${base}: it is not running\n  try: systemctl start binome-keeper binome-agent (or, by hand: binome keeper & binome agent &)`,
      error,
    );
  }
  if (error.kind === "untrusted") {
    return new CliError(
      EXIT.failed,
      `Cannot trust what listens at ${base}: its certificate is not of this cluster\n  try: see which program has the port (ss -ltnp), or whether the agent uses another state directory (BINOME_STATE)`,
      error,
    );
  }
  return new CliError(EXIT.noAgent, `Cannot reach the agent at ${base}: ${error.message}`, error);
}
