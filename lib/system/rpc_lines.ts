/**
 * Cuts a byte stream into JSON lines, and checks their shape. Knows no sockets.
 *
 * @module
 */

/** The longest line, newline included, that either side accepts: 1 MiB. */
export const LINE_MAX = 1 << 20;

/** A request as it stands on the line. */
export interface Request {
  /** Chosen by the caller, unique among its unanswered requests. */
  readonly id: number;
  readonly method: string;
  readonly params: unknown;
}

/** What a server sends: an answer, a refusal, or an event nobody asked for. */
export type Message =
  | { readonly kind: "result"; readonly id: number; readonly result: unknown }
  | { readonly kind: "error"; readonly id: number; readonly code: string; readonly message: string }
  | { readonly kind: "event"; readonly event: string; readonly params: unknown };

/** The other side does not speak this protocol; its connection is closed. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

/** Collects bytes until a line is whole. Holds {@link LINE_MAX} bytes at most. */
export class LineSplitter {
  #pending: Uint8Array[] = [];
  #length = 0;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });

  /**
   * The lines that these bytes complete, without their newline.
   *
   * @throws {ProtocolError} when a line is too long or is not UTF-8.
   */
  push(bytes: Uint8Array): string[] {
    const lines: string[] = [];
    let rest = bytes;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      this.#keep(rest.subarray(0, end));
      lines.push(this.#take());
      rest = rest.subarray(end + 1);
    }
    this.#keep(rest);
    return lines;
  }

  #keep(bytes: Uint8Array): void {
    this.#length += bytes.length;
    if (this.#length >= LINE_MAX) throw new ProtocolError(`Cannot read line: longer than ${LINE_MAX} bytes`);
    // Copied: the caller reads into the same buffer again.
    if (bytes.length > 0) this.#pending.push(bytes.slice());
  }

  #take(): string {
    const line = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pending) {
      line.set(piece, at);
      at += piece.length;
    }
    this.#pending = [];
    this.#length = 0;
    try {
      return this.#decoder.decode(line);
    } catch (cause) {
      throw new ProtocolError("Cannot read line: not UTF-8", { cause });
    }
  }
}

/**
 * Reads a request.
 *
 * @throws {ProtocolError} when the line is anything else.
 */
export function parseRequest(line: string): Request {
  const { id, method, params } = parseObject(line);
  if (!isId(id)) {
    throw new ProtocolError(`Cannot read request: "id" must be a whole number, not ${shown(id)}`);
  }
  if (typeof method !== "string") {
    throw new ProtocolError(`Cannot read request: "method" must be a string, not ${shown(method)}`);
  }
  return { id, method, params: params ?? {} };
}

/**
 * Reads what a server sent.
 *
 * @throws {ProtocolError} when the line is anything else.
 */
export function parseMessage(line: string): Message {
  const { id, result, error, event, params } = parseObject(line);
  if (typeof event === "string") return { kind: "event", event, params: params ?? {} };
  if (!isId(id)) throw new ProtocolError(`Cannot read reply: "id" must be a whole number, not ${shown(id)}`);
  if (error === undefined) return { kind: "result", id, result };
  const { code, message } = isRecord(error) ? error : {};
  return {
    kind: "error",
    id,
    code: String(code ?? "failed"),
    message: String(message ?? "no message given"),
  };
}

/**
 * A line as bytes, newline included.
 *
 * @throws {ProtocolError} when it is longer than the other side would accept.
 */
export function encodeLine(value: unknown): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(JSON.stringify(value) + "\n");
  if (bytes.length > LINE_MAX) {
    throw new ProtocolError(`Cannot send line: ${bytes.length} bytes, at most ${LINE_MAX} are allowed`);
  }
  return bytes;
}

function parseObject(line: string): Record<string, unknown> & Partial<Record<Field, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new ProtocolError(`Cannot read line: not JSON: ${shown(line)}`, { cause });
  }
  if (!isRecord(value)) throw new ProtocolError(`Cannot read line: not an object: ${shown(line)}`);
  return value;
}

type Field = "id" | "method" | "params" | "result" | "error" | "event" | "code" | "message";

function isRecord(value: unknown): value is Record<string, unknown> & Partial<Record<Field, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/** A value cut short, so that garbage does not fill the log. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
