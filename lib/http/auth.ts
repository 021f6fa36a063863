/** Who may ask: whoever holds the cluster's token, or another node by its signature. */
import type { MiddlewareHandler } from "hono";
import type { AgentControl } from "../agent_control.ts";
import { sameSecret, SCHEME, verify } from "../identity/mod.ts";
import type { AppOptions } from "./control_types.ts";
import { ApiError } from "./errors.ts";

/** What a request carries once it is let in. */
export interface Caller {
  /** `token`, or `node NAME`: for the audit. */
  readonly by: string;
  /** Name of the asking node; undefined for a person or a program. */
  readonly node?: string;
}

/** Hono's variables of every authenticated request. */
export interface Variables {
  caller: Caller;
}

/** Refused logins are told this seldom: whoever guesses must not fill the events log. */
const NOTE_EVERY_MS = 60_000;

/** Lets in the bearer of the token and signed requests of the cluster's nodes. */
export function authenticate(
  control: AgentControl,
  options: AppOptions,
): MiddlewareHandler<{ Variables: Variables }> {
  const { identity, ambient } = options;
  let notedAt = Number.NEGATIVE_INFINITY;
  let refused = 0;
  return async (context, next) => {
    const header = context.req.header("authorization") ?? "";
    const caller = await identify(options, header, context.req.raw);
    if (caller === undefined) {
      refused++;
      const now = ambient.now();
      if (now - notedAt >= NOTE_EVERY_MS) {
        const what = `${refused} request${refused === 1 ? "" : "s"} refused: no valid token or signature`;
        control.note({
          level: "warning",
          what,
          why: header === "" ? "no Authorization header" : "it does not match",
        });
        notedAt = now;
        refused = 0;
      }
      throw new ApiError({
        status: 401,
        code: "unauthorized",
        message: header.startsWith(SCHEME)
          ? "Cannot accept the request: its signature does not match this node's cluster key"
          : "Cannot accept the request: no valid bearer token",
        hint: header.startsWith(SCHEME)
          ? "both nodes need the same cluster.key: join the node again"
          : `send "Authorization: Bearer TOKEN" with the content of the state directory's file "token" on ${identity.node}`,
      });
    }
    context.set("caller", caller);
    await next();
  };
}

async function identify(options: AppOptions, header: string, request: Request): Promise<Caller | undefined> {
  const { identity } = options;
  if (header.startsWith("Bearer ")) {
    return await sameSecret(header.slice("Bearer ".length), identity.token) ? { by: "token" } : undefined;
  }
  if (!header.startsWith(SCHEME)) return undefined;
  const url = new URL(request.url);
  const body = new Uint8Array(await request.clone().arrayBuffer());
  const path = url.pathname + url.search;
  const node = await verify(options.clusterKey, header, {
    to: identity.node,
    method: request.method,
    path,
    body,
  });
  const known = identity.cluster.nodes.some(({ name }) => name === node);
  return node !== undefined && known ? { by: `node ${node}`, node } : undefined;
}
