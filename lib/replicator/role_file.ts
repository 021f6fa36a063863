/**
 * What a later process needs to go on: `RUN/MODULE.role.json` on the tmpfs, written before it is acted upon.
 *
 * @module
 */

import type { KeptGrant } from "../replication/mounts.ts";
import { removeFile } from "../system/remove_file.ts";
import { readText, replaceText } from "../system/replicator_host.ts";
import type { Peer } from "./commands.ts";
import type { Excludes } from "./excludes.ts";

/** A role, as it is taken up. */
export interface Role {
  readonly role: "primary" | "secondary";
  readonly epoch: number;
  readonly members: 1 | 2;
  readonly peer: Peer | null;
  readonly port: number;
  readonly overwrite: boolean;
  readonly grants: readonly (KeptGrant | null)[];
  /** Missing where a program wrote it that did not know of it. */
  readonly excludes?: Excludes;
}

/** The role of this process, and its copy in a file. */
export class RoleFile {
  readonly #path: string;
  #role: Role | null = null;

  /** Looks at nothing yet: what is there is the former process's until this one has its turn. */
  constructor(path: string) {
    this.#path = path;
  }

  /** The role of this process; null: none. */
  get role(): Role | null {
    return this.#role;
  }

  /** The role a killed process left, if there was one. */
  former(): Role | null {
    const text = readText(this.#path);
    return text === null ? null : JSON.parse(text) as Role;
  }

  /** Takes a role, or takes it otherwise. */
  remember(role: Role): void {
    this.#role = role;
    replaceText(this.#path, JSON.stringify(role));
  }

  /** There is none any more. */
  forget(): void {
    this.#role = null;
    removeFile(this.#path);
  }
}
