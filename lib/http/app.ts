/** The API. One Hono application without a port: `Deno.serve` in production, `app.request()` in tests. */
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { timeout } from "hono/timeout";
import { z } from "zod";
import { type AgentControl, type CommandResult, type Verb, VERBS } from "../agent_control.ts";
import { loadModules } from "../config/store.ts";
import { TEXT_MAX } from "../config/yaml.ts";
import { jsonSchema } from "../config.ts";
import { AdmissionError, admissionToJson, admit, createJoinToken } from "../identity/mod.ts";
import {
  acceptModule,
  applyModule,
  GENERATION_HEADER,
  readModule,
  removeHere,
  removeModule,
  unknownModule,
} from "./apply.ts";
import { authenticate, type Variables } from "./auth.ts";
import { type AppOptions, PeerUnreachable } from "./control_types.ts";
import { ApiError, errorBody } from "./errors.ts";

/** No request holds its caller longer. */
const TIMEOUT_MS = 60_000;

/** Failures of requests that nobody vouches for are told this seldom: each costs a sync of the agent's disk. */
const STRANGER_NOTE_MS = 60_000;

/** Most events one request returns. */
const EVENTS_MAX = 1000;

const joinBody = z.strictObject({ secret: z.string().max(100), request: z.string().max(8192) });
const tokenBody = z.strictObject({ node: z.string().max(63) });
const verbBody = z.strictObject({
  as: z.enum(["primary", "secondary"]).optional(),
  on: z.boolean().optional(),
  force: z.boolean().optional(),
});

/**
 * Makes the application.
 *
 * @returns `GET /healthz` and `POST /api/v1/join` are open; everything else below `/api/v1` needs the bearer token or a node's signature.
 */
export function createApp(control: AgentControl, options: AppOptions): Hono<{ Variables: Variables }> {
  const app = new Hono<{ Variables: Variables }>();
  app.use(bodyLimit({
    maxSize: TEXT_MAX,
    onError: () => {
      const message = `Cannot accept the request: its body is larger than ${TEXT_MAX} bytes`;
      throw new ApiError({ status: 413, code: "too-large", message });
    },
  }));
  app.use(
    timeout(TIMEOUT_MS, () => new HTTPException(504, { message: `no answer within ${TIMEOUT_MS / 1000} s` })),
  );
  let strangerNotedAt = Number.NEGATIVE_INFINITY;
  app.onError((error, context) => {
    if (error instanceof HTTPException) {
      const { message } = error;
      return context.json(
        errorBody({ code: "timeout", message, hint: "see the events: binome events" }),
        error.status,
      );
    }
    if (error instanceof ApiError) return context.json(errorBody(error), error.status);
    const message = error instanceof Error ? error.message : String(error);
    const known = context.get("caller") !== undefined;
    const now = options.ambient.now();
    if (known || now - strangerNotedAt >= STRANGER_NOTE_MS) {
      if (!known) strangerNotedAt = now;
      const what = `request ${context.req.method} ${context.req.path} failed`;
      control.note({ level: "error", what, why: message });
    }
    return context.json(errorBody({ code: "internal", message, hint: "see the events: binome events" }), 500);
  });
  app.notFound((context) =>
    context.json(
      errorBody({
        code: "not-found",
        message: `Cannot find ${context.req.path}`,
        hint: "the API is below /api/v1",
      }),
      404,
    )
  );
  app.get(
    "/healthz",
    (context) => context.json({ ok: true, node: options.identity.node, version: options.version }),
  );
  joinRoute(app, control, options);
  app.use("/api/v1/*", authenticate(control, options));
  readRoutes(app, control, options);
  configRoutes(app, control, options);
  nodeRoutes(app, options);
  verbRoute(app, control);
  return app;
}

type App = Hono<{ Variables: Variables }>;

function joinRoute(app: App, control: AgentControl, options: AppOptions): void {
  app.post("/api/v1/join", async (context) => {
    const body = await readJson(context.req.raw, joinBody);
    try {
      const admission = await admit(options.files, options.identity, body, options.ambient);
      const { modules } = await loadModules(options.files, options.identity.cluster);
      control.note({
        level: "info",
        what: `node ${admission.node} joined`,
        why: "its join token was redeemed",
      });
      return context.json({
        ...admissionToJson(admission),
        modules: modules.map(({ name, generation, text }) => ({ name, generation, text })),
      });
    } catch (error) {
      if (!(error instanceof AdmissionError)) throw error;
      throw new ApiError({ status: 403, code: "not-admitted", message: error.message, cause: error });
    }
  });
  app.post("/api/v1/join-tokens", authenticate(control, options), async (context) => {
    const { node } = await readJson(context.req.raw, tokenBody);
    try {
      const { line, expiresAt } = await createJoinToken(
        options.files,
        options.identity,
        node,
        options.ambient,
      );
      return context.json({ token: line, expires: new Date(expiresAt).toISOString() });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      throw new ApiError({ status: 400, code: "no-token", message: error.message, cause: error });
    }
  });
}

function readRoutes(app: App, control: AgentControl, options: AppOptions): void {
  app.get("/api/v1/status", (context) => context.json({ ...control.status(), version: options.version }));
  app.get("/api/v1/modules", (context) => context.json({ modules: control.status().modules }));
  app.get("/api/v1/modules/:name", (context) => {
    const name = context.req.param("name");
    const module = control.status().modules.find(({ module }) => module === name);
    if (module === undefined) throw unknownModule(name);
    return context.json(module);
  });
  app.get("/api/v1/events", (context) => {
    const since = readCount(context.req.query("since"), {
      name: "since",
      fallback: 0,
      max: Number.MAX_SAFE_INTEGER,
    });
    const limit = readCount(context.req.query("limit"), { name: "limit", fallback: 100, max: EVENTS_MAX });
    return context.json({ events: control.events(since, limit) });
  });
  app.get("/api/v1/schema/:of", (context) => {
    const of = context.req.param("of");
    if (of !== "cluster" && of !== "module") {
      const message = `Cannot find schema ${JSON.stringify(of)}: there are cluster and module`;
      throw new ApiError({ status: 404, code: "not-found", message });
    }
    return context.json(jsonSchema(of));
  });
}

function configRoutes(app: App, control: AgentControl, options: AppOptions): void {
  app.get("/api/v1/configs", async (context) => {
    const { modules, broken } = await loadModules(options.files, options.identity.cluster);
    return context.json({
      configs: modules.map(({ name, generation, text }) => ({ name, generation, text })),
      broken,
    });
  });
  app.post("/api/v1/modules/:name/check", async (context) => {
    const name = context.req.param("name");
    const file = context.req.query("file") ?? `${name}.yaml`;
    const { config, generation } = await readModule(options, { name, text: await context.req.text(), file });
    const here = config.nodes.includes(options.identity.node);
    const faults = here ? await options.host.check(config) : [];
    return context.json({ faults, generation });
  });
  app.put("/api/v1/modules/:name", async (context) => {
    const name = context.req.param("name");
    const text = await context.req.text();
    const generation = context.req.header(GENERATION_HEADER);
    const { node, by } = context.get("caller");
    if (node !== undefined && generation !== undefined) {
      const number = readCount(generation, { name: GENERATION_HEADER, fallback: 0, max: 999_999 });
      await acceptModule(control, options, { name, text, generation: number });
      return context.json({ module: name, generation: number });
    }
    const file = context.req.query("file") ?? `${name}.yaml`;
    const force = context.req.query("force") === "1";
    const result = await applyModule(control, options, { name, text, file, force });
    control.note({
      level: "info",
      module: name,
      what: `configuration ${result.generation} applied`,
      why: `asked by ${by}`,
    });
    return context.json(result);
  });
  app.delete("/api/v1/modules/:name", async (context) => {
    const name = context.req.param("name");
    const here = context.get("caller").node !== undefined && context.req.query("here") === "1";
    await (here ? removeHere : removeModule)(control, options, name);
    return context.json({ module: name, removed: true });
  });
}

/** `/api/v1/nodes/NODE/…` is `/api/v1/…` as that node answers it: one console, one token, any node. */
function nodeRoutes(app: App, options: AppOptions): void {
  app.all("/api/v1/nodes/:node/*", async (context) => {
    const node = context.req.param("node");
    const { cluster } = options.identity;
    if (!cluster.nodes.some(({ name }) => name === node)) {
      const names = cluster.nodes.map(({ name }) => name).join(", ");
      const message = `Cannot find node ${JSON.stringify(node)}: the cluster has ${names}`;
      throw new ApiError({ status: 404, code: "unknown-node", message });
    }
    const url = new URL(context.req.url);
    const rest = url.pathname.slice(`/api/v1/nodes/${encodeURIComponent(node)}`.length);
    const path = `/api/v1${rest}${url.search}`;
    const { method } = context.req;
    const body = method === "GET" || method === "HEAD" ? undefined : await context.req.text();
    // A request that went around once must not go around again.
    if (rest.startsWith("/nodes/")) {
      throw new ApiError({ status: 400, code: "bad-request", message: "Cannot go by way of two nodes" });
    }
    if (node === options.identity.node) {
      const headers = { authorization: context.req.header("authorization") ?? "" };
      // a node's signature speaks of the outer path
      if (context.get("caller").node !== undefined) {
        throw new ApiError({ status: 400, code: "bad-request", message: "Cannot go by way of two nodes" });
      }
      return await app.request(path, { method, headers, ...(body === undefined ? {} : { body }) });
    }
    try {
      const answer = await options.peers.request(node, {
        method,
        path,
        ...(body === undefined ? {} : { body }),
      });
      return new Response(answer.body, {
        status: answer.status,
        headers: { "content-type": answer.contentType },
      });
    } catch (error) {
      if (!(error instanceof PeerUnreachable)) throw error;
      throw new ApiError({
        status: 502,
        code: "peer-unreachable",
        message: `Cannot reach ${node}: ${error.message}`,
        hint: `is ${node} on, and "systemctl status binome-agent" there well?`,
        cause: error,
      });
    }
  });
}

function verbRoute(app: App, control: AgentControl): void {
  for (const word of ["cover", "uncover"] as const) {
    app.post(`/api/v1/modules/:name/${word}`, async (context) => {
      const { name } = context.req.param();
      const result = await control.setCover(name, word === "cover", context.get("caller"));
      return context.json(accepted(name, result));
    });
  }
  app.post("/api/v1/modules/:name/verify", async (context) => {
    const { name } = context.req.param();
    const result = await control.verify(name, { by: context.get("caller").by });
    return context.json(accepted(name, result));
  });
  app.post("/api/v1/modules/:name/:verb", async (context) => {
    const { name, verb: word } = context.req.param();
    const body = await readJson(context.req.raw, verbBody);
    const verb = readVerb(word, body);
    const { by } = context.get("caller");
    const force = body.force === undefined ? {} : { force: body.force };
    return context.json(accepted(name, await control.command(name, verb, { by, ...force })));
  });
}

function accepted(module: string, result: CommandResult): CommandResult {
  if (result.ok) return result;
  if (result.code === "unknown-module") throw unknownModule(module);
  throw new ApiError({ status: 409, code: result.code, message: result.message });
}

/** `start` with `{"as": "primary"}` is the verb `start-primary`; both forms are taken. */
function readVerb(word: string, body: z.output<typeof verbBody>): Verb {
  const full = word === "start" && body.as !== undefined
    ? `start-${body.as}`
    : word === "maintenance"
    ? `maintenance-${body.on === false ? "off" : "on"}`
    : word;
  const verb = VERBS.find((known) => known === full);
  if (verb !== undefined) return verb;
  const message = `Cannot do ${JSON.stringify(word)}: it is not one of ${VERBS.join(", ")}`;
  throw new ApiError({ status: 404, code: "unknown-verb", message });
}

async function readJson<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  const text = await request.text();
  let plain: unknown;
  try {
    plain = text.trim() === "" ? {} : JSON.parse(text);
  } catch (cause) {
    throw new ApiError({
      status: 400,
      code: "bad-json",
      message: "Cannot read the body: it is not JSON",
      cause,
    });
  }
  const outcome = schema.safeParse(plain);
  if (outcome.success) return outcome.data;
  const why = outcome.error.issues.map(({ path, message }) => `${path.join(".") || "body"}: ${message}`).join(
    "; ",
  );
  throw new ApiError({ status: 400, code: "bad-body", message: `Cannot read the body: ${why}` });
}

function readCount(text: string | undefined, range: { name: string; fallback: number; max: number }): number {
  if (text === undefined) return range.fallback;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && value <= range.max) return value;
  const message = `Cannot read ${range.name}=${text}: expected a number from 0 to ${range.max}`;
  throw new ApiError({ status: 400, code: "bad-query", message });
}
