/** Words and options of one command, unknown ones refused. */
// @ts-types="./std_cli.d.ts"
import { parseArgs } from "npm:deno-std@1.4.0/cli/parse_args.js"; // cli/mod.js lacks a data file on npm
import { usage } from "./world.ts";

/** Options a command takes, by name without `--`. */
export interface OptionNames {
  /** With a value. */
  readonly text?: readonly string[];
  /** With a value, as often as wanted. */
  readonly many?: readonly string[];
  /** Without a value. */
  readonly flag?: readonly string[];
}

/** What was given. */
export class Arguments {
  readonly words: readonly string[];
  readonly #options: Readonly<Record<string, unknown>>;

  /** @throws {CliError} with usage when an option is unknown or lacks its value. */
  constructor(args: readonly string[], options: OptionNames) {
    const { text = [], many = [], flag = [] } = options;
    const known = [...text, ...many, ...flag];
    const parsed = parseArgs(args, {
      string: [...text, ...many, "_"],
      boolean: flag,
      collect: many,
      alias: { q: "quiet", h: "help" },
      unknown: (arg, key) => {
        if (key === undefined) return true;
        const list = known.length === 0
          ? "it takes no options"
          : `known are ${known.map((name) => `--${name}`).join(", ")}`;
        throw usage(`Cannot understand ${arg}: ${list}`);
      },
    });
    for (const name of [...text, ...many]) {
      const values = [parsed[name]].flat();
      if (values.includes("")) throw usage(`Cannot understand --${name}: it needs a value`);
    }
    this.words = parsed._.map(String);
    this.#options = parsed;
  }

  text(name: string): string | undefined {
    const value = this.#options[name];
    return typeof value === "string" ? value : undefined;
  }

  many(name: string): readonly string[] {
    const value = this.#options[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  flag(name: string): boolean {
    return this.#options[name] === true;
  }

  /** A whole number of at least 0. */
  count(name: string, fallback: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    if (!/^\d{1,9}$/.test(text)) throw usage(`Cannot understand --${name} ${text}: expected a number`);
    return Number(text);
  }

  /** Exactly these words. */
  expect(...names: readonly string[]): readonly string[] {
    if (this.words.length === names.length) return this.words;
    if (this.words.length > names.length) {
      throw usage(
        `Cannot understand ${JSON.stringify(this.words[names.length])}: expected ${
          names.join(" ") || "nothing more"
        }`,
      );
    }
    throw usage(`Cannot go on: ${names.slice(this.words.length).join(" and ")} missing`);
  }
}
