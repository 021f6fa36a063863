/**
 * Reads the parameters of the keeper's methods. Callers are our own, yet a keeper must not fall over what they send.
 *
 * @module
 */

import { RpcError } from "../system/rpc_error.ts";
import type { PlacedVip } from "../effects/types.ts";
import type { GuardParams } from "./types.ts";

/** Addresses and groups that one module may have. */
const LIST_MAX = 64;

/** A JSON object whose keys nobody has checked yet. */
export class Params {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(readonly method: string, params: unknown) {
    if (typeof params !== "object" || params === null || Array.isArray(params)) {
      throw new RpcError("bad-request", `Cannot ${method}: parameters must be an object`);
    }
    this.#values = params as Record<string, unknown>;
  }

  /** Whether a parameter was given. */
  has(key: string): boolean {
    return this.#values[key] !== undefined;
  }

  /** A text of 1 to 4096 characters. */
  text(key: string): string {
    const value = this.#values[key];
    if (typeof value === "string" && value !== "" && value.length <= 4096) return value;
    throw this.#wrong(key, "a text of 1 to 4096 characters");
  }

  /** A whole number of 0 to 2^31 − 1. */
  number(key: string): number {
    const value = this.#values[key];
    if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 31) return value;
    throw this.#wrong(key, "a whole number");
  }

  /** The name of a module: it becomes part of file names. */
  module(): string {
    const value = this.text("module");
    if (/^[a-z0-9][a-z0-9_-]{0,62}$/i.test(value)) return value;
    throw this.#wrong("module", "the name of a module: letters, digits, - and _");
  }

  /** An absolute path without `.`, `..`, double or trailing slashes; not the root. */
  path(key = "path"): string {
    return this.#path(key, this.text(key));
  }

  /** `guard`. */
  guard(): GuardParams {
    return {
      module: this.module(),
      vips: this.#list("vips").map((vip) => placedVip(new Params(this.method, vip))),
      cgroups: this.#list("cgroups").map((path) => this.#path("cgroups", path)),
      graceMs: this.number("graceMs"),
    };
  }

  #list(key: string): unknown[] {
    const value = this.#values[key];
    if (Array.isArray(value) && value.length <= LIST_MAX) return value;
    throw this.#wrong(key, `a list of at most ${LIST_MAX}`);
  }

  #path(key: string, value: unknown): string {
    const plain = typeof value === "string" && /^(\/[^/\0]+)+$/.test(value) &&
      !value.split("/").some((part) => part === "." || part === "..");
    if (plain) return value;
    throw this.#wrong(key, "an absolute path without . or .. or a slash at its end");
  }

  #wrong(key: string, expected: string): RpcError {
    const value = (JSON.stringify(this.#values[key]) ?? "nothing").slice(0, 100);
    return new RpcError("bad-request", `Cannot ${this.method}: "${key}" must be ${expected}, not ${value}`);
  }
}

function placedVip(params: Params): PlacedVip {
  return {
    address: params.text("address"),
    prefix: params.number("prefix"),
    interface: params.text("interface"),
  };
}
