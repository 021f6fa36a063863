/** HTTPS with the cluster's own authority, on both ends. */

import { Front, type FrontLimits } from "./front.ts";

/** Answers longer than this are not ours. */
const ANSWER_MAX = 8 * 1024 * 1024;

/** Pause before listening again, after a flood of connections took the last descriptor. */
const LISTEN_AGAIN_MS = 500;

/** How long requests under way have once the server stops. */
const CLOSE_MS = 2000;

/** Why a request got no answer. */
export class HttpsError extends Error {
  override readonly name = "HttpsError";
  /** `refused`: nothing listens. `untrusted`: another authority. `timeout`: no answer in time. `failed`: the rest. */
  readonly kind: "refused" | "untrusted" | "timeout" | "failed";

  constructor(kind: HttpsError["kind"], message: string, cause: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** One answer, read whole. */
export interface HttpsAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** A client that trusts one authority only. */
export interface HttpsClient extends Disposable {
  /** @throws {HttpsError} when there is no answer. */
  send(
    url: string,
    request: {
      readonly method: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
      readonly timeoutMs: number;
    },
  ): Promise<HttpsAnswer>;
}

/**
 * Opens a client.
 *
 * @param authority certificate of the only authority it trusts, PEM.
 */
export function openHttpsClient(authority: string): HttpsClient {
  const client = Deno.createHttpClient({ caCerts: [authority], poolMaxIdlePerHost: 2 });
  return {
    async send(url, request) {
      const { method, headers = {}, timeoutMs } = request;
      const body = request.body === undefined ? {} : { body: request.body };
      try {
        const signal = AbortSignal.timeout(timeoutMs);
        const response = await fetch(url, { method, headers, ...body, client, signal, redirect: "error" });
        const text = await readBounded(response);
        return {
          status: response.status,
          contentType: response.headers.get("content-type") ?? "",
          body: text,
        };
      } catch (error) {
        throw explain(error, timeoutMs);
      }
    },
    [Symbol.dispose]: () => client.close(),
  };
}

/** A running server. */
export interface HttpsServer {
  readonly port: number;
  /** Stops; requests under way get two seconds. */
  close(): Promise<void>;
}

/** How to serve. */
export interface HttpsOptions {
  /** Default: all IPv4 addresses. */
  readonly hostname?: string;
  readonly port: number;
  readonly certificate: string;
  readonly key: string;
  /** Addresses of this cluster's nodes: a flood of strangers does not keep them out. */
  readonly known?: readonly string[];
  readonly limits?: Partial<FrontLimits>;
  readonly handler: (request: Request) => Response | Promise<Response>;
}

/**
 * Serves HTTPS, behind a {@link Front} that bounds how many connections there are and for how long. Where the server behind
 * it cannot accept any more (no descriptors are left), it listens again: whoever floods the port must not end the process.
 *
 * @throws {Error} when the port is taken or the certificate and key do not fit.
 */
export function serveHttps(options: HttpsOptions): HttpsServer {
  let stop = new AbortController();
  let again = 0;
  let closed = false;
  const listen = (): Deno.HttpServer<Deno.NetAddr> => {
    const serving = Deno.serve({
      hostname: "127.0.0.1",
      port: 0,
      cert: options.certificate,
      key: options.key,
      signal: stop.signal,
      onListen: () => {},
      onError: (error) => {
        const message = error instanceof Error ? error.message : String(error);
        return Response.json({ error: { code: "internal", message, hint: "" } }, { status: 500 });
      },
    }, options.handler);
    serving.finished.catch(relisten);
    return serving;
  };
  const relisten = (): void => {
    stop.abort();
    if (closed) return;
    again = setTimeout(() => {
      stop = new AbortController();
      try {
        server = listen();
      } catch {
        relisten(); // still none left
      }
    }, LISTEN_AGAIN_MS);
  };
  const front = openFront(options, () => server.addr.port);
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = listen();
  } catch (error) {
    void front.close();
    throw error;
  }
  return {
    port: front.port,
    async close() {
      closed = true;
      front.stop();
      clearTimeout(again);
      const late = setTimeout(() => stop.abort(), CLOSE_MS);
      try {
        await server.shutdown();
      } catch {
        stop.abort(); // it had ended by itself
      } finally {
        clearTimeout(late);
        await front.close();
      }
    },
  };
}

function openFront(options: HttpsOptions, to: () => number): Front {
  const { hostname = "0.0.0.0", port, known = [], limits = {} } = options;
  try {
    return new Front({ hostname, port, to, known, limits });
  } catch (error) {
    const taken = error instanceof Deno.errors.AddrInUse;
    const why = taken
      ? `it is taken by another program (ss -ltnp "sport = :${port}" names it); stop that program, or set ports.api in cluster.yaml on all nodes`
      : error instanceof Error
      ? error.message
      : String(error);
    throw new Error(`Cannot listen on TCP port ${port}: ${why}`, { cause: error });
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength;
    if (length > ANSWER_MAX) throw new Error(`the answer is larger than ${ANSWER_MAX} bytes`);
    chunks.push(chunk);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return new TextDecoder().decode(whole);
}

function explain(error: unknown, timeoutMs: number): HttpsError {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return new HttpsError("timeout", `no answer within ${timeoutMs} ms`, error);
  }
  // fetch wraps what happened in its message and its cause
  let text = "";
  for (let at: unknown = error; at instanceof Error; at = at.cause) text += ` ${at.message}`;
  if (/connection refused/i.test(text)) return new HttpsError("refused", "nothing listens there", error);
  if (/certificate|UnknownIssuer|BadSignature/i.test(text)) {
    return new HttpsError("untrusted", "its certificate is not of this cluster", error);
  }
  return new HttpsError("failed", text.trim() || String(error), error);
}
