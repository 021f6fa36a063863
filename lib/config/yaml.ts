/**
 * YAML to checked values, with every fault named by file, line, key, value and what was expected: all of them at once,
 * since an operator who repairs one line at a time gives up at the third.
 */
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";

/** Larger files are refused unread: a configuration is a page or two. */
export const TEXT_MAX = 256 * 1024;

/** One fault of a configuration file. */
export interface ConfigIssue {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** Dotted path of the key, `replicate[0].durability`; empty for the file as a whole. */
  readonly key: string;
  /** What is wrong, the value quoted. */
  readonly problem: string;
  readonly expected: string;
}

/** A configuration that cannot be used. `message` lists every fault, one a line. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly issues: readonly ConfigIssue[];

  constructor(issues: readonly ConfigIssue[]) {
    // two rules may object to one value in the same words
    super([...new Set(issues.map(formatIssue))].join("\n"));
    this.issues = issues;
  }
}

/** `bms.yaml:12: replicate[0].durability: "fast" is not one of each-write (expected each-write)` */
export function formatIssue(issue: ConfigIssue): string {
  const key = issue.key === "" ? "" : `${issue.key}: `;
  return `${issue.file}:${issue.line}: ${key}${issue.problem} (expected ${issue.expected})`;
}

/** A fault found by a rule that spans several keys. */
export interface Fault {
  readonly path: readonly PropertyKey[];
  readonly problem: string;
  readonly expected: string;
}

/** A YAML text that fits its schema, and the means to point into it. */
export interface Parsed<T> {
  readonly value: T;
  /** Throws a {@link ConfigError} with all faults, unless there are none. */
  refuse(faults: readonly Fault[]): void;
}

/**
 * Reads `text` and checks it against `schema`.
 *
 * In the schemas of this folder the `error` of every leaf is what was *expected*, in words: zod's own
 * sentences name neither the value nor the remedy.
 *
 * @param file the name shown in faults.
 * @throws {ConfigError} when it is no YAML or does not fit.
 */
export function parseYaml<T>(text: string, file: string, schema: z.ZodType<T>): Parsed<T> {
  if (text.length > TEXT_MAX) {
    throw new ConfigError([{
      file,
      line: 1,
      key: "",
      problem: `the file has ${text.length} characters`,
      expected: `at most ${TEXT_MAX}`,
    }]);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    throw new ConfigError(broken.map((error) => ({
      file,
      line: lines.linePos(error.pos[0]).line,
      key: "",
      problem: `not valid YAML: ${error.message.split("\n")[0] ?? error.code}`,
      expected: error.code === "DUPLICATE_KEY" ? "each key once" : "YAML 1.2",
    })));
  }
  const plain: unknown = document.toJS({ maxAliasCount: 20 });
  const place = (path: readonly PropertyKey[]) => ({
    file,
    line: lineOf(document, lines, path),
    key: keyOf(path),
  });
  const outcome = schema.safeParse(plain, { reportInput: true });
  if (!outcome.success) {
    throw new ConfigError(
      outcome.error.issues.flatMap((issue) => faultsOf(issue, plain)).map(({ path, problem, expected }) => ({
        ...place(path),
        problem,
        expected,
      })),
    );
  }
  return {
    value: outcome.data,
    refuse(faults) {
      if (faults.length === 0) return;
      throw new ConfigError(
        faults.map(({ path, problem, expected }) => ({ ...place(path), problem, expected })),
      );
    },
  };
}

/** A value as it stands in a message: quoted, and cut where it is long. */
export function quote(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function faultsOf(issue: z.core.$ZodIssue, plain: unknown): Fault[] {
  const path = issue.path;
  const value = valueAt(plain, path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({
        path: [...path, key],
        problem: "unknown key",
        expected: issue.message,
      }));
    case "invalid_value": {
      const choices = issue.values.map(String);
      const expected = choices.join(" or ");
      if (value === undefined) return [{ path, problem: "missing", expected }];
      return [{ path, problem: `${quote(value)} is not one of ${choices.join(", ")}`, expected }];
    }
    case "custom": {
      const problem = issue.params?.["problem"];
      const text = typeof problem === "string" ? problem : `${quote(value)} is not valid`;
      return [{ path, problem: text, expected: issue.message }];
    }
    default:
      if (value === undefined) return [{ path, problem: "missing", expected: issue.message }];
      return [{ path, problem: `${quote(value)} is not valid`, expected: issue.message }];
  }
}

function valueAt(plain: unknown, path: readonly PropertyKey[]): unknown {
  let value = plain;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function keyOf(path: readonly PropertyKey[]): string {
  return path.map((part, at) =>
    typeof part === "number" ? `[${part}]` : at === 0 ? String(part) : `.${String(part)}`
  )
    .join("");
}

/** Line of the key the path leads to, or of the nearest thing around it when the key is missing. */
function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length--) {
    const parent = document.getIn(path.slice(0, length - 1), true);
    const last = path[length - 1];
    if (isMap(parent)) {
      const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(last));
      const start = isNode(pair?.key) ? pair.key.range?.[0] : undefined;
      if (start !== undefined) return lines.linePos(start).line;
    }
    const node = document.getIn(path.slice(0, length), true);
    const start = isNode(node) ? node.range?.[0] : undefined;
    if (start !== undefined) return lines.linePos(start).line;
  }
  return 1;
}

/** The module a text speaks of, before it is checked; undefined when that cannot be told. */
export function moduleNameIn(text: string): string | undefined {
  if (text.length > TEXT_MAX) return undefined;
  const document = parseDocument(text, { prettyErrors: false });
  const name: unknown = isMap(document.contents) ? document.get("module") : undefined;
  return typeof name === "string" && name !== "" ? name : undefined;
}
