/**
 * What of a replicated directory stays on its node: `exclude` of the configuration.
 *
 * A pattern without "/" is of a name, at any depth; one with "/" is of a path from the top of the directory, name by name.
 * `folder/**` is all that is in the folder, but not the folder. What is beneath an excluded directory is excluded with it.
 *
 * Objects that stay on the node have ids of their own kind ({@link isLocal}), so that whoever has an id knows without asking
 * for a name. An id never changes its kind: nothing crosses the border while a module runs. A rename or a link across it is
 * refused with EXDEV, as between two file systems, and programs copy instead.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { Glob } from "../glob.ts";
import { OWN_PREFIX } from "./own_names.ts";

/** Ids of objects that stay on their node: this and what the primary's allocator gives. */
export const LOCAL_FIRST = 2 ** 52;

/** Whether an object stays on this node. */
export function isLocal(id: number): boolean {
  return id >= LOCAL_FIRST;
}

/** What the allocator gave for it: no two objects have the same, of either kind. */
export function serialOf(id: number): number {
  return id >= LOCAL_FIRST ? id - LOCAL_FIRST : id;
}

/** A directory, as far as patterns of paths go: which of them have matched so far, and how much of each. */
export type Way = readonly { readonly names: readonly Glob[]; readonly done: number }[];

const NOWHERE: Way = [];

/** The border within one replicated directory. */
export class Border {
  readonly #names: readonly Glob[];
  /** Where all patterns of paths begin. */
  readonly top: Way;
  /** Where nothing but the last name of each is left. */
  readonly #ends: Way;

  /** @throws {SyntaxError} for a pattern that {@link faultOf} finds fault with. */
  constructor(patterns: readonly string[]) {
    this.#names = patterns.filter((pattern) => !pattern.includes("/")).map((pattern) => new Glob(pattern));
    const paths = patterns.filter((pattern) => pattern.includes("/"));
    this.top = paths.map((path) => ({ names: namesOf(path), done: 0 }));
    this.#ends = this.top.map(({ names }) => ({ names, done: names.length - 1 }));
  }

  /** Whether it depends on where a directory lies. */
  get winding(): boolean {
    return this.top.length > 0;
  }

  /** Whether a name (without NUL) in a directory stays on the node, with all beneath it. */
  excludes(way: Way, name: Uint8Array): boolean {
    const excluded = this.#names.some((glob) => glob.matches(name)) ||
      way.some(({ names, done }) => done === names.length - 1 && names[done]?.matches(name) === true);
    // What is Binome's own is replicated, whatever `.*` says.
    return excluded && !OWN_PREFIX.every((byte, index) => name[index] === byte);
  }

  /** Whether a name (without NUL) stays on the node in some directory, where it is not known in which: one more than perhaps do. */
  mayExclude(name: Uint8Array): boolean {
    return this.excludes(this.#ends, name);
  }

  /** The way of a directory that has this name (without NUL) in another. */
  below(way: Way, name: Uint8Array): Way {
    if (way.length === 0) return NOWHERE;
    return way.filter(({ names, done }) => done < names.length - 1 && names[done]?.matches(name) === true)
      .map(({ names, done }) => ({ names, done: done + 1 }));
  }
}

function namesOf(path: string): Glob[] {
  return path.split("/").map((name) => new Glob(name === "**" ? "*" : name));
}

/** The border of a directory; undefined where all of it is replicated. */
export function borderOf(patterns: readonly string[]): Border | undefined {
  return patterns.length === 0 ? undefined : new Border(patterns);
}

/** A text that is another one when what stays on the node is another: `""` where nothing does. */
export function markOf(directories: readonly (readonly string[])[]): string {
  if (directories.every((patterns) => patterns.length === 0)) return "";
  const sorted = directories.map((patterns) => [...patterns].sort());
  return createHash("sha256").update(JSON.stringify(sorted)).digest("hex");
}

/** What is wrong with a pattern, as a part of a sentence; undefined: nothing. */
export function faultOf(pattern: string): string | undefined {
  const names = pattern.split("/");
  if (names[0] === "") return "it begins with /; patterns are relative to the directory";
  if (names.at(-1) === "") return "it ends with /; the name alone covers a directory and all in it";
  for (const [index, name] of names.entries()) {
    if (name === "" || name === "." || name === "..") return `it has "${name}" for a name`;
    if (name.includes("**") && (name !== "**" || index === 0 || index < names.length - 1)) {
      return "** may only stand alone and at the end, as in cache/**; a pattern without / is of names at any depth";
    }
    try {
      new Glob(name);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return error.message;
    }
  }
  if (names.every((name) => name === "*" || name === "**")) return "it would leave nothing to replicate";
  return undefined;
}
